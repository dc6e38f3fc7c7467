//! Messages that wait to be sent, and those under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tribes_core::{Member, Time};

use crate::coordinator::election::Election;

/// Messages waiting or under way. An election sends one to each member at most; what comes on top of these many is left out,
/// and made up for by the timeouts.
const MAX_SENDS: usize = 2 * crate::coordinator::election::MAX_MEMBERS;

/// Tokens among them. They hold what a peer has put in; with so many none of them gets through anyway.
const MAX_TOKENS: usize = 64;

/// A message to be sent; report what became of it under the ticket.
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Send {
    pub(in crate::coordinator) ticket: u64,
    pub(in crate::coordinator) to: Arc<Member>,
    pub(in crate::coordinator) election: Arc<Election>,
}

/// What follows when a message does not arrive.
#[derive(Debug)]
pub(super) enum Flight {
    /// It goes to the next member.
    Token { election: Arc<Election>, to: Arc<Member> },
    /// It is sent again: to a Java member a few times, to one of ours as long as it is there.
    View { to: Arc<Member>, attempt: u32 },
    /// Nothing: it is asked again anyway.
    Question,
}

/// For statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::coordinator) struct Counts {
    pub(in crate::coordinator) elections: u64,
    pub(in crate::coordinator) views: u64,
    pub(in crate::coordinator) received: u64,
    pub(in crate::coordinator) passed: u64,
    pub(in crate::coordinator) retried: u64,
    pub(in crate::coordinator) failed: u64,
    pub(in crate::coordinator) asked: u64,
    pub(in crate::coordinator) stale: u64,
    pub(in crate::coordinator) lost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sends {
    waiting: VecDeque<Send>,
    flights: BTreeMap<u64, Flight>,
    /// How many of them are tokens.
    tokens: usize,
    /// Members that are to get the view once more, when, and for the how many-th time.
    retries: BTreeMap<Arc<Member>, (Time, u32)>,
    next_ticket: u64,
}

impl Sends {
    /// Whether there was room.
    pub(super) fn push(&mut self, to: &Arc<Member>, election: Arc<Election>, flight: Flight) -> bool {
        let is_token = matches!(flight, Flight::Token { .. });
        if self.flights.len() >= MAX_SENDS || (is_token && self.tokens >= MAX_TOKENS) {
            return false;
        }
        self.tokens += usize::from(is_token);
        self.next_ticket += 1;
        self.flights.insert(self.next_ticket, flight);
        self.waiting.push_back(Send { ticket: self.next_ticket, to: Arc::clone(to), election });
        true
    }

    pub(super) fn pop(&mut self) -> Option<Send> {
        self.waiting.pop_front()
    }

    pub(super) fn landed(&mut self, ticket: u64) -> Option<Flight> {
        let flight = self.flights.remove(&ticket)?;
        self.tokens -= usize::from(matches!(flight, Flight::Token { .. }));
        Some(flight)
    }

    pub(super) fn retry(&mut self, to: Arc<Member>, at: Time, attempt: u32) {
        self.retries.insert(to, (at, attempt));
    }

    pub(super) fn next_retry(&self) -> Option<Time> {
        self.retries.values().map(|(at, _)| *at).min()
    }

    /// Who is due, and for the how many-th time.
    pub(super) fn take_retries(&mut self, now: Time) -> Vec<(Arc<Member>, u32)> {
        let mut due = Vec::new();
        self.retries.retain(|member, (at, attempt)| {
            if *at <= now {
                due.push((Arc::clone(member), *attempt));
            }
            *at > now
        });
        due
    }

    pub(super) fn forget(&mut self, member: &Member) {
        self.retries.remove(member);
    }

    pub(super) fn forget_retries(&mut self) {
        self.retries.clear();
    }

    /// All but the count of tickets.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.flights.clear();
        self.tokens = 0;
        self.retries.clear();
    }
}
