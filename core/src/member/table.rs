//! A value for each of some members: read by every message, changed when members come and go.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::Member;

/// Up to so many entries are searched one after another, by pointer first: often it is the very `Arc` that was stored.
const SCANNED: usize = 16;

type Entries<T> = Vec<(Arc<Member>, T)>;

/// A map from members to values of which clones are cheap. A look-up takes no lock and touches no reference count but that
/// of the value; a change copies the table.
pub struct MemberTable<T> {
    /// Sorted by member.
    entries: ArcSwap<Entries<T>>,
    changing: Mutex<()>,
}

/// The entries of a [`MemberTable`] at one moment, for several look-ups.
pub struct Snapshot<T>(Guard<Arc<Entries<T>>>);

impl<T: Clone> MemberTable<T> {
    /// The entries as they are now. To be dropped soon.
    pub fn load(&self) -> Snapshot<T> {
        Snapshot(self.entries.load())
    }

    /// The value of `member`.
    pub fn get(&self, member: &Arc<Member>) -> Option<T> {
        self.load().get(member).cloned()
    }

    /// The value of `member`, made if there is none.
    pub fn get_or_insert_with(&self, member: &Arc<Member>, make: impl FnOnce() -> T) -> T {
        if let Some(value) = self.get(member) {
            return value;
        }
        self.change(|entries| {
            let place = place(entries, member);
            // Another may have made it meanwhile.
            if let Some((_, value)) = place.ok().and_then(|at| entries.get(at)) {
                return value.clone();
            }
            let value = make();
            entries.insert(place.unwrap_or_else(|at| at), (Arc::clone(member), value.clone()));
            value
        })
    }

    /// Takes the value of `member` out.
    pub fn remove(&self, member: &Member) -> Option<T> {
        self.change(|entries| place(entries, member).ok().map(|at| entries.remove(at).1))
    }

    /// Keeps the entries that `keep` picks.
    pub fn retain(&self, mut keep: impl FnMut(&Arc<Member>, &T) -> bool) {
        self.change(|entries| entries.retain(|(member, value)| keep(member, value)));
    }

    /// Takes all entries out.
    pub fn take(&self) -> Vec<(Arc<Member>, T)> {
        self.change(std::mem::take)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Entries<T>) -> R) -> R {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries.load().as_ref().clone();
        let result = change(&mut entries);
        self.entries.store(Arc::new(entries));
        result
    }
}

impl<T> Snapshot<T> {
    /// The value of `member`.
    #[must_use]
    pub fn get(&self, member: &Arc<Member>) -> Option<&T> {
        let entries = &**self.0;
        if entries.len() <= SCANNED {
            let found = entries.iter().find(|(known, _)| Arc::ptr_eq(known, member) || known == member);
            return found.map(|(_, value)| value);
        }
        place(entries, member).ok().and_then(|at| entries.get(at)).map(|(_, value)| value)
    }

    /// The value of a member that is known by reference only.
    #[must_use]
    pub fn find(&self, member: &Member) -> Option<&T> {
        let entries = &**self.0;
        place(entries, member).ok().and_then(|at| entries.get(at)).map(|(_, value)| value)
    }

    /// All entries, in the order of members.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Member>, &T)> {
        self.0.iter().map(|(member, value)| (member, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn place<T>(entries: &Entries<T>, member: &Member) -> Result<usize, usize> {
    entries.binary_search_by(|(known, _)| known.as_ref().cmp(member))
}

impl<T> Default for MemberTable<T> {
    fn default() -> Self {
        Self { entries: ArcSwap::default(), changing: Mutex::default() }
    }
}

impl<T> fmt::Debug for MemberTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberTable").field("len", &self.entries.load().len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::MemberId;

    fn member(port: u16) -> Arc<Member> {
        Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into()))
    }

    #[test]
    fn members_are_found_by_identity_not_by_pointer_alone() {
        let table = MemberTable::default();
        for port in (1..=40).rev() {
            assert_eq!(table.get_or_insert_with(&member(port), || port), port);
        }
        assert_eq!(table.get_or_insert_with(&member(7), || 0), 7);
        assert_eq!((table.get(&member(40)), table.get(&member(41))), (Some(40), None));
        table.retain(|_, port| *port <= 3);
        let first = table.load().iter().next().map(|(member, _)| Arc::clone(member)).unwrap();
        assert_eq!(table.get(&first), Some(1));
        assert_eq!(table.load().find(&member(3)), Some(&3));
        assert_eq!((table.remove(&member(2)), table.remove(&member(2))), (Some(2), None));
        assert_eq!((table.take().len(), table.load().len()), (2, 0));
    }
}
