//! The layers between the application and the network, in their two forms.
//!
//! A layer that never waits implements [`SyncInterceptor`]: neighbours of this form run inline, without a heap
//! allocation. A layer that queues, waits or calls others implements [`ChannelInterceptor`]. Both are given to
//! [`ChannelBuilder::interceptor`](crate::ChannelBuilder::interceptor), and both get the same from the pipeline: their
//! trigger applied, panics caught, everything counted.

mod interest;
mod rules;
mod sync;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use interest::{Interest, WireEffect};
pub use rules::Rule;
pub use sync::{Cx, EventVerdict, SyncInterceptor, Verdict};

use crate::delivery::{Inbound, Outbound, Outcome};
use crate::error::{BoxError, ReceiveError, SendError};
use crate::member::MemberEvent;
use crate::pipeline::{Link, Next};
use crate::stats::Gauge;
use crate::{SendOptions, Time};

/// A layer that may wait (Tribes: `ChannelInterceptor`).
///
/// Messages go down from layer 1, nearest to the application, to layer N; received messages and membership events go
/// up. Every method has a default that passes on, so implement those that you need and say so in
/// [`interest`](Self::interest).
///
/// # What a layer can rely on
/// - `start` is called bottom layer first, once, before any other hook; `stop` top layer first, once for each start.
/// - The hooks run concurrently for different messages. Messages of one task to one member come in order, as do
///   messages received from one member; a layer that hands on later (from a task) keeps that order itself.
/// - Membership events come one after another, and not before all layers have been started: a layer may raise events in its
///   `start`.
/// - No lock is held by the caller.
///
/// # Cancel safety
/// `send` may be dropped at any `.await`, when the application drops its send, and `receive` when a connection ends. Whatever the
/// hook then holds resolves itself as lost. `start` and `stop` are awaited to their end unless the application drops its own
/// call; `stop` is then called again.
///
/// # What it must do
/// - Never hold a lock over `.await`, nor while it calls `next` or its [`Link`].
/// - `send` returns when the message is *accepted, in order, for each destination*, by the layer itself or those below;
///   the result comes later through each destination's [`Completion`](crate::Completion).
/// - Change a message by replacing its parts. Bodies are shared and immutable.
#[async_trait]
pub trait ChannelInterceptor: Debug + Send + Sync + 'static {
    /// The layer's name in configuration, statistics, logs and errors: kebab-case, unique in the stack.
    fn name(&self) -> &'static str;

    /// The hooks that the pipeline calls; the others cost nothing. Asked once, when the channel is built.
    fn interest(&self) -> Interest {
        Interest::all_hooks()
    }

    /// The option bits that switch this layer on for a message (Tribes: `optionFlag`); all must be set. Empty: every
    /// message. Asked once, when the channel is built.
    fn trigger(&self) -> SendOptions {
        SendOptions::empty()
    }

    /// What this layer does to the bytes on the wire.
    fn wire(&self) -> WireEffect {
        WireEffect::None
    }

    /// What the layer asks of its place among the others; [`Rule`] has an example. Asked once, when the channel is built.
    fn placement(&self) -> &'static [Rule] {
        &[]
    }

    /// Whether the layer can work with its options. Asked once, when the channel is built, which reports all faults at once;
    /// what only shows when the channel runs (a file, a port) is for [`start`](Self::start).
    ///
    /// # Errors
    /// The channel is not built. The error names option, value and bounds, and never a secret.
    fn check_config(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called before anything else. Keep `link` for what the layer does on its own account.
    ///
    /// # Errors
    /// The channel does not start, and what was started is stopped again.
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        drop(link);
        Ok(())
    }

    /// Called once for each start, top layer first, while everything below still works: send what is queued, or fail it,
    /// by `deadline`. Must be idempotent. Messages may still come from below afterwards, until the receiver has stopped, too:
    /// pass them on or refuse them, and keep none, for there is nobody left to release it.
    async fn stop(&self, deadline: Time) {
        let _ = deadline;
    }

    /// A message on its way down.
    ///
    /// # Errors
    /// The message is refused as a whole; each destination without an outcome fails with this.
    async fn send(&self, out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        next.send(out).await
    }

    /// The short cut of [`send`](Self::send), called first, for a message that needs no waiting: change it in place and let
    /// it pass, without the boxed future of `send`. With [`Readiness::Wait`], the default, `send` is called; `out` must then
    /// be as good as it was. Must not block.
    fn send_now(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Readiness {
        let _ = (out, cx);
        Readiness::Wait
    }

    /// A message on its way up.
    ///
    /// # Errors
    /// The message is refused; the sender hears of it if it asked for a synchronized acknowledgement.
    async fn receive(&self, msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        next.receive(msg).await
    }

    /// Something happened to a member. Pass it on, or swallow it.
    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        next.member_event(event).await;
    }

    /// The channel's heartbeat, every 5 s by default; the channel visits every layer.
    async fn heartbeat(&self, now: Time, next: Next<'_>) {
        let _ = (now, next);
    }

    /// What became of an application message. Called for every message of the channel that declared interest.
    fn outcome(&self, outcome: &Outcome) {
        let _ = outcome;
    }

    /// Figures of the layer's own, for [`Channel::stats`](crate::Channel::stats).
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// Whether an asynchronous layer has done with a message what it does, without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The message goes on down as it now stands.
    Pass,
    /// [`ChannelInterceptor::send`] is to be called.
    Wait,
}

