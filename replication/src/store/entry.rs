//! One key: the writes of it that none of the others replaced.

use std::sync::Arc;

use crate::context::Context;
use crate::version::{Dot, Incarnation, Version};

/// Writers that a write remembers to have replaced. With more than these at one key, the earliest is forgotten, and its
/// write may come back as a concurrent one.
const MAX_PAST: usize = 32;

/// How writes that did not know of each other live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// The latest version replaces all others, a removal like any write.
    Latest,
    /// All are kept until a write replaces those it has seen. A removal takes away what it has seen, and no more; it stays beside
    /// values that it has not seen, for who has seen neither of them.
    Concurrent,
}

/// A write that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sibling {
    pub(crate) version: Version,
    /// The writes that it replaced: of each writer, all of this key up to here. Only under [`Keeping::Concurrent`]; where the
    /// latest wins, the version says it.
    pub(crate) past: Box<[Dot]>,
    /// `None`: the key was removed.
    pub(crate) value: Option<Arc<[u8]>>,
}

impl Sibling {
    fn held(&self) -> Held<'_> {
        Held { version: self.version, past: &self.past, value: self.value.as_ref() }
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.value.is_some()
    }

    fn replaces(&self, dot: Dot) -> bool {
        self.held().replaces(dot)
    }
}

/// What a write adds to the digest of its bucket.
pub(crate) fn digest(dot: Dot, key_hash: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&dot.to_bytes(), key_hash)
}

/// A look at a [`Sibling`] in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held<'a> {
    pub(crate) version: Version,
    pub(crate) past: &'a [Dot],
    pub(crate) value: Option<&'a Arc<[u8]>>,
}

impl Held<'_> {
    pub(crate) const fn is_live(&self) -> bool {
        self.value.is_some()
    }

    fn replaces(&self, dot: Dot) -> bool {
        self.past.iter().any(|past| past.node == dot.node && past.counter >= dot.counter)
    }

    /// The last write of `node` that it is, or replaced.
    pub(crate) fn wrote_or_saw(&self, node: Incarnation) -> Option<u64> {
        let dots = self.past.iter().copied().chain([self.version.dot]);
        dots.filter(|dot| dot.node == node).map(|dot| dot.counter).max()
    }
}

/// The siblings of one key, by version, latest last; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    version: Version,
    value: Option<Arc<[u8]>>,
    /// Apart, so that the usual entry is small.
    extra: Option<Box<Extra>>,
}

/// What few entries have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extra {
    /// That of the latest.
    past: Box<[Dot]>,
    others: Vec<Sibling>,
}

impl Entry {
    pub(crate) fn new(mut others: Vec<Sibling>) -> Option<Self> {
        let Sibling { version, past, value } = others.pop()?;
        let usual = past.is_empty() && others.is_empty();
        Some(Self { version, value, extra: (!usual).then(|| Box::new(Extra { past, others })) })
    }

