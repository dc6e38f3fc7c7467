//! Whom one simulated membership service believes in. No I/O and no clock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Departure, Member, MemberEvent, MemberId, Services, Time};

/// How many departed members are remembered.
const REMEMBERED: usize = 1024;

/// The table of one node.
#[derive(Debug)]
pub(super) struct Table {
    /// Which halves run.
    pub(super) services: Services,
    /// By identity; the record inside is the newest.
    known: BTreeMap<Arc<Member>, Known>,
    /// The last announcement seen of members that are gone: an older one that arrives late does not bring them back.
    gone: BTreeMap<MemberId, u64>,
    gone_order: VecDeque<MemberId>,
    /// How many announcements were made here, those of earlier processes included.
    announced: u64,
}

#[derive(Debug)]
struct Known {
    record: Arc<Member>,
    heard: Time,
    number: u64,
}

impl Table {
    /// A table of a node whose processes have made so many announcements before.
    pub(super) const fn new(announced: u64) -> Self {
        Self {
            services: Services::empty(),
            known: BTreeMap::new(),
            gone: BTreeMap::new(),
            gone_order: VecDeque::new(),
            announced,
        }
    }

    /// The number of the next announcement.
    pub(super) const fn announce(&mut self) -> u64 {
        self.announced += 1;
        self.announced
    }

    /// How many announcements were made.
    pub(super) const fn announced(&self) -> u64 {
        self.announced
    }

    /// An announcement came. The events it causes; an addition asks for an announcement in return.
    pub(super) fn heard(&mut self, now: Time, member: &Arc<Member>, number: u64) -> Vec<MemberEvent> {
        let stale = self.gone.get(&member.id()).is_some_and(|last| *last >= number);
        if stale || !self.services.contains(Services::MEMBERSHIP_RX) {
            return Vec::new();
        }
        if let Some(entry) = self.known.get_mut(member) {
            entry.heard = now;
            if number <= entry.number {
                return Vec::new();
            }
            entry.number = number;
            if entry.record.same_content(member) {
                return Vec::new();
            }
            entry.record = Arc::clone(member);
            return vec![MemberEvent::Updated(Arc::clone(member))];
        }
        let at_its_address = self.known.iter().filter(|(known, _)| known.addr() == member.addr());
        if at_its_address.clone().any(|(_, successor)| successor.number > number) {
            // Late: another process lives there by now.
            return Vec::new();
        }
        let predecessors: Vec<_> = at_its_address.map(|(known, _)| Arc::clone(known)).collect();
        let mut events: Vec<_> = predecessors.iter().filter_map(|old| self.replaced(old)).collect();
        self.known.insert(Arc::clone(member), Known { record: Arc::clone(member), heard: now, number });
        events.push(MemberEvent::Added(Arc::clone(member)));
        events
    }

    /// A member said that it leaves, after `number` announcements: those do not bring it back, even when they arrive later.
    pub(super) fn departed(&mut self, member: &Arc<Member>, number: u64) -> Option<MemberEvent> {
        let event = self.remove(member, Departure::Shutdown);
        self.remember(member.id(), number);
        event
    }

    /// Another process has the member's address: it has certainly ended.
    fn replaced(&mut self, member: &Arc<Member>) -> Option<MemberEvent> {
        let event = self.remove(member, Departure::Failed);
        self.remember(member.id(), u64::MAX);
        event
    }

    /// Removes those whose announcements stopped.
    pub(super) fn expire(&mut self, now: Time, expiry: Duration) -> Vec<MemberEvent> {
        let silent: Vec<_> =
            self.known.iter().filter(|(_, entry)| now - entry.heard > expiry).map(|(m, _)| Arc::clone(m)).collect();
        silent.iter().filter_map(|member| self.remove(member, Departure::Expired)).collect()
    }

    /// The node itself was frozen: nobody could be heard, and nobody is to blame.
    pub(super) fn refresh(&mut self, now: Time) {
        for entry in self.known.values_mut() {
            entry.heard = now;
        }
    }

