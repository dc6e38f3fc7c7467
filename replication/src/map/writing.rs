//! A write that is made, and whose outcome is still to come.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::shared::Outcome;
use crate::durability::{Durability, Written, states};
use crate::error::MapError;
use crate::version::Version;

/// A write that is made: a future of how far it came; see [`begin_put`](crate::ReplicatedMap::begin_put). Dropping it loses
/// the outcome, not the write.
#[must_use = "the write is made; await it to hear how far it came"]
pub struct Writing {
    version: Version,
    durability: Durability,
    /// None if nothing is waited for, or it has come.
    outcome: Option<Outcome>,
}

impl Writing {
    pub(super) const fn new(version: Version, outcome: Option<Outcome>, durability: Durability) -> Self {
        Self { version, durability, outcome }
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }
}

impl Future for Writing {
    type Output = Result<Written, MapError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let version = self.version;
        let Some(outcome) = &mut self.outcome else { return Poll::Ready(Ok(Written { version, members: Vec::new() })) };
        let report = ready!(outcome.poll(cx));
        self.outcome = None;
        let Some(report) = report else { return Poll::Ready(Err(MapError::Closed)) };
        let met = report.met;
        let members = states(report);
        Poll::Ready(if met {
            Ok(Written { version, members })
        } else {
            Err(MapError::NotAcknowledged { version, wanted: self.durability.to_string(), members })
        })
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("version", &self.version).finish_non_exhaustive()
    }
}
