//! What a session is, without I/O: fields of which each knows its writes, and that it is dead once it was ended.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | a session, and how two replicas of one are merged |
//! | `field` | a field, by the way in which concurrent writes of it are settled |
//! | `kept`, `counter`, `set` | those ways that keep more than the latest write |
//! | `floor` | what was forgotten of what is gone |
//! | `base` | what a request was given, so that what it changed can be told when it saves |
//! | `change` | what a request changed, and its application |
//! | `delta` | what travels when a session changed |
//!
//! Merging gives the same in any order, however often, and however paired: a state-based CRDT (Shapiro et al., 2011). So
//! it suits [`Conflicts::merge`](tribes_replication::Conflicts::merge), and no loss, repetition or reordering of messages
//! makes two nodes differ for good. Tomcat's `DeltaManager` applies changes as they arrive, and lets go of its own.

mod base;
mod change;
mod counter;
mod delta;
mod field;
mod floor;
mod kept;
mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::base::Lazily;
pub(crate) use self::base::{BASE_KEY, Base, Hashes, Loaded};
pub(crate) use self::change::{Change, Limits, Unfit};
pub(crate) use self::field::Field;
use crate::conflict::Policies;
use crate::stamp::Stamp;

/// So many removed fields of a session are remembered.
const MAX_REMOVED: usize = 256;
/// So many writers of a session are remembered, those that wrote last.
const MAX_WRITERS: usize = 32;

/// The name of a field: of all states of a session the same one.
pub(crate) type Name = Arc<str>;

/// A member of the group, as documents name it: the bytes of its id.
pub(crate) type NodeId = [u8; 16];

/// A session, as it is kept under its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Session {
    #[serde(rename = "l")]
    Live(Box<Document>),
    /// It was ended; nothing that is written later or elsewhere brings it back.
    #[serde(rename = "d")]
    Dead(Death),
}

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lifetime {
    /// So many milliseconds after it was used last.
    #[serde(rename = "i")]
    Idle(u64),
    /// At this time, milliseconds since 1970.
    #[serde(rename = "a")]
    Until(u64),
    /// Never.
    #[serde(rename = "n")]
    Unlimited,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EndReason {
    /// The application ended it: a logout. Also where a session gets a new id, its old one ends so.
    Invalidated,
    /// It was not used for as long as it may be, or its time was over.
    Timeout,
    /// It was among those that [`kill_all`](crate::ReplicatedStore::kill_all) ended.
    Killed,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    #[serde(rename = "s")]
    pub(crate) stamp: Stamp,
    #[serde(rename = "r")]
    pub(crate) reason: EndReason,
    #[serde(rename = "b")]
    pub(crate) by: NodeId,
}

/// A session that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    #[serde(rename = "b")]
    pub(crate) born: Stamp,
    #[serde(rename = "e")]
    pub(crate) lifetime: (Stamp, Lifetime),
    /// Who decides when it ends: the member that served it last.
    #[serde(rename = "o")]
    pub(crate) owner: (Stamp, NodeId),
    /// The id that it had before; bits of a session's id.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<crate::SessionId>,
    /// What two states of a session have in common they share.
    #[serde(rename = "f")]
    pub(crate) fields: BTreeMap<Name, Arc<Field>>,
    /// Of removals up to this time some are forgotten: a field that is not there and was written no later was removed.
    #[serde(rename = "g", default)]
    pub(crate) floor: u64,
    /// The time of the latest write of each store that is in it.
    #[serde(rename = "w")]
    pub(crate) writers: BTreeMap<u64, u64>,
    #[serde(skip)]
    loaded: Lazily,
}

impl Session {
    pub(crate) fn live(&self) -> Option<&Document> {
        match self {
            Self::Live(document) => Some(document),
            Self::Dead(_) => None,
        }
    }

    /// What two replicas come to that have heard of each other. Dead absorbs everything.
    pub(crate) fn merge(one: Self, other: Self) -> Self {
        match (one, other) {
            (Self::Live(one), Self::Live(other)) => Self::Live(Box::new(one.merged(*other))),
            (Self::Dead(one), Self::Dead(other)) => Self::Dead(if one.stamp <= other.stamp { one } else { other }),
            (dead @ Self::Dead(_), _) | (_, dead @ Self::Dead(_)) => dead,
        }
    }

    /// The time of the latest write in it.
    #[cfg(test)]
    fn latest(&self) -> u64 {
        match self {
            Self::Live(document) => document.latest(),
            Self::Dead(death) => death.stamp.time(),
        }
    }
}

