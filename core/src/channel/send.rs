//! Sending: a message is made, taken as far down as it gets without waiting, and waited for as its options say.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{Channel, To, target};
use crate::delivery::{Audience, Outbound, Pending};
use crate::error::{FaultKind, SendError};
use crate::message::{self, Body, ChannelMessage, MessageId};
use crate::pipeline::Walk;
use crate::stats::FlowCounters;
use crate::{AckMode, SendOptions};

impl Channel {
    /// Sends `body` to `to` and waits for what `options` ask: nothing = the operating system took it for each member;
    /// `ack` = each member acknowledged it; `sync` = each listener returned; `async` = it is queued for each member.
    /// [`EXTENSION`](SendOptions::EXTENSION) is taken off `options`, by all sends: only layers mark a message so.
    ///
    /// # Errors
    /// [`SendError::Faulty`] names each member that failed; the others were served. With `async` faults come to those who
    /// use [`send_with`](Self::send_with), and to the counters. [`SendError::NoDestination`] if there is nobody,
    /// [`SendError::NotStarted`] and [`SendError::Stopped`] if the sender does not run, [`SendError::Unsupported`] for what
    /// the transport cannot do, and [`SendError::Layer`] if a layer refuses the message.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the message is not sent to the members that have not accepted it; dropped after that,
    /// it is sent all the same and its outcome is lost.
    pub async fn send(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let (out, pending) = self.prepare(to.into(), body.into(), options)?;
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Self::finish(pending, options).await
    }

    /// Sends `value` as MessagePack by field name; read it with [`Message::decode`](crate::Message::decode). Otherwise as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Encode`].
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_message<T: Serialize + ?Sized + Sync>(
        &self,
        to: impl Into<To>,
        value: &T,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let body = message::encode(value)?;
        self.send(to, body, options).await
    }

    /// Sends `body` and returns as soon as it is accepted, in order, for each member. The [`Pending`] is a future of the
    /// outcome for each member, or takes a callback; `async` sends, too, resolve with what really happened.
    ///
    /// # Errors
    /// If the message is refused as a whole. Faults of members are in the outcome.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (out, pending) = self.prepare(to.into(), body.into(), options)?;
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Ok(pending)
    }

    /// Sends `body` as a serialized Java object: as [`send_with`](Self::send_with), but with
    /// [`BYTE_MESSAGE`](SendOptions::BYTE_MESSAGE) clear, which makes a Java peer deserialize it. For membership services
    /// and layers that speak to Java's own; applications have no use for it.
    ///
    /// # Errors
    /// As [`send_with`](Self::send_with).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_opaque(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (mut out, pending) = self.prepare(to.into(), body.into(), options)?;
        out.message.options.remove(SendOptions::BYTE_MESSAGE);
        self.accept(out, pending).await
    }

    /// As [`send_opaque`](Self::send_opaque), without waiting for room.
    pub(crate) fn try_send_opaque(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (mut out, pending) = self.prepare(to.into(), body.into(), options)?;
        out.message.options.remove(SendOptions::BYTE_MESSAGE);
        self.accept_at_once(out, pending)
    }

    /// Sends `body` without waiting for room: refuses with [`SendError::Full`] when that would be needed, and then nothing is
    /// sent to anyone that had no room.
    ///
    /// # Errors
    /// As [`send_with`](Self::send_with), and [`SendError::Full`].
    pub fn try_send(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (out, pending) = self.prepare(to.into(), body.into(), options)?;
        self.accept_at_once(out, pending)
    }

    fn prepare(&self, to: To, body: Bytes, options: SendOptions) -> Result<(Outbound, Pending), SendError> {
        // The mark of a trailer is for layers to set: with it, what looks like one would be cut off the body.
        let options = options - SendOptions::EXTENSION;
        let (mut out, pending) = self.make(to, Body::new(body), options, &self.0.top_down)?;
        if options.ack_mode() == AckMode::Handled
            && !options.contains(SendOptions::ASYNCHRONOUS)
            && let Some(stuck) = out.extract(|member| self.0.application.is_handling(member))
        {
            stuck.fail(&FaultKind::WouldDeadlock);
        }
        Ok((out, pending))
    }

    /// A new message of the local member's, counted by `counters`.
    pub(super) fn make(
        &self,
        to: To,
        body: Body,
        options: SendOptions,
        counters: &FlowCounters,
    ) -> Result<(Outbound, Pending), SendError> {
        let inner = &self.0;
        inner.running.check()?;
        let multicast = crate::transport::is_multicast(options);
        let audience = match to {
            // A multicast goes to whoever hears it; its outcome is that of the datagram.
            _ if multicast => Audience::new(Arc::new([]), inner.stack.observer()),
            To::All => inner.everyone.load_full(),
            To::Members(members) => Audience::new(target::once_each(members), inner.stack.observer()),
        };
        if audience.is_empty() && !multicast {
            return Err(SendError::NoDestination);
        }
        counters.enter(body.len());
        let env = &inner.stack.env;
        let at = env.now();
        let message = ChannelMessage {
            options: options | SendOptions::BYTE_MESSAGE,
            timestamp_ms: env.wall_ms_at(at),
            id: MessageId::generate(env),
            sender: inner.stack.local.load_full(),
            body,
        };
        Ok(Outbound::to_audience(message, audience, at))
    }

    /// As [`accept`](Self::accept), without waiting.
    pub(super) fn accept_at_once(&self, mut out: Outbound, pending: Pending) -> Result<Pending, SendError> {
        if !out.members().all(|member| self.0.has_room(member, out.len())) {
            pending.on_complete(drop);
            return Err(SendError::Full);
        }
        out.may_wait = false;
        // Nothing on this way waits when it must not; a layer that does all the same is a layer that is full.
        let accept = std::pin::pin!(self.accept(out, pending));
        match accept.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => Err(SendError::Full),
        }
    }

    /// Takes the message as far as it gets without waiting, which is nearly always to its end; `None`: it is accepted.
    fn accept_now(&self, out: Outbound) -> Option<Walk> {
        if out.to.is_empty() && !crate::transport::is_multicast(out.message.options) {
            return None;
        }
        match self.0.stack.send_now(0, out) {
            Walk::Done(Ok(())) => None,
            walk => Some(walk),
        }
    }

    /// The rest of the way, for what has to wait. Boxed: the future of a send stays small where nothing waits.
    async fn accept_later(&self, walk: Walk) -> Result<(), SendError> {
        let result = Box::pin(self.0.stack.send_rest(walk)).await;
        if result.is_err() {
            self.0.top_down.failed("refused");
        }
        result
    }

    pub(super) async fn accept(&self, out: Outbound, pending: Pending) -> Result<Pending, SendError> {
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Ok(pending)
    }

    async fn finish(pending: Pending, options: SendOptions) -> Result<MessageId, SendError> {
        let id = pending.id().clone();
        if options.contains(SendOptions::ASYNCHRONOUS) {
            // Queued is all that was asked for; what happens later is counted and logged.
            pending.log_faults();
            return Ok(id);
        }
        pending.await.into_result().map(|_| id)
    }
}