    /// The latest write.
    pub(crate) fn latest(&self) -> Held<'_> {
        let past = self.extra.as_ref().map_or(&[][..], |extra| &extra.past);
        Held { version: self.version, past, value: self.value.as_ref() }
    }

    /// Oldest first.
    pub(crate) fn siblings(&self) -> impl Iterator<Item = Held<'_>> {
        self.extra.iter().flat_map(|extra| extra.others.iter().map(Sibling::held)).chain([self.latest()])
    }

    /// Those writes, oldest first.
    pub(crate) fn writes(&self) -> impl Iterator<Item = Dot> {
        self.siblings().map(|sibling| sibling.version.dot)
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.extra.as_ref().map_or(0, |extra| extra.others.len())
    }

    pub(crate) fn into_siblings(self) -> Vec<Sibling> {
        let (past, mut siblings) = self.extra.map_or_else(Default::default, |extra| (extra.past, extra.others));
        siblings.push(Sibling { version: self.version, past, value: self.value });
        siblings
    }

    /// The values, oldest first; none if the key was removed.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.siblings().filter_map(|sibling| sibling.value)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.siblings().any(|sibling| sibling.is_live())
    }

    /// The latest write that gave it a value.
    pub(crate) fn latest_value(&self) -> Option<Held<'_>> {
        self.siblings().filter(Held::is_live).last()
    }

    /// Whether this write removed it, and counts.
    pub(crate) fn is_removed_by(&self, dot: Dot) -> bool {
        self.siblings().any(|sibling| sibling.version.dot == dot && !sibling.is_live())
    }

    pub(crate) fn has(&self, dot: Dot) -> bool {
        self.siblings().any(|sibling| sibling.version.dot == dot)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values().map(|value| value.len()).sum()
    }

    /// Puts a write in place of the only one that it has, if it replaces that: mostly it does. The value that was there; or the write
    /// back, where [`reduce`] has to say which of them count.
    pub(crate) fn replace(&mut self, write: Sibling, keeping: Keeping) -> Result<Option<Arc<[u8]>>, Sibling> {
        let held = self.latest();
        let replaces = match keeping {
            Keeping::Latest => write.version > held.version,
            Keeping::Concurrent => write.replaces(held.version.dot) && !held.replaces(write.version.dot),
        };
        if self.len() > 1 || !replaces {
            return Err(write);
        }
        match &mut self.extra {
            Some(extra) => extra.past = write.past,
            None if write.past.is_empty() => {}
            None => self.extra = Some(Box::new(Extra { past: write.past, others: Vec::new() })),
        }
        self.version = write.version;
        Ok(std::mem::replace(&mut self.value, write.value))
    }

    /// What a write that has seen this entry replaces.
    pub(crate) fn past(&self, keeping: Keeping) -> Box<[Dot]> {
        if keeping == Keeping::Latest {
            return Box::default();
        }
        // Mostly there is one that knows at most those who wrote before.
        let mut past: Vec<Dot> = Vec::with_capacity(1 + self.extra.as_ref().map_or(0, |extra| extra.past.len()));
        // The writes that are held come last: they are not the ones to be forgotten.
        let earlier = self.siblings().flat_map(|sibling| sibling.past.iter().copied());
        for dot in earlier.chain(self.siblings().map(|sibling| sibling.version.dot)) {
            let known = past.iter().position(|known| known.node == dot.node).map(|at| past.remove(at));
            let counter = known.map_or(dot.counter, |known| known.counter.max(dot.counter));
            past.push(Dot { counter, ..dot });
        }
        let excess = past.len().saturating_sub(MAX_PAST);
        past.drain(..excess);
        past.into_boxed_slice()
    }
}

/// Which of `siblings` count.
pub(crate) fn reduce(mut siblings: Vec<Sibling>, keeping: Keeping) -> Vec<Sibling> {
    siblings.sort_by_key(|sibling| sibling.version);
    siblings.dedup_by_key(|sibling| sibling.version.dot);
    if siblings.len() < 2 {
        return siblings;
    }
    match keeping {
        Keeping::Latest => siblings.drain(..siblings.len() - 1).for_each(drop),
        Keeping::Concurrent => {
            let replaced: Vec<bool> = siblings
                .iter()
                .map(|sibling| siblings.iter().any(|other| other.replaces(sibling.version.dot)))
                .collect();
            let mut replaced = replaced.into_iter();
            siblings.retain(|_| !replaced.next().unwrap_or(false));
        }
    }
    siblings
}

/// The siblings that count when a replica that holds `ours` and has seen `seen` hears of one that holds `theirs` and has
/// seen `theirs_seen`: what one of them has seen and does not hold any more is gone for both.
pub(crate) fn merge(
    ours: Vec<Sibling>,
    seen: &Context,
    theirs: Vec<Sibling>,
    theirs_seen: &Context,
    keeping: Keeping,
) -> Vec<Sibling> {
    let news: Vec<Sibling> = theirs
        .iter()
        .filter(|sibling| {
            !seen.contains(sibling.version.dot) && ours.iter().all(|held| held.version.dot != sibling.version.dot)
        })
        .cloned()
        .collect();
    let mut merged: Vec<Sibling> = ours
        .into_iter()
        .filter(|held| {
            !theirs_seen.contains(held.version.dot) || theirs.iter().any(|other| other.version.dot == held.version.dot)
        })
        .collect();
    merged.extend(news);
    reduce(merged, keeping)
}
