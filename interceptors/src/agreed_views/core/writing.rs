//! When this side may write.
//!
//! Under a policy that is exclusive, a member writes while it knows that a quorum of its view held that view not long ago: it counts from
//! when it *sent* what they answered, so that nobody who helps another side can have answered later. The other side waits for as long,
//! and a fourth longer, from when its own view was confirmed.
//!
//! With an external lease its holder decides. Its followers write as long as it lends them the lease, and has answered them under their
//! view not long ago. What the holder lent under a view that it does not hold any more it neither gives up nor goes on with under the
//! next one before each of those members has answered that it knows, or must have stopped, or is in that next one.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::Core;
use super::defects::defect;
use super::peers::Peer;
use crate::agreed_views::quorum::{Ballot, LeaseGrant, LeaseRequest};
use crate::agreed_views::{AgreedView, Seat, StopReason, ViewEvent, ViewId};

/// What is asked of an external lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agreed_views) enum LeaseAction {
    Acquire(LeaseRequest),
    Release(LeaseRequest),
}

#[derive(Debug)]
pub(super) struct Writing {
    /// Under which view, and with which token; `None` if it may not.
    now: Option<(ViewId, u64)>,
    until: Time,
    /// When enough members were known to have installed the view.
    confirmed_at: Option<Time>,
    /// Until when what the view before allowed is good.
    carried: Time,
    /// When waiting ends.
    from: Time,
    /// Until when members that were missing once may go on writing: whatever views come after, nobody forgets that.
    owed: Time,
    lease: Option<LeaseState>,
}

/// The external lease, as its leader has it.
#[derive(Debug, Default)]
struct LeaseState {
    /// What was asked for, and since when; one request at a time.
    asked: Option<(LeaseRequest, Time)>,
    /// Somebody is at it.
    begun: bool,
    held: Option<LeaseRequest>,
    until: Time,
    token: Option<u64>,
    next: Time,
    /// Given up, and not to be released before nobody is `open`; with how long it runs, and its token.
    ending: Option<(LeaseRequest, Time, Option<u64>)>,
    releases: Vec<LeaseRequest>,
    /// The view under which it is lent, and to whom.
    lent: Option<(ViewId, Vec<Seat>)>,
    /// Who may still write on it under a view that this member does not hold any more: since when that is, and until when.
    open: Vec<(Seat, Time, Time)>,
}

impl Writing {
    pub(super) fn new(leased: bool) -> Self {
        Self {
            now: None,
            until: Time::ZERO,
            confirmed_at: None,
            carried: Time::ZERO,
            from: Time::ZERO,
            owed: Time::ZERO,
            lease: leased.then(LeaseState::default),
        }
    }

    pub(super) const fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    pub(super) const fn is_confirmed(&self) -> bool {
        self.confirmed_at.is_some()
    }

    /// How long members that were missing once may still go on writing, as far as views are confirmed.
    pub(super) fn owed(&self, now: Time) -> Duration {
        self.owed - now
    }

    pub(super) fn token(&self) -> Option<u64> {
        self.now.map(|(_, token)| token)
    }

    pub(super) const fn until(&self) -> Time {
        self.until
    }

    /// A view was installed; `goes_on` if nobody of the one before can be writing elsewhere.
    pub(super) fn installed(&mut self, view: &AgreedView, goes_on: bool) {
        let same = goes_on && view.primary && view.wait.is_zero() && self.token() == Some(view.token);
        self.carried = if same { self.until } else { Time::ZERO };
        self.confirmed_at = None;
        self.from = Time::NEVER;
    }

    /// When something is to be done that was not due yet at `done`, when this was last looked at.
    pub(super) fn deadline(&self, done: Time) -> Option<Time> {
        let ends = self.now.map(|_| self.until);
        let begins = (self.now.is_none() && self.confirmed_at.is_some()).then_some(self.from);
        let lease = self.lease.as_ref().filter(|lease| lease.asked.is_none()).map(|lease| lease.next);
        let open = self.lease.as_ref().and_then(|lease| lease.open.iter().map(|(_, _, until)| *until).min());
        [ends, begins, lease, open].into_iter().flatten().filter(|at| *at > done).min()
    }

