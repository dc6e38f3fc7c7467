//! The application's end of the pipeline: its listeners.

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::lane::Lane;
use crate::channel::listener::{Batch, ChannelListener};
use crate::delivery::{Handled, Inbound};
use crate::pipeline::{catch, catch_now};
use crate::stats::FlowCounters;
use crate::{Env, Member, Message, MessageId};

tokio::task_local! {
    /// Whose message this task is handling, and in which channel.
    static HANDLING: (usize, Arc<Member>);
}

/// Messages that a listener is given at once at most.
const BATCH: usize = 64;

type Listeners = Vec<(u64, Arc<dyn ChannelListener>)>;

/// The listeners and what is counted of them. Apart from the channel, so that a listener which never returns does not keep
/// the channel alive.
pub(in crate::channel) struct Application {
    pub(in crate::channel) listeners: ArcSwap<Listeners>,
    pub(in crate::channel) up: FlowCounters,
    env: Env,
}

impl Application {
    pub(in crate::channel) fn new(env: Env) -> Arc<Self> {
        Arc::new(Self { listeners: ArcSwap::default(), up: FlowCounters::default(), env })
    }

    pub(super) const fn env(&self) -> &Env {
        &self.env
    }

    /// Runs `handling` as the handling of messages of `from`.
    pub(super) fn handling(
        application: &Arc<Self>,
        from: &Arc<Member>,
        handling: impl Future<Output = ()>,
    ) -> impl Future<Output = ()> {
        HANDLING.scope((application.address(), Arc::clone(from)), handling)
    }

    /// Whether this task is handling a message of `member` in this channel.
    pub(in crate::channel) fn is_handling(&self, member: &Member) -> bool {
        HANDLING.try_with(|(channel, from)| *channel == self.address() && **from == *member).unwrap_or(false)
    }

    /// Tells channels of one process apart.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Gives `msg` to the listeners that accept it, answers its sender and gives its memory back. Takes more messages from
    /// `lane` if a listener takes several at once.
    pub(super) async fn handle(&self, msg: Inbound, lane: &Lane) {
        let listeners = self.listeners.load_full();
        if listeners.iter().any(|(_, listener)| listener.takes_batches()) {
            // Apart, and on the heap: the usual path is to stay small.
            return Box::pin(self.handle_batch(msg, lane, &listeners)).await;
        }
        let counted = lane.counted(1);
        let Inbound { message, receipt, lease, .. } = msg;
        let timed = self.up.enter(message.body.len()).then(|| self.env.now());
        let (from, id) = (Arc::clone(&message.sender), message.id.clone());
        let handled = self.offer(Message::new(message), &from, &listeners).await;
        if let Some(started) = timed {
            self.up.took(self.env.now() - started);
        }
        self.account(&handled, &from, &id);
        receipt.resolve(handled);
        drop((lease, counted));
    }

    async fn offer(&self, message: Message, from: &Arc<Member>, listeners: &Listeners) -> Handled {
        let mut taken = false;
        let (mut message, last) = (Some(message), listeners.len().saturating_sub(1));
        for (at, (_, listener)) in listeners.iter().enumerate() {
            let offered = if at == last { message.take() } else { message.clone() };
            let Some(offered) = offered else { break };
            // The predicate is the user's code, too: run it where a panic is caught.
            let call = catch_now(|| listener.accepts(&offered, from).then(|| listener.message_received(offered, from)));
            let result = match call {
                Ok(Some(call)) => catch(call).await,
                Ok(None) => continue,
                Err(panic) => Err(panic),
            };
            match result {
                Ok(Ok(())) => taken = true,
                Ok(Err(error)) => return Handled::Failed(error.to_string()),
                Err(panic) => return self.panicked(&panic),
            }
        }
        if taken { Handled::Accepted } else { Handled::NoTaker }
    }

    async fn handle_batch(&self, first: Inbound, lane: &Lane, listeners: &Listeners) {
        let more = lane.more(BATCH - 1);
        let count = 1 + more.len();
        let counted = lane.counted(count);
        let mut messages = Vec::with_capacity(count);
        let mut answers = Vec::with_capacity(count);
        let timed = self.up.is_due(count);
        let mut bytes = 0;
        for msg in std::iter::once(first).chain(more) {
            let Inbound { message, receipt, lease, .. } = msg;
            bytes += message.body.len();
            messages.push(Message::new(message));
            answers.push((receipt, lease));
        }
        let of = u32::try_from(count).unwrap_or(u32::MAX);
        self.up.entered(of, bytes);
        let started = timed.then(|| self.env.now());
        let mut handled = vec![Handled::NoTaker; count];
        for (_, listener) in listeners {
            self.offer_batch(&messages, &mut handled, &**listener).await;
        }
        if let Some(started) = started {
            self.up.took((self.env.now() - started) / of);
        }
        for ((message, handled), (receipt, lease)) in messages.iter().zip(handled).zip(answers) {
            self.account(&handled, message.sender(), message.id());
            receipt.resolve(handled);
            drop(lease);
        }
        drop(counted);
    }

    /// Offers what has not failed so far to one listener, as few calls as that takes.
    async fn offer_batch(&self, messages: &[Message], handled: &mut [Handled], listener: &dyn ChannelListener) {
        let wanted = |message: &Message, handled: &mut Handled| {
            if matches!(handled, Handled::Failed(_)) {
                return false;
            }
            catch_now(|| listener.accepts(message, message.sender())).unwrap_or_else(|panic| {
                *handled = self.panicked(&panic);
                false
            })
        };
        let (mut messages, mut handled) = (messages, handled);
        while !messages.is_empty() {
            let run = messages.iter().zip(handled.iter_mut()).position(|(message, handled)| !wanted(message, handled));
            let run = run.unwrap_or(messages.len());
            let (call, rest) = messages.split_at(run);
            let (results, others) = std::mem::take(&mut handled).split_at_mut(run);
            if let Some(first) = call.first() {
                results.fill(Handled::Accepted);
                let mut batch = Batch::new(call, results);
                let result = match catch_now(|| listener.batch_received(&mut batch, first.sender())) {
                    Ok(called) => catch(called).await,
                    Err(panic) => Err(panic),
                };
                if let Err(panic) = result {
                    let panicked = self.panicked(&panic);
                    results.iter_mut().filter(|result| **result == Handled::Accepted).for_each(|result| {
                        *result = panicked.clone();
                    });
                }
            }
            // The one that ended the run is not wanted.
            messages = rest.get(1..).unwrap_or_default();
            handled = others.get_mut(1..).unwrap_or_default();
        }
    }

    fn panicked(&self, panic: &str) -> Handled {
        self.up.failed("panicked");
        Handled::Failed(format!("panicked: {panic}"))
    }

    fn account(&self, handled: &Handled, from: &Member, id: &MessageId) {
        match handled {
            Handled::Accepted => {}
            Handled::NoTaker => self.up.dropped("no taker"),
            Handled::Failed(error) => {
                // A listener that always fails would fill the log: the first, and then ever fewer.
                let times = self.up.failed("listener");
                if times.is_power_of_two() {
                    tracing::warn!(%from, %id, %error, times, "a listener failed; the sender is told if it asked");
                }
            }
        }
    }
}
