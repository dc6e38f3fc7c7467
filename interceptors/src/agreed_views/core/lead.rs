//! Proposals: the first member asks all who follow it for a promise, and when it has them all, tells them what is agreed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{Member, Time};

use super::defects::defect;
use super::peers::Peer;
use super::{Core, MAX_CHAIN};
use crate::agreed_views::wire::{Install, Kind, Report};
use crate::agreed_views::{MAX_MEMBERS, Seat, ViewId};

const _: () = assert!(MAX_CHAIN < u8::MAX as usize);

/// A proposal of this member's own.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) epoch: u64,
    /// In absolute order.
    pub(super) seats: Arc<[Seat]>,
    pub(super) reports: BTreeMap<Arc<Member>, Report>,
    /// What was agreed on; until then promises are awaited.
    install: Option<Arc<Install>>,
    /// When to say it again to those that have not answered, and when to go on without them.
    resend: Time,
    deadline: Time,
}

impl Round {
    pub(super) fn next(&self) -> Time {
        self.resend.min(self.deadline)
    }

    fn kind(&self) -> Kind {
        match &self.install {
            Some(install) => Kind::Install(Arc::clone(install)),
            None => Kind::Propose { epoch: self.epoch, seats: Arc::clone(&self.seats) },
        }
    }
}

impl Core {
    /// This member is the first of all that it is in touch with.
    pub(super) fn lead(&mut self, local: &Seat, now: Time) {
        if self.round.is_some() {
            self.go_on(local, now);
        }
        if self.round.is_some() {
            return;
        }
        let wanted = self.wanted(local, now);
        if self.is_settled(local, &wanted) {
            self.wanted_since = None;
            return;
        }
        let since = *self.wanted_since.get_or_insert(now);
        if now >= since + self.config.settle && self.is_ready(local, since, now) {
            self.propose(local, now);
        }
    }

    /// Those who would be in the next view: who is in touch and follows this member.
    fn wanted(&self, local: &Seat, now: Time) -> Vec<Seat> {
        let follows = |peer: &Peer| peer.state.follows == local.member.id() && peer.skip_until <= now;
        let others = self.in_touch(now).filter(|(_, peer)| follows(peer));
        let others = others.filter_map(|(member, peer)| Some(Seat::new(Arc::clone(member), peer.incarnation?)));
        let mut seats: Vec<_> = others.take(MAX_MEMBERS - 1).chain([local.clone()]).collect();
        seats.sort_by(|one, other| one.member.cmp(&other.member));
        seats
    }

    /// Whether the view is what it should be, and nobody has promised anything beyond it.
    fn is_settled(&self, local: &Seat, wanted: &[Seat]) -> bool {
        let Some(installed) = &self.view else { return false };
        let id = installed.view.id;
        let is_own = id.coordinator == local.member.id() && id.incarnation == local.incarnation;
        let hold = wanted.iter().all(|seat| {
            seat.is(local)
                || self
                    .peer_of(seat)
                    .is_some_and(|peer| peer.state.installed == Some(id) && peer.state.promised <= self.promised)
        });
        is_own && self.promised == id.epoch && *installed.seats == *wanted && hold
    }

    /// Whether it is worth waiting for those who will follow this member, but do not yet.
    fn is_ready(&self, local: &Seat, since: Time, now: Time) -> bool {
        let id = local.member.id();
        let all_follow = self.in_touch(now).all(|(_, peer)| peer.state.follows == id);
        // Before the first view there are members that nothing has been heard of yet.
        let all_known = self.view.is_some()
            || (!self.peers.is_empty() && self.peers.values().all(|peer| peer.is_in_touch(now, self.config.silence)));
        (all_follow && all_known) || now >= since + self.config.timeout
    }

