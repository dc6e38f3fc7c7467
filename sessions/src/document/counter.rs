//! A field to which requests add.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// A number to which everybody adds without losing what others add (a PN-counter; Shapiro et al., 2011).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    #[serde(rename = "s")]
    pub(super) stamp: Stamp,
    /// The removal after which it began anew; zero at first. What was added before does not count.
    #[serde(rename = "e", default)]
    epoch: Stamp,
    /// What each store has added; only it changes its part, and only to more.
    #[serde(rename = "p")]
    parts: BTreeMap<u64, Part>,
}

/// What one store added and took away, and when it did last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part(u64, u64, u64);

impl Counter {
    /// None if it was removed, and nothing added since.
    pub(super) fn value(&self) -> Option<i64> {
        if self.parts.is_empty() {
            return None;
        }
        let sum: i128 = self.parts.values().map(|Part(up, down, _)| i128::from(*up) - i128::from(*down)).sum();
        Some(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }))
    }

    /// Adds; the same write twice counts once.
    pub(super) fn add(&mut self, stamp: Stamp, change: i64) {
        self.stamp = self.stamp.max(stamp);
        let Part(up, down, last) = self.parts.entry(stamp.node()).or_default();
        if *last < stamp.time() {
            let part = if change < 0 { down } else { up };
            *part = part.saturating_add(change.unsigned_abs());
            *last = stamp.time();
        }
    }

    pub(super) fn remove(&mut self, stamp: Stamp) {
        if stamp > self.epoch {
            *self = Self { stamp, epoch: stamp, parts: BTreeMap::new() };
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.stamp = self.stamp.max(other.stamp);
        if other.epoch > self.epoch {
            (self.epoch, self.parts) = (other.epoch, other.parts);
        } else if other.epoch == self.epoch {
            for (node, Part(up, down, last)) in other.parts {
                let part = self.parts.entry(node).or_default();
                *part = Part(part.0.max(up), part.1.max(down), part.2.max(last));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.len() * 32
    }
}
