//! Members under suspicion, each verified by probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

/// Pause before the second probe of a member that said good-bye; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// So many probes of suspects at the same time.
const PROBES: usize = 64;

/// Why a member is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It said good-bye. Probed again and again, since a member that leaves answers until it has closed its port.
    Goodbye {
        /// What it sent up to this alive time is from before.
        alive_ms: i64,
    },
    /// It was silent but for heartbeats that are not newer than older ones. Probed once.
    Stale {
        /// The alive time of such a heartbeat.
        alive_ms: i64,
    },
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is gone, and had said so, with this alive time.
    Left(i64),
    /// It is alive and has this alive time.
    Alive(i64),
    /// Nothing yet, or nothing that matters.
    Open,
}

#[derive(Debug)]
struct Check {
    reason: Reason,
    state: State,
    pause: Duration,
    /// The check ends then, in favour of the member.
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Time),
    Probing(u64),
}

#[derive(Debug, Default)]
pub(super) struct Checks {
    table: BTreeMap<Arc<Member>, Check>,
    probing: usize,
}

impl Checks {
    /// Begins to check `member`, unless it is being checked for the same or a weightier reason.
    pub(super) fn add(&mut self, member: &Arc<Member>, reason: Reason, now: Time, until: Time) {
        let goodbye = matches!(reason, Reason::Goodbye { .. });
        match self.table.get_mut(member) {
            Some(check) if goodbye && matches!(check.reason, Reason::Stale { .. }) => {
                check.reason = reason;
                check.until = until;
            }
            Some(_) => {}
            None => {
                let check = Check { reason, state: State::Due(now), pause: FIRST_PAUSE, until };
                self.table.insert(Arc::clone(member), check);
            }
        }
    }

    /// As [`add`](Self::add); and the next probe is due now.
    pub(super) fn hurry(&mut self, member: &Arc<Member>, reason: Reason, now: Time, until: Time) {
        self.add(member, reason, now, until);
        if let Some(check) = self.table.get_mut(member)
            && let State::Due(at) = &mut check.state
        {
            *at = now.min(*at);
            check.pause = FIRST_PAUSE;
        }
    }

    /// The suspicion is dropped.
    pub(super) fn cancel(&mut self, member: &Member) {
        if let Some(check) = self.table.remove(member)
            && let State::Probing(_) = check.state
        {
            self.probing -= 1;
        }
    }

    /// The next member to probe now; `ticket` names the probe.
    pub(super) fn due(&mut self, ticket: u64, now: Time) -> Option<Arc<Member>> {
        if self.probing >= PROBES {
            return None;
        }
        let due = |check: &Check| matches!(check.state, State::Due(at) if at <= now);
        let (member, check) = self.table.iter_mut().find(|(_, check)| due(check))?;
        check.state = State::Probing(ticket);
        self.probing += 1;
        Some(Arc::clone(member))
    }

    /// A probe ended; `None` if it was not one of a check.
    pub(super) fn probed(&mut self, ticket: u64, member: &Member, alive: bool, now: Time) -> Option<Finding> {
        let check = self.table.get_mut(member).filter(|check| check.state == State::Probing(ticket))?;
        let reason = check.reason;
        if alive && matches!(reason, Reason::Goodbye { .. }) {
            let next = now + check.pause;
            if next < check.until {
                self.probing -= 1;
                check.state = State::Due(next);
                check.pause *= 2;
                return Some(Finding::Open);
            }
        }
        self.cancel(member);
        Some(match (reason, alive) {
            (Reason::Goodbye { alive_ms }, false) => Finding::Left(alive_ms),
            (Reason::Stale { alive_ms }, true) => Finding::Alive(alive_ms),
            // A good-bye in somebody else's name; or a silent member, which will expire.
            (Reason::Goodbye { .. }, true) | (Reason::Stale { .. }, false) => Finding::Open,
        })
    }

    pub(super) fn deadline(&self) -> Time {
        if self.probing >= PROBES {
            return Time::NEVER;
        }
        let due = |check: &Check| match check.state {
            State::Due(at) => Some(at),
            State::Probing(_) => None,
        };
        self.table.values().filter_map(due).min().unwrap_or(Time::NEVER)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
