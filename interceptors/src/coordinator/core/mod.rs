//! The election without I/O: takes events, messages, outcomes and the time, and says what is to be sent.
//!
//! | file | what |
//! |---|---|
//! | `mod` | who is there, and whether something is to be done about it |
//! | `token` | requests: an election of our own, and the passing on of others' |
//! | `views` | confirmations: when a view is taken over, and how one that was missed is had |
//! | `sends` | messages that wait to be sent, and those under way |

mod sends;
mod token;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, MemberEvent, Time};

pub(super) use self::sends::{Counts, Send};
use self::sends::{Flight, Sends};
use self::token::{Passed, Round};
use self::views::{Asking, Held, Installed, Recent};
use super::CoordinatorConfig;
use super::election::{Election, Kind};
use super::view_id::SALT_BITS;
use crate::leadership::Leadership;

/// See the [module](self). Bounded: one entry for each member announced from below, one view, and fixed numbers of messages.
#[derive(Debug, Default)]
pub(super) struct Core {
    config: CoordinatorConfig,
    /// While the channel runs.
    local: Option<Arc<Member>>,
    /// The others, as announced from below.
    members: BTreeSet<Arc<Member>>,
    /// What was agreed on last.
    view: Option<Installed>,
    promise: Promise,
    /// The election that this member runs.
    round: Option<Round>,
    /// When to ask for the view that should have come.
    asking: Option<Asking>,
    held: Held,
    recent: Recent,
    passed: Passed,
    sends: Sends,
    counts: Counts,
}

/// The highest term that this member has heard of, and for whom; nobody else is taken for its leader.
#[derive(Debug, Default)]
struct Promise {
    term: u64,
    to: Option<Arc<Member>>,
}

impl Promise {
    /// Whether a view of this term by this member is acceptable.
    fn admits(&self, term: u64, source: &Member) -> bool {
        term > self.term || (term == self.term && self.to.as_ref().is_some_and(|to| **to == *source))
    }

    fn make(&mut self, term: u64, source: &Arc<Member>) {
        (self.term, self.to) = (term, Some(Arc::clone(source)));
    }

    /// There is such a term, of whoever.
    fn heard_of(&mut self, term: u64) {
        if term > self.term {
            (self.term, self.to) = (term, None);
        }
    }
}

