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
                // And the votes that were given to this member for the same view: nobody else has them.
                let (consent, votes) = match heir.filter(|heir| heir.is(seat)) {
                    Some(_) => (Some(id), installed.voted.clone()),
                    None => (None, Vec::new()),
                };
                let kind = Kind::Leave { consent, votes: votes.into() };
                told.push((Arc::clone(&seat.member), Message { incarnation: local.incarnation, kind }));
            }
        }
        self.end_writing(StopReason::Stopped);
        let policy = Arc::clone(&self.policy);
        let fresh = Self::new(self.config.clone(), policy, self.writing.is_leased());
        let old = std::mem::replace(self, fresh);
        // The next start is another process to the others; what it promised it keeps all the same.
        (self.promised, self.max_token, self.seen) = (old.promised, old.max_token, old.seen);
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
    /// it helped to install may be unknown here. So are the `votes` that others gave it before.
    pub(super) fn left(&mut self, member: &Member, incarnation: u64, consent: Option<ViewId>, votes: &[Seat]) {
        if let Some(peer) = self.peers.get_mut(member).filter(|peer| peer.incarnation == Some(incarnation)) {
            peer.left = true;
        }
        self.writing.stopped(member, incarnation);
        let Some(installed) = &mut self.view else { return };
        let seat = installed.seats.iter().find(|seat| *seat.member == *member && seat.incarnation == incarnation);
        let Some(seat) = seat.cloned() else { return };
        self.counts.received += 1;
        if consent == Some(installed.view.id) {
            // As they are in the view, and not this member itself: it has its own. All of them have installed that view, and so
            // remember one that may write, if it may; when they came into it they need not have.
            let primary = installed.view.primary;
            let local = self.local.as_ref();
            let passed_on = |voter: &&Seat| votes.contains(voter) && local.is_none_or(|local| !voter.is(local));
            let voters = installed.seats.iter().filter(passed_on).chain([&seat]);
            let voters = voters.map(|voter| Seat { remembers: voter.remembers || primary, ..voter.clone() });
            for voter in voters.collect::<Vec<_>>() {
                // Who gives its vote has stopped.
                for list in [&mut installed.voted, &mut installed.stopped, &mut installed.left] {
                    if !list.contains(&voter) {
                        list.push(voter.clone());
                    }
                }
            }
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
