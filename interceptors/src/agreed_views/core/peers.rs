//! What is known of the others, and with whom this member is in touch: it has an answer to what it sent not long ago, by its own
//! clock. Both ways count, so a member that is heard but does not hear is out of touch.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::Core;
use super::defects::defect;
use crate::agreed_views::wire::{Beat, State};
use crate::agreed_views::{Seat, ViewId};

/// What is known of another member.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Of its process; `None` before it was heard.
    pub(super) incarnation: Option<u64>,
    heard_at: Time,
    /// The latest beat, by its clock.
    heard: u64,
    /// When the latest beat of this member's was sent that it has answered, by this member's clock.
    echoed: Option<Time>,
    /// The same, of beats that it answered while it held this view.
    acked: Option<(ViewId, Time)>,
    pub(super) state: State,
    /// It left on purpose.
    pub(super) left: bool,
    /// It did not answer a proposal: none includes it until then.
    pub(super) skip_until: Time,
    /// It did not lead this member: it is not followed until then.
    pub(super) shun_until: Time,
    pub(super) shuns: u32,
    /// Until when the leader's external lease runs, by this member's clock.
    pub(super) lease_until: Time,
}

impl Peer {
    /// A message of this process came. Whether the process is new; `None` if it is an earlier one.
    pub(super) fn heard(&mut self, incarnation: u64, now: Time, silence: Duration) -> Option<bool> {
        let is_new = match self.incarnation {
            None => true,
            Some(known) if known == incarnation => false,
            // Later processes have greater numbers, unless a clock was set back meanwhile: then silence decides.
            Some(known) if incarnation > known || now > self.heard_at + silence => true,
            Some(_) => return None,
        };
        if is_new {
            *self = Self { incarnation: Some(incarnation), ..Self::default() };
        } else if self.left {
            return None;
        }
        self.heard_at = now;
        Some(is_new)
    }

    /// Takes in a beat; `me` is this member's own process, `view` the one it has installed.
    pub(super) fn beat(&mut self, beat: &Beat, me: u64, view: Option<ViewId>, now: Time) {
        if beat.sent < self.heard {
            return;
        }
        (self.heard, self.state) = (beat.sent, beat.state);
        if beat.state.lease.is_zero() {
            // It has given its lease up, and counts on it that this is known.
            self.lease_until = Time::ZERO;
        }
        let echo = Time::from_nanos(beat.echo);
        if beat.to != me || beat.echo == 0 || echo > now {
            return;
        }
        self.echoed = self.echoed.max(Some(echo));
        let Some(view) = view.filter(|view| beat.state.installed == Some(*view) && beat.state.holds) else { return };
        let before = self.acked.filter(|(of, _)| *of == view).map_or(Time::ZERO, |(_, at)| at);
        self.acked = Some((view, before.max(echo)));
        if beat.state.follows == view.coordinator && !beat.state.lease.is_zero() {
            // Counted from when this member asked, so that it ends no later here than there.
            self.lease_until = self.lease_until.max(echo + beat.state.lease);
        }
    }

    /// When it last answered under this view.
    pub(super) fn acked(&self, view: ViewId) -> Option<Time> {
        self.acked.filter(|(of, _)| *of == view).map(|(_, at)| at)
    }

    /// Whether it has answered a beat that was sent after that.
    pub(super) fn has_answered_since(&self, at: Time) -> bool {
        self.echoed.is_some_and(|echoed| echoed > at)
    }

    pub(super) fn is_in_touch(&self, now: Time, silence: Duration) -> bool {
        !self.left && self.echoed.is_some_and(|echoed| now <= echoed + silence)
    }
}

impl Core {
    /// The peer, if the process in this seat lives there.
    pub(super) fn peer_of(&self, seat: &Seat) -> Option<&Peer> {
        self.peers.get(&seat.member).filter(|peer| peer.incarnation == Some(seat.incarnation))
    }

    /// Whether this member is in touch with the process in this seat.
    pub(super) fn is_in_touch(&self, seat: &Seat, now: Time) -> bool {
        self.peer_of(seat).is_some_and(|peer| peer.is_in_touch(now, self.config.silence))
    }

    pub(super) fn in_touch(&self, now: Time) -> impl Iterator<Item = (&Arc<Member>, &Peer)> {
        self.peers.iter().filter(move |(_, peer)| peer.is_in_touch(now, self.config.silence))
    }

    /// Whom this member follows: the first of those it is in touch with, itself included, that follow themselves and do not fail
    /// to lead it. Who follows another is none, or members that reach each other only over a third one would wait for it in vain.
    pub(super) fn first(&self, local: &Seat, now: Time) -> Arc<Member> {
        let leads = |member: &Member, peer: &Peer| peer.state.follows == member.id() && peer.shun_until <= now;
        let first = self.in_touch(now).find(|(member, peer)| leads(member, peer)).map(|(member, _)| member);
        Arc::clone(first.filter(|first| **first < local.member).unwrap_or(&local.member))
    }

    /// What this member tells that one now.
    pub(super) fn beat_for(&self, member: &Member, now: Time) -> Beat {
        let peer = self.peers.get(member);
        let state = State {
            promised: if defect!(self, PromiseForgotten) { 0 } else { self.promised },
            installed: self.view.as_ref().map(|installed| installed.view.id),
            holds: self.holds(),
            confirmed: self.writing.is_confirmed(),
            follows: self.follows.as_ref().map(|follows| follows.id()).unwrap_or_default(),
            lease: self.writing.lease_left(now),
            lease_token: self.writing.lease_token(),
        };
        Beat {
            to: peer.and_then(|peer| peer.incarnation).unwrap_or_default(),
            sent: now.as_nanos(),
            echo: peer.map_or(0, |peer| peer.heard),
            state,
        }
    }

    /// Whether this member goes on under its view: it has promised nothing since, but to its leader.
    pub(super) fn holds(&self) -> bool {
        let Some(installed) = &self.view else { return false };
        let id = installed.view.id;
        let leader = installed
            .seats
            .iter()
            .find(|seat| seat.incarnation == id.incarnation && seat.member.id() == id.coordinator);
        self.promised == id.epoch
            || self.promised_to.as_ref().is_some_and(|to| leader.is_some_and(|leader| leader.is(to)))
    }
}
