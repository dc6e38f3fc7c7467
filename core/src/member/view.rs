//! The group as one channel sees it.

use std::sync::Arc;

use super::{Member, MemberEvent, MemberId};

/// The other members as this channel sees them, at one moment: immutable, shared as `Arc<View>`.
///
/// The local member is not in it. Each change makes a new view with a higher number. Views of different channels are
/// not coordinated: two channels may see different groups for a while, and their numbers mean nothing to each other.
#[derive(Clone, Debug, Default)]
pub struct View {
    number: u64,
    /// Sorted by absolute order.
    members: Arc<[Arc<Member>]>,
}

impl View {
    /// How many changes led to this view; grows by one with each.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The members in absolute order (see [`Member`]).
    #[must_use]
    pub fn members(&self) -> &Arc<[Arc<Member>]> {
        &self.members
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether this channel is alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `member` is in the group.
    #[must_use]
    pub fn contains(&self, member: &Member) -> bool {
        self.find(member).is_some()
    }

    /// The current record of `member`, compared by identity.
    #[must_use]
    pub fn find(&self, member: &Member) -> Option<&Arc<Member>> {
        self.members.binary_search_by(|known| known.as_ref().cmp(member)).ok().and_then(|at| self.members.get(at))
    }

    /// The first member with this id.
    #[must_use]
    pub fn by_id(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.id() == id)
    }

    /// The view after `event`; `None` if the event changes nothing (a known member added, an unknown one updated or
    /// removed, a suspicion).
    #[must_use]
    pub fn apply(&self, event: &MemberEvent) -> Option<Self> {
        let place = self.members.binary_search_by(|known| known.cmp(event.member()));
        let mut members = self.members.to_vec();
        match (event, place) {
            (MemberEvent::Added(member), Err(at)) => members.insert(at, Arc::clone(member)),
            (MemberEvent::Updated(member), Ok(at)) => *members.get_mut(at)? = Arc::clone(member),
            (MemberEvent::Removed(..), Ok(at)) => drop(members.remove(at)),
            (MemberEvent::Added(_), Ok(_))
            | (MemberEvent::Updated(_) | MemberEvent::Removed(..), Err(_))
            | (MemberEvent::Suspected(..), _) => return None,
        }
        Some(Self { number: self.number + 1, members: members.into() })
    }
}

impl<'a> IntoIterator for &'a View {
    type Item = &'a Arc<Member>;
    type IntoIter = std::slice::Iter<'a, Arc<Member>>;
    fn into_iter(self) -> Self::IntoIter {
        self.members.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Departure, Suspicion};

    fn member(port: u16) -> Arc<Member> {
        Arc::new(Member::new(MemberId::from_bytes([1; 16]), ([127, 0, 0, 1], port).into()))
    }

    #[test]
    fn only_changes_make_a_new_view() {
        let view = View::default();
        let view = view.apply(&MemberEvent::Added(member(2))).unwrap().apply(&MemberEvent::Added(member(1))).unwrap();
        assert_eq!((view.number(), view.len()), (2, 2));
        assert_eq!(view.members()[0].port(), 1);
        assert!(view.apply(&MemberEvent::Added(member(1))).is_none());
        assert!(view.apply(&MemberEvent::Suspected(member(1), Suspicion::Silent)).is_none());
        assert!(view.apply(&MemberEvent::Removed(member(3), Departure::Failed)).is_none());
        let view = view.apply(&MemberEvent::Removed(member(1), Departure::Failed)).unwrap();
        assert!(!view.contains(&member(1)) && view.contains(&member(2)));
    }
}
