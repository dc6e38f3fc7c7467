//! Requests: an election of our own, and the passing on of others'.

use std::collections::VecDeque;
use std::sync::Arc;

use tribes_core::{Member, Time};

use super::sends::Flight;
use super::{Core, Election, Kind};
use crate::coordinator::election::MAX_MEMBERS;
use crate::coordinator::view_id::{ViewId, next_term};

/// How often a token goes round before the view is confirmed as it is. Each member then decides by itself.
const MAX_ROUNDS: u32 = 4;
/// How often a token of one id is passed on; Tribes needs two or three, and has no bound.
const MAX_PASSES: u32 = 32;
/// How many tokens are remembered for that.
const REMEMBERED: usize = 64;

/// An election that this member runs.
#[derive(Debug)]
pub(super) struct Round {
    id: ViewId,
    term: u64,
    /// How often the token has set out.
    number: u32,
    /// When it should be back.
    pub(super) deadline: Time,
}

/// How often tokens have been passed on.
#[derive(Debug, Default)]
pub(super) struct Passed(VecDeque<(ViewId, u32)>);

impl Passed {
    /// Whether this one may be passed on once more.
    fn admit(&mut self, id: ViewId) -> bool {
        let count = match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => count,
            None => {
                if self.0.len() >= REMEMBERED {
                    self.0.pop_front();
                }
                self.0.push_back((id, 0));
                match self.0.back_mut() {
                    Some((_, count)) => count,
                    None => return false,
                }
            }
        };
        *count += 1;
        *count <= MAX_PASSES
    }
}

impl Core {
    /// Begins an election.
    pub(super) fn elect(&mut self, now: Time) {
        let Some(local) = self.local.clone() else { return };
        self.counts.elections += 1;
        let term = next_term(self.promise.term, &local);
        self.round = Some(Round { id: ViewId::new(term, &local), term, number: 0, deadline: now });
        self.go_round_again(now);
    }

    /// Members came or went while the token is on its way. If one of them may have had it, it sets out again.
    pub(super) fn resume(&mut self, now: Time) {
        if let Some(round) = &mut self.round
            && round.deadline <= now
        {
            // Not the token's fault.
            round.number = round.number.saturating_sub(1);
            self.go_round_again(now);
        }
    }

    /// Sends the token round, or has done so often enough.
    pub(super) fn go_round_again(&mut self, now: Time) {
        let (Some(local), Some(round)) = (self.local.clone(), &mut self.round) else { return };
        let term = self.promise.term;
        if !self.promise.admits(round.term, &local) {
            // Somebody has heard of a later term meanwhile.
            round.term = next_term(term, &local);
            round.id = ViewId::new(round.term, &local);
        }
        self.promise.make(round.term, &local);
        let (id, often) = (round.id, round.number >= MAX_ROUNDS);
        if self.members.is_empty() || often {
            return self.conclude(now);
        }
        round.number += 1;
        round.deadline = now + self.config.timeout;
        let leader = Arc::clone(&local);
        let election =
            Election { kind: Kind::Request, id, leader, source: Arc::clone(&local), members: self.everybody() };
        self.pass_after(&Arc::new(election), &local);
    }

    /// The token is back, or another one has come.
    pub(super) fn token(&mut self, mut election: Election, now: Time) {
        let Some(local) = self.local.clone() else { return };
        if election.source == local {
            return self.own_token(&election, &local, now);
        }
        if !self.members.contains(&election.source) {
            // It is ahead of the news of its source.
            self.held.keep(election, now + self.config.patience);
            return;
        }
        if self.leads_here() {
            return self.asked_for_view(&election, now);
        }
        if election.leader == local && election.source.id().is_ours() {
            // From one of ours that takes this member for the first of ours, or for the leader.
            return self.asked_on_behalf(&election, now);
        }
        if let Some(term) = election.id.term() {
            if !self.promise.admits(term, &election.source) {
                // Its source is to know that there is a later one already.
                election.id = election.id.with_term(next_term(self.promise.term, &election.source));
            }
            if let Some(term) = election.id.term() {
                self.promise.make(term, &election.source);
                self.expect_view(now);
            }
        }
        election.members.extend(self.everybody());
        election.members.sort_unstable();
        election.members.dedup();
        if election.members.len() > MAX_MEMBERS || !self.passed.admit(election.id) {
            self.counts.lost += 1;
            return;
        }
        if let Some(first) = election.members.first() {
            election.leader = Arc::clone(first);
        }
        self.counts.passed += 1;
        self.pass_after(&Arc::new(election), &local);
    }

    fn own_token(&mut self, election: &Election, local: &Arc<Member>, now: Time) {
        let Some(round) = &mut self.round else { return };
        let Some(term) = election.id.term().filter(|term| *term >= round.term) else { return };
        if election.id != round.id.with_term(term) {
            return;
        }
        if term > round.term {
            // Somebody had promised a later one. Agreed on is what everybody promises in one round.
            self.promise.heard_of(term - 1);
            round.term = next_term(self.promise.term, local);
            round.id = ViewId::new(round.term, local);
            return self.go_round_again(now);
        }
        let admitted = self.promise.admits(term, local);
        if admitted && self.members.iter().all(|member| election.lists(member)) {
            self.conclude(now);
        } else {
            self.go_round_again(now);
        }
    }

    /// Confirms the election that this member runs, with everybody that it sees.
    pub(super) fn conclude(&mut self, now: Time) {
        let (Some(local), Some(round)) = (self.local.clone(), self.round.take()) else { return };
        self.confirm(round.id, Arc::clone(&local), now);
    }

    /// Sends a token to the next member behind `place` in the ring of its list, as far as its source. Members that this one
    /// does not see are left out: they are not there, or will be told of the result.
    pub(super) fn pass_after(&mut self, election: &Arc<Election>, place: &Arc<Member>) {
        let Some(local) = &self.local else { return };
        if election.source == *local && self.round.as_ref().is_none_or(|round| round.id != election.id) {
            return;
        }
        let ended = *place == election.source && place != local;
        let (before, behind): (Vec<_>, Vec<_>) = election.members.iter().partition(|member| *member <= place);
        // Up to where it is again, which is here, or its source.
        let ring = behind.into_iter().chain(before);
        let mut ahead = ring.take_while(|member| *member != local && !ended);
        let Some(to) = ahead.find(|member| self.members.contains(*member)).cloned() else {
            if election.source != *local {
                self.counts.lost += 1;
            }
            return;
        };
        let flight = Flight::Token { election: Arc::clone(election), to: Arc::clone(&to) };
        if !self.sends.push(&to, Arc::clone(election), flight) {
            self.counts.lost += 1;
        }
    }
}
