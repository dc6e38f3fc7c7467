//! What a replica holds: entries in buckets, each bucket with a digest, and which writes it has seen.
//!
//! A key's bucket is the first twelve bits of its hash; 64 buckets are a group. A digest is the exclusive or of a hash of
//! each (key, write) in it. Two replicas that hold the same writes have the same digests, and a write changes them in
//! constant time.

mod chunk;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tribes_core::Time;

pub(crate) use self::chunk::{Chunk, Have};
pub(crate) use self::entry::{Entry, Held, Keeping, Sibling};
use crate::context::Context;
use crate::version::Dot;

pub(crate) const GROUPS: usize = 64;
pub(crate) const BUCKETS_PER_GROUP: usize = 64;
pub(crate) const BUCKETS: usize = GROUPS * BUCKETS_PER_GROUP;

/// So many removals are noted before those are looked for that are none any more.
const PRUNE: usize = 1024;

/// Stable over versions, machines and processes: replicas must agree on it.
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The bucket of a key with this hash.
pub(crate) const fn bucket_of(key_hash: u64) -> u16 {
    (key_hash >> 52) as u16
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Store {
    keeping: Keeping,
    buckets: Vec<Bucket>,
    groups: [u64; GROUPS],
    pub(crate) seen: Context,
    census: Census,
    /// Removals, oldest first, with the time since when they are here.
    removals: VecDeque<(Time, Box<[u8]>, Dot)>,
    /// Those that are none any more are taken out when there are so many.
    prune_at: usize,
    /// Keys that changed since they were last asked for; `None` if nobody asks.
    unsaved: Option<BTreeSet<Box<[u8]>>>,
}

#[derive(Debug, Default)]
struct Bucket {
    entries: BTreeMap<Box<[u8]>, Entry>,
    digest: u64,
}

/// A key that changed, with what is there now.
#[cfg(feature = "persist")]
pub(crate) type Unsaved = (Box<[u8]>, Option<Vec<Sibling>>);

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Keys with a value.
    pub(crate) live: usize,
    /// Keys of which only the removal is known.
    pub(crate) removed: usize,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
    /// Keys with several values.
    pub(crate) in_conflict: usize,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The values before and after, oldest first; none where there is no such key.
    pub(crate) before: Vec<Arc<[u8]>>,
    pub(crate) after: Vec<Arc<[u8]>>,
}