impl Core {
    pub(super) fn new(config: CoordinatorConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The channel starts. Terms begin above `wall_ms`, a wall clock: so they go on rising when a whole group
    /// is started anew, as far as clocks can be trusted; within a group nothing depends on it.
    pub(super) fn start(&mut self, local: Arc<Member>, wall_ms: u64, now: Time) {
        self.promise.heard_of(wall_ms << SALT_BITS);
        self.local = Some(local);
        self.reassess(now);
    }

    /// The channel stops. What is still to come of an earlier run means nothing afterwards.
    pub(super) fn stop(&mut self) {
        self.sends.clear();
        let sends = std::mem::take(&mut self.sends);
        let counts = std::mem::take(&mut self.counts);
        let promise = Promise { term: self.promise.term, to: None };
        *self = Self { config: self.config, promise, sends, counts, ..Self::default() };
    }

    pub(super) fn event(&mut self, event: &MemberEvent, now: Time) {
        match event {
            MemberEvent::Added(member) => {
                self.members.replace(Arc::clone(member));
            }
            MemberEvent::Updated(member) => {
                if self.members.contains(member) {
                    self.members.replace(Arc::clone(member));
                }
                return;
            }
            MemberEvent::Removed(member, _) => {
                if !self.members.remove(member) {
                    return;
                }
                self.sends.forget(member);
                // It may have had the token.
                if let Some(round) = &mut self.round {
                    round.deadline = now;
                }
            }
            _ => return,
        }
        self.reassess(now);
    }

    /// An election message from `sender` arrived.
    pub(super) fn received(&mut self, sender: &Member, election: Election, now: Time) {
        if self.local.is_none() {
            return;
        }
        self.counts.received += 1;
        match election.kind {
            Kind::Request => self.token(election, now),
            Kind::Confirmation => self.confirmation(sender, election, now),
        }
    }

    /// What became of a [`Send`].
    pub(super) fn done(&mut self, ticket: u64, arrived: bool, now: Time) {
        let Some(flight) = self.sends.landed(ticket) else { return };
        if arrived {
            return;
        }
        self.counts.failed += 1;
        match flight {
            Flight::Token { election, to } => self.pass_after(&election, &to),
            Flight::View { to, attempt } => self.retry_view(to, attempt, now),
            Flight::Question => {}
        }
    }

    /// Time has passed; call it at [`deadline`](Self::deadline).
    pub(super) fn tick(&mut self, now: Time) {
        if self.local.is_none() {
            return;
        }
        if self.round.as_ref().is_some_and(|round| round.deadline <= now) {
            self.counts.retried += 1;
            self.go_round_again(now);
        }
        if self.asking.as_ref().is_some_and(|asking| asking.at <= now) {
            self.ask(now);
        }
        self.resend_views(now);
        self.held.expire(now);
    }

    /// When something is to be done; [`Time::NEVER`] if nothing is.
    pub(super) fn deadline(&self) -> Time {
        let round = self.round.as_ref().map(|round| round.deadline);
        let asking = self.asking.as_ref().map(|asking| asking.at);
        [round, asking, self.sends.next_retry(), self.held.next_expiry()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// The next message to send, in the order in which they were decided on.
    pub(super) fn next_send(&mut self) -> Option<Send> {
        self.sends.pop()
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// What the application is told. A coordinator that is known to be gone is none, whatever has been agreed on.
    pub(super) fn leadership(&self) -> Leadership {
        let (Some(local), Some(view)) = (&self.local, &self.view) else { return Leadership::default() };
        let is_there = view.leader == *local || self.members.contains(&view.leader);
        let leads = is_there && view.members.len() >= self.config.quorum;
        Leadership {
            coordinator: leads.then(|| Arc::clone(&view.leader)),
            is_local: leads && view.leader == *local,
            view: Arc::clone(&view.members),
            term: view.id.term().filter(|_| leads),
        }
    }

    /// Who should lead: the first of all that this member sees, itself included.
    fn highest(&self) -> Option<&Arc<Member>> {
        let local = self.local.as_ref()?;
        Some(self.members.first().filter(|first| *first < local).unwrap_or(local))
    }

    fn leads_here(&self) -> bool {
        self.highest().is_some_and(|highest| Some(highest) == self.local.as_ref())
    }

    /// The first of our own kind, which looks after groups that a Java member leads.
    fn first_of_ours(&self) -> Option<&Arc<Member>> {
        let local = self.local.as_ref()?;
        let first = self.members.iter().find(|member| member.id().is_ours());
        Some(first.filter(|first| *first < local || !local.id().is_ours()).unwrap_or(local))
    }

    /// Everybody that this member sees, itself included, in absolute order.
    fn everybody(&self) -> Vec<Arc<Member>> {
        let mut all: Vec<_> = self.members.iter().chain(&self.local).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether the view is what it should be, as far as this member sees. One of an earlier term than the promised one is not:
    /// the view of that term may have been lost on its way here, and all others have it.
    fn is_settled(&self) -> bool {
        let Some(view) = &self.view else { return false };
        let is_latest = view.id.term().is_none_or(|term| term >= self.promise.term);
        is_latest && Some(&view.leader) == self.highest() && *view.members == *self.everybody()
    }

    /// The group has changed, or what is known of it has.
    fn reassess(&mut self, now: Time) {
        if self.local.is_none() {
            return;
        }
        self.take_held(now);
        if self.leads_here() {
            self.asking = None;
            if self.is_settled() {
                self.round = None;
            } else if self.round.is_none() {
                self.elect(now);
            } else {
                self.resume(now);
            }
            return;
        }
        self.round = None;
        if self.is_settled() {
            self.asking = None;
        } else {
            let first = now + self.first_wait();
            match &mut self.asking {
                Some(asking) => asking.at = asking.at.min(first),
                None => self.asking = Some(Asking { at: first, wait: self.first_wait() }),
            }
        }
    }

    /// A Java member waits up to 15 s itself, and looks at its own view each 5 s.
    fn first_wait(&self) -> Duration {
        let of_ours = self.highest().is_some_and(|highest| highest.id().is_ours());
        if of_ours { self.config.patience } else { self.config.patience * 4 }
    }
}
