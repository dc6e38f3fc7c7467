//! What is agreed on when all members have promised: who comes from where, and whether this side may write.
//!
//! A view that may write is a *candidate* at first. It becomes *confirmed* when a quorum of each view that may have written before,
//! and one of its own members, have installed it. Until then the one before may be the last that counts, so the next candidate needs a
//! quorum of both: this chain of views is what members report. Any two quorums of a view meet, so whoever finds one of each link finds
//! out about everything that may have been confirmed meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::Time;

use super::Core;
use super::defects::defect;
use super::lead::Round;
use crate::agreed_views::quorum::Ballot;
use crate::agreed_views::wire::{self, Install, Report};
use crate::agreed_views::{Seat, ViewId};

/// How many views may wait to be confirmed. More come together only if the group falls apart so often before members have heard
/// of each other once; then no further one may write, and the application is told
/// ([`ViewEvent::TooManyUnconfirmed`](crate::agreed_views::ViewEvent)). None can be left out: a side that has only the others could
/// not tell that it was confirmed meanwhile.
pub(in crate::agreed_views) const MAX_CHAIN: usize = 8;

/// A view that may have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agreed_views) struct Primary {
    pub(in crate::agreed_views) id: ViewId,
    pub(in crate::agreed_views) seats: Arc<[Seat]>,
    pub(in crate::agreed_views) token: u64,
    pub(in crate::agreed_views) confirmed: bool,
}

impl Core {
    /// What this member brings into a view.
    pub(super) fn report(&self, local: &Seat, now: Time) -> Report {
        Report {
            view: self.view.as_ref().map(|installed| (installed.view.id, Arc::clone(&installed.seats))),
            chain: self.chain.clone(),
            remembers: local.remembers,
            forgets: self.forgets,
            since: local.since,
            up_for: now - self.started,
            waits: self.waits(now),
            max_token: self.max_token,
        }
    }

    /// How long members that are missing may still go on writing. As long as a view is not confirmed its wait has not begun.
    fn waits(&self, now: Time) -> Duration {
        let begins = self.view.as_ref().filter(|installed| installed.view.primary && !self.writing.is_confirmed());
        begins.map_or(Duration::ZERO, |installed| installed.view.wait).max(self.writing.owed(now))
    }

    /// The view that the members of this round have promised to install.
    pub(super) fn agree(&self, local: &Seat, round: &Round) -> Install {
        let epoch = round.epoch;
        let seats = round.seats.iter().map(|seat| {
            let report = round.reports.get(&seat.member);
            let since = report.map_or(0, |report| report.since);
            // As this member knows it, with domain and payload.
            let known = self.peers.get_key_value(&seat.member).map_or(&seat.member, |(member, _)| member);
            Seat {
                weight: self.policy.weight(known),
                since: if since == 0 { epoch } else { since },
                remembers: report.is_some_and(|report| report.remembers),
                ..seat.clone()
            }
        });
        let seats: Arc<[Seat]> = seats.collect();
        let mut chain = merge(round.reports.values());
        // Whoever is told to forget knows what it forgets: what came later stands.
        let forgets = || round.reports.values().filter(|report| report.forgets);
        let forgotten = forgets().flat_map(|report| &report.chain).map(|primary| primary.id).max();
        chain.retain(|primary| Some(primary.id) > forgotten);
        let anew = forgets().next().is_some();
        let consents: Arc<[Seat]> = self.consents();
        let exclusive = self.policy.is_exclusive() && !self.writing.is_leased();
        let primary = !exclusive || defect!(self, QuorumIgnored) || self.may_go_on(&chain, &seats, &consents, anew);
        let wait = if exclusive && primary { self.wait(&chain, &seats, round) } else { Duration::ZERO };
        // As it is written: the view is to be the same everywhere.
        let wait = wire::whole_millis(wait);
        let token = if primary { self.token(local, epoch, &chain, round) } else { 0 };
        let sides = sides(&seats, round);
        Install { epoch, seats, primary, token, wait, sides, chain, consents }
    }

    /// Those that left on purpose and gave this member their vote.
    fn consents(&self) -> Arc<[Seat]> {
        self.view.as_ref().map_or_else(Vec::new, |installed| installed.voted.clone()).into()
    }

