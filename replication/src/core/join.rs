//! Until this replica has what the group had when it was opened.
//!
//! It asks who has the map. Once all members have answered, or time is up, the groups of buckets are dealt out to a few
//! peers that are ready; each brings its share by a round. A peer that fails gives its share to others. If nobody is ready,
//! all are new together: then this replica is, too, and what they hold comes by ordinary rounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::{Action, Core, Now};
use crate::context::Context;
use crate::store::{GROUPS, Have};

/// How long a replica that knows of somebody ready waits for others.
const COMPANY: Duration = Duration::from_millis(50);
/// How often it looks whether it has waited enough.
const LOOK: Duration = Duration::from_millis(25);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Join {
    ready: bool,
    /// Until then it waits for members to appear; and for those that are there to answer.
    alone_until: Time,
    until: Time,
    /// Since when somebody ready is known.
    donors_since: Time,
    /// When it looked last.
    looked: Time,
    /// The share of each round under way.
    shares: BTreeMap<u64, u64>,
    /// Groups that nobody brings at present.
    left: u64,
    /// Whether they have been dealt out once.
    begun: bool,
    /// What all that have brought something had seen.
    seen: Option<Context>,
    /// What they have seen and hold no more.
    gone: Vec<Have>,
    /// Peers that failed.
    failed: Vec<Arc<Member>>,
}

impl Join {
    pub(super) const fn new(alone_until: Time, until: Time) -> Self {
        Self {
            ready: false,
            alone_until,
            until,
            donors_since: Time::NEVER,
            looked: Time::ZERO,
            shares: BTreeMap::new(),
            left: u64::MAX,
            begun: false,
            seen: None,
            gone: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn due(&self) -> Time {
        // Whether anybody is expected changes with the time, too; until then it looks now and then.
        if self.ready || self.begun { Time::NEVER } else { self.looked.after(LOOK).min(self.until) }
    }
}

impl Core {
    /// Whether it has what the group had.
    pub(crate) const fn is_ready(&self) -> bool {
        self.join.ready
    }

    pub(super) fn go_on_joining(&mut self, now: Now) {
        if self.join.ready {
            return;
        }
        if self.join.begun {
            return self.deal_out(now);
        }
        self.join.looked = now.time;
        let donors = self.peers.values().any(|peer| peer.ready);
        if donors {
            self.join.donors_since = self.join.donors_since.min(now.time);
        }
        let waiting = now.time < self.join.until;
        let expected = self.strangers.values().any(|stranger| now.time < stranger.expected_until);
        let company = now.time < self.join.donors_since.after(COMPANY);
        let nobody = self.peers.is_empty() && now.time < self.join.alone_until;
        if waiting && (if donors { expected && company } else { expected || nobody }) {
            return;
        }
        self.join.begun = true;
        self.deal_out(now);
    }

    /// Gives what nobody brings to peers that are ready.
    fn deal_out(&mut self, now: Now) {
        if self.join.left == 0 {
            return;
        }
        let donors = self.peers.iter().filter(|(member, peer)| peer.ready && !self.join.failed.contains(member));
        let mut donors: Vec<_> = donors.map(|(member, _)| Arc::clone(member)).collect();
        donors.truncate(self.tuning.donors.max(1));
        if donors.is_empty() {
            if self.join.shares.is_empty() {
                // Nobody is there to bring it, or nobody that answers: what can be had comes by later rounds.
                self.become_ready(now);
            }
            return;
        }
        let mut shares = vec![0u64; donors.len()];
        let wanted = (0..GROUPS).filter(|group| self.join.left >> group & 1 == 1);
        for (turn, group) in wanted.enumerate() {
            let donor = turn % shares.len();
            if let Some(share) = shares.get_mut(donor) {
                *share |= 1 << group;
            }
        }
        self.join.left = 0;
        for (donor, share) in donors.into_iter().zip(shares).filter(|(_, share)| *share != 0) {
            let round = self.next_round;
            self.join.shares.insert(round, share);
            self.begin_round(&donor, share, true, now);
        }
    }

    /// A share has come whole.
    pub(super) fn got_groups(&mut self, round: u64, seen: &Context, mut gone: Vec<Have>, now: Now) {
        self.join.shares.remove(&round);
        self.join.gone.append(&mut gone);
        self.join.seen = Some(match self.join.seen.take() {
            Some(so_far) => so_far.meet(seen),
            None => seen.clone(),
        });
        if !self.join.shares.is_empty() {
            return;
        }
        if self.join.left == 0 {
            self.become_ready(now);
        } else {
            self.deal_out(now);
        }
    }

    pub(super) fn donor_failed(&mut self, round: u64, donor: &Arc<Member>, now: Now) {
        let share = self.join.shares.remove(&round).unwrap_or_default();
        self.join.left |= share;
        self.join.failed.push(Arc::clone(donor));
        tracing::info!(member = %donor, "it does not bring its share of the map's state: others are asked");
        self.deal_out(now);
    }

    fn become_ready(&mut self, now: Now) {
        self.join.ready = true;
        // Only if everything came from those who had seen it.
        if let Some(seen) = self.join.seen.take().filter(|_| self.join.left == 0) {
            self.store.seen.join(&seen);
            let gone = std::mem::take(&mut self.join.gone);
            self.drop_gone(gone, now);
        }
        self.actions.push_back(Action::Ready);
        let peers: Vec<_> = self.peers.keys().cloned().collect();
        let hello = self.own_hello(false, now.time);
        self.send_all(peers.clone(), None, hello);
        // They had seen different things; and what none of them brought is with the rest.
        peers.iter().for_each(|peer| self.wish(peer, now.time, true));
    }
}
