//! Replicated maps: equal in the end, nothing lost that was acknowledged, nothing back that was removed.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use super::{Violations, report};

/// In the end all replicas hold the same.
///
/// ```
/// let mut equal = tribes_testkit::checkers::ReplicasEqual::default();
/// equal.holds("one", [("a", 1), ("b", 2)]);
/// equal.holds("two", [("b", 2)]);
/// assert_eq!(equal.check().unwrap_err().violations, [r#"two has no "a", which one has: 1"#]);
/// ```
#[derive(Clone, Debug)]
pub struct ReplicasEqual<K, V> {
    replicas: Vec<(String, BTreeMap<K, V>)>,
}

impl<K, V> Default for ReplicasEqual<K, V> {
    fn default() -> Self {
        Self { replicas: Vec::new() }
    }
}

impl<K: Ord + Debug, V: PartialEq + Debug> ReplicasEqual<K, V> {
    /// What a replica holds.
    pub fn holds(&mut self, replica: impl Display, entries: impl IntoIterator<Item = (K, V)>) {
        self.replicas.push((replica.to_string(), entries.into_iter().collect()));
    }

    /// How many entries were compared.
    ///
    /// # Errors
    /// Each entry in which a replica differs from the first.
    pub fn check(&self) -> Result<usize, Violations> {
        let mut violations = Vec::new();
        let Some(((first, entries), others)) = self.replicas.split_first() else { return Ok(0) };
        for (other, theirs) in others {
            for (key, value) in entries {
                match theirs.get(key) {
                    None => violations.push(format!("{other} has no {key:?}, which {first} has: {value:?}")),
                    Some(their) if their != value => {
                        violations.push(format!("{other} has {their:?} at {key:?}, and {first} has {value:?}"));
                    }
                    Some(_) => {}
                }
            }
            let extra = theirs.iter().filter(|(key, _)| !entries.contains_key(key));
            violations
                .extend(extra.map(|(key, value)| format!("{other} has {value:?} at {key:?}, which {first} has not")));
        }
        report("ReplicasEqual", self.replicas.iter().map(|(_, entries)| entries.len()).sum(), violations)
    }
}

/// No acknowledged write is lost: in the end its key has it, or a later one.
///
/// Versions are those of the map; the later of two writes that knew of each other has the greater one. What was written
/// after the acknowledgement may take its place whatever its version is: the clock of its author may be slow.
#[derive(Clone, Debug)]
pub struct AcknowledgedWritesKept<K, V> {
    writes: BTreeMap<K, Vec<Write<V>>>,
    finally: BTreeMap<K, V>,
    /// Counts writes and acknowledgements.
    turn: usize,
}

#[derive(Clone, Copy, Debug)]
struct Write<V> {
    version: V,
    removal: bool,
    written: usize,
    acknowledged: Option<usize>,
}

impl<K, V> Default for AcknowledgedWritesKept<K, V> {
    fn default() -> Self {
        Self { writes: BTreeMap::new(), finally: BTreeMap::new(), turn: 0 }
    }
}

impl<K: Ord + Clone + Debug, V: Ord + Copy + Debug> AcknowledgedWritesKept<K, V> {
    /// A value was written, or the key removed.
    pub fn wrote(&mut self, key: K, version: V, removal: bool) {
        self.turn += 1;
        let write = Write { version, removal, written: self.turn, acknowledged: None };
        self.writes.entry(key).or_default().push(write);
    }

    /// The write of this version was acknowledged as its durability asks.
    pub fn acknowledged(&mut self, key: &K, version: V) {
        self.turn += 1;
        let writes = self.writes.get_mut(key).into_iter().flatten();
        writes.filter(|write| write.version == version).for_each(|write| write.acknowledged = Some(self.turn));
    }

    /// A key that has a value in the end, and its version.
    pub fn finally(&mut self, key: K, version: V) {
        self.finally.insert(key, version);
    }

    /// How many acknowledged writes there were.
    ///
    /// # Errors
    /// Each that is lost, and each final value that nobody wrote.
    pub fn check(&self) -> Result<usize, Violations> {
        let mut violations = Vec::new();
        let mut checked = 0;
        for (key, writes) in &self.writes {
            let last = self.finally.get(key);
            if let Some(last) = last.filter(|last| writes.iter().all(|write| write.version != **last || write.removal))
            {
                violations.push(format!("nobody wrote {last:?}, which {key:?} has in the end"));
            }
            for write in writes {
                let Some(acknowledged) = write.acknowledged else { continue };
                checked += 1;
                let outdone = |other: &&Write<V>| other.version >= write.version || other.written > acknowledged;
                let kept = match last {
                    None => writes.iter().filter(|other| other.removal).any(|other| outdone(&other)),
                    Some(last) => writes.iter().filter(|other| other.version == *last).any(|other| outdone(&other)),
                };
                if !kept {
                    let what = if write.removal { "removal" } else { "value" };
                    violations
                        .push(format!("the {what} {:?} of {key:?} is lost; in the end it has {last:?}", write.version));
                }
            }
        }
        let unknown = self.finally.keys().filter(|key| !self.writes.contains_key(key));
        violations.extend(unknown.map(|key| format!("nobody ever wrote {key:?}")));
        report("AcknowledgedWritesKept", checked, violations)
    }
}