    /// Whether these are a quorum of all views that may have written last, and of themselves.
    fn may_go_on(&self, chain: &[Primary], seats: &[Seat], consents: &[Seat], anew: bool) -> bool {
        if chain.len() >= MAX_CHAIN {
            return false;
        }
        let of_all =
            chain.iter().all(|primary| self.policy.holds(&Ballot::new(seats.iter().chain(consents), &primary.seats)));
        match chain {
            [] if anew => self.policy.begins_anew(seats),
            [] => self.policy.begins(seats),
            _ => of_all,
        }
    }

    /// How long members of earlier views that are missing may go on writing.
    fn wait(&self, chain: &[Primary], seats: &[Seat], round: &Round) -> Duration {
        if defect!(self, GraceSkipped) {
            return Duration::ZERO;
        }
        let grace = self.config.grace();
        // A wait that has begun goes on, also when what it was for is forgotten.
        let begun = round.reports.values().map(|report| report.waits).max().unwrap_or_default().min(grace);
        let begun = if defect!(self, WaitForgotten) { Duration::ZERO } else { begun };
        let left = self.view.as_ref().map_or(&[][..], |installed| &installed.stopped);
        let missing = |seat: &Seat| !seats.contains(seat) && !left.contains(seat);
        if chain.iter().any(|primary| primary.seats.iter().any(missing)) {
            return grace;
        }
        // If it counts on members that have forgotten: those who wrote with the help of their predecessors must have stopped.
        let remembering: Vec<_> = seats.iter().filter(|seat| seat.remembers).collect();
        let without = |primary: &Primary| self.policy.holds(&Ballot::new(remembering.iter().copied(), &primary.seats));
        if !chain.is_empty() && chain.iter().all(without) {
            return begun;
        }
        let forgetful = round.reports.values().filter(|report| !report.remembers);
        begun.max(grace.saturating_sub(forgetful.map(|report| report.up_for).min().unwrap_or_default()))
    }

    /// The token: the last one, if its leader still leads and nobody else has had a later one; else a new one.
    fn token(&self, local: &Seat, epoch: u64, chain: &[Primary], round: &Round) -> u64 {
        let reported = round.reports.values().map(|report| report.max_token);
        let highest = reported.chain(chain.iter().map(|primary| primary.token)).max().unwrap_or_default();
        let Some(last) = chain.iter().max_by_key(|primary| primary.id) else { return epoch };
        let still_leads = last.id.coordinator == local.member.id() && last.id.incarnation == local.incarnation;
        if (still_leads || defect!(self, TokenKept)) && last.token == highest { last.token } else { epoch }
    }
}

/// What all together know: the last confirmed view, and those after it.
fn merge<'a>(reports: impl Iterator<Item = &'a Report>) -> Vec<Primary> {
    let mut known: BTreeMap<ViewId, Primary> = BTreeMap::new();
    for primary in reports.flat_map(|report| &report.chain) {
        let entry = known.entry(primary.id).or_insert_with(|| primary.clone());
        entry.confirmed |= primary.confirmed;
    }
    let confirmed = known.values().filter(|primary| primary.confirmed).map(|primary| primary.id).max();
    let mut chain: Vec<_> = known.into_values().filter(|primary| Some(primary.id) >= confirmed).collect();
    // Of more nobody makes use.
    chain.truncate(MAX_CHAIN);
    chain
}

/// Where the members come from. Who was in a later view of one of the others, and only had not heard of it, comes from there.
fn sides(seats: &[Seat], round: &Round) -> Vec<(ViewId, Vec<u16>)> {
    let views: BTreeMap<ViewId, &Arc<[Seat]>> =
        round.reports.values().filter_map(|report| report.view.as_ref()).map(|(id, seats)| (*id, seats)).collect();
    let mut sides: BTreeMap<ViewId, Vec<u16>> = BTreeMap::new();
    for (index, seat) in seats.iter().enumerate() {
        let from = views.iter().rev().find(|(_, members)| members.contains(seat));
        if let (Some((id, _)), Ok(index)) = (from, u16::try_from(index)) {
            sides.entry(*id).or_default().push(index);
        }
    }
    sides.into_iter().collect()
}