    pub(super) fn lease_left(&self, now: Time) -> Duration {
        let held = self.lease.as_ref().filter(|lease| lease.held.is_some() && lease.open.is_empty());
        held.map_or(Duration::ZERO, |lease| lease.until - now)
    }

    pub(super) fn lease_token(&self) -> Option<u64> {
        self.lease.as_ref().and_then(|lease| lease.token)
    }

    /// What an earlier run still has to release. What others may write on runs out by itself: they cannot be asked any more.
    pub(super) fn take_releases(&mut self, old: Self) {
        if let (Some(lease), Some(mut old)) = (&mut self.lease, old.lease) {
            old.give_up();
            if old.open.is_empty() && old.lent.is_none_or(|(_, seats)| seats.is_empty()) {
                old.releases.extend(old.ending.map(|(request, ..)| request));
            }
            lease.releases = old.releases;
        }
    }

    /// A member has said that it does not write any more.
    pub(super) fn stopped(&mut self, member: &Member, incarnation: u64) {
        let Some(lease) = &mut self.lease else { return };
        let is_it = |seat: &Seat| *seat.member == *member && seat.incarnation == incarnation;
        if let Some((_, seats)) = &mut lease.lent {
            seats.retain(|seat| !is_it(seat));
        }
        lease.open.retain(|(seat, ..)| !is_it(seat));
    }
}

impl LeaseState {
    fn give_up(&mut self) {
        let asked = self.asked.take().map(|(request, _)| request).filter(|_| self.begun);
        self.begun = false;
        if let Some(request) = self.held.take().or(asked) {
            self.ending = Some((request, self.until, self.token));
        }
        (self.until, self.token, self.next) = (Time::ZERO, None, Time::ZERO);
    }

    /// What it was lent for is over: who was lent it writes for so long at most, unless it is in this view.
    fn call_in(&mut self, now: Time, until: Time, current: Option<&[Seat]>) {
        for seat in self.lent.take().into_iter().flat_map(|(_, seats)| seats) {
            self.open.retain(|(open, ..)| !open.is(&seat));
            self.open.push((seat, now, until));
        }
        self.open.retain(|(seat, ..)| current.is_none_or(|seats| !seats.contains(seat)));
    }
}

impl Core {
    /// Looks whether this side may write now, and tells if that has changed.
    pub(super) fn judge(&mut self, local: &Seat, now: Time) {
        self.confirm(local, now);
        self.ask_lease(local, now);
        let allowed = self.allowed(local, now);
        let before = self.writing.now;
        match allowed {
            Ok((view, token, until)) => {
                (self.writing.now, self.writing.until) = (Some((view, token)), until);
                if before.is_none_or(|(_, earlier)| earlier != token) {
                    self.tell(ViewEvent::MayWrite { view, token });
                }
            }
            Err(why) => self.end_writing(why),
        }
    }

    pub(super) fn end_writing(&mut self, why: StopReason) {
        self.writing.until = Time::ZERO;
        if let Some((view, _)) = self.writing.now.take() {
            self.tell(ViewEvent::MustStop { view, why });
        }
    }

    /// Under which view, with which token, and until when.
    fn allowed(&self, local: &Seat, now: Time) -> Result<(ViewId, u64, Time), StopReason> {
        let Some(installed) = &self.view else { return Err(StopReason::NoQuorum) };
        let view = &installed.view;
        if !view.primary {
            return Err(StopReason::NoQuorum);
        }
        if let Some(lease) = &self.writing.lease {
            let leads = view.leader == local.member;
            let peer =
                installed.seats.iter().find(|seat| seat.member == view.leader).and_then(|seat| self.peer_of(seat));
            let (until, token) = if leads {
                (if lease.held.is_some() { lease.until } else { Time::ZERO }, lease.token)
            } else {
                // Its leader waits for no longer than that for those that it does not hear from.
                let answered = |peer: &Peer| peer.acked(view.id).map_or(Time::ZERO, |at| at + self.config.silence);
                peer.filter(|peer| peer.state.installed == Some(view.id))
                    .map_or((Time::ZERO, None), |peer| (peer.lease_until.min(answered(peer)), peer.state.lease_token))
            };
            let token = token.unwrap_or(view.token);
            return if !self.holds() {
                Err(StopReason::Handover)
            } else if leads && !lease.open.is_empty() {
                Err(StopReason::NotYet)
            } else if now < until {
                Ok((view.id, token, until))
            } else {
                Err(StopReason::LeaseLost)
            };
        }
        if !self.policy.is_exclusive() {
            return Ok((view.id, view.token, Time::NEVER));
        }
        if !self.holds() {
            return Err(StopReason::Handover);
        }
        let until = if defect!(self, LeaseIgnored) { Time::NEVER } else { self.quorum_until(local) };
        let writing = &self.writing;
        if writing.confirmed_at.is_some() && now >= writing.from {
            if now < until { Ok((view.id, view.token, until)) } else { Err(StopReason::OutOfTouch) }
        } else if now < writing.carried {
            Ok((view.id, view.token, writing.carried))
        } else {
            Err(StopReason::NotYet)
        }
    }