/// A key that a replica has seen removed never shows an earlier value there again: one with a lower version that was written
/// before the removal.
#[derive(Clone, Debug)]
pub struct NoRevival<K, V> {
    /// When each write was made, by its turn.
    written: BTreeMap<V, usize>,
    removed: BTreeMap<(String, K), V>,
    checked: usize,
    violations: Vec<String>,
}

impl<K, V> Default for NoRevival<K, V> {
    fn default() -> Self {
        Self { written: BTreeMap::new(), removed: BTreeMap::new(), checked: 0, violations: Vec::new() }
    }
}

impl<K: Ord + Clone + Debug, V: Ord + Copy + Debug> NoRevival<K, V> {
    /// A value was written, or the key removed.
    pub fn wrote(&mut self, version: V) {
        let turn = self.written.len();
        self.written.entry(version).or_insert(turn);
    }

    /// `replica` took in a removal.
    pub fn removed(&mut self, replica: impl Display, key: K, version: V) {
        let last = self.removed.entry((replica.to_string(), key)).or_insert(version);
        *last = version.max(*last);
    }

    /// `replica` shows a value.
    pub fn shows(&mut self, replica: impl Display, key: K, version: V) {
        self.checked += 1;
        let place = (replica.to_string(), key);
        let turn = |version: &V| self.written.get(version).copied().unwrap_or_default();
        let earlier = |removed: &&V| version < **removed && turn(&version) <= turn(removed);
        if let Some(removed) = self.removed.get(&place).filter(earlier) {
            self.violations.push(format!("{} shows {version:?} at {:?}, removed by {removed:?}", place.0, place.1));
        }
    }

    /// `replica` has lost its memory.
    pub fn forgot(&mut self, replica: impl Display) {
        let replica = replica.to_string();
        self.removed.retain(|(other, _), _| *other != replica);
    }

    /// How many values were looked at.
    ///
    /// # Errors
    /// Each that had been removed.
    pub fn check(&self) -> Result<usize, Violations> {
        report("NoRevival", self.checked, self.violations.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_is_found_and_an_overwritten_one_is_none() {
        let mut kept = AcknowledgedWritesKept::default();
        kept.wrote("a", 1, false);
        kept.acknowledged(&"a", 1);
        kept.wrote("a", 2, false);
        kept.wrote("b", 3, false);
        kept.acknowledged(&"b", 3);
        kept.wrote("c", 4, false);
        kept.acknowledged(&"c", 4);
        kept.wrote("c", 5, true);
        kept.finally("a", 2);
        let found = kept.check().expect_err("b is lost").violations;
        assert_eq!(found, [r#"the value 3 of "b" is lost; in the end it has None"#]);
        kept.finally("b", 3);
        assert_eq!(kept.check(), Ok(3));
        // The removal of c was not acknowledged: that it has a value is no loss, but not an older one than was acknowledged.
        kept.finally("c", 4);
        assert_eq!(kept.check(), Ok(3));
        kept.finally("d", 9);
        assert_eq!(kept.check().expect_err("unknown").violations, [r#"nobody ever wrote "d""#]);
    }

    #[test]
    fn an_acknowledged_removal_is_not_undone() {
        let mut kept = AcknowledgedWritesKept::default();
        kept.wrote("a", 1, false);
        kept.wrote("a", 2, true);
        kept.acknowledged(&"a", 2);
        kept.finally("a", 1);
        assert_eq!(kept.check().expect_err("it is back").violations.len(), 1);
    }

    #[test]
    fn what_comes_back_is_found() {
        let mut none = NoRevival::default();
        none.shows("one", "a", 1);
        none.removed("one", "a", 2);
        none.shows("two", "a", 1);
        assert_eq!(none.check(), Ok(2));
        none.shows("one", "a", 1);
        assert_eq!(none.check().expect_err("it is back").violations.len(), 1);
        // Written after the removal, by somebody whose clock is slow.
        let mut none = NoRevival::default();
        none.wrote(2);
        none.removed("one", "a", 2);
        none.wrote(1);
        none.shows("one", "a", 1);
        assert_eq!(none.check(), Ok(1));
    }
}
