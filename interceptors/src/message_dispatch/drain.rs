//! The task of one lane, which hands its messages to the layer below.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tribes_core::{FaultKind, Link, SendError};

use super::lanes::{Lane, Lanes};

/// A lane that never finds its layer below busy lets others have the thread this often.
const YIELD_EVERY: u64 = 64;

/// The task of one lane.
pub(super) struct Drain {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
    link: Link,
}

impl Drain {
    pub(super) const fn new(lanes: Arc<Lanes>, lane: Arc<Lane>, link: Link) -> Self {
        Self { lanes, lane, link }
    }

    /// Hands over what is queued, one message after another; ends when the lane is closed.
    pub(super) async fn run(self) {
        let Self { lanes, lane, link } = &self;
        let mut handed_over = 0_u64;
        loop {
            let mut closed = false;
            let next = lanes.with(lane, |queue| {
                closed = queue.is_closed();
                queue.next()
            });
            match next {
                Some(single) => {
                    // Returns when the message is accepted, not when it has arrived: acknowledgements overlap.
                    match link.send(single).await {
                        Ok(()) => drop(lanes.sent.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => self.refused(&error),
                    }
                    handed_over += 1;
                    if handed_over.is_multiple_of(YIELD_EVERY) {
                        tokio::task::yield_now().await;
                    }
                }
                None if closed => return,
                None => lane.wake.notified().await,
            }
        }
    }

    /// A layer below refused a message. Its destination has been resolved as dropped when the message was.
    fn refused(&self, error: &SendError) {
        self.lanes.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.lanes.refusals.pass(self.link.env().now()) {
            let (member, error) = (&self.lane.member, error as &dyn std::error::Error);
            tracing::warn!(%member, error, unlogged, "a queued message was refused");
        }
    }
}

impl Drop for Drain {
    /// However the task ended, nothing is left in a lane that nobody serves.
    fn drop(&mut self) {
        for single in self.lanes.abandon(&self.lane) {
            single.fail(&FaultKind::Stopped);
        }
    }
}
