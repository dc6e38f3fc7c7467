//! Promises to others, the installing of views, and whom to follow.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::defects::defect;
use super::{Core, Installed, MAX_CHAIN, Primary};
use crate::agreed_views::wire::{Install, Kind};
use crate::agreed_views::{AgreedView, Seat, Side, ViewEvent, ViewId};

/// Up to so many members all are told at once that this one has installed a view; of more, its leader, and the others with the
/// next heartbeat.
const TOLD_AT_ONCE: usize = 32;

/// A member that fails to lead is followed again after so many times the patience at most.
const MAX_SHUN: u32 = 4;

impl Core {
    /// Somebody else is the first of all that this member is in touch with. If it does not lead this member, that looks for another.
    pub(super) fn follow(&mut self, first: &Arc<Member>, now: Time) {
        let settle = if defect!(self, Impatient) { self.config.settle } else { Duration::ZERO };
        let patience = self.config.patience().saturating_sub(settle);
        let Some(peer) = self.peers.get_mut(first) else { return };
        let view = self.view.as_ref().map(|installed| installed.view.id);
        if view.is_some() && peer.state.installed == view {
            self.unled_since = None;
            peer.shuns = 0;
            return;
        }
        let since = *self.unled_since.get_or_insert(now);
        if now >= since + patience {
            peer.shuns = (peer.shuns + 1).min(MAX_SHUN);
            peer.shun_until = now + patience * peer.shuns;
            self.unled_since = None;
            // The next one is looked for right away.
            self.assess(now);
        }
    }

    /// Somebody proposes a view.
    pub(super) fn proposed(&mut self, from: &Seat, epoch: u64, seats: &[Seat], now: Time) {
        let Some(local) = self.local.clone() else { return };
        let is_first = self.is_in_touch(from, now) && self.first(&local, now) == from.member;
        if !is_first || !seats.contains(&local) {
            // It learns whom this member follows, and which process it is.
            self.outbox.beat(&from.member);
            return;
        }
        let again = epoch == self.promised && self.promised_to.as_ref() == Some(from);
        let forgets = defect!(self, PromiseForgotten);
        // A view that somebody was heard to have may have written: what comes after it is to have a greater token. Of this proposal
        // nobody can have been heard yet.
        let promised = self.promised.max(self.seen());
        if epoch <= promised && !again && !forgets {
            self.outbox.answer(&from.member, Kind::Refuse { epoch, promised });
            return;
        }
        self.promised = epoch;
        self.promised_to = Some(from.clone());
        self.round = None;
        self.counts.promises += 1;
        let report = self.report(&local, now);
        self.outbox.answer(&from.member, Kind::Promise { epoch, report });
    }

    /// The highest epoch of a view that may have been.
    pub(super) fn seen(&self) -> u64 {
        // Each of the others would be made up for by this.
        let unseen = [defect!(self, ViewsUnseen), defect!(self, PromiseForgotten), defect!(self, PromisesNotAwaited)];
        if unseen.contains(&true) { 0 } else { self.seen }
    }

    /// The leader says that all have promised.
    pub(super) fn told(&mut self, from: &Seat, install: &Arc<Install>, now: Time) {
        let Some(local) = self.local.clone() else { return };
        let id = ViewId { epoch: install.epoch, coordinator: from.member.id(), incarnation: from.incarnation };
        if self.view.as_ref().is_some_and(|installed| installed.view.id == id) {
            // It has not heard that this member has it.
            self.outbox.beat(&from.member);
            return;
        }
        let promised = install.epoch == self.promised && self.promised_to.as_ref() == Some(from);
        let promised = promised || defect!(self, PromisesNotAwaited);
        let sorted = install.seats.is_sorted_by(|one, other| one.member < other.member);
        if promised && sorted && install.seats.contains(&local) && install.seats.contains(from) {
            self.install(&local, from, install, now);
        }
    }

