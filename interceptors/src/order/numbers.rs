//! The sending half: numbers for each destination. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{Destination, FaultKind, Member};

/// The next number of each member.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    counters: BTreeMap<Arc<Member>, Counter>,
    /// Grows with each message, so that counters can be told by when they were used.
    clock: u64,
    outsiders: usize,
}

#[derive(Debug)]
struct Counter {
    next: i32,
    used: u64,
    in_group: bool,
    /// The message that drew the last number, and how many numbers in a row it drew: pieces share their message's id.
    last: u64,
    drawn: u32,
}

impl Counter {
    const fn new(in_group: bool) -> Self {
        Self { next: 1, used: 0, in_group, last: 0, drawn: 0 }
    }

    const fn draw(&mut self, message: u64, clock: u64) -> i32 {
        let number = self.next;
        // As Tribes' own counter, it becomes negative after the largest number.
        self.next = number.wrapping_add(1);
        self.used = clock;
        self.drawn = if self.last == message { self.drawn.saturating_add(1) } else { 1 };
        self.last = message;
        number
    }
}

impl Numbers {
    /// Draws a number for each of `to` if it is the same number for all; otherwise draws none.
    pub(super) fn draw_common(&mut self, to: &[Destination], message: u64, max_outsiders: usize) -> Option<i32> {
        let (first, rest) = to.split_first()?;
        let next = |counters: &BTreeMap<Arc<Member>, Counter>, member: &Arc<Member>| {
            counters.get(member).map_or(1, |counter| counter.next)
        };
        let number = next(&self.counters, first.member());
        if rest.iter().any(|other| next(&self.counters, other.member()) != number) {
            return None;
        }
        for destination in to {
            self.draw(destination.member(), message, max_outsiders);
        }
        Some(number)
    }

    /// Draws a number for each of `to`; those with the same number come together.
    pub(super) fn draw_each(
        &mut self,
        to: Vec<Destination>,
        message: u64,
        max_outsiders: usize,
    ) -> Vec<(i32, Vec<Destination>)> {
        let mut groups: Vec<(i32, Vec<Destination>)> = Vec::new();
        for destination in to {
            let number = self.draw(destination.member(), message, max_outsiders);
            match groups.iter_mut().find(|(known, _)| *known == number) {
                Some((_, group)) => group.push(destination),
                None => groups.push((number, vec![destination])),
            }
        }
        groups
    }

    fn draw(&mut self, member: &Arc<Member>, message: u64, max_outsiders: usize) -> i32 {
        self.clock += 1;
        if let Some(counter) = self.counters.get_mut(member) {
            return counter.draw(message, self.clock);
        }
        if self.outsiders >= max_outsiders {
            self.forget_half();
        }
        self.outsiders += 1;
        let mut counter = Counter::new(false);
        let number = counter.draw(message, self.clock);
        self.counters.insert(Arc::clone(member), counter);
        number
    }

    /// A message that drew one number never left: if that was the last one it is drawn again, so that it leaves no gap.
    pub(super) fn give_back(&mut self, member: &Arc<Member>, message: u64) {
        if let Some(counter) = self.counters.get_mut(member)
            && counter.last == message
            && counter.drawn == 1
        {
            counter.next = counter.next.wrapping_sub(1);
            (counter.last, counter.drawn) = (0, 0);
        }
    }

    /// The member is in the group: its counter stays.
    pub(super) fn joined(&mut self, member: &Arc<Member>) {
        if let Some(counter) = self.counters.get_mut(member) {
            self.outsiders -= usize::from(!counter.in_group);
            counter.in_group = true;
        } else {
            self.counters.insert(Arc::clone(member), Counter::new(true));
        }
    }