    /// Forgets everyone: the listening half stopped.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    fn remove(&mut self, member: &Arc<Member>, why: Departure) -> Option<MemberEvent> {
        let entry = self.known.remove(member)?;
        self.remember(member.id(), entry.number);
        Some(MemberEvent::Removed(entry.record, why))
    }

    fn remember(&mut self, id: MemberId, number: u64) {
        match self.gone.entry(id) {
            Entry::Occupied(mut known) => *known.get_mut() = number.max(*known.get()),
            Entry::Vacant(unknown) => {
                unknown.insert(number);
                self.gone_order.push_back(id);
            }
        }
        if self.gone_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member;

    const EXPIRY: Duration = Duration::from_secs(3);

    fn listening() -> Table {
        Table { services: Services::MEMBERSHIP, ..Table::new(0) }
    }

    #[test]
    fn comes_expires_and_comes_back() {
        let mut table = listening();
        assert_eq!(table.heard(Time::ZERO, &member(1), 1), [MemberEvent::Added(member(1))]);
        assert_eq!(table.heard(Time::from_millis(500), &member(1), 2), []);
        assert_eq!(table.expire(Time::from_millis(3500), EXPIRY), []);
        let removed = MemberEvent::Removed(member(1), Departure::Expired);
        assert_eq!(table.expire(Time::from_millis(3501), EXPIRY), [removed]);
        // A late copy of what was heard before does not count; a new announcement does.
        assert_eq!(table.heard(Time::from_millis(4000), &member(1), 2), []);
        assert_eq!(table.heard(Time::from_millis(4000), &member(1), 3), [MemberEvent::Added(member(1))]);
    }

    #[test]
    fn who_left_does_not_come_back_by_what_it_said_before() {
        let mut table = listening();
        table.heard(Time::ZERO, &member(1), 1);
        let removed = MemberEvent::Removed(member(1), Departure::Shutdown);
        assert_eq!(table.departed(&member(1), 3), Some(removed));
        assert_eq!(table.heard(Time::ZERO, &member(1), 3), []);
        // Unless it announces itself anew.
        assert_eq!(table.heard(Time::ZERO, &member(1), 4), [MemberEvent::Added(member(1))]);
    }

    #[test]
    fn a_new_process_at_the_address_replaces_the_old_one() {
        let mut table = listening();
        table.heard(Time::ZERO, &member(1), 7);
        let restarted = Arc::new(member(1).as_ref().clone().with_id(member(9).id()));
        let expected = [MemberEvent::Removed(member(1), Departure::Failed), MemberEvent::Added(Arc::clone(&restarted))];
        assert_eq!(table.heard(Time::ZERO, &restarted, 8), expected);
        assert_eq!(table.heard(Time::ZERO, &member(1), 9), []);
    }

    #[test]
    fn what_an_earlier_process_said_does_not_replace_the_present_one() {
        let mut table = listening();
        let (early, late) = (member(1), Arc::new(member(1).as_ref().clone().with_id(member(9).id())));
        assert_eq!(table.heard(Time::ZERO, &late, 8), [MemberEvent::Added(Arc::clone(&late))]);
        assert_eq!(table.heard(Time::ZERO, &early, 7), []);
        assert_eq!(table.heard(Time::ZERO, &late, 9), []);
    }

    #[test]
    fn an_update_is_told_once_and_never_undone_by_a_late_announcement() {
        let mut table = listening();
        let changed = Arc::new(member(1).as_ref().clone().with_payload("new"));
        table.heard(Time::ZERO, &member(1), 1);
        assert_eq!(table.heard(Time::ZERO, &changed, 3), [MemberEvent::Updated(Arc::clone(&changed))]);
        assert_eq!(table.heard(Time::ZERO, &changed, 4), []);
        assert_eq!(table.heard(Time::ZERO, &member(1), 2), []);
        let Some(MemberEvent::Removed(last, _)) = table.departed(&member(1), 4) else { panic!() };
        assert!(last.same_content(&changed));
    }
}
