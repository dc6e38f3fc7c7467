//! A field of which all writes are kept that did not know of each other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::field::read;
use super::floor::Floor;
use crate::conflict::Conflict;
use crate::stamp::Stamp;

/// So many writes that were replaced are remembered one by one.
const MAX_GONE: usize = 64;

/// Writes of which none has seen another, and those that they replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// JSON; none removes it.
    #[serde(rename = "w")]
    writes: BTreeMap<Stamp, Option<Box<str>>>,
    /// Writes that were replaced: exactly those. That a later write of somebody was seen does not say that his earlier ones were.
    #[serde(rename = "p", default)]
    gone: BTreeSet<Stamp>,
    /// Of those that are forgotten.
    #[serde(rename = "g", default, skip_serializing_if = "Floor::is_empty")]
    floor: Floor,
}

impl Kept {
    pub(super) fn stamp(&self) -> Stamp {
        self.writes.last_key_value().map(|(stamp, _)| *stamp).unwrap_or_default()
    }

    pub(super) fn stamps(&self) -> Vec<Stamp> {
        self.writes.keys().copied().collect()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.writes.values().all(Option::is_none)
    }

    pub(super) fn bytes(&self) -> usize {
        let values = self.writes.values().map(|value| 16 + value.as_ref().map_or(0, |value| value.len()));
        values.sum::<usize>() + 16 * self.gone.len()
    }

    /// Writes over the writes `over`, whether they are here or not.
    pub(super) fn write(&mut self, stamp: Stamp, over: &[Stamp], value: Option<Box<str>>) {
        if !self.is_gone(stamp) {
            self.writes.insert(stamp, value);
        }
        self.gone.extend(over.iter().filter(|seen| **seen != stamp));
        self.settle();
    }

    pub(super) fn merge(&mut self, other: Self) {
        // What the other side has forgotten as replaced is not to come back.
        self.writes.retain(|stamp, _| other.writes.contains_key(stamp) || !other.floor.covers(*stamp));
        for (stamp, value) in other.writes {
            if self.writes.contains_key(&stamp) || !self.floor.covers(stamp) {
                let held = self.writes.entry(stamp).or_insert_with(|| value.clone());
                *held = value.max(held.take());
            }
        }
        self.gone.extend(other.gone);
        self.floor.merge(&other.floor);
        self.settle();
    }

    /// Whether one of the two has a write that the other's authors had not seen, besides those that both have.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        let unseen = |one: &Self, other: &Self| {
            one.writes.keys().any(|stamp| !other.writes.contains_key(stamp) && !other.is_gone(*stamp))
        };
        unseen(self, other) && unseen(other, self)
    }

    /// One value of several, oldest first.
    pub(super) fn value(&self, conflict: &Conflict) -> Option<Value> {
        conflict.settle(self.writes.values().filter_map(|value| read(value.as_deref()?)).collect())
    }

    fn is_gone(&self, stamp: Stamp) -> bool {
        self.gone.contains(&stamp) || (self.floor.covers(stamp) && !self.writes.contains_key(&stamp))
    }

    fn settle(&mut self) {
        let gone = &self.gone;
        self.writes.retain(|stamp, _| !gone.contains(stamp));
        while self.gone.len() > MAX_GONE {
            let Some(oldest) = self.gone.pop_first() else { return };
            self.floor.raise(oldest);
        }
    }
}
