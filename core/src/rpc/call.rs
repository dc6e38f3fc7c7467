//! Asking: a call is a future of all answers, or a stream of each as it comes.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::frame::{Frame, What};
use super::hub::Hub;
use super::{Answer, CallId, Payload, Replies, RpcChannel, Wait};
use crate::env::BoxFuture;
use crate::error::{FaultKind, SendError};
use crate::message::EncodeError;
use crate::wire::java::{JavaMessage, MEMBER_CLASS_VERSION};
use crate::{Channel, Member, SendOptions, Time, To};

/// A call to be made: set how long and for whom it waits, then `.await` it, or make a [`stream`](Self::stream) of it.
///
/// The future ends with one [`Answer`] for each member asked, as soon as the [`Wait`] says, and no later than the deadline.
///
/// # Errors
/// What is one member's is in its answer. The call itself fails with [`SendError::NotStarted`] or [`SendError::Stopped`] if the
/// channel does not run, and with [`SendError::Encode`].
///
/// # Cancel safety
/// Dropping the future gives the call up: members of ours that have not answered are told so, and drop their handler's
/// future. What a handler did until then stays done.
#[must_use = "a call is made when it is awaited, or made a stream"]
pub struct Call<T = Payload> {
    rpc: RpcChannel,
    to: To,
    payload: Result<Payload, EncodeError>,
    wait: Wait,
    within: Duration,
    options: SendOptions,
    read: fn(Payload) -> Result<T, String>,
}

impl<T> Call<T> {
    pub(super) fn new(
        rpc: RpcChannel,
        to: To,
        payload: Result<Payload, EncodeError>,
        read: fn(Payload) -> Result<T, String>,
    ) -> Self {
        let (within, options) = rpc.defaults();
        Self { rpc, to, payload, wait: Wait::default(), within, options, read }
    }

    /// For how many replies it waits; default [`Wait::All`].
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long it waits at most; default that of [the channel](super::RpcBuilder::timeout). The time left travels with the
    /// request: a member of ours does not begin with one that comes too late.
    pub const fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// With which options the request is sent; default those of [the channel](super::RpcBuilder::options).
    /// [`SYNCHRONIZED_ACK`](SendOptions::SYNCHRONIZED_ACK) is taken off, as in Tribes: the reply says more.
    pub fn options(mut self, options: SendOptions) -> Self {
        self.options = options;
        self
    }

    /// The answers as they come. When the wait is satisfied, the members without one follow as
    /// [`Answer::NotAwaited`] and the stream ends; so it yields each member once.
    ///
    /// # Errors
    /// As the [future](Self).
    pub fn stream(self) -> Result<ReplyStream<T>, SendError> {
        let read = self.read;
        Ok(ReplyStream { ongoing: self.begin()?, read })
    }

    fn begin(self) -> Result<Ongoing, SendError> {
        let payload = self.payload?;
        let (hub, served) = self.rpc.parts().ok_or(SendError::Stopped)?;
        let sender = hub.sender()?.clone();
        let channel = sender.channel().ok_or(SendError::Stopped)?;
        channel.check_running()?;
        let options = self.options - SendOptions::SYNCHRONIZED_ACK;
        let view = channel.view();
        let members = channel.members_of(self.to);
        let env = sender.env().clone();
        let call = hub.next_call(|| env.random());
        served.counts.calls.add();
        let until = env.now() + self.within;
        hub.table().open(call, members.to_vec(), self.wait, until);
        // From here on the call ends when this is dropped.
        let mut ongoing = Ongoing {
            hub: Arc::clone(&hub),
            rpc: self.rpc,
            call,
            sending: None,
            deadline: Box::pin({
                let env = env.clone();
                async move { env.sleep_until(until).await }
            }),
        };
        // Who left in between is heard of no more.
        let now = channel.view();
        for member in members.iter().filter(|member| view.contains(member) && !now.contains(member)) {
            hub.fault(&call, member, Answer::Left(hub.departure_of(member)));
        }
        let (ours, others): (Vec<_>, Vec<_>) = members.iter().cloned().partition(|member| sender.reaches(member));
        let answered = self.wait != Wait::None || served.wants_left_over();
        let id = served.id.clone();
        ongoing.sending = Some(Box::pin(async move {
            // A stream may be polled late. Nobody is to begin with what no one waits for any more.
            if answered && sender.env().now() >= until {
                return;
            }
            let to_ours = async {
                if ours.is_empty() {
                    return;
                }
                // What is left of it now.
                let left = until - sender.env().now();
                let what = What::Request { payload: payload.clone(), left: Some(left), answered };
                let body = Frame { call, id: id.clone(), what }.encode();
                let sent = sender.send(&ours, body, options).await;
                sent_to(&hub, call, &ours, sent);
            };
            let to_others = async {
                if others.is_empty() {
                    return;
                }
                let message =
                    JavaMessage::Rpc { reply: false, id: call.to_bytes(), rpc_id: id.clone(), body: payload.to_java() };
                let sent = channel.send_opaque(&others, message.encode(MEMBER_CLASS_VERSION), options).await;
                sent_to(&hub, call, &others, sent);
            };
            tokio::join!(to_ours, to_others);
            let waker = hub.table().sent(&call);
            waker.inspect(std::task::Waker::wake_by_ref);
        }));
        Ok(ongoing)
    }
}

