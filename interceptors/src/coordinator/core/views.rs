//! Confirmations: when a view is taken over, and how one that was missed is had.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::sends::Flight;
use super::{Core, Election, Kind};
use crate::coordinator::CoordinatorConfig;
use crate::coordinator::view_id::{ViewId, next_term};

/// Messages kept until membership says who their source is.
const MAX_HELD: usize = 8;
/// Views remembered, so that none is taken over twice.
const MAX_RECENT: usize = 64;
/// How often a view is sent again to a Java member that it did not reach, and how often the wait doubles. One of ours is not
/// given up as long as membership says that it is there: it need not know that there is a later term that it could ask for.
const MAX_ATTEMPTS: u32 = 4;

/// A view that was agreed on.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) id: ViewId,
    pub(super) leader: Arc<Member>,
    /// In absolute order.
    pub(super) members: Arc<[Arc<Member>]>,
}

/// When to ask for a view, and how long to wait for the answer.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) at: Time,
    pub(super) wait: Duration,
}

/// Messages that came ahead of the news of members that they are about.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(Time, Election)>);

/// The views taken over last.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<ViewId>);

impl Held {
    /// Keeps a message until then, instead of an earlier one of its source; with too many the oldest one goes.
    pub(super) fn keep(&mut self, election: Election, until: Time) {
        self.0.retain(|(_, held)| held.kind != election.kind || held.source != election.source);
        if self.0.len() >= MAX_HELD {
            self.0.pop_front();
        }
        self.0.push_back((until, election));
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.0.iter().map(|(until, _)| *until).min()
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.0.retain(|(until, _)| *until > now);
    }
}

impl Recent {
    fn contains(&self, id: ViewId) -> bool {
        self.0.contains(&id)
    }

    fn insert(&mut self, id: ViewId) {
        if self.0.len() >= MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }
}

impl Core {
    /// Somebody says that a view is agreed on.
    pub(super) fn confirmation(&mut self, sender: &Member, mut election: Election, now: Time) {
        if *sender != *election.source {
            // Whoever confirms a view has run the election.
            self.counts.stale += 1;
            return;
        }
        election.members.sort_unstable();
        election.members.dedup();
        let until = now + self.config.patience;
        self.consider(election, now, until);
    }

    /// Takes a view over if it is this member's turn to: it is in it, the leader is the one that it sees as such, and the
    /// term is no past one (T50: Tribes takes over every one).
    fn consider(&mut self, election: Election, now: Time, until: Time) {
        let (Some(local), Some(highest)) = (&self.local, self.highest()) else { return };
        let Some(leader) = election.members.first() else { return };
        // One of ours may pass on the view of a Java member, which does not do so itself.
        let by_leader = election.source == *leader;
        let on_behalf = election.source.id().is_ours() && !leader.id().is_ours();
        let of_us = election.lists(local) && leader != local && (by_leader || on_behalf);
        if !of_us || self.recent.contains(election.id) {
            self.counts.stale += 1;
            return;
        }
        let known = by_leader || self.members.contains(&election.source);
        if leader != highest || !known {
            return self.held.keep(election, until);
        }
        if let Some(term) = election.id.term() {
            if !self.promise.admits(term, &election.source) {
                self.counts.stale += 1;
                if self.is_settled() {
                    return;
                }
                // It is to hear of the later one.
                let (at, wait) = (now + self.config.timeout, self.first_wait());
                let asking = self.asking.get_or_insert(Asking { at, wait });
                asking.at = asking.at.min(at);
                return;
            }
            self.promise.make(term, &election.source);
        }
        self.install(election.id, election.members, now);
    }

    /// Looks again at what came too early.
    pub(super) fn take_held(&mut self, now: Time) {
        self.held.expire(now);
        // What is still too early comes back.
        for (until, election) in std::mem::take(&mut self.held.0) {
            match election.kind {
                Kind::Request if self.members.contains(&election.source) => self.token(election, now),
                Kind::Confirmation if election.members.first() == self.highest() => self.consider(election, now, until),
                Kind::Request | Kind::Confirmation => self.held.keep(election, until),
            }
        }
    }

    /// Takes a view over and tells everybody.
    pub(super) fn confirm(&mut self, id: ViewId, source: Arc<Member>, now: Time) {
        let members = self.everybody();
        self.install(id, members, now);
        if let Some(election) = self.as_confirmation(source) {
            for to in self.members.clone() {
                self.send_view(&to, &election, 0);
            }
        }
    }

    fn install(&mut self, id: ViewId, members: Vec<Arc<Member>>, now: Time) {
        // Records that were announced, not those that somebody passed on.
        let known = |member: &Arc<Member>| {
            self.members.get(member).or_else(|| self.local.as_ref().filter(|local| *local == member))
        };
        let members: Arc<[_]> = members.iter().map(|member| known(member).unwrap_or(member).clone()).collect();
        let Some(leader) = members.first().cloned() else { return };
        self.counts.views += 1;
        self.recent.insert(id);
        self.sends.forget_retries();
        self.view = Some(Installed { id, leader, members });
        if self.is_settled() {
            self.asking = None;
        } else {
            self.expect_view(now);
        }
    }