    /// Until when a quorum of the view cannot have turned to another.
    fn quorum_until(&self, local: &Seat) -> Time {
        let Some(installed) = &self.view else { return Time::ZERO };
        let view = installed.view.id;
        let mut answered: Vec<_> = installed
            .seats
            .iter()
            .filter_map(|seat| {
                // Of whom membership is certain that it is gone, there is no peer: then this side stops without waiting.
                let acked = || self.peer_of(seat).filter(|peer| !peer.left)?.acked(view);
                let at = if seat.is(local) { Time::NEVER } else { acked()? + self.config.silence };
                Some((at, Seat { remembers: true, ..seat.clone() }))
            })
            .collect();
        answered.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let seats: Vec<_> = answered.iter().map(|(_, seat)| seat).collect();
        let enough = (1..=seats.len()).find(|count| {
            let present = seats.iter().take(*count).copied().chain(installed.consents.iter());
            self.policy.holds(&Ballot::new(present, &installed.seats)) || defect!(self, QuorumIgnored)
        });
        enough.and_then(|count| answered.get(count - 1)).map_or(Time::ZERO, |(at, _)| *at)
    }

    /// Looks whether enough members are known to have installed the view.
    fn confirm(&mut self, local: &Seat, now: Time) {
        let Some(installed) = self.view.as_ref().filter(|installed| installed.view.primary) else { return };
        if self.writing.confirmed_at.is_some() {
            return;
        }
        let id = installed.view.id;
        let has_it = |seat: &&Seat| {
            seat.is(local)
                || self.peer_of(seat).is_some_and(|peer| peer.state.installed == Some(id))
                    && self.is_in_touch(seat, now)
        };
        let present: Vec<_> = installed.seats.iter().filter(has_it).collect();
        let told = installed.seats.iter().filter_map(|seat| self.peer_of(seat));
        let told = told.into_iter().any(|peer| peer.state.installed == Some(id) && peer.state.confirmed);
        let counted = || present.iter().copied().chain(installed.consents.iter());
        let earlier = || self.chain.iter().filter(|primary| primary.id != id);
        let of_earlier = if earlier().next().is_none() {
            let present: Vec<Seat> = present.iter().copied().cloned().collect();
            // Whether it may was decided with the view; it needs not all of them to be confirmed.
            self.policy.begins_anew(&present)
        } else {
            earlier().all(|primary| self.policy.holds(&Ballot::new(counted(), &primary.seats)))
        };
        // Of its own, too, those count who gave it their vote: they can help no other.
        let remembering: Vec<_> = counted().map(|seat| Seat { remembers: true, ..Seat::clone(seat) }).collect();
        let of_own = self.policy.holds(&Ballot::new(&remembering, &installed.seats));
        if !(told || (of_earlier && of_own) || defect!(self, QuorumIgnored)) {
            return;
        }
        let wait = installed.view.wait;
        let members: Vec<_> = installed.seats.iter().map(|seat| Arc::clone(&seat.member)).collect();
        self.writing.confirmed_at = Some(now);
        self.writing.owed = self.writing.owed.max(now + wait);
        self.writing.from = self.writing.owed;
        self.chain.retain(|primary| primary.id == id);
        self.chain.iter_mut().for_each(|primary| primary.confirmed = true);
        members.iter().filter(|member| self.peers.contains_key(*member)).for_each(|member| self.outbox.beat(member));
    }
}

