//! From the top of the stack to the listeners: one FIFO per sender.
//!
//! The queues are bounded by the receiver's leases, which each message holds until it has been handled: when a listener is
//! slow, the receiver stops reading from that sender. Only these queues wait for listeners; layers and membership see a
//! frame before it enters one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};

use super::Inner;
use super::listener::ChannelListener;
use crate::delivery::{Handled, Inbound};
use crate::error::ReceiveError;
use crate::pipeline::catch;
use crate::stats::FlowCounters;
use crate::{Env, Member, Message, Time};

tokio::task_local! {
    /// Whose message this task is handling, and in which channel.
    static HANDLING: (usize, Arc<Member>);
}

/// The queues of one channel.
#[derive(Default)]
pub(super) struct Queues {
    senders: Mutex<Senders>,
    waiting: Arc<AtomicUsize>,
    /// Told when `waiting` falls to zero.
    idle: Arc<Notify>,
}

#[derive(Default)]
struct Senders {
    /// Whether the channel runs: a message that comes after the stop reaches no listener.
    open: bool,
    queues: BTreeMap<Arc<Member>, Queue>,
    /// Idle queues are closed early when there are this many: whoever makes up senders makes no tasks without end.
    prune_at: usize,
}

/// So many queues may be idle.
const MAX_IDLE: usize = 1024;

struct Queue {
    messages: mpsc::UnboundedSender<Inbound>,
    depth: Arc<AtomicUsize>,
    last_used: Time,
}

impl Queues {
    /// Messages that wait for a listener, or are with one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Waits until all messages have been handled. Cancel safe.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.waiting() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Puts `msg` into its sender's queue.
    pub(super) fn push(&self, channel: &Arc<Inner>, msg: Inbound) -> Result<(), ReceiveError> {
        let now = channel.stack.env.now();
        let mut senders = self.lock();
        if !senders.open {
            drop(senders);
            msg.receipt.resolve(Handled::Failed(ReceiveError::Stopped.to_string()));
            return Err(ReceiveError::Stopped);
        }
        let queues = &mut senders.queues;
        // Looked up by reference first: the usual sender is known.
        if !queues.contains_key(msg.from()) {
            let queue = self.begin(channel, now);
            queues.insert(Arc::clone(msg.from()), queue);
            if queues.len() > senders.prune_at.max(MAX_IDLE) {
                // The new one is not in use yet, and is to stay.
                let idle = |queue: &Queue| queue.depth.load(Ordering::Acquire) == 0;
                senders.queues.retain(|from, queue| from == msg.from() || !idle(queue));
                senders.prune_at = 2 * senders.queues.len();
            }
        }
        let Some(queue) = senders.queues.get_mut(msg.from()) else { return Err(ReceiveError::Stopped) };
        queue.last_used = now;
        queue.depth.fetch_add(1, Ordering::AcqRel);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let sent = queue.messages.send(msg);
        if sent.is_err() {
            queue.depth.fetch_sub(1, Ordering::AcqRel);
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            senders.queues.retain(|_, queue| !queue.messages.is_closed());
            return Err(ReceiveError::Stopped);
        }
        Ok(())
    }

    fn begin(&self, channel: &Arc<Inner>, now: Time) -> Queue {
        let (messages, queue) = mpsc::unbounded_channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            application: Arc::clone(&channel.application),
            queue,
            depth: Arc::clone(&depth),
            waiting: Arc::clone(&self.waiting),
            idle: Arc::clone(&self.idle),
        };
        channel.stack.spawn(worker.run());
        Queue { messages, depth, last_used: now }
    }

    /// Closes queues that have been empty since before `since`; their tasks end.
    pub(super) fn close_idle(&self, since: Time) {
        self.lock().queues.retain(|_, queue| queue.depth.load(Ordering::Acquire) > 0 || queue.last_used > since);
    }

    /// Takes messages from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Takes no more messages and closes all queues; what is in them is still handled.
    pub(super) fn close(&self) {
        let mut senders = self.lock();
        senders.open = false;
        senders.queues.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles the messages of one sender, one after another.
struct Worker {
    application: Arc<Application>,
    queue: mpsc::UnboundedReceiver<Inbound>,
    depth: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    idle: Arc<Notify>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(msg) = self.queue.recv().await {
            let counted = Counted(&self);
            counted.0.application.handle(msg).await;
            drop(counted);
        }
    }

    /// One message less waits, handled or not.
    fn count_off(&self) {
        self.depth.fetch_sub(1, Ordering::AcqRel);
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}

impl Drop for Worker {
    /// What an aborted worker leaves in its queue waits no more: its receipts answer negatively.
    fn drop(&mut self) {
        self.queue.close();
        while self.queue.try_recv().is_ok() {
            self.count_off();
        }
    }
}

/// Counts a message as handled when dropped, also when the task is aborted meanwhile.
struct Counted<'a>(&'a Worker);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.count_off();
    }
}

/// The application's end of the pipeline: its listeners. Apart from the channel, so that a listener which never returns does
/// not keep the channel alive.
pub(super) struct Application {
    pub(super) listeners: ArcSwap<Vec<(u64, Arc<dyn ChannelListener>)>>,
    pub(super) up: FlowCounters,
    env: Env,
}

impl Application {
    pub(super) fn new(env: Env) -> Arc<Self> {
        Arc::new(Self { listeners: ArcSwap::default(), up: FlowCounters::default(), env })
    }

    /// Gives `msg` to the listeners that accept it, answers its sender and gives its memory back.
    async fn handle(&self, msg: Inbound) {
        let Inbound { message, receipt, lease, .. } = msg;
        let timed = self.up.enter(message.body.len()).then(|| self.env.now());
        let from = Arc::clone(&message.sender);
        let message = Message::new(message);
        let handled = HANDLING.scope((self.address(), Arc::clone(&from)), self.offer(&message, &from)).await;
        if let Some(started) = timed {
            self.up.took(self.env.now() - started);
        }
        match &handled {
            Handled::Accepted => {}
            Handled::NoTaker => self.up.dropped("no taker"),
            Handled::Failed(error) => {
                // A listener that always fails would fill the log: the first, and then ever fewer.
                let times = self.up.failed("listener");
                if times.is_power_of_two() {
                    tracing::warn!(%from, id = %message.id(), %error, times, "a listener failed; the sender is told if it asked");
                }
            }
        }
        receipt.resolve(handled);
        drop(lease);
    }

    async fn offer(&self, message: &Message, from: &Arc<Member>) -> Handled {
        let mut taken = false;
        let listeners = self.listeners.load_full();
        for (_, listener) in listeners.iter() {
            // The predicate is the user's code, too: run it where a panic is caught.
            let call = Box::pin(async {
                if !listener.accepts(message, from) {
                    return Ok(false);
                }
                listener.message_received(message.clone(), from).await.map(|()| true)
            });
            match catch(call).await {
                Ok(Ok(accepted)) => taken |= accepted,
                Ok(Err(error)) => return Handled::Failed(error.to_string()),
                Err(panic) => {
                    self.up.failed("panicked");
                    return Handled::Failed(format!("panicked: {panic}"));
                }
            }
        }
        if taken { Handled::Accepted } else { Handled::NoTaker }
    }

    /// Whether this task is handling a message of `member` in this channel.
    pub(super) fn is_handling(&self, member: &Member) -> bool {
        HANDLING.try_with(|(channel, from)| *channel == self.address() && **from == *member).unwrap_or(false)
    }

    /// Tells channels of one process apart.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
