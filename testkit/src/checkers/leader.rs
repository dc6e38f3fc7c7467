//! One leader at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::{Violations, report};

/// Of a group with a rule for who may write: never do two leaders, or two under different tokens, write at the same time; the token
/// never falls; and each token has one leader. Feed it in the order in which things happen.
///
/// `N` names processes, so a restarted one has another name.
///
/// ```
/// use tribes_testkit::checkers::OneLeader;
///
/// let mut checker = OneLeader::new();
/// checker.began("a", 1, "a");
/// checker.began("b", 1, "a");
/// checker.began("c", 2, "c");
/// assert_eq!(checker.finish().unwrap_err().violations.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct OneLeader<N> {
    /// Who may write now, with which token.
    writing: BTreeMap<N, u64>,
    leaders: BTreeMap<u64, N>,
    checked: usize,
    violations: Vec<String>,
}

impl<N: Ord + Clone + Debug> Default for OneLeader<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Ord + Clone + Debug> OneLeader<N> {
    /// A checker that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { writing: BTreeMap::new(), leaders: BTreeMap::new(), checked: 0, violations: Vec::new() }
    }

    /// `process` may write from now on, with this token, led by `leader`.
    pub fn began(&mut self, process: N, token: u64, leader: N) {
        self.checked += 1;
        for (other, theirs) in self.writing.iter().filter(|(other, theirs)| **other != process && **theirs != token) {
            self.violations.push(format!("{process:?} may write under {token}, while {other:?} does under {theirs}"));
        }
        if let Some((highest, last)) = self.leaders.last_key_value().filter(|(highest, _)| **highest > token) {
            self.violations.push(format!("{process:?} has token {token}, after {last:?} led under {highest}"));
        }
        let known = self.leaders.entry(token).or_insert_with(|| leader.clone());
        if *known != leader {
            self.violations.push(format!("{leader:?} leads under {token}, as {known:?} does"));
        }
        self.writing.insert(process, token);
    }

    /// As [`began`](Self::began), in a view of these members: then nobody who is not in it may be writing, under whatever token.
    pub fn began_among(&mut self, process: N, token: u64, leader: N, members: impl IntoIterator<Item = N>) {
        let members: BTreeSet<_> = members.into_iter().collect();
        for (other, theirs) in
            self.writing.iter().filter(|(other, theirs)| !members.contains(other) && **theirs == token)
        {
            self.violations
                .push(format!("{process:?} may write without {other:?}, which does so, too, under {theirs}"));
        }
        self.began(process, token, leader);
    }

    /// `process` must not write any more, or is no more.
    pub fn ended(&mut self, process: &N) {
        self.writing.remove(process);
    }

    /// Whether this process may write now.
    #[must_use]
    pub fn writes(&self, process: &N) -> bool {
        self.writing.contains_key(process)
    }

    /// How many permissions were checked, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(self) -> Result<usize, Violations> {
        report("one leader", self.checked, self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_violation_is_found() {
        let mut sound = OneLeader::new();
        sound.began('a', 1, 'a');
        sound.began('b', 1, 'a');
        sound.ended(&'a');
        sound.ended(&'b');
        sound.began('b', 2, 'b');
        let found = |change: fn(&mut OneLeader<char>)| {
            let mut checker = sound.clone();
            change(&mut checker);
            checker.finish().map_or_else(|violations| violations.violations, |_| Vec::new())
        };
        assert!(found(|_| {}).is_empty());
        let both = found(|checker| checker.began('c', 3, 'c'));
        assert_eq!(both, ["'c' may write under 3, while 'b' does under 2"]);
        let back = found(|checker| {
            checker.ended(&'b');
            checker.began('a', 1, 'a');
        });
        assert_eq!(back, ["'a' has token 1, after 'b' led under 2"]);
        let apart = found(|checker| checker.began_among('c', 2, 'b', ['c', 'd']));
        assert_eq!(apart, ["'c' may write without 'b', which does so, too, under 2"]);
        let shared = found(|checker| checker.began('c', 2, 'c'));
        assert_eq!(shared, ["'c' leads under 2, as 'b' does"]);
    }
}