/// # The external lease
impl Core {
    /// Asks for the lease if this member leads, and gives it up if it does not.
    fn ask_lease(&mut self, local: &Seat, now: Time) {
        if self.writing.lease.is_none() {
            return;
        }
        self.settle_lease(local, now);
        let leads = self.view.as_ref().filter(|installed| installed.view.leader == local.member && self.holds());
        let request = leads.map(|installed| LeaseRequest {
            holder: local.member.id(),
            incarnation: local.incarnation,
            view: installed.view.id,
            token: installed.view.token,
        });
        let Some(lease) = &mut self.writing.lease else { return };
        match request {
            None if lease.held.is_some() || lease.asked.is_some() => {
                lease.give_up();
                // The sooner all know, the sooner it can be released.
                self.tell_all();
            }
            Some(request) if lease.asked.is_none() && now >= lease.next => lease.asked = Some((request, now)),
            _ => {}
        }
    }

    /// Keeps account of who may write on the lease.
    fn settle_lease(&mut self, local: &Seat, now: Time) {
        let leads = self.view.as_ref().filter(|installed| installed.view.leader == local.member && self.holds());
        let current = leads.map(|installed| (installed.view.id, Arc::clone(&installed.seats)));
        let until = now + self.config.grace();
        // Who has answered what was sent since then knows.
        let knows = |seat: &Seat, since: Time| self.peer_of(seat).is_some_and(|peer| peer.has_answered_since(since));
        let open = self.writing.lease.iter().flat_map(|lease| &lease.open);
        let open = open.filter(|(seat, since, until)| now < *until && !knows(seat, *since)).cloned().collect();
        let silent = defect!(self, LeaseReleasedEarly);
        let Some(lease) = &mut self.writing.lease else { return };
        lease.open = open;
        let same = lease.lent.as_ref().map(|(view, _)| *view) == current.as_ref().map(|(view, _)| *view);
        if !same {
            lease.call_in(now, until, current.as_ref().map(|(_, seats)| &**seats));
        }
        if silent {
            lease.open.clear();
        }
        match current {
            Some((view, seats)) => {
                if let Some((request, until, token)) = lease.ending.take().filter(|(_, until, _)| now < *until) {
                    // It leads again, before anybody else could have it.
                    (lease.held, lease.until, lease.token) = (Some(request), until, token);
                }
                if lease.held.is_some() && !same {
                    let others = seats.iter().filter(|seat| !seat.is(local)).cloned().collect();
                    lease.lent = Some((view, others));
                }
            }
            None if lease.open.is_empty() => {
                lease.releases.extend(lease.ending.take().map(|(request, ..)| request));
            }
            None => {}
        }
    }

    /// What is to be asked of the lease now; [`lease_answered`](Self::lease_answered) says what came of it.
    pub(in crate::agreed_views) fn lease_action(&mut self) -> Option<LeaseAction> {
        let lease = self.writing.lease.as_mut()?;
        if let Some(request) = lease.releases.pop() {
            return Some(LeaseAction::Release(request));
        }
        let (request, _) = lease.asked.as_ref().filter(|_| !lease.begun)?;
        lease.begun = true;
        Some(LeaseAction::Acquire(request.clone()))
    }

    /// What came of a request for the lease; `None` if it was refused, failed or took too long.
    pub(in crate::agreed_views) fn lease_answered(
        &mut self,
        request: &LeaseRequest,
        grant: Option<LeaseGrant>,
        now: Time,
    ) {
        let heartbeat = self.config.heartbeat;
        let Some(lease) = &mut self.writing.lease else { return };
        let Some((asked, at)) = lease.asked.take_if(|(asked, _)| asked == request) else {
            // It was given up meanwhile, and is released.
            return;
        };
        lease.begun = false;
        match grant {
            Some(grant) => {
                // Our clock may be a fourth slower than the one that the lease goes by.
                let valid_for = grant.valid_for * 4 / 5;
                (lease.until, lease.token) = (at + valid_for, grant.token);
                lease.next = now.max(at + valid_for / 3);
                lease.held = Some(asked);
            }
            None => {
                // What was granted before runs out at its time.
                if now >= lease.until {
                    (lease.held, lease.token) = (None, None);
                }
                lease.next = now + heartbeat;
            }
        }
        self.tell_all();
        self.assess(now);
    }
}
