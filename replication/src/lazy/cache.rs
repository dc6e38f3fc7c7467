//! What others hold, kept for a while.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tribes_core::Time;

use crate::store::Sibling;

/// What an entry takes besides its key and values, about, and what each value takes.
const ENTRY: usize = 128;
const SIBLING: usize = 64;

/// Entries that were fetched, the oldest dropped first.
pub(super) struct Cache {
    max_age: Duration,
    max_bytes: usize,
    entries: HashMap<Box<[u8]>, Kept>,
    /// In the order in which they came; some may be gone or newer since.
    order: VecDeque<(Time, Box<[u8]>)>,
    bytes: usize,
    /// Grows with each write made here: what was asked for before is not to be kept after it.
    epoch: u64,
}

struct Kept {
    until: Time,
    siblings: Vec<Sibling>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(max_age: Duration, max_bytes: usize) -> Self {
        Self { max_age, max_bytes, entries: HashMap::new(), order: VecDeque::new(), bytes: 0, epoch: 0 }
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, key: &[u8], now: Time) -> Option<&[Sibling]> {
        self.expire(now);
        self.entries.get(key).map(|kept| &*kept.siblings)
    }

    /// Keeps what came for a question asked at `epoch`.
    pub(super) fn keep(&mut self, key: &[u8], siblings: &[Sibling], epoch: u64, now: Time) {
        self.expire(now);
        let value = |sibling: &Sibling| SIBLING + sibling.value.as_ref().map_or(0, |value| value.len());
        // The key is here twice.
        let bytes = ENTRY + 2 * key.len() + siblings.iter().map(value).sum::<usize>();
        if epoch != self.epoch || siblings.is_empty() || bytes > self.max_bytes {
            return;
        }
        self.forget(key);
        let until = now + self.max_age;
        self.bytes += bytes;
        self.entries.insert(key.into(), Kept { until, siblings: siblings.to_vec(), bytes });
        self.order.push_back((until, key.into()));
        while self.bytes > self.max_bytes {
            self.drop_oldest();
        }
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            let mut seen = std::collections::HashSet::new();
            self.order.retain(|(until, key)| {
                entries.get(key).is_some_and(|kept| kept.until == *until) && seen.insert(key.clone())
            });
        }
    }

    /// The key is written here.
    pub(super) fn written(&mut self, key: &[u8]) {
        self.epoch += 1;
        self.forget(key);
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(kept) = self.entries.remove(key) {
            self.bytes -= kept.bytes;
        }
    }

    fn expire(&mut self, now: Time) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else { return };
        // It may have been fetched again since.
        if self.entries.get(&key).is_some_and(|kept| kept.until == until) {
            self.forget(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Dot, Incarnation, Version};

    const AGE: Duration = Duration::from_secs(10);

    fn value(bytes: usize) -> Vec<Sibling> {
        let dot = Dot { node: Incarnation::new(1), counter: 1 };
        let version = Version { time: 1, dot };
        vec![Sibling { version, past: Box::default(), value: Some(vec![0; bytes].into()) }]
    }

    fn at(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    /// What an entry with a key of one byte and this value takes.
    fn size(value: usize) -> usize {
        ENTRY + SIBLING + 2 + value
    }

    #[test]
    fn what_is_old_or_too_much_goes() {
        let mut cache = Cache::new(AGE, 2 * size(50));
        cache.keep(b"a", &value(40), 0, at(0));
        cache.keep(b"b", &value(40), 0, at(5));
        assert!(cache.get(b"a", at(9)).is_some() && cache.get(b"a", at(10)).is_none());
        assert_eq!((cache.len(), cache.bytes()), (1, size(40)));
        cache.keep(b"c", &value(58), 0, at(11));
        cache.keep(b"d", &value(1), 0, at(11));
        assert!(cache.get(b"b", at(11)).is_none(), "the oldest goes first");
        assert_eq!((cache.len(), cache.bytes()), (2, size(58) + size(1)));
        cache.keep(b"e", &value(1000), 0, at(11));
        assert_eq!(cache.len(), 2, "what does not fit at all drives nothing out");
        // Fetched again and again, it takes no more room.
        (0..1000).for_each(|_| cache.keep(b"c", &value(50), 0, at(12)));
        assert!(cache.order.len() < 30 && cache.bytes() == size(50) + size(1), "{}", cache.order.len());
    }

    #[test]
    fn what_was_asked_for_before_a_write_is_not_kept_after_it() {
        let mut cache = Cache::new(AGE, 1000);
        let asked = cache.epoch();
        cache.keep(b"a", &value(1), asked, at(0));
        cache.written(b"a");
        assert!(cache.get(b"a", at(0)).is_none());
        cache.keep(b"a", &value(1), asked, at(0));
        assert!(cache.get(b"a", at(0)).is_none());
        cache.keep(b"a", &value(1), cache.epoch(), at(0));
        assert!(cache.get(b"a", at(0)).is_some());
        assert_eq!(cache.bytes(), size(1));
    }
}