    /// A view should come: this member asks for it if it does not.
    pub(super) fn expect_view(&mut self, now: Time) {
        if self.asking.is_none() && !self.leads_here() && !self.is_settled() {
            let wait = self.first_wait();
            self.asking = Some(Asking { at: now + wait, wait });
        }
    }

    /// The view as a message by `source`.
    fn as_confirmation(&self, source: Arc<Member>) -> Option<Arc<Election>> {
        let view = self.view.as_ref()?;
        let (leader, members) = (Arc::clone(&view.leader), view.members.to_vec());
        Some(Arc::new(Election { kind: Kind::Confirmation, id: view.id, leader, source, members }))
    }

    fn send_view(&mut self, to: &Arc<Member>, election: &Arc<Election>, attempt: u32) {
        let flight = Flight::View { to: Arc::clone(to), attempt };
        if !self.sends.push(to, Arc::clone(election), flight) {
            self.counts.lost += 1;
        }
    }

    /// The view did not reach this member.
    pub(super) fn retry_view(&mut self, to: Arc<Member>, attempt: u32, now: Time) {
        if (attempt < MAX_ATTEMPTS || to.id().is_ours()) && self.members.contains(&to) {
            let wait = self.config.timeout * (1 << attempt.min(MAX_ATTEMPTS));
            self.sends.retry(to, now + wait, attempt.saturating_add(1));
        }
    }

    pub(super) fn resend_views(&mut self, now: Time) {
        let due = self.sends.take_retries(now);
        if due.is_empty() {
            return;
        }
        // Nobody hears views of somebody else who could tell of them himself.
        let is_own = |view: &Installed| Some(&view.leader) == self.local.as_ref() || !view.leader.id().is_ours();
        if !self.view.as_ref().is_some_and(is_own) {
            return;
        }
        let Some(election) = self.local.clone().and_then(|local| self.as_confirmation(local)) else { return };
        for (to, attempt) in due {
            if election.lists(&to) {
                self.send_view(&to, &election, attempt);
            }
        }
    }

    /// A member sends a request to this one, which should lead: it has missed the view, knows of a later term, or waits for
    /// an election. (Tribes drops it, and all wait on.)
    pub(super) fn asked_for_view(&mut self, election: &Election, now: Time) {
        let ours = self.view.as_ref().and_then(|view| view.id.term());
        let later = election.id.term().filter(|term| ours.is_none_or(|ours| *term > ours));
        if let Some(term) = later {
            self.promise.heard_of(term);
        }
        if self.round.is_some() {
            return;
        }
        if later.is_some() || !self.is_settled() {
            self.elect(now);
        } else {
            self.pass_view_on(&election.source);
        }
    }

    /// The same of a member that does not lead, but may have what a Java member has confirmed, or be the one that steps in.
    pub(super) fn asked_on_behalf(&mut self, election: &Election, now: Time) {
        let Some(local) = self.local.clone() else { return };
        if self.highest().is_none_or(|highest| highest.id().is_ours()) {
            return;
        }
        // A view of Java's has no term, and is taken over whatever was promised.
        let ours = self.view.as_ref().map_or(Some(0), |view| view.id.term());
        let later = election.id.term().filter(|term| ours.is_some_and(|ours| *term > ours));
        if let Some(term) = later {
            self.promise.heard_of(term);
        }
        let in_time = later.is_none() && self.is_settled();
        if in_time {
            self.pass_view_on(&election.source);
        } else if self.view.is_some() && later.is_some() && self.first_of_ours() == Some(&local) {
            self.step_in(local, now);
        } else {
            self.expect_view(now);
        }
    }

    /// This member, the first of ours, agrees with nobody and tells everybody, Java members included, who take over what they are
    /// told.
    fn step_in(&mut self, local: Arc<Member>, now: Time) {
        let term = next_term(self.promise.term, &local);
        self.promise.make(term, &local);
        self.confirm(ViewId::new(term, &local), local, now);
    }

    fn pass_view_on(&mut self, to: &Arc<Member>) {
        let view = self.local.clone().and_then(|local| self.as_confirmation(local));
        if let (Some(view), Some(to)) = (view, self.members.get(to).cloned())
            && view.lists(&to)
        {
            self.send_view(&to, &view, 0);
        }
    }

    /// The view that should have come has not. Asks the leader if it is one of ours, else the first of ours; who is that
    /// itself steps in.
    pub(super) fn ask(&mut self, now: Time) {
        if self.is_settled() {
            self.asking = None;
        }
        let Some(asking) = &mut self.asking else { return };
        asking.at = now + asking.wait;
        asking.wait = (asking.wait * 2).min(CoordinatorConfig::MAX_WAIT.max(self.config.patience));
        let (Some(local), Some(highest)) = (self.local.clone(), self.highest().cloned()) else { return };
        self.counts.asked += 1;
        let to = if highest.id().is_ours() { Some(highest) } else { self.first_of_ours().cloned() };
        let Some(to) = to.filter(|to| *to != local) else { return self.step_in(local, now) };
        // What this member can agree to: its term, or the next one if it has promised that to somebody else.
        let promised = self.promise.to.as_ref() == Some(&to);
        let id = ViewId::new(self.promise.term + u64::from(!promised), &local);
        let members = self.everybody();
        let election = Election { kind: Kind::Request, id, leader: Arc::clone(&to), source: local, members };
        self.sends.push(&to, Arc::new(election), Flight::Question);
    }
}
