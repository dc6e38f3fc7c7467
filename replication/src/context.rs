//! Which writes a replica has seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::version::{Dot, Incarnation};

/// So many gaps are remembered for one writer. Beyond, the highest writes count as not seen: they are asked for again.
const MAX_RANGES: usize = 256;
/// So many writers are remembered. Beyond, those are forgotten of which nothing new was seen for longest: all that could
/// bring back what they wrote is a replica that was away since.
pub(crate) const MAX_NODES: usize = 4096;

/// A set of dots: for each writer all up to a number, and some beyond.
///
/// It says what an absent entry means: if the write that made it has been seen, the entry was removed or overwritten since;
/// otherwise it is news. Therefore a replica that was away never brings a removed key back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    nodes: BTreeMap<Incarnation, Seen>,
    /// Grows with each addition.
    turn: u64,
}

/// What was seen of one writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// All up to here.
    pub(crate) upto: u64,
    /// And these, first to last, ascending, none of them touching another or `upto`.
    pub(crate) beyond: Vec<(u64, u64)>,
    /// When something was added last, in turns.
    touched: u64,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.upto == other.upto && self.beyond == other.beyond
    }
}

impl Eq for Seen {}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

impl Eq for Context {}

impl Seen {
    pub(crate) fn new(upto: u64, mut beyond: Vec<(u64, u64)>) -> Self {
        beyond.truncate(MAX_RANGES);
        Self { upto, beyond, touched: 0 }
    }

    pub(crate) fn contains(&self, counter: u64) -> bool {
        counter <= self.upto || self.beyond.iter().any(|&(first, last)| (first..=last).contains(&counter))
    }

    /// The highest that was seen.
    pub(crate) fn highest(&self) -> u64 {
        self.beyond.last().map_or(self.upto, |&(_, last)| last)
    }

    /// Adds `first..=last`.
    fn add(&mut self, first: u64, last: u64) {
        if last < first || last <= self.upto {
            return;
        }
        if self.beyond.is_empty() && first <= self.upto.saturating_add(1) {
            self.upto = last;
            return;
        }
        let at = self.beyond.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let mut range = (first, last);
        let mut end = at;
        while let Some(&(other, to)) = self.beyond.get(end).filter(|&&(other, _)| other <= last.saturating_add(1)) {
            range = (range.0.min(other), range.1.max(to));
            end += 1;
        }
        self.beyond.splice(at..end, [range]);
        while let Some(&(first, last)) = self.beyond.first().filter(|&&(first, _)| first <= self.upto.saturating_add(1))
        {
            debug_assert!(first > 0);
            self.upto = self.upto.max(last);
            self.beyond.remove(0);
        }
        self.beyond.truncate(MAX_RANGES);
    }

    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (self.upto > 0).then_some((1, self.upto)).into_iter().chain(self.beyond.iter().copied())
    }
}

impl Context {
    pub(crate) fn contains(&self, dot: Dot) -> bool {
        self.nodes.get(&dot.node).is_some_and(|seen| seen.contains(dot.counter))
    }

    pub(crate) fn add(&mut self, dot: Dot) {
        self.add_range(dot.node, dot.counter, dot.counter);
    }

    fn add_range(&mut self, node: Incarnation, first: u64, last: u64) {
        self.turn += 1;
        let seen = self.nodes.entry(node).or_default();
        seen.touched = self.turn;
        seen.add(first.max(1), last);
        if self.nodes.len() > MAX_NODES {
            let oldest = self.nodes.iter().min_by_key(|(_, seen)| seen.touched).map(|(node, _)| *node);
            oldest.and_then(|node| self.nodes.remove(&node));
        }
    }

    /// What was seen of `node`.
    pub(crate) fn of(&self, node: Incarnation) -> Option<&Seen> {
        self.nodes.get(&node)
    }

