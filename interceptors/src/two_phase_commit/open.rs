//! The sender's part, without I/O: messages whose votes are not all in, or whose turn has not come.
//!
//! A message is committed when all its destinations have voted yes, and given up as soon as one has not. What was committed is
//! announced in the order in which it was accepted, as far as messages share destinations: so what one task sends to one
//! member arrives in that order. What was given up keeps nothing waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tribes_core::{FaultKind, Member, Time};

use super::frame::Key;

/// The most messages that wait at a time.
pub(super) const MAX_OPEN: usize = 16_384;

/// A destination's vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ballot {
    Open,
    Yes,
    No(FaultKind),
}

/// A message that has been decided, in its turn. `T` is the message.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub(super) key: Key,
    pub(super) message: T,
    pub(super) votes: Vec<(Arc<Member>, Ballot)>,
    pub(super) commit: bool,
}

#[derive(Debug)]
struct Transaction<T> {
    key: Key,
    message: T,
    votes: Vec<(Arc<Member>, Ballot)>,
    missing: usize,
    deadline: Time,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Open<T> {
    next: u64,
    transactions: BTreeMap<u64, Transaction<T>>,
    numbers: BTreeMap<Key, u64>,
    /// For each destination what waits for it, in order.
    lines: BTreeMap<Arc<Member>, VecDeque<u64>>,
    due: BTreeSet<(Time, u64)>,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self {
            next: 0,
            transactions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            lines: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }
}

impl<T> Open<T> {
    /// Begins `message`, whose votes have to be in by `deadline`. It comes back if there are too many, or one with this key.
    pub(super) fn begin(
        &mut self,
        key: Key,
        message: T,
        members: impl IntoIterator<Item = Arc<Member>>,
        deadline: Time,
    ) -> Option<T> {
        if self.transactions.len() >= MAX_OPEN || self.numbers.contains_key(&key) {
            return Some(message);
        }
        let number = self.next;
        self.next += 1;
        let votes: Vec<_> = members.into_iter().map(|member| (member, Ballot::Open)).collect();
        for (member, _) in &votes {
            self.lines.entry(Arc::clone(member)).or_default().push_back(number);
        }
        let missing = votes.len();
        self.transactions.insert(number, Transaction { key, message, votes, missing, deadline });
        self.numbers.insert(key, number);
        self.due.insert((deadline, number));
        None
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.numbers.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// A destination's vote: `Err` says why it is a no. Later ones of the same destination count for nothing.
    pub(super) fn vote(&mut self, key: &Key, by: &Member, vote: Result<(), FaultKind>) -> Vec<Ended<T>> {
        let mut ended = Vec::new();
        let Some(&number) = self.numbers.get(key) else { return ended };
        let Some(transaction) = self.transactions.get_mut(&number) else { return ended };
        let open = |(member, ballot): &&mut (Arc<Member>, Ballot)| **member == *by && *ballot == Ballot::Open;
        let Some((_, ballot)) = transaction.votes.iter_mut().find(open) else { return ended };
        match vote {
            Ok(()) => {
                *ballot = Ballot::Yes;
                transaction.missing = transaction.missing.saturating_sub(1);
                if transaction.missing == 0 {
                    self.due.remove(&(transaction.deadline, number));
                    self.announce(number, &mut ended);
                }
            }
            Err(fault) => {
                *ballot = Ballot::No(fault);
                self.end(number, false, &mut ended);
            }
        }
        ended
    }

    /// Gives a message up, if it is not decided.
    pub(super) fn abandon(&mut self, key: &Key) -> Vec<Ended<T>> {
        let mut ended = Vec::new();
        if let Some(&number) = self.numbers.get(key)
            && self.transactions.get(&number).is_some_and(|transaction| transaction.missing > 0)
        {
            self.end(number, false, &mut ended);
        }
        ended
    }

    /// A member left: it does not vote any more.
    pub(super) fn left(&mut self, member: &Member) -> Vec<Ended<T>> {
        let numbers: Vec<u64> = self.lines.get(member).into_iter().flatten().copied().collect();
        let keys = numbers.into_iter().filter_map(|number| Some(self.transactions.get(&number)?.key));
        let keys: Vec<Key> = keys.collect();
        keys.iter().flat_map(|key| self.vote(key, member, Err(FaultKind::Left))).collect()
    }

    /// Gives up what has not got all its votes in time; the missing ones are faults of this kind.
    pub(super) fn tick(&mut self, now: Time, late: &FaultKind) -> Vec<Ended<T>> {
        let mut ended = Vec::new();
        while let Some(&(at, number)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            let votes = self.transactions.get_mut(&number).map(|transaction| transaction.votes.iter_mut());
            for (_, ballot) in votes.into_iter().flatten().filter(|(_, ballot)| *ballot == Ballot::Open) {
                *ballot = Ballot::No(late.clone());
            }
            self.end(number, false, &mut ended);
        }
        ended
    }

    pub(super) fn next_tick(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// Takes everything out, as given up.
    pub(super) fn clear(&mut self) -> Vec<Ended<T>> {
        let all = std::mem::take(self);
        self.next = all.next;
        all.transactions.into_values().map(|transaction| transaction.ended(false)).collect()
    }

    /// Ends a message that has all its votes if nothing before it waits for one of its destinations; then those behind it.
    fn announce(&mut self, number: u64, ended: &mut Vec<Ended<T>>) {
        let front = |member: &Arc<Member>| self.lines.get(member).and_then(|line| line.front()) == Some(&number);
        let ready = |transaction: &Transaction<T>| {
            transaction.missing == 0 && transaction.votes.iter().all(|(member, _)| front(member))
        };
        if self.transactions.get(&number).is_some_and(ready) {
            self.end(number, true, ended);
        }
    }

    fn end(&mut self, number: u64, commit: bool, ended: &mut Vec<Ended<T>>) {
        let Some(transaction) = self.transactions.remove(&number) else { return };
        self.numbers.remove(&transaction.key);
        self.due.remove(&(transaction.deadline, number));
        let mut next = BTreeSet::new();
        for (member, _) in &transaction.votes {
            if let Some(line) = self.lines.get_mut(member) {
                line.retain(|other| *other != number);
                next.extend(line.front());
                if line.is_empty() {
                    self.lines.remove(member);
                }
            }
        }
        ended.push(transaction.ended(commit));
        for number in next {
            self.announce(number, ended);
        }
    }
}

impl<T> Transaction<T> {
    fn ended(self, commit: bool) -> Ended<T> {
        Ended { key: self.key, message: self.message, votes: self.votes, commit }
    }
}
