//! Which connections there are and which of them are of members, without I/O.
//!
//! A connection is *identified* once it carried a hello, or a valid frame of a known member. Those that are not are bounded
//! by number, and the oldest of them makes room for the next: a flood of strangers never costs a member its connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tribes_core::Member;

/// All open connections. `H` is a handle to one.
#[derive(Debug)]
pub(super) struct Census<H> {
    connections: BTreeMap<u64, Entry<H>>,
    /// By number, hence by age. A connection that is being closed is in neither set.
    unidentified: BTreeSet<u64>,
    identified: BTreeSet<u64>,
    by_member: BTreeMap<Arc<Member>, BTreeSet<u64>>,
    known: BTreeSet<Arc<Member>>,
    next: u64,
    max_identified: usize,
    max_unidentified: usize,
}

#[derive(Debug)]
struct Entry<H> {
    handle: H,
    /// Of whom it once was identified to be.
    member: Option<Arc<Member>>,
}

/// What a connection is after it named a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Identified,
    /// The member is not in the group.
    Stranger,
    /// It would be identified, and there is no room for another such connection.
    NoRoom,
}

impl<H: Clone> Census<H> {
    pub(super) const fn new(max_identified: usize, max_unidentified: usize) -> Self {
        Self {
            connections: BTreeMap::new(),
            unidentified: BTreeSet::new(),
            identified: BTreeSet::new(),
            by_member: BTreeMap::new(),
            known: BTreeSet::new(),
            next: 0,
            max_identified,
            max_unidentified,
        }
    }

    /// A new connection: its number, and the connection to close for it. A closed one counts until it [`leave`](Self::leave)s.
    pub(super) fn enter(&mut self, handle: H) -> (u64, Option<H>) {
        let evicted = (self.unidentified.len() >= self.max_unidentified).then(|| self.evict_oldest()).flatten();
        let no = self.next;
        self.next += 1;
        self.connections.insert(no, Entry { handle, member: None });
        self.unidentified.insert(no);
        (no, evicted)
    }

    /// The oldest unidentified connection, to be closed. It is not named again.
    pub(super) fn evict_oldest(&mut self) -> Option<H> {
        let oldest = self.unidentified.pop_first()?;
        self.handle(oldest)
    }

    /// The connection is gone.
    pub(super) fn leave(&mut self, no: u64) {
        self.unidentified.remove(&no);
        self.identified.remove(&no);
        let Some(entry) = self.connections.remove(&no) else { return };
        if let Some(member) = entry.member
            && let Some(numbers) = self.by_member.get_mut(&member)
        {
            numbers.remove(&no);
            if numbers.is_empty() {
                self.by_member.remove(&member);
            }
        }
    }

    /// The connection said to be of `member`, with a hello or by a valid frame.
    pub(super) fn named(&mut self, no: u64, member: &Arc<Member>, hello: bool) -> Standing {
        if self.identified.contains(&no) {
            return Standing::Identified;
        }
        if !self.unidentified.contains(&no) || !(hello || self.known.contains(member)) {
            return Standing::Stranger;
        }
        if self.identified.len() >= self.max_identified {
            return Standing::NoRoom;
        }
        self.unidentified.remove(&no);
        self.identified.insert(no);
        if let Some(entry) = self.connections.get_mut(&no).filter(|entry| entry.member.is_none()) {
            entry.member = Some(Arc::clone(member));
            self.by_member.entry(Arc::clone(member)).or_default().insert(no);
        }
        Standing::Identified
    }

    /// The member is in the group: its connections are identified again. Returns them.
    pub(super) fn added(&mut self, member: &Arc<Member>) -> Vec<H> {
        self.known.insert(Arc::clone(member));
        let mut back = Vec::new();
        for no in self.by_member.get(member).into_iter().flatten() {
            if self.identified.len() < self.max_identified && self.unidentified.remove(no) {
                self.identified.insert(*no);
                back.extend(self.handle(*no));
            }
        }
        back
    }

    /// The member left: its connections are no longer identified. Returns them.
    pub(super) fn removed(&mut self, member: &Member) -> Vec<H> {
        self.known.remove(member);
        let mut fallen = Vec::new();
        for no in self.by_member.get(member).into_iter().flatten() {
            if self.identified.remove(no) {
                self.unidentified.insert(*no);
                fallen.extend(self.handle(*no));
            }
        }
        fallen
    }

    pub(super) fn handle(&self, no: u64) -> Option<H> {
        self.connections.get(&no).map(|entry| entry.handle.clone())
    }

    pub(super) fn handles(&self) -> Vec<H> {
        self.connections.values().map(|entry| entry.handle.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn identified_len(&self) -> usize {
        self.identified.len()
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::MemberId;

    use super::*;

    fn member(port: u16) -> Arc<Member> {
        Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into()))
    }

    #[test]
    fn strangers_never_cost_a_member_its_connection() {
        let mut census = Census::new(10, 3);
        census.added(&member(1));
        let (of_member, _) = census.enter("member");
        assert_eq!(census.named(of_member, &member(1), false), Standing::Identified);
        let first = census.enter("stranger 1").0;
        assert_eq!(census.named(first, &member(2), false), Standing::Stranger);
        census.enter("stranger 2");
        assert_eq!(census.enter("stranger 3").1, None);
        assert_eq!(census.enter("stranger 4").1, Some("stranger 1"));
        assert_eq!(census.enter("stranger 5").1, Some("stranger 2"));
        // What is being closed is nobody any more.
        assert_eq!(census.named(first, &member(1), false), Standing::Stranger);
        census.leave(first);
        assert_eq!(census.evict_oldest(), Some("stranger 3"));
        assert_eq!(census.handle(of_member), Some("member"));
    }

    #[test]
    fn a_hello_identifies_whoever_says_it() {
        let mut census = Census::new(1, 3);
        let (one, _) = census.enter("one");
        let (two, _) = census.enter("two");
        assert_eq!(census.named(one, &member(1), true), Standing::Identified);
        assert_eq!(census.named(two, &member(1), true), Standing::NoRoom);
        assert_eq!((census.len(), census.identified_len()), (2, 1));
        census.leave(one);
        assert_eq!(census.named(two, &member(1), true), Standing::Identified);
        assert_eq!(census.named(one, &member(1), true), Standing::Stranger);
    }

    #[test]
    fn standing_follows_the_member() {
        let mut census = Census::new(10, 3);
        let (no, _) = census.enter("it");
        census.named(no, &member(1), true);
        assert_eq!(census.removed(&member(1)), ["it"]);
        assert_eq!(census.identified_len(), 0);
        assert!(census.removed(&member(1)).is_empty());
        assert_eq!(census.added(&member(1)), ["it"]);
        assert_eq!(census.identified_len(), 1);
        census.leave(no);
        assert!(census.removed(&member(1)).is_empty());
        assert_eq!(census.len(), 0);
    }
}