    /// Whether writes of `node` are missing below one that was seen.
    pub(crate) fn has_gap(&self, node: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|seen| !seen.beyond.is_empty())
    }

    /// Adds all that `other` has.
    pub(crate) fn join(&mut self, other: &Self) {
        for (node, theirs) in &other.nodes {
            let missing = self.nodes.get(node).is_none_or(|ours| ours.upto < theirs.upto || !theirs.beyond.is_empty());
            if missing {
                theirs.ranges().for_each(|(first, last)| self.add_range(*node, first, last));
            }
        }
    }

    /// Takes out all of these writers.
    pub(crate) fn forget(&mut self, nodes: &BTreeSet<Incarnation>) {
        self.nodes.retain(|node, _| !nodes.contains(node));
    }

    /// What both have.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (node, ours) in &self.nodes {
            let Some(theirs) = other.nodes.get(node) else { continue };
            for (first, last) in ours.ranges() {
                for (other_first, other_last) in theirs.ranges() {
                    let (first, last) = (first.max(other_first), last.min(other_last));
                    if first <= last {
                        both.add_range(*node, first, last);
                    }
                }
            }
        }
        both
    }

    /// Writers and what was seen of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Incarnation, &Seen)> {
        self.nodes.iter().map(|(node, seen)| (*node, seen))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether all that `other` has is in it.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let inside = |ours: &Seen, (first, last): (u64, u64)| {
            let ours = ours.ranges().find(|(_, end)| *end >= first);
            ours.is_some_and(|(begin, end)| begin <= first && last <= end)
        };
        other.nodes.iter().all(|(node, theirs)| match self.nodes.get(node) {
            Some(ours) => theirs.ranges().all(|range| inside(ours, range)),
            None => theirs.ranges().next().is_none(),
        })
    }

    /// Grows with each addition.
    pub(crate) const fn turn(&self) -> u64 {
        self.turn
    }

    /// For what came from a peer.
    pub(crate) fn insert(&mut self, node: Incarnation, upto: u64, beyond: &[(u64, u64)]) {
        self.add_range(node, 1, upto);
        beyond.iter().for_each(|&(first, last)| self.add_range(node, first, last));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: Incarnation = Incarnation::new(7);

    fn of(counters: &BTreeSet<u64>) -> Context {
        let mut context = Context::default();
        counters.iter().for_each(|&counter| context.add(Dot { node: NODE, counter }));
        context
    }

    proptest! {
        #[test]
        fn it_is_a_set(mut order in prop::collection::vec(1u64..60, 0..80), other in prop::collection::btree_set(1u64..60, 0..40)) {
            let mut context = Context::default();
            let mut model = BTreeSet::new();
            for counter in order.drain(..) {
                context.add(Dot { node: NODE, counter });
                model.insert(counter);
            }
            let both = |test: &dyn Fn(u64) -> bool| (1..62).filter(|&counter| test(counter)).collect::<BTreeSet<_>>();
            let seen = |context: &Context| both(&|counter| context.contains(Dot { node: NODE, counter }));
            prop_assert_eq!(seen(&context), model.clone());
            let others = of(&other);
            prop_assert_eq!(seen(&context.meet(&others)), model.intersection(&other).copied().collect());
            prop_assert_eq!(context.includes(&others), model.is_superset(&other));
            context.join(&others);
            prop_assert_eq!(&context, &of(&model.union(&other).copied().collect()));
            prop_assert_eq!(context.has_gap(NODE), {
                let all: BTreeSet<u64> = model.union(&other).copied().collect();
                all.last().is_some_and(|&last| last != all.len() as u64)
            });
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut context = Context::default();
        for counter in 1..2000 {
            context.add(Dot { node: NODE, counter: 2 * counter });
        }
        assert_eq!(context.of(NODE).map(|seen| seen.beyond.len()), Some(MAX_RANGES));
        for node in 0..5000 {
            context.add(Dot { node: Incarnation::new(node), counter: 1 });
        }
        assert_eq!(context.len(), MAX_NODES);
        assert!(context.contains(Dot { node: Incarnation::new(4999), counter: 1 }));
    }
}
