//! What was forgotten of what is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MAX_WRITERS;
use crate::stamp::Stamp;

/// Of each writer the latest write that was removed and forgotten. What is not there, and was written by him no later, was removed:
/// who has seen one of his writes has seen those before it. (Where sessions are on a few nodes that need not be so: then a write
/// that nobody had seen yet may go, if its author has written through another holder since, and that was removed and
/// forgotten.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floor(BTreeMap<u64, u64>);

impl Floor {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The removal of this write is forgotten.
    pub(super) fn raise(&mut self, removed: Stamp) {
        let known = self.0.entry(removed.node()).or_default();
        *known = removed.time().max(*known);
        self.forget();
    }

    /// Whether this write, if it is not there, was removed.
    pub(super) fn covers(&self, write: Stamp) -> bool {
        self.0.get(&write.node()).is_some_and(|time| *time >= write.time())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (node, time) in &other.0 {
            let known = self.0.entry(*node).or_default();
            *known = (*time).max(*known);
        }
        self.forget();
    }

    fn forget(&mut self) {
        while self.0.len() > MAX_WRITERS {
            let oldest = self.0.iter().min_by_key(|(node, time)| (**time, **node)).map(|(node, _)| *node);
            let Some(oldest) = oldest else { return };
            self.0.remove(&oldest);
        }
    }
}
