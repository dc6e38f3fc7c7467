//! What becomes of writes that did not know of each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::store::Keeping;
use crate::version::Incarnation;

type Merge<V> = Arc<dyn Fn(V, V) -> V + Send + Sync>;

/// The rule for writes of one key that did not know of each other: made at the same time, or on two sides of a split group. It
/// must be the same on every member; members whose maps keep another number of values exchange nothing.
///
/// Whoever overwrites what he has seen never conflicts.
pub struct Conflicts<V> {
    pub(crate) keeping: Keeping,
    merge: Option<Merge<V>>,
}

impl<V> Clone for Conflicts<V> {
    fn clone(&self) -> Self {
        Self { keeping: self.keeping, merge: self.merge.clone() }
    }
}

impl<V> fmt::Debug for Conflicts<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match (self.keeping, &self.merge) {
            (Keeping::Latest, _) => "latest wins",
            (Keeping::Concurrent, None) => "keep all",
            (Keeping::Concurrent, Some(_)) => "merge",
        };
        f.debug_tuple("Conflicts").field(&rule).finish()
    }
}

impl<V> Conflicts<V> {
    /// The write with the later [`Version`](crate::Version) wins, a removal like any other; the default.
    #[must_use]
    pub const fn latest_wins() -> Self {
        Self { keeping: Keeping::Latest, merge: None }
    }

    /// All are kept, until somebody who has seen them writes again: [`get_all`](crate::ReplicatedMap::get_all) has all of
    /// them, [`get`](crate::ReplicatedMap::get) the latest. A removal takes away what it has seen; what was written at the
    /// same time stays.
    #[must_use]
    pub const fn keep_all() -> Self {
        Self { keeping: Keeping::Concurrent, merge: None }
    }

    /// They are merged into one. `merge` must give the same whichever comes first and however they are paired, and the same
    /// value if both are equal; otherwise members show different values. Removals as in [`keep_all`](Self::keep_all).
    ///
    /// Called with the earlier version first. Runs where the map is read.
    pub fn merge(merge: impl Fn(V, V) -> V + Send + Sync + 'static) -> Self {
        Self { keeping: Keeping::Concurrent, merge: Some(Arc::new(merge)) }
    }

    /// The greatest wins.
    #[must_use]
    pub fn max() -> Self
    where
        V: Ord + 'static,
    {
        Self::merge(std::cmp::max)
    }

    /// The least wins.
    #[must_use]
    pub fn min() -> Self
    where
        V: Ord + 'static,
    {
        Self::merge(std::cmp::min)
    }

    /// Sets (or maps) are united. What one side took out of the set and the other left in it is back.
    #[must_use]
    pub fn union() -> Self
    where
        V: IntoIterator + Extend<<V as IntoIterator>::Item> + 'static,
    {
        Self::merge(|mut one, other| {
            one.extend(other);
            one
        })
    }

    /// Whether values are merged.
    pub(crate) const fn merges(&self) -> bool {
        self.merge.is_some()
    }

    /// One value of several, oldest first; `None` if there is none.
    pub(crate) fn resolve(&self, values: impl IntoIterator<Item = V>) -> Option<V> {
        let values = values.into_iter();
        match &self.merge {
            Some(merge) => values.reduce(|one, other| merge(one, other)),
            None => values.last(),
        }
    }
}

impl Conflicts<Counter> {
    /// Increments made at the same time all count.
    #[must_use]
    pub fn counter() -> Self {
        Self::merge(Counter::merged)
    }
}

/// A number that members change at the same time without losing a change (a PN-counter; Shapiro et al., 2011). Change it
/// with [`ReplicatedMap::add`](crate::ReplicatedMap::add).
///
/// It remembers the sum of increments and of decrements for each opening of the map that ever changed it, some 25 bytes each;
/// and for each time that one began anew because the counter had been removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// By incarnation and generation. Of a part the greater counts, so its author must never count from less than he had
    /// counted to: after a removal he begins a new one.
    parts: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Counter {
    /// Its value; at the bounds of an `i64` if it is beyond.
    #[must_use]
    pub fn value(&self) -> i64 {
        let sum: i128 = self.parts.values().map(|(up, down)| i128::from(*up) - i128::from(*down)).sum();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    /// Adds to the latest part of `by`; if it has none, or is to begin a new one, to one of the generation `next`.
    pub(crate) fn add(&mut self, by: Incarnation, new: bool, next: u64, change: i64) {
        let latest = self.parts.range((by.get(), 0)..=(by.get(), u64::MAX)).next_back().map(|((_, latest), _)| *latest);
        let generation = latest.filter(|_| !new).unwrap_or(next);
        let (up, down) = self.parts.entry((by.get(), generation)).or_default();
        let part = if change < 0 { down } else { up };
        *part = part.saturating_add(change.unsigned_abs());
    }

    fn merged(mut one: Self, other: Self) -> Self {
        for (part, (up, down)) in other.parts {
            let part = one.parts.entry(part).or_default();
            *part = (part.0.max(up), part.1.max(down));
        }
        one
    }
}
