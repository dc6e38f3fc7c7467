//! The rest of the stack as an asynchronous layer sees it during a hook.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Link, Stack};
use crate::delivery::{Inbound, Outbound};
use crate::error::{ReceiveError, SendError};
use crate::member::MemberEvent;

/// The neighbours of a layer, borrowed for one hook: sends down and delivers up from the layer's own place, so a layer may
/// also answer from `receive`. For what a layer does later, take the owned [`Next::link`].
#[derive(Clone, Copy)]
pub struct Next<'a> {
    stack: &'a Stack,
    place: usize,
    matches: bool,
    /// Collects the time spent beyond the layer, when the message is timed.
    beyond: Option<&'a AtomicU64>,
}

impl<'a> Next<'a> {
    pub(super) const fn new(stack: &'a Stack, place: usize, matches: bool, beyond: Option<&'a AtomicU64>) -> Self {
        Self { stack, place, matches, beyond }
    }

    /// Whether the message has all bits of the layer's trigger; only of interest with
    /// [`Interest::SEES_ALL`](crate::Interest::SEES_ALL), otherwise always true.
    #[must_use]
    pub const fn matches(&self) -> bool {
        self.matches
    }

    /// Whether a layer further down, or the transport, may wait with a message; see [`Cx::below_waits`](crate::Cx::below_waits).
    #[must_use]
    pub fn below_waits(&self) -> bool {
        self.stack.slots.get(self.place).is_some_and(|slot| slot.below_waits)
    }

    /// Hands `out` to the layer below. Returns when it is accepted, in order, for each destination.
    ///
    /// # Errors
    /// A layer below refused it.
    ///
    /// # Cancel safety
    /// Dropped before it is done, some destinations may have accepted the message; the others count as dropped.
    pub async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let started = self.beyond.map(|_| self.stack.env.now());
        let result = self.stack.send_from(self.place + 1, out).await;
        self.add(started);
        result
    }

    /// Hands `msg` to the layer above.
    ///
    /// # Errors
    /// A layer above refused it.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the message may be lost; its sender then gets a negative answer.
    pub async fn receive(&self, msg: Inbound) -> Result<(), ReceiveError> {
        let started = self.beyond.map(|_| self.stack.env.now());
        let result = self.stack.receive_from(self.place, msg).await;
        self.add(started);
        result
    }

    /// Hands `event` to the layer above, now; the next event comes when this one has arrived at the top.
    pub async fn member_event(&self, event: MemberEvent) {
        // Boxed: events may be passed on by any number of layers, and are rare.
        Box::pin(self.stack.event_from(self.place, event)).await;
    }

    /// An owned handle of the same place.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        self.stack.slots.get(self.place).and_then(|slot| slot.link.get()).cloned()
    }

    fn add(&self, started: Option<crate::Time>) {
        if let (Some(beyond), Some(started)) = (self.beyond, started) {
            let nanos = u64::try_from((self.stack.env.now() - started).as_nanos()).unwrap_or(u64::MAX);
            beyond.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("place", &self.place).field("matches", &self.matches).finish_non_exhaustive()
    }
}
