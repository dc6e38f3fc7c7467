//! Exactly once, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::{Violations, report};

/// What one member sent to another arrived exactly once each, in the order of their numbers. The test numbers its messages
/// per sender and receiver, with growing numbers, and puts the number into the body. `N` names members.
///
/// ```
/// use tribes_testkit::checkers::ExactlyOnceInOrder;
///
/// let mut checker = ExactlyOnceInOrder::new();
/// checker.sent("a", "b", 1);
/// checker.sent("a", "b", 2);
/// checker.received("a", "b", 1);
/// checker.received("a", "b", 1);
/// let report = checker.finish().unwrap_err();
/// assert_eq!(report.violations, [r#""a" -> "b": 1 arrived twice"#, r#""a" -> "b": 2 never arrived"#]);
/// ```
#[derive(Clone, Debug)]
pub struct ExactlyOnceInOrder<N> {
    pairs: BTreeMap<(N, N), Pair>,
    any_order: bool,
}

#[derive(Clone, Debug, Default)]
struct Pair {
    sent: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    received: BTreeSet<u64>,
    last: Option<u64>,
    violations: Vec<String>,
}

impl<N: Ord + Clone + Debug> Default for ExactlyOnceInOrder<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Ord + Clone + Debug> ExactlyOnceInOrder<N> {
    /// A checker that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { pairs: BTreeMap::new(), any_order: false }
    }

    /// Checks exactly once, in whatever order: for messages that several tasks send, or parallel lanes carry.
    #[must_use]
    pub const fn in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    fn pair(&mut self, from: N, to: N) -> &mut Pair {
        self.pairs.entry((from, to)).or_default()
    }

    /// `from` is about to send message `number` to `to`.
    pub fn sent(&mut self, from: N, to: N, number: u64) {
        let pair = self.pair(from, to);
        if !pair.sent.insert(number) {
            pair.violations.push(format!("the test sent {number} twice"));
        }
    }

    /// The sender was told that the message failed: it need not arrive, but may have, once.
    pub fn failed(&mut self, from: N, to: N, number: u64) {
        self.pair(from, to).failed.insert(number);
    }

    /// The message was delivered to a listener of `to`.
    pub fn received(&mut self, from: N, to: N, number: u64) {
        let any_order = self.any_order;
        let pair = self.pair(from, to);
        if !pair.sent.contains(&number) {
            pair.violations.push(format!("{number} arrived without being sent"));
        }
        if !pair.received.insert(number) {
            pair.violations.push(format!("{number} arrived twice"));
        } else if let Some(last) = pair.last.filter(|last| *last > number && !any_order) {
            pair.violations.push(format!("{number} arrived after {last}"));
        }
        pair.last = pair.last.max(Some(number));
    }

    /// How many messages arrived.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.pairs.values().map(|pair| pair.received.len()).sum()
    }

    /// How many messages were sent.
    #[must_use]
    pub fn sent_count(&self) -> usize {
        self.pairs.values().map(|pair| pair.sent.len()).sum()
    }

    /// How many messages were sent, if all was well.
    ///
    /// # Errors
    /// Everything that was not.
    pub fn finish(self) -> Result<usize, Violations> {
        let (mut violations, checked) = (Vec::new(), self.sent_count());
        for ((from, to), pair) in self.pairs {
            let lost =
                pair.sent.iter().filter(|number| !pair.received.contains(number) && !pair.failed.contains(number));
            let lost = lost.map(|number| format!("{number} never arrived"));
            violations
                .extend(pair.violations.into_iter().chain(lost).map(|text| format!("{from:?} -> {to:?}: {text}")));
        }
        report("exactly once, in order", checked, violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(received: &[u64]) -> Result<usize, Violations> {
        let mut checker = ExactlyOnceInOrder::new();
        (1..=3).for_each(|number| checker.sent('a', 'b', number));
        received.iter().for_each(|number| checker.received('a', 'b', *number));
        checker.finish()
    }

    #[test]
    fn each_violation_is_found() {
        assert_eq!(run(&[1, 2, 3]), Ok(3));
        for (received, text) in [
            (&[1, 3, 2][..], "'a' -> 'b': 2 arrived after 3"),
            (&[1, 2, 2, 3], "'a' -> 'b': 2 arrived twice"),
            (&[1, 2], "'a' -> 'b': 3 never arrived"),
            (&[1, 2, 3, 4], "'a' -> 'b': 4 arrived without being sent"),
        ] {
            assert_eq!(run(received).unwrap_err().violations, [text]);
        }
    }

    #[test]
    fn what_failed_may_arrive_once() {
        let mut checker = ExactlyOnceInOrder::new();
        for number in 1..=3 {
            checker.sent('a', 'b', number);
            checker.failed('a', 'b', number);
        }
        checker.received('a', 'b', 2);
        assert_eq!(checker.clone().finish(), Ok(3));
        checker.received('a', 'b', 2);
        assert!(checker.finish().is_err());
    }
}