    /// Asks for promises anew.
    fn propose(&mut self, local: &Seat, now: Time) {
        self.wanted_since = None;
        let seats: Arc<[Seat]> = self.wanted(local, now).into();
        let heard = self.peers.values().map(|peer| peer.state.promised);
        let highest = heard.fold(self.promised.max(self.seen()), u64::max);
        let epoch = if defect!(self, EpochReused) {
            self.view.as_ref().map_or(highest + 1, |installed| installed.view.id.epoch)
        } else {
            highest + 1
        };
        self.promised = epoch;
        self.promised_to = Some(local.clone());
        self.counts.proposals += 1;
        let report = self.report(local, now);
        let (resend, deadline) = (now + self.config.timeout / 4, now + self.config.timeout);
        let reports = BTreeMap::from([(Arc::clone(&local.member), report)]);
        self.round = Some(Round { epoch, seats, reports, install: None, resend, deadline });
        self.send_round(|_| true);
        self.decide(local, now);
    }

    /// Says what the round is at to those of its members.
    fn send_round(&mut self, to: impl Fn(&Seat) -> bool) {
        let Some((round, local)) = self.round.as_ref().zip(self.local.as_ref()) else { return };
        let kind = round.kind();
        for seat in round.seats.iter().filter(|seat| !seat.is(local) && to(seat)) {
            self.outbox.propose(&seat.member, kind.clone());
        }
    }

    /// Says it again, or goes on without those that do not answer.
    fn go_on(&mut self, local: &Seat, now: Time) {
        let Some(round) = &self.round else { return };
        let id = ViewId { epoch: round.epoch, coordinator: local.member.id(), incarnation: local.incarnation };
        let silent = |seat: &Seat| match round.install {
            None => !round.reports.contains_key(&seat.member),
            Some(_) => self.peer_of(seat).is_none_or(|peer| peer.state.installed != Some(id)),
        };
        let open: Vec<_> = round.seats.iter().filter(|seat| !seat.is(local) && silent(seat)).cloned().collect();
        if open.is_empty() {
            // All have it; before that, all have promised, and it has been decided.
            self.round = None;
            return;
        }
        let follows = |seat: &Seat| {
            self.is_in_touch(seat, now)
                && self.peer_of(seat).is_some_and(|peer| peer.state.follows == local.member.id())
        };
        let lost = open.iter().any(|seat| !follows(seat));
        if lost || now >= round.deadline {
            let telling = round.install.is_some();
            if !lost {
                self.counts.unanswered += 1;
                let until = now + self.config.patience();
                for seat in &open {
                    if let Some(peer) = self.peers.get_mut(&seat.member) {
                        peer.skip_until = until;
                    }
                }
            }
            self.round = None;
            // Who was told has installed it: what is missing shows when it is compared with what is wanted.
            if !telling {
                self.propose(local, now);
            }
        } else if now >= round.resend {
            if let Some(round) = &mut self.round {
                round.resend = now + self.config.timeout / 4;
            }
            self.send_round(|seat| open.contains(seat));
        }
    }

    /// A member has promised, and says what it brings.
    pub(super) fn promise(&mut self, from: &Seat, epoch: u64, report: Report, now: Time) {
        let Some(local) = self.local.clone() else { return };
        let Some(round) = &mut self.round else { return };
        if round.epoch != epoch || round.install.is_some() || !round.seats.contains(from) {
            return;
        }
        round.reports.insert(Arc::clone(&from.member), report);
        self.decide(&local, now);
    }

    /// A member has promised somebody more.
    pub(super) fn refused(&mut self, epoch: u64, promised: u64, now: Time) {
        let Some(local) = self.local.clone() else { return };
        self.counts.refusals += 1;
        let is_open = self.round.as_ref().is_some_and(|round| round.epoch == epoch && round.install.is_none());
        if is_open && promised >= epoch {
            self.promised = self.promised.max(promised);
            self.propose(&local, now);
        }
    }

    /// Tells all when everybody has promised.
    fn decide(&mut self, local: &Seat, now: Time) {
        let Some(round) = &self.round else { return };
        let complete = round.seats.iter().all(|seat| round.reports.contains_key(&seat.member));
        let enough = complete || defect!(self, PromisesNotAwaited);
        if !enough || round.install.is_some() {
            return;
        }
        let install = Arc::new(self.agree(local, round));
        if let Some(round) = &mut self.round {
            round.install = Some(Arc::clone(&install));
            (round.resend, round.deadline) = (now + self.config.timeout / 4, now + self.config.timeout);
        }
        self.send_round(|_| true);
        self.install(local, local, &install, now);
        if install.seats.len() == 1 {
            self.round = None;
        }
    }
}
