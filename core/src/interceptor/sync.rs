//! The form for layers that never wait.

use std::fmt::Debug;

use super::{Interest, Rule, WireEffect};
use crate::delivery::{Inbound, Outbound, Outcome};
use crate::error::BoxError;
use crate::member::MemberEvent;
use crate::pipeline::Link;
use crate::stats::Gauge;
use crate::{SendOptions, Time};

/// A layer that never waits: counts, filters, changes, splits. See
/// [`ChannelInterceptor`](super::ChannelInterceptor) for what a layer can rely on and what it must do; the hooks mean the
/// same.
///
/// ```
/// use tribes_core::{Cx, Interest, Outbound, SyncInterceptor, Verdict};
///
/// /// Refuses what is too long.
/// #[derive(Debug)]
/// struct MaxLen(usize);
///
/// impl SyncInterceptor for MaxLen {
///     fn name(&self) -> &'static str {
///         "max-len"
///     }
///     fn interest(&self) -> Interest {
///         Interest::SEND
///     }
///     fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
///         if out.len() > self.0 { Verdict::Refuse("too long".into()) } else { Verdict::Pass }
///     }
/// }
/// ```
pub trait SyncInterceptor: Debug + Send + Sync + 'static {
    /// As [`ChannelInterceptor::name`](super::ChannelInterceptor::name).
    fn name(&self) -> &'static str;

    /// As [`ChannelInterceptor::interest`](super::ChannelInterceptor::interest).
    fn interest(&self) -> Interest {
        Interest::all_hooks()
    }

    /// As [`ChannelInterceptor::trigger`](super::ChannelInterceptor::trigger).
    fn trigger(&self) -> SendOptions {
        SendOptions::empty()
    }

    /// As [`ChannelInterceptor::wire`](super::ChannelInterceptor::wire).
    fn wire(&self) -> WireEffect {
        WireEffect::None
    }

    /// As [`ChannelInterceptor::placement`](super::ChannelInterceptor::placement).
    fn placement(&self) -> &'static [Rule] {
        &[]
    }

    /// As [`ChannelInterceptor::check_config`](super::ChannelInterceptor::check_config).
    ///
    /// # Errors
    /// The channel is not built.
    fn check_config(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// As [`ChannelInterceptor::start`](super::ChannelInterceptor::start).
    ///
    /// # Errors
    /// The channel does not start.
    fn start(&self, link: Link) -> Result<(), BoxError> {
        drop(link);
        Ok(())
    }

    /// As [`ChannelInterceptor::stop`](super::ChannelInterceptor::stop).
    fn stop(&self) {}

    /// A message on its way down. Change `out` in place and pass it, or say what happens instead.
    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Verdict<Outbound> {
        let _ = (out, cx);
        Verdict::Pass
    }

    /// A message on its way up.
    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        let _ = (msg, cx);
        Verdict::Pass
    }

    /// Messages on their way up that were read at once, oldest first: at least one, all of which
    /// [match](Cx::matches) or all not. Says for how many of them it has decided that they pass, and what becomes of the
    /// one after these, if it is not to pass; those behind it come again. The default calls [`receive`](Self::receive) for
    /// one after another. Overrule it where a layer saves something by seeing many at once: a lock, a look at the clock.
    ///
    /// After a panic the message that [`Cx::at`] was last told fails, by default the first, and those behind it come again.
    fn receive_batch(&self, batch: &mut [Inbound], cx: &mut Cx<'_>) -> (usize, Verdict<Inbound>) {
        for (index, msg) in batch.iter_mut().enumerate() {
            cx.at(index);
            let verdict = self.receive(msg, cx);
            if !matches!(verdict, Verdict::Pass) {
                return (index, verdict);
            }
        }
        (batch.len(), Verdict::Pass)
    }

    /// Something happened to a member.
    fn member_event(&self, event: &MemberEvent, cx: &mut Cx<'_>) -> EventVerdict {
        let _ = (event, cx);
        EventVerdict::Pass
    }

    /// The channel's heartbeat.
    fn heartbeat(&self, now: Time) {
        let _ = now;
    }

    /// As [`ChannelInterceptor::outcome`](super::ChannelInterceptor::outcome).
    fn outcome(&self, outcome: &Outcome) {
        let _ = outcome;
    }

    /// As [`ChannelInterceptor::gauges`](super::ChannelInterceptor::gauges).
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// What becomes of a message after a synchronous hook.
#[derive(Debug)]
pub enum Verdict<M> {
    /// It goes on as it now stands.
    Pass,
    /// This one goes on in its place. Completions and receipts must have been moved over.
    Replace(M),
    /// These go on in its place, in this order.
    Many(Vec<M>),
    /// It ends here as intended (a probe that was meant for this layer, a piece that is kept), counted under this reason.
    /// Downward its destinations count as dropped unless the layer took their completions; upward it is acknowledged
    /// unless the layer took the receipt.
    Drop(&'static str),
    /// It is refused: an error to the sender, down or up.
    Refuse(BoxError),
}

/// Whether a membership event goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventVerdict {
    /// It goes on up.
    Pass,
    /// It ends here.
    Swallow,
}

/// What a synchronous hook may ask of the pipeline.
#[derive(Debug)]
pub struct Cx<'a> {
    matches: bool,
    link: &'a Link,
    below_waits: bool,
    at: usize,
}

impl<'a> Cx<'a> {
    pub(crate) const fn new(matches: bool, link: &'a Link, below_waits: bool) -> Self {
        Self { matches, link, below_waits, at: 0 }
    }

    /// Tells that the message at `index` of a [batch](SyncInterceptor::receive_batch) is looked at now.
    pub const fn at(&mut self, index: usize) {
        self.at = index;
    }

    pub(crate) const fn index(&self) -> usize {
        self.at
    }

    /// Whether the message has all bits of the layer's trigger; only of interest with [`Interest::SEES_ALL`], otherwise
    /// always true.
    #[must_use]
    pub const fn matches(&self) -> bool {
        self.matches
    }

    /// Whether a layer further down, or the transport, may wait with a message. If none does, a message whose room is
    /// [reserved](crate::Destination::reservation) is accepted by all of them here and now.
    #[must_use]
    pub const fn below_waits(&self) -> bool {
        self.below_waits
    }

    /// The layer's own place in the stack, to be cloned for what it does later.
    #[must_use]
    pub const fn link(&self) -> &Link {
        self.link
    }

    /// Time now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.link.env().now()
    }
}