/// A layer of either form.
#[derive(Clone, Debug)]
pub enum Layer {
    /// May wait.
    Async(Arc<dyn ChannelInterceptor>),
    /// Never waits.
    Sync(Arc<dyn SyncInterceptor>),
}

/// Calls the same method on whichever form it is.
macro_rules! either {
    ($layer:expr, $inner:ident => $call:expr) => {
        match $layer {
            Layer::Async($inner) => $call,
            Layer::Sync($inner) => $call,
        }
    };
}

impl Layer {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        either!(self, layer => layer.name())
    }

    /// The hooks it wants.
    #[must_use]
    pub fn interest(&self) -> Interest {
        either!(self, layer => layer.interest())
    }

    /// Its trigger.
    #[must_use]
    pub fn trigger(&self) -> SendOptions {
        either!(self, layer => layer.trigger())
    }

    /// Its effect on the wire.
    #[must_use]
    pub fn wire(&self) -> WireEffect {
        either!(self, layer => layer.wire())
    }

    /// What it asks of its place.
    #[must_use]
    pub fn placement(&self) -> &'static [Rule] {
        either!(self, layer => layer.placement())
    }

    /// Whether it can work with its options.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_config(&self) -> Result<(), BoxError> {
        either!(self, layer => layer.check_config())
    }

    /// Its own figures.
    #[must_use]
    pub fn gauges(&self) -> Vec<Gauge> {
        either!(self, layer => layer.gauges())
    }

    pub(crate) fn outcome(&self, outcome: &Outcome) {
        either!(self, layer => layer.outcome(outcome));
    }

    pub(crate) async fn start(&self, link: Link) -> Result<(), BoxError> {
        match self {
            Self::Async(layer) => layer.start(link).await,
            Self::Sync(layer) => layer.start(link),
        }
    }

    pub(crate) async fn stop(&self, deadline: Time) {
        match self {
            Self::Async(layer) => layer.stop(deadline).await,
            Self::Sync(layer) => layer.stop(),
        }
    }
}

/// Whatever can stand in the stack: a value or an `Arc` of either form, or a [`Layer`]. `Form` only tells the two forms
/// apart; it is always inferred.
pub trait IntoLayer<Form> {
    /// The layer.
    fn into_layer(self) -> Layer;
}

/// Marks the form of [`IntoLayer`]; never named.
#[derive(Debug)]
#[doc(hidden)]
pub struct AsyncForm;
/// Marks the form of [`IntoLayer`]; never named.
#[derive(Debug)]
#[doc(hidden)]
pub struct SyncForm;
/// Marks the form of [`IntoLayer`]; never named.
#[derive(Debug)]
#[doc(hidden)]
pub struct Shared<Form>(Form);
/// Marks the form of [`IntoLayer`]; never named.
#[derive(Debug)]
#[doc(hidden)]
pub struct Ready;

impl<T: ChannelInterceptor> IntoLayer<AsyncForm> for T {
    fn into_layer(self) -> Layer {
        Layer::Async(Arc::new(self))
    }
}

impl<T: SyncInterceptor> IntoLayer<SyncForm> for T {
    fn into_layer(self) -> Layer {
        Layer::Sync(Arc::new(self))
    }
}

impl<T: ChannelInterceptor> IntoLayer<Shared<AsyncForm>> for Arc<T> {
    fn into_layer(self) -> Layer {
        Layer::Async(self)
    }
}

impl<T: SyncInterceptor> IntoLayer<Shared<SyncForm>> for Arc<T> {
    fn into_layer(self) -> Layer {
        Layer::Sync(self)
    }
}

impl IntoLayer<Ready> for Layer {
    fn into_layer(self) -> Layer {
        self
    }
}