impl Document {
    pub(crate) fn new(born: Stamp, lifetime: Lifetime, owner: NodeId) -> Self {
        Self {
            born,
            lifetime: (born, lifetime),
            owner: (born, owner),
            previous: None,
            fields: BTreeMap::new(),
            floor: 0,
            writers: BTreeMap::from([(born.node(), born.time())]),
            loaded: Lazily::default(),
        }
    }

    /// The time of the latest write in it.
    pub(crate) fn latest(&self) -> u64 {
        self.writers.values().copied().max().unwrap_or_default()
    }

    /// The latest write in it.
    pub(crate) fn latest_write(&self) -> Option<Stamp> {
        self.writers.iter().map(|(node, time)| Stamp(*time, *node)).max()
    }

    /// Whether it has this write, or its author's later ones.
    pub(crate) fn has(&self, write: Stamp) -> bool {
        self.writers.get(&write.node()).is_some_and(|time| *time >= write.time())
    }

    /// Whether this write is the last of its author that it has.
    pub(crate) fn is_last_of(&self, write: Stamp) -> bool {
        self.writers.get(&write.node()) == Some(&write.time())
    }

    /// Notes that it has this write.
    pub(crate) fn note(&mut self, write: Stamp) {
        self.loaded = Lazily::default();
        let known = self.writers.entry(write.node()).or_default();
        *known = write.time().max(*known);
        self.forget_writers();
    }

    /// What requests are given of it. One store has one set of rules, and one key for its hashes.
    pub(crate) fn loaded(&self, id: crate::SessionId, policies: &Policies, hashes: Hashes) -> &Loaded {
        self.loaded.get_or_make(id, self, policies, hashes)
    }

    /// What requests are given of it is to be made of what they were given of `earlier`, of which it is a copy that was changed.
    pub(crate) fn load_after(&mut self, earlier: &Self) {
        self.loaded = earlier.loaded.later();
    }

    /// What requests were given of it, if any were.
    pub(crate) fn was_loaded(&self) -> Option<&Loaded> {
        self.loaded.get()
    }

    /// The values of its fields.
    pub(crate) fn values<'a>(&'a self, policies: &'a Policies) -> impl Iterator<Item = (&'a str, Value)> {
        self.fields.iter().filter_map(move |(name, field)| Some((&**name, field.value(policies.of(name))?)))
    }

    /// What its fields take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, field)| name.len() + field.bytes()).sum()
    }

    fn merged(mut self, other: Self) -> Self {
        self.loaded = Lazily::default();
        self.born = self.born.min(other.born);
        self.previous = self.previous.or(other.previous);
        self.lifetime = later(self.lifetime, other.lifetime);
        self.owner = later(self.owner, other.owner);
        let (ours, theirs) = (self.floor, other.floor);
        let mut fields = std::mem::take(&mut self.fields);
        // What the other side has forgotten the removal of is not to come back.
        fields.retain(|name, field| other.fields.contains_key(name) || field.stamp().time() > theirs);
        for (name, field) in other.fields {
            match fields.get_mut(&name) {
                Some(held) if *held == field => {}
                Some(held) => Arc::make_mut(held).merge(Arc::unwrap_or_clone(field)),
                None if field.stamp().time() > ours => drop(fields.insert(name, field)),
                None => {}
            }
        }
        self.fields = fields;
        self.floor = ours.max(theirs);
        for (node, time) in other.writers {
            let known = self.writers.entry(node).or_default();
            *known = time.max(*known);
        }
        self.forget_writers();
        self.forget_removals();
        self
    }

    /// Forgets the oldest removals beyond what is remembered.
    fn forget_removals(&mut self) {
        let removed = |fields: &BTreeMap<Name, Arc<Field>>| -> Vec<u64> {
            fields.values().filter(|field| field.is_removed()).map(|field| field.stamp().time()).collect()
        };
        if self.fields.len() <= MAX_REMOVED {
            return;
        }
        let mut times = removed(&self.fields);
        let excess = times.len().saturating_sub(MAX_REMOVED);
        if excess == 0 {
            return;
        }
        times.sort_unstable();
        if let Some(upto) = times.get(excess - 1).copied() {
            self.floor = self.floor.max(upto);
            self.fields.retain(|_, field| !(field.is_removed() && field.stamp().time() <= upto));
        }
    }

    fn forget_writers(&mut self) {
        while self.writers.len() > MAX_WRITERS {
            let oldest = self.writers.iter().min_by_key(|(node, time)| (**time, **node)).map(|(node, _)| *node);
            let Some(oldest) = oldest else { return };
            self.writers.remove(&oldest);
        }
    }
}

fn later<T>(one: (Stamp, T), other: (Stamp, T)) -> (Stamp, T) {
    if other.0 > one.0 { other } else { one }
}
