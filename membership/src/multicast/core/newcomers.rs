//! Those who were heard and have not proved yet that they exist.
//!
//! Anyone on the network can send a heartbeat in any name, so a heartbeat adds nobody: a newcomer is probed at the address
//! it claims, and counts once the probe was answered. The table is bounded; those who failed a probe make room first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

/// So many at most; a record may have 64 KiB.
const CAPACITY: usize = 256;
/// So many are probed at the same time.
const PROBES: usize = 32;
/// Pause before a heartbeat of one that did not answer leads to another probe; doubles each time.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Newcomers {
    table: BTreeMap<Arc<Member>, Newcomer>,
    /// Who waits for a probe, in the order of arrival.
    waiting: BTreeMap<u64, Arc<Member>>,
    arrivals: u64,
    probing: usize,
}

#[derive(Debug)]
struct Newcomer {
    record: Arc<Member>,
    heard: Time,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting(u64),
    Probing(u64),
    Failed { retry: Time },
}

/// What a heartbeat was to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first of this member.
    New,
    /// One of several.
    Known,
    /// There is no room.
    Refused,
}

impl Newcomers {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether any of them is not one of ours.
    pub(super) fn any_java(&self) -> bool {
        self.table.keys().any(|member| !member.id().is_ours())
    }

    /// A heartbeat of `member`, or a hint from a connection, which is harder to forge and makes room for itself.
    pub(super) fn heard(&mut self, member: Member, hint: bool, now: Time) -> Arrival {
        if let Some(known) = self.table.get_mut(&member) {
            known.heard = now;
            if !hint || known.record.alive_ms() < member.alive_ms() {
                known.record = Arc::new(member);
            }
            if matches!(known.state, State::Failed { retry } if retry <= now) {
                known.state = State::Waiting(self.arrivals);
                self.waiting.insert(self.arrivals, Arc::clone(&known.record));
                self.arrivals += 1;
            }
            return Arrival::Known;
        }
        if self.table.len() >= CAPACITY && !self.make_room(hint) {
            return Arrival::Refused;
        }
        let record = Arc::new(member);
        self.waiting.insert(self.arrivals, Arc::clone(&record));
        let state = State::Waiting(self.arrivals);
        self.arrivals += 1;
        self.table.insert(Arc::clone(&record), Newcomer { record, heard: now, failures: 0, state });
        Arrival::New
    }

    fn make_room(&mut self, hint: bool) -> bool {
        let failed = |(_, newcomer): &(&Arc<Member>, &Newcomer)| matches!(newcomer.state, State::Failed { .. });
        let oldest = self.table.iter().filter(failed).min_by_key(|(_, newcomer)| newcomer.heard);
        let victim = oldest.map(|(member, _)| Arc::clone(member));
        let victim = victim.or_else(|| if hint { self.waiting.values().next().cloned() } else { None });
        victim.is_some_and(|member| self.forget(&member).is_some())
    }

    /// The next to probe, if any waits and not too many are being probed. `ticket` names the probe.
    pub(super) fn next(&mut self, ticket: u64) -> Option<Arc<Member>> {
        if self.probing >= PROBES {
            return None;
        }
        let (_, member) = self.waiting.pop_first()?;
        let newcomer = self.table.get_mut(&member)?;
        newcomer.state = State::Probing(ticket);
        self.probing += 1;
        Some(Arc::clone(&newcomer.record))
    }

    /// A probe ended. The newest record of the newcomer if it is alive; it leaves the table then.
    pub(super) fn probed(&mut self, ticket: u64, member: &Member, alive: bool, now: Time) -> Probed {
        let Some(newcomer) = self.table.get_mut(member).filter(|newcomer| newcomer.state == State::Probing(ticket))
        else {
            return Probed::Forgotten;
        };
        if alive {
            return self.forget(member).map_or(Probed::Forgotten, Probed::Alive);
        }
        self.probing -= 1;
        let pause = RETRY.saturating_mul(1 << newcomer.failures.min(16)).min(MAX_RETRY);
        newcomer.failures += 1;
        newcomer.state = State::Failed { retry: now + pause };
        Probed::Unanswered
    }

    /// Takes a member out; its newest record if it was there.
    pub(super) fn forget(&mut self, member: &Member) -> Option<Arc<Member>> {
        let newcomer = self.table.remove(member)?;
        match newcomer.state {
            State::Waiting(arrival) => drop(self.waiting.remove(&arrival)),
            State::Probing(_) => self.probing -= 1,
            State::Failed { .. } => {}
        }
        Some(newcomer.record)
    }

    /// Forgets those who failed and were not heard from since `limit` before `now`.
    pub(super) fn expire(&mut self, limit: Duration, now: Time) {
        self.table
            .retain(|_, newcomer| !matches!(newcomer.state, State::Failed { .. }) || now.since(newcomer.heard) < limit);
    }

    pub(super) fn clear(&mut self) {
        *self = Self { arrivals: self.arrivals, ..Self::default() };
    }
}

/// What a probe's end meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// It exists.
    Alive(Arc<Member>),
    /// No answer; its next heartbeat after a pause leads to another probe.
    Unanswered,
    /// Nobody is interested any more.
    Forgotten,
}