/// The request was accepted for these members, or refused as a whole.
fn sent_to(hub: &Hub, call: CallId, members: &[Arc<Member>], sent: Result<crate::Pending, SendError>) {
    let error = match sent {
        Ok(pending) => return hub.watch(call, pending),
        Err(error) => error,
    };
    let fault = match error {
        SendError::Unsupported(what) => FaultKind::Unsupported(what),
        SendError::Layer { layer, .. } => FaultKind::Dropped { by: layer, reason: "it refused the request" },
        SendError::Panicked { layer, .. } => FaultKind::Dropped { by: layer, reason: "it panicked over the request" },
        SendError::Full => FaultKind::QueueFull,
        _ => FaultKind::Stopped,
    };
    members.iter().for_each(|member| hub.fault(&call, member, Answer::Unreachable(fault.clone())));
}

impl<T: Send + 'static> IntoFuture for Call<T> {
    type Output = Result<Replies<T>, SendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let read = self.read;
            let mut ongoing = self.begin()?;
            std::future::poll_fn(|cx| ongoing.poll_done(cx)).await;
            let (answers, satisfied) = ongoing.finish();
            Ok(Replies::new(
                answers.into_iter().map(|(member, answer)| (member, answer.read(read))).collect(),
                satisfied,
            ))
        })
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("to", &self.to)
            .field("wait", &self.wait)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// The answers to a call as they come; ends when the call does. Dropping it gives the call up, as with the future. The request is
/// sent at the first poll; if that comes after the deadline nothing is sent, and all are said to have timed out.
#[must_use = "a call goes on only while its stream is polled"]
pub struct ReplyStream<T = Payload> {
    ongoing: Ongoing,
    read: fn(Payload) -> Result<T, String>,
}

impl<T> ReplyStream<T> {
    /// The next answer and whose it is; `None` when the call has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<(Arc<Member>, Answer<T>)> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Arc<Member>, Answer<T>)>> {
        let next = self.ongoing.poll_next(cx);
        next.map(|next| next.map(|(member, answer)| (member, answer.read(self.read))))
    }
}

impl<T> Stream for ReplyStream<T> {
    type Item = (Arc<Member>, Answer<T>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl<T> fmt::Debug for ReplyStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("call", &self.ongoing.call).finish_non_exhaustive()
    }
}

/// A call on its way. Dropped before its end, it is given up.
struct Ongoing {
    hub: Arc<Hub>,
    rpc: RpcChannel,
    call: CallId,
    sending: Option<BoxFuture>,
    deadline: BoxFuture,
}

impl Ongoing {
    /// Lets it go on: the request is sent as members have room for it, and time passes.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(sending) = &mut self.sending
            && sending.as_mut().poll(cx).is_ready()
        {
            self.sending = None;
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drive(cx);
        if self.hub.table().is_done(&self.call, cx.waker()) {
            return Poll::Ready(());
        }
        std::task::ready!(self.deadline.as_mut().poll(cx));
        self.expire();
        Poll::Ready(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Arc<Member>, Answer)>> {
        self.drive(cx);
        let mut expired = false;
        loop {
            let next = self.hub.table().next(&self.call, cx.waker());
            match next {
                Ok(Some(answer)) => return Poll::Ready(Some(answer)),
                Err(()) => return Poll::Ready(None),
                Ok(None) if expired => return Poll::Pending,
                Ok(None) => {}
            }
            std::task::ready!(self.deadline.as_mut().poll(cx));
            self.expire();
            expired = true;
        }
    }

    /// The timer says that the deadline has come; nobody needs to be woken.
    fn expire(&self) {
        drop(self.hub.table().tick(&self.call, Time::NEVER));
    }

    fn finish(self) -> (Vec<(Arc<Member>, Answer)>, bool) {
        let closed = self.hub.table().close(&self.call);
        closed.map(|closed| (closed.answers, closed.satisfied)).unwrap_or_default()
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let Some(closed) = self.hub.table().close(&self.call).filter(|closed| closed.cancelled) else { return };
        let Some((_, served)) = self.rpc.parts() else { return };
        served.counts.abandoned.add();
        let Ok(sender) = self.hub.sender() else { return };
        let open = closed.answers.into_iter().filter(|(_, answer)| *answer == Answer::NotAwaited);
        let body = Frame { call: self.call, id: served.id.clone(), what: What::Cancel }.encode();
        // One by one: a member without room is not to keep it from the others.
        for (member, _) in open.filter(|(member, _)| sender.reaches(member)) {
            if let Ok(pending) = sender.try_send(member, body.clone(), SendOptions::NONE) {
                pending.on_complete(drop);
            }
        }
    }
}

impl Channel {
    /// Those whom `to` names now, each once.
    fn members_of(&self, to: To) -> Arc<[Arc<Member>]> {
        match to {
            To::All => Arc::clone(self.view().members()),
            To::Members(members) => crate::channel::once_each(members),
        }
    }
}