    /// The member is gone: should it come back, it is counted for from 1 on, as in Tribes.
    pub(super) fn left(&mut self, member: &Arc<Member>) {
        if let Some(counter) = self.counters.remove(member) {
            self.outsiders -= usize::from(!counter.in_group);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets the half of the outsiders that was not sent to for longest.
    fn forget_half(&mut self) {
        let outsiders = self.counters.values().filter(|counter| !counter.in_group);
        let mut used: Vec<_> = outsiders.map(|counter| counter.used).collect();
        used.sort_unstable();
        let Some(middle) = used.get(used.len() / 2).copied() else { return };
        self.counters.retain(|_, counter| counter.in_group || counter.used > middle);
        self.outsiders = self.counters.values().filter(|counter| !counter.in_group).count();
    }
}

/// Whether a message that failed like this cannot have arrived.
pub(super) const fn never_left(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::QueueFull
            | FaultKind::Connect(_)
            | FaultKind::Unsupported(_)
            | FaultKind::WouldDeadlock
            | FaultKind::Dropped { .. }
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tribes_core::{Body, ChannelMessage, MessageId, Outbound, SendOptions};

    use super::*;
    use crate::testing::member;

    fn to(numbers: &[u16]) -> Vec<Destination> {
        let members: Vec<_> = numbers.iter().map(|number| member(*number)).collect();
        let message = ChannelMessage {
            options: SendOptions::NONE,
            timestamp_ms: 0,
            id: MessageId::from_array([0; 16]),
            sender: member(9),
            body: Body::new(Bytes::new()),
        };
        Outbound::new(message, &members).0.to
    }

    fn drawn(groups: &[(i32, Vec<Destination>)]) -> Vec<(i32, Vec<i32>)> {
        let ports = |to: &Vec<Destination>| to.iter().map(|to| to.member().port()).collect();
        groups.iter().map(|(number, to)| (*number, ports(to))).collect()
    }

    #[test]
    fn each_member_is_counted_for_by_itself() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.draw_common(&to(&[1, 2]), 10, 16), Some(1));
        assert_eq!(numbers.draw_common(&to(&[2]), 11, 16), Some(2));
        assert_eq!(numbers.draw_common(&to(&[1, 2]), 12, 16), None, "nothing is drawn");
        let groups = numbers.draw_each(to(&[1, 2, 3, 4]), 12, 16);
        assert_eq!(drawn(&groups), [(2, vec![1]), (3, vec![2]), (1, vec![3, 4])]);
        assert_eq!(numbers.draw_common(&[], 13, 16), None);
    }

    #[test]
    fn the_last_number_is_drawn_again_if_its_message_never_left() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.draw_common(&to(&[1]), 10, 16), Some(1));
        numbers.give_back(&member(1), 10);
        numbers.give_back(&member(1), 10);
        assert_eq!(numbers.draw_common(&to(&[1]), 11, 16), Some(1));
        assert_eq!(numbers.draw_common(&to(&[1]), 12, 16), Some(2));
        // Not the last one any more.
        numbers.give_back(&member(1), 11);
        assert_eq!(numbers.draw_common(&to(&[1]), 13, 16), Some(3));
        // Two pieces of one message: who knows which failed.
        assert_eq!(numbers.draw_common(&to(&[1]), 13, 16), Some(4));
        numbers.give_back(&member(1), 13);
        assert_eq!(numbers.draw_common(&to(&[1]), 14, 16), Some(5));
    }

    #[test]
    fn the_largest_number_is_followed_by_the_smallest_as_in_tribes() {
        let mut numbers = Numbers::default();
        numbers.joined(&member(1));
        numbers.counters.get_mut(&member(1)).unwrap().next = i32::MAX;
        assert_eq!(numbers.draw_common(&to(&[1]), 1, 16), Some(i32::MAX));
        assert_eq!(numbers.draw_common(&to(&[1]), 2, 16), Some(i32::MIN));
    }

    #[test]
    fn outsiders_are_bounded_and_members_stay() {
        let mut numbers = Numbers::default();
        numbers.joined(&member(1));
        assert_eq!(numbers.draw_common(&to(&[1]), 1, 16), Some(1));
        for outsider in 2..1000 {
            assert_eq!(numbers.draw_common(&to(&[outsider]), 2, 16), Some(1));
            assert!(numbers.counters.len() <= 17, "{}", numbers.counters.len());
        }
        // The latest is still there, and so is the member.
        assert_eq!(numbers.draw_common(&to(&[999]), 3, 16), Some(2));
        assert_eq!(numbers.draw_common(&to(&[1]), 3, 16), Some(2));
        numbers.left(&member(1));
        assert_eq!(numbers.draw_common(&to(&[1]), 4, 16), Some(1));
        numbers.joined(&member(999));
        assert_eq!(numbers.draw_common(&to(&[999]), 5, 16), Some(3));
    }
}
