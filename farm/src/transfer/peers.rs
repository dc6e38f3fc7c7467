//! Who can be asked, and how much is asked of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tribes_core::{MemberId, Time};

use super::{Fault, PER_PEER};

/// After one failure, doubled with each further one.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<MemberId, Peer>);

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    under_way: usize,
    failures: u32,
    not_before: Option<Time>,
    /// When it was chosen last, in numbers of choices: who waits longest is next.
    chosen: u64,
}

impl Peers {
    pub(super) fn are(&mut self, members: &BTreeSet<MemberId>) {
        self.0.retain(|peer, _| members.contains(peer));
        for member in members {
            self.0.entry(*member).or_default();
        }
    }

    /// Whoever of those that are `fit` has least to do; it has one request more then.
    pub(super) fn choose(&mut self, now: Time, fit: impl Fn(&MemberId) -> bool) -> Option<MemberId> {
        let turn = self.0.values().map(|peer| peer.chosen).max().unwrap_or_default() + 1;
        let free = |peer: &Peer| peer.under_way < PER_PEER && peer.not_before.is_none_or(|at| at <= now);
        let (id, peer) = self
            .0
            .iter_mut()
            .filter(|(id, peer)| free(peer) && fit(id))
            .min_by_key(|(_, peer)| (peer.failures, peer.under_way, peer.chosen))?;
        peer.under_way += 1;
        peer.chosen = turn;
        Some(*id)
    }

    pub(super) fn answered(&mut self, id: MemberId, fault: Option<&Fault>, now: Time) {
        let Some(peer) = self.0.get_mut(&id) else { return };
        peer.under_way = peer.under_way.saturating_sub(1);
        match fault {
            None | Some(Fault::Disk(_)) => (peer.failures, peer.not_before) = (0, None),
            Some(Fault::Absent) => {}
            Some(Fault::Corrupt | Fault::Unreachable) => {
                let pause = PAUSE.saturating_mul(1 << peer.failures.min(10)).min(LONGEST_PAUSE);
                peer.failures = peer.failures.saturating_add(1);
                peer.not_before = Some(now + pause);
            }
        }
    }

    pub(super) fn next_wake(&self, now: Time) -> Time {
        let pauses = self.0.values().filter_map(|peer| peer.not_before).filter(|at| *at > now);
        pauses.min().unwrap_or(Time::NEVER)
    }
}