impl Store {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self {
            keeping,
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            groups: [0; GROUPS],
            seen: Context::default(),
            census: Census::default(),
            removals: VecDeque::new(),
            prune_at: PRUNE,
            unsaved: None,
        }
    }

    pub(crate) const fn keeping(&self) -> Keeping {
        self.keeping
    }

    pub(crate) const fn census(&self) -> Census {
        self.census
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.bucket(bucket_of(hash(key)))?.entries.get(key)
    }

    /// All entries, removed ones too, bucket by bucket.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.buckets.iter().flat_map(|bucket| bucket.entries.iter().map(|(key, entry)| (&**key, entry)))
    }

    /// As [`iter`](Self::iter), from the entry after `after` on.
    pub(crate) fn iter_after<'a>(&'a self, after: Option<&'a [u8]>) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
        let first = after.map_or(0, |key| bucket_of(hash(key)));
        let rest = self.buckets.iter().skip(usize::from(first) + 1).flat_map(|bucket| bucket.entries.iter());
        self.range(first, after).chain(rest.map(|(key, entry)| (&**key, entry)))
    }

    /// The entries of `bucket` after `after`, by key.
    pub(crate) fn range(&self, bucket: u16, after: Option<&[u8]>) -> impl Iterator<Item = (&[u8], &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.bucket(bucket)
            .into_iter()
            .flat_map(move |bucket| bucket.entries.range::<[u8], _>((from, Bound::Unbounded)))
            .map(|(key, entry)| (&**key, entry))
    }

    /// The digests of all groups.
    pub(crate) const fn groups(&self) -> &[u64; GROUPS] {
        &self.groups
    }

    /// The digests of the buckets of `group`.
    pub(crate) fn group(&self, group: u16) -> Vec<u64> {
        let first = usize::from(group) * BUCKETS_PER_GROUP;
        self.buckets.iter().skip(first).take(BUCKETS_PER_GROUP).map(|bucket| bucket.digest).collect()
    }

    /// Takes in one write; `None` if it changes nothing that anybody could see.
    pub(crate) fn write(&mut self, key: &[u8], sibling: Sibling, now: Time) -> Option<Changed> {
        if self.seen.contains(sibling.version.dot) {
            return None;
        }
        self.seen.add(sibling.version.dot);
        let sibling = match self.replace(key, sibling, now) {
            Ok(changed) => return Some(changed),
            Err(sibling) => sibling,
        };
        self.change(key, now, |held, keeping, _| {
            let mut siblings = held;
            siblings.push(sibling);
            entry::reduce(siblings, keeping)
        })
    }

    /// Takes in what a replica that has seen `theirs_seen` holds of `key`.
    pub(crate) fn merge(
        &mut self,
        key: &[u8],
        theirs: Vec<Sibling>,
        theirs_seen: &Context,
        now: Time,
    ) -> Option<Changed> {
        let dots: Vec<Dot> = theirs.iter().map(|sibling| sibling.version.dot).collect();
        let changed =
            self.change(key, now, |held, keeping, seen| entry::merge(held, seen, theirs, theirs_seen, keeping));
        dots.into_iter().for_each(|dot| self.seen.add(dot));
        changed
    }

    /// A replica has seen `dots` of the key with this hash, and holds it no more.
    pub(crate) fn gone(&mut self, key_hash: u64, dots: &[Dot], now: Time) -> Option<(Box<[u8]>, Changed)> {
        let mut entries = self.bucket(bucket_of(key_hash))?.entries.iter();
        // The writes tell most keys apart without a look at the key.
        let found = entries.find(|(key, entry)| dots.iter().any(|dot| entry.has(*dot)) && hash(key) == key_hash);
        let key: Box<[u8]> = found?.0.clone();
        let changed = self.change(&key, now, |mut held, _, _| {
            held.retain(|sibling| !dots.contains(&sibling.version.dot));
            held
        })?;
        Some((key, changed))
    }

    /// Forgets removals that came before `before`.
    pub(crate) fn forget_removals(&mut self, before: Time, now: Time) {
        while let Some((since, _, _)) = self.removals.front() {
            if *since >= before {
                return;
            }
            let Some((_, key, dot)) = self.removals.pop_front() else { return };
            self.change(&key, now, |mut held, _, _| {
                held.retain(|sibling| sibling.is_live() || sibling.version.dot != dot);
                held
            });
        }
    }

    #[cfg(test)]
    pub(crate) fn remembered_removals(&self) -> usize {
        self.removals.len()
    }

    /// Since when the oldest removal is here.
    pub(crate) fn oldest_removal(&self) -> Option<Time> {
        self.removals.front().map(|(since, _, _)| *since)
    }

    /// Remembers from now on which keys change, for [`take_unsaved`](Self::take_unsaved).
    #[cfg(feature = "persist")]
    pub(crate) fn remember_changes(&mut self) {
        self.unsaved.get_or_insert_default();
    }

    /// The keys that changed since the last call, with what is there now.
    #[cfg(feature = "persist")]
    pub(crate) fn take_unsaved(&mut self) -> Vec<Unsaved> {
        let keys = self.unsaved.as_mut().map(std::mem::take).unwrap_or_default();
        let siblings = |key: &[u8]| self.get(key).map(|entry| entry.clone().into_siblings());
        keys.into_iter().map(|key| (key.clone(), siblings(&key))).collect()
    }

    /// These keys are to come with the next [`take_unsaved`](Self::take_unsaved) again.
    #[cfg(feature = "persist")]
    pub(crate) fn put_back_unsaved(&mut self, keys: impl IntoIterator<Item = Box<[u8]>>) {
        self.unsaved.get_or_insert_default().extend(keys);
    }

    /// What was held before.
    #[cfg(feature = "persist")]
    pub(crate) fn load(&mut self, key: &[u8], siblings: Vec<Sibling>, now: Time) {
        self.change(key, now, |_, keeping, _| entry::reduce(siblings, keeping));
    }

    fn bucket(&self, bucket: u16) -> Option<&Bucket> {
        self.buckets.get(usize::from(bucket))
    }

    /// The usual write, which replaces the only one that there is; gives it back if it is another.
    fn replace(&mut self, key: &[u8], write: Sibling, now: Time) -> Result<Changed, Sibling> {
        let key_hash = hash(key);
        let number = usize::from(bucket_of(key_hash));
        let Some(bucket) = self.buckets.get_mut(number) else { return Err(write) };
        let Some(entry) = bucket.entries.get_mut(key) else { return Err(write) };
        let (was, old, new) = (Footprint::of(entry), entry.latest().version.dot, write.version.dot);
        let after = write.value.clone();
        let before = entry.replace(write, self.keeping)?;
        let digest = entry::digest(old, key_hash) ^ entry::digest(new, key_hash);
        bucket.digest ^= digest;
        if let Some(group) = self.groups.get_mut(number / BUCKETS_PER_GROUP) {
            *group ^= digest;
        }
        self.census.replace(key.len(), Some(was), Some(Footprint::of(entry)));
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.insert(key.into());
        }
        if after.is_none() {
            self.removals.push_back((now, key.into(), new));
            if self.removals.len() > self.prune_at {
                self.prune_removals();
            }
        }
        Ok(Changed { before: before.into_iter().collect(), after: after.into_iter().collect() })
    }

    /// Puts what `change` makes of the siblings of `key` in their place, and keeps all that depends on it.
    fn change(
        &mut self,
        key: &[u8],
        now: Time,
        change: impl FnOnce(Vec<Sibling>, Keeping, &Context) -> Vec<Sibling>,
    ) -> Option<Changed> {
        let key_hash = hash(key);
        let number = bucket_of(key_hash);
        let bucket = self.buckets.get_mut(usize::from(number))?;
        let held = bucket.entries.get(key).cloned();
        let was = held.as_ref().map(Footprint::of);
        let before: Vec<Arc<[u8]>> = held.iter().flat_map(|entry| entry.values().cloned()).collect();
        let dots: Vec<Dot> =
            held.iter().flat_map(|entry| entry.siblings().map(|sibling| sibling.version.dot)).collect();
        let digest_before = dots.iter().fold(0, |digest, dot| digest ^ entry::digest(*dot, key_hash));
        let siblings = change(held.map_or_else(Vec::new, Entry::into_siblings), self.keeping, &self.seen);
        if siblings.iter().map(|sibling| sibling.version.dot).eq(dots.iter().copied()) {
            return None;
        }
        let digest_after =
            siblings.iter().fold(0, |digest, sibling| digest ^ entry::digest(sibling.version.dot, key_hash));
        let digest = digest_before ^ digest_after;
        bucket.digest ^= digest;
        if let Some(group) = self.groups.get_mut(usize::from(number) / BUCKETS_PER_GROUP) {
            *group ^= digest;
        }
        let entry = Entry::new(siblings);
        self.census.replace(key.len(), was, entry.as_ref().map(Footprint::of));
        let after: Vec<Arc<[u8]>> = entry.iter().flat_map(|entry| entry.values().cloned()).collect();
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.insert(key.into());
        }
        match entry {
            Some(entry) => {
                let removals = entry.siblings().filter(|sibling| !sibling.is_live()).map(|sibling| sibling.version.dot);
                let new = removals.filter(|dot| !dots.contains(dot)).map(|dot| (now, key.into(), dot));
                self.removals.extend(new);
                if let Some(place) = bucket.entries.get_mut(key) {
                    *place = entry;
                } else {
                    bucket.entries.insert(key.into(), entry);
                }
            }
            None => {
                bucket.entries.remove(key);
            }
        }
        if self.removals.len() > self.prune_at {
            self.prune_removals();
        }
        Some(Changed { before, after })
    }

    /// Forgets the times of removals that are none any more: the key was written since.
    fn prune_removals(&mut self) {
        let removals = std::mem::take(&mut self.removals);
        let stands = |key: &[u8], dot: Dot| self.get(key).is_some_and(|entry| entry.is_removed_by(dot));
        self.removals = removals.into_iter().filter(|(_, key, dot)| stands(key, *dot)).collect();
        self.prune_at = 2 * self.removals.len() + PRUNE;
    }
}

/// What an entry adds to the census.
#[derive(Clone, Copy)]
struct Footprint {
    live: bool,
    bytes: usize,
    in_conflict: bool,
}

impl Footprint {
    fn of(entry: &Entry) -> Self {
        Self { live: entry.is_live(), bytes: entry.bytes(), in_conflict: entry.values().count() > 1 }
    }
}

impl Census {
    fn replace(&mut self, key_len: usize, was: Option<Footprint>, is: Option<Footprint>) {
        if let Some(was) = was {
            let count = if was.live { &mut self.live } else { &mut self.removed };
            *count = count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(key_len + was.bytes);
            self.in_conflict = self.in_conflict.saturating_sub(usize::from(was.in_conflict));
        }
        if let Some(is) = is {
            let count = if is.live { &mut self.live } else { &mut self.removed };
            *count += 1;
            self.bytes += key_len + is.bytes;
            self.in_conflict += usize::from(is.in_conflict);
        }
    }
}
