//! Who leaves on purpose, this member among them, and who vanishes.

use std::sync::Arc;

use tribes_core::{Departure, Member, Time};

use super::Core;
use super::peers::Peer;
use crate::agreed_views::wire::{Kind, Message};
use crate::agreed_views::{Seat, StopReason, ViewEvent, ViewId};

impl Core {
    /// The channel stops. Who is to be told, and whether that one gets the vote.
    pub(in crate::agreed_views) fn stop(&mut self, now: Time) -> Vec<(Arc<Member>, Message)> {
        let mut told = Vec::new();
        if let (Some(local), Some(installed)) = (&self.local, &self.view) {
            let others = || installed.seats.iter().filter(|seat| !seat.is(local));
            let id = installed.view.id;
            // Membership may have stopped before, and then nobody is known to be in touch.
            let there = |seat: &&Seat| !installed.left.contains(seat) && !installed.vanished.contains(&seat.member);
            let has_it = |seat: &&Seat| self.peer_of(seat).is_some_and(|peer| peer.state.installed == Some(id));
            let in_touch = |seat: &&Seat| self.is_in_touch(seat, now);
            // The leader, unless it is gone, too; else one who can use the vote: it has the view that the vote is of.
            let leader = others().filter(there).find(|seat| installed.view.leader == seat.member);
            let heir = leader
                .or_else(|| others().filter(there).filter(in_touch).find(has_it))
                .or_else(|| others().filter(there).find(in_touch))
                .or_else(|| others().find(there));
            for seat in others() {
                let kind = Kind::Leave { consent: heir.filter(|heir| heir.is(seat)).map(|_| id) };
                told.push((Arc::clone(&seat.member), Message { incarnation: local.incarnation, kind }));
            }
        }
        self.end_writing(StopReason::Stopped);
        let policy = Arc::clone(&self.policy);
        let fresh = Self::new(self.config.clone(), policy, self.writing.is_leased());
        let old = std::mem::replace(self, fresh);
        // The next start is another process to the others; what it promised it keeps all the same.
        (self.promised, self.max_token) = (old.promised, old.max_token);
        (self.events, self.counts, self.defects) = (old.events, old.counts, old.defects);
        self.writing.take_releases(old.writing);
        told
    }

    /// Membership says that it is gone.
    pub(super) fn removed(&mut self, member: &Arc<Member>, peer: &Peer, why: Departure) {
        // Of whom this channel does not hear any more need not be gone.
        let Some(installed) = self.view.as_mut().filter(|_| why != Departure::Stopped) else { return };
        let Some(seat) = installed.seats.iter().find(|seat| seat.member == *member) else { return };
        if why == Departure::Shutdown || peer.left {
            if !installed.left.contains(seat) {
                installed.left.push(seat.clone());
            }
        } else {
            installed.vanished.insert(Arc::clone(member));
        }
    }

    /// A member leaves on purpose, and has stopped writing; its vote is for what comes after `consent`, and for nothing else: what
    /// it helped to install may be unknown here.
    pub(super) fn left(&mut self, member: &Member, incarnation: u64, consent: Option<ViewId>) {
        if let Some(peer) = self.peers.get_mut(member).filter(|peer| peer.incarnation == Some(incarnation)) {
            peer.left = true;
        }
        let Some(installed) = &mut self.view else { return };
        let seat = installed.seats.iter().find(|seat| *seat.member == *member && seat.incarnation == incarnation);
        let Some(seat) = seat.cloned() else { return };
        self.counts.received += 1;
        if consent == Some(installed.view.id) && !installed.voted.contains(&seat) {
            installed.voted.push(seat.clone());
        }
        if !installed.stopped.contains(&seat) {
            installed.stopped.push(seat.clone());
        }
        if !installed.left.contains(&seat) {
            installed.left.push(seat);
        }
    }

    /// Tells once of each member of the view that has vanished.
    pub(super) fn miss(&mut self, local: &Seat, now: Time) {
        let Some(installed) = &self.view else { return };
        // Who has just come need not have been heard yet.
        let is_fresh = now < installed.at + self.config.silence;
        let lost = installed.seats.iter().filter(|seat| {
            let gone = installed.vanished.contains(&seat.member) || (!is_fresh && !self.is_in_touch(seat, now));
            !seat.is(local) && gone && !installed.left.contains(seat) && !installed.told.contains(&seat.member)
        });
        let missing: Vec<_> = lost.map(|seat| Arc::clone(&seat.member)).collect();
        if missing.is_empty() {
            return;
        }
        let view = installed.view.id;
        if let Some(installed) = &mut self.view {
            installed.told.extend(missing.iter().cloned());
        }
        self.tell(ViewEvent::PartitionSuspected { view, missing });
    }
}
