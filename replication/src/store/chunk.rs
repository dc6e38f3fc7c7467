//! Comparing a bucket of two replicas: the one that asks says what it has, the other answers with what differs.

use super::{Entry, Sibling, Store, bucket_of, hash};
use crate::context::Context;
use crate::version::Dot;

/// What a replica holds of one key, without the key and the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Have {
    pub(crate) key_hash: u64,
    pub(crate) dots: Vec<Dot>,
}

/// What one replica holds of a bucket, as far as it differs from what another has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) entries: Vec<(Box<[u8]>, Vec<Sibling>)>,
    /// Keys that the other has and this one has not, with those of the writes that this one has seen.
    pub(crate) gone: Vec<Have>,
    /// The last key looked at, if there is more.
    pub(crate) next: Option<Box<[u8]>>,
    /// The other has writes that this one has not seen.
    pub(crate) behind: bool,
}

impl Store {
    /// What this replica holds of `bucket`.
    pub(crate) fn listing(&self, bucket: u16) -> Vec<Have> {
        self.range(bucket, None).map(|(key, entry)| Have { key_hash: hash(key), dots: dots(entry) }).collect()
    }

    /// What a replica that holds `have` of `bucket` is to be told, from the key after `after` on and up to about `max`
    /// bytes, at least one entry.
    pub(crate) fn compare(&self, bucket: u16, after: Option<&[u8]>, have: &[Have], max: usize) -> Chunk {
        let mut chunk = Chunk::default();
        let mut theirs: Vec<&Have> = have.iter().filter(|have| bucket_of(have.key_hash) == bucket).collect();
        theirs.sort_by_key(|have| have.key_hash);
        let find =
            |key_hash| theirs.binary_search_by_key(&key_hash, |have| have.key_hash).ok().and_then(|at| theirs.get(at));
        let mut size = 0;
        for (key, entry) in self.range(bucket, after) {
            let known = find(hash(key)).is_some_and(|have| same(have, entry));
            if !known {
                size += key.len() + entry.bytes() + 64 * entry.len();
                if size > max && !chunk.entries.is_empty() {
                    chunk.next = chunk.entries.last().map(|(key, _): &(Box<[u8]>, _)| key.clone());
                    break;
                }
                chunk.entries.push((key.into(), entry.clone().into_siblings()));
            }
        }
        if after.is_none() {
            let held: std::collections::BTreeMap<u64, &Entry> =
                self.range(bucket, None).map(|(key, entry)| (hash(key), entry)).collect();
            for have in theirs {
                chunk.behind |= have.dots.iter().any(|dot| !self.seen.contains(*dot));
                if !held.contains_key(&have.key_hash) {
                    let dots: Vec<Dot> = have.dots.iter().copied().filter(|dot| self.seen.contains(*dot)).collect();
                    if !dots.is_empty() {
                        chunk.gone.push(Have { key_hash: have.key_hash, dots });
                    }
                }
            }
        }
        chunk
    }

    /// Whether what another replica holds of `key` is within the bounds, if this one holds `bytes`: each value, and twice the
    /// bound of all, since members that write at the same time do not know of each other. What takes no more room than what is
    /// held of it always is. If so it is added to `bytes`.
    pub(crate) fn fits(
        &self,
        key: &[u8],
        siblings: &[Sibling],
        bytes: &mut usize,
        max_value: usize,
        max_bytes: usize,
    ) -> bool {
        let lens = || siblings.iter().filter_map(|sibling| sibling.value.as_ref()).map(|value| value.len());
        let held = self.get(key).map_or(0, |entry| key.len() + entry.bytes());
        let more = (key.len() + lens().sum::<usize>()).saturating_sub(held);
        let fits = lens().all(|len| len <= max_value)
            && (more == 0 || lens().next().is_none() || bytes.saturating_add(more) / 2 <= max_bytes);
        *bytes += if fits { more } else { 0 };
        fits
    }

    /// Takes in what another replica, which has seen `theirs`, holds of a bucket. What became of which keys.
    pub(crate) fn take(
        &mut self,
        entries: Vec<(Box<[u8]>, Vec<Sibling>)>,
        theirs: &Context,
        now: tribes_core::Time,
    ) -> Vec<(Box<[u8]>, super::Changed)> {
        let mut changed = Vec::new();
        for (key, siblings) in entries {
            if let Some(change) = self.merge(&key, siblings, theirs, now) {
                changed.push((key, change));
            }
        }
        changed
    }
}

fn dots(entry: &Entry) -> Vec<Dot> {
    entry.siblings().map(|sibling| sibling.version.dot).collect()
}

fn same(have: &Have, entry: &Entry) -> bool {
    have.dots.len() == entry.len() && have.dots.iter().all(|dot| entry.has(*dot))
}