    /// Installs a view, as all of its members do.
    pub(super) fn install(&mut self, local: &Seat, leader: &Seat, install: &Arc<Install>, now: Time) {
        let id = ViewId { epoch: install.epoch, coordinator: leader.member.id(), incarnation: leader.incarnation };
        // Members as they are known here, with domain and payload.
        let known = |seat: &Seat| match self.peers.get_key_value(&seat.member) {
            Some((member, _)) => Arc::clone(member),
            None if seat.is(local) => Arc::clone(&local.member),
            None => Arc::clone(&seat.member),
        };
        let seats: Arc<[Seat]> =
            install.seats.iter().map(|seat| Seat { member: known(seat), ..seat.clone() }).collect();
        let members: Arc<[Arc<Member>]> = seats.iter().map(|seat| Arc::clone(&seat.member)).collect();
        let view = Arc::new(AgreedView {
            id,
            members,
            incarnations: seats.iter().map(|seat| seat.incarnation).collect(),
            leader: known(leader),
            primary: install.primary,
            token: install.token,
            wait: install.wait,
        });
        let consents = Arc::clone(&install.consents);
        let at = now;
        let (left, vanished, told, stopped, voted) = Default::default();
        let before = self.view.replace(Installed {
            view: Arc::clone(&view),
            seats,
            consents,
            at,
            left,
            vanished,
            told,
            stopped,
            voted,
        });
        self.counts.views += 1;
        self.unled_since = None;
        self.remember(local, install, id);
        self.tell_installed(&view, before.as_ref(), install);
        if !install.primary && install.chain.len() >= MAX_CHAIN {
            self.tell(ViewEvent::TooManyUnconfirmed { view: id, views: install.chain.len() });
        }
        self.writing.installed(&view, before.as_ref().is_some_and(|before| self.goes_on(before)));
        if view.members.len() <= TOLD_AT_ONCE {
            self.tell_all();
        } else {
            self.outbox.beat(&leader.member);
        }
    }

    /// Takes note of what may have written.
    fn remember(&mut self, local: &Seat, install: &Install, id: ViewId) {
        let Some(own) = &mut self.local else { return };
        if let Some(seat) = install.seats.iter().find(|seat| seat.is(local)) {
            own.since = seat.since;
        }
        let known = install.chain.iter().map(|primary| primary.token).fold(install.token, u64::max);
        self.max_token = self.max_token.max(known);
        if !install.primary {
            // What others may have done before is to be known by as many as possible.
            if !defect!(self, ChainUntold) {
                self.chain.clone_from(&install.chain);
            }
            return;
        }
        own.remembers = true;
        self.forgets = false;
        let (seats, token) = (Arc::clone(&install.seats), install.token);
        let alone = !self.policy.is_exclusive() || self.writing.is_leased();
        self.chain = if alone { Vec::new() } else { install.chain.clone() };
        self.chain.push(Primary { id, seats, token, confirmed: alone });
    }

    /// Whether all members of the view before are in the present one or have left: then nobody can be writing elsewhere.
    fn goes_on(&self, before: &Installed) -> bool {
        let Some(installed) = &self.view else { return false };
        before.seats.iter().all(|seat| installed.seats.contains(seat) || before.stopped.contains(seat))
    }

    fn tell_installed(&mut self, view: &Arc<AgreedView>, before: Option<&Installed>, install: &Install) {
        let Some(installed) = &self.view else { return };
        let seats = Arc::clone(&installed.seats);
        let was_in = |seat: &Seat| before.is_some_and(|before| before.seats.contains(seat));
        let joined = seats.iter().filter(|seat| !was_in(seat)).map(|seat| Arc::clone(&seat.member)).collect();
        let (mut left, mut missing) = (Vec::new(), Vec::new());
        for seat in before.iter().flat_map(|before| before.seats.iter()).filter(|seat| !seats.contains(seat)) {
            let on_purpose = before.is_some_and(|before| before.left.contains(seat));
            if on_purpose { &mut left } else { &mut missing }.push(Arc::clone(&seat.member));
        }
        self.tell(ViewEvent::ViewInstalled { view: Arc::clone(view), joined, left, missing });
        if install.sides.len() < 2 {
            return;
        }
        self.counts.merges += 1;
        let sides = install.sides.iter().map(|(side, members)| {
            let members = members.iter().filter_map(|index| view.members.get(usize::from(*index)).cloned()).collect();
            Side { view: *side, members }
        });
        let sides = sides.collect();
        self.tell(ViewEvent::Merged { view: Arc::clone(view), sides });
    }
}
