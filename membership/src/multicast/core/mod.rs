//! Multicast membership without I/O: takes what was heard and a time, returns what to do.
//!
//! | file | idea |
//! |---|---|
//! | `announcer` | our own heartbeats |
//! | `newcomers` | those who must answer a probe before they count |
//! | `checks` | members under suspicion |
//! | `gone` | those who left, so that replayed heartbeats do not revive them |
//!
//! What a heartbeat is worth: its alive time rises with each, so one that is not newer than the newest is a duplicate or
//! a replay. It keeps nobody alive; if it is all that is heard of a member (whose clock may have been set back), a probe
//! decides.

mod announcer;
mod checks;
mod gone;
mod newcomers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Departure, Member, MemberEvent, MemberId, ProbeResult, Services, Suspicion, Time};

use self::announcer::Announcer;
use self::checks::{Checks, Finding, Reason};
use self::gone::Gone;
use self::newcomers::{Arrival, Newcomers, Probed};
use super::McastConfig;
use super::counters::Counters;

/// A good-bye may claim to be so much later than the clocks of both sides say, at most.
const SLACK_MS: i64 = 1000;
/// How late a heartbeat may come after a later good-bye.
const GRACE: Duration = Duration::from_millis(500);
/// Copies of a good-bye, against loss.
const GOODBYE_COPIES: usize = 3;

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the local member with this alive time.
    Announce {
        /// Milliseconds.
        alive_ms: i64,
    },
    /// Send the local member with the shutdown command.
    Goodbye {
        /// Milliseconds.
        alive_ms: i64,
        /// How many times.
        copies: usize,
    },
    /// Find out whether `member` is alive, and report with [`Core::probed`].
    Probe {
        /// Names this probe.
        ticket: u64,
        /// Whom.
        member: Arc<Member>,
        /// For at most so long.
        limit: Duration,
    },
    /// Tell the stack.
    Raise(MemberEvent),
}

/// One member datagram.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// Who it says it is.
    pub(super) member: Member,
    /// Where it came from.
    pub(super) source: IpAddr,
    /// Whether the transport has a connection to that member open; only asked for good-byes.
    pub(super) connected: bool,
}

/// The state of one multicast membership.
#[derive(Debug)]
pub(super) struct Core {
    config: McastConfig,
    counters: Arc<Counters>,
    local: Arc<Member>,
    announcer: Announcer,
    receiving: bool,
    /// The socket is broken: silence means nothing.
    deaf: bool,
    members: BTreeMap<Arc<Member>, Entry>,
    /// Nothing expires before.
    expiry: Time,
    checks: Checks,
    newcomers: Newcomers,
    gone: Gone,
    /// Running probes.
    probes: BTreeMap<u64, Arc<Member>>,
    tickets: u64,
}

/// A member of the group.
#[derive(Debug)]
struct Entry {
    record: Arc<Member>,
    /// The newest alive time heard.
    alive_ms: i64,
    heard: Time,
    /// It said good-bye, with this alive time, and nothing newer was heard since.
    leaving: Option<i64>,
}

impl Core {
    pub(super) fn new(config: McastConfig, local: Arc<Member>, counters: Arc<Counters>) -> Self {
        Self {
            announcer: Announcer::new(config.frequency),
            config,
            counters,
            local,
            receiving: false,
            deaf: false,
            members: BTreeMap::new(),
            expiry: Time::NEVER,
            checks: Checks::default(),
            newcomers: Newcomers::default(),
            gone: Gone::default(),
            probes: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Which halves run.
    pub(super) fn services(&self) -> Services {
        let mut services = Services::empty();
        services.set(Services::MEMBERSHIP_RX, self.receiving);
        services.set(Services::MEMBERSHIP_TX, self.announcer.is_running());
        services
    }

    /// Starts halves that do not run.
    pub(super) fn start(&mut self, services: Services, local: Arc<Member>, now: Time, out: &mut Vec<Action>) {
        self.local = local;
        self.receiving |= services.contains(Services::MEMBERSHIP_RX);
        if services.contains(Services::MEMBERSHIP_TX) && !self.announcer.is_running() {
            self.announcer.start(self.local.id(), now);
        }
        self.tick(now, out);
    }

    /// Stops halves. Java reports every copy of a good-bye, so that with a Java member in the group, or if who is there
    /// is not known, only one is sent.
    pub(super) fn stop(&mut self, services: Services, now: Time, out: &mut Vec<Action>) {
        if services.contains(Services::MEMBERSHIP_TX) && self.announcer.is_running() {
            let java = self.newcomers.any_java() || self.members.keys().any(|member| !member.id().is_ours());
            let copies = if java || !self.receiving { 1 } else { GOODBYE_COPIES };
            out.push(Action::Goodbye { alive_ms: self.announcer.alive(now), copies });
            self.announcer.stop();
        }
        if services.contains(Services::MEMBERSHIP_RX) && self.receiving {
            self.receiving = false;
            for (_, entry) in std::mem::take(&mut self.members) {
                out.push(Action::Raise(MemberEvent::Removed(entry.record, Departure::Stopped)));
            }
            self.expiry = Time::NEVER;
            self.checks.clear();
            self.newcomers.clear();
            self.gone.clear();
            self.probes.clear();
            self.count();
        }
    }

    /// The local record changed; it is announced at once.
    pub(super) fn set_local(&mut self, local: Arc<Member>, now: Time, out: &mut Vec<Action>) {
        self.local = local;
        self.announcer.soon(now);
        self.tick(now, out);
    }

    /// A member datagram came.
    pub(super) fn heard(&mut self, heard: Heard, now: Time, out: &mut Vec<Action>) {
        let Heard { member, source, connected } = heard;
        if !self.receiving || member == *self.local {
            return;
        }
        self.counters.heartbeats_received.add();
        if !self.admits_source(&member, source) {
            return;
        }
        if member.is_leaving() {
            self.goodbye(&member, connected, now, out);
        } else if self.members.contains_key(&member) {
            self.heard_again(member, now, out);
        } else {
            self.newcomer(member, false, now);
        }
        self.tick(now, out);
    }

    /// Whether what `member` sent may be used although it came from `source`.
    pub(super) fn admits_source(&self, member: &Member, source: IpAddr) -> bool {
        if member.ip().map(|ip| ip.to_canonical()) == Some(source.to_canonical()) {
            return true;
        }
        self.counters.foreign_source.add();
        !self.config.strict_source
    }

    /// The transport heard of `member` over a connection: a newcomer, perhaps.
    pub(super) fn heard_of(&mut self, member: &Member, now: Time, out: &mut Vec<Action>) {
        if self.receiving && *member != *self.local && !self.members.contains_key(member) && !member.is_leaving() {
            self.newcomer(member.clone(), true, now);
            self.tick(now, out);
        }
    }

    /// A member said over its own connection that it leaves: believed at once.
    pub(super) fn departed(&mut self, member: &Member, now: Time, out: &mut Vec<Action>) {
        if self.members.contains_key(member) {
            self.leave(member, i64::MAX, now, out);
        } else {
            self.forget_newcomer(member, i64::MAX, now);
        }
        self.tick(now, out);
    }

    /// The transport suspects `member`. Only of interest if it said good-bye: the failure detector looks after the rest.
    pub(super) fn suspected(&mut self, member: &Member, _why: Suspicion, now: Time, out: &mut Vec<Action>) {
        let Some(entry) = self.members.get(member) else { return };
        if let Some(alive_ms) = entry.leaving {
            self.checks.hurry(&entry.record, Reason::Goodbye { alive_ms }, now, now + self.config.drop_time);
        }
        self.tick(now, out);
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, ticket: u64, result: ProbeResult, now: Time, out: &mut Vec<Action>) {
        let Some(member) = self.probes.remove(&ticket) else { return };
        match self.checks.probed(ticket, &member, result.is_alive(), now) {
            Some(Finding::Left(alive_ms)) => self.leave(&member, alive_ms, now, out),
            Some(Finding::Alive(alive_ms)) => {
                if let Some(entry) = self.members.get_mut(&member) {
                    entry.alive_ms = alive_ms;
                    entry.heard = now;
                }
            }
            Some(Finding::Open) => {}
            None => match self.newcomers.probed(ticket, &member, result.is_alive(), now) {
                Probed::Alive(record) => self.join(record, result, now, out),
                Probed::Unanswered => self.counters.newcomers_unanswered.add(),
                Probed::Forgotten => {}
            },
        }
        self.tick(now, out);
    }

    /// The socket broke; until [`hearing`](Self::hearing) nobody expires.
    pub(super) const fn deaf(&mut self) {
        self.deaf = true;
    }

    /// A new socket works: what was not heard meanwhile speaks against nobody.
    pub(super) fn hearing(&mut self, now: Time, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.deaf) {
            self.members.values_mut().for_each(|entry| entry.heard = now);
        }
        self.announcer.soon(now);
        self.tick(now, out);
    }

    /// When [`tick`](Self::tick) is to be called next, at the latest.
    pub(super) fn deadline(&self) -> Time {
        let expiry = if self.deaf { Time::NEVER } else { self.expiry };
        expiry.min(self.announcer.deadline()).min(self.checks.deadline())
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(alive_ms) = self.announcer.due(now) {
            out.push(Action::Announce { alive_ms });
        }
        if self.expiry <= now && !self.deaf {
            self.expire(now, out);
        }
        while let Some(member) = self.checks.due(self.tickets, now) {
            self.probe(member, self.config.drop_time.min(self.config.probe_timeout), out);
        }
        while let Some(member) = self.newcomers.next(self.tickets) {
            self.probe(member, self.config.probe_timeout, out);
        }
        self.count();
    }

    fn probe(&mut self, member: Arc<Member>, limit: Duration, out: &mut Vec<Action>) {
        self.probes.insert(self.tickets, Arc::clone(&member));
        out.push(Action::Probe { ticket: self.tickets, member, limit });
        self.tickets += 1;
    }

    fn newcomer(&mut self, member: Member, hint: bool, now: Time) {
        if self.gone.covers(&member, GRACE.min(self.config.drop_time), now) {
            return self.counters.late_heartbeats.add();
        }
        // Whoever claims our own address under another id is a predecessor of ours: a probe would find ourselves.
        if member.addr().is_some() && member.addr() == self.local.addr() {
            return self.counters.own_address.add();
        }
        if member.addr().is_none() || self.members.len() >= self.config.max_members {
            return self.counters.newcomers_refused.add();
        }
        match self.newcomers.heard(member, hint, now) {
            Arrival::New => {
                self.announcer.answer(now);
                self.look_after(now);
            }
            Arrival::Known => {}
            Arrival::Refused => self.counters.newcomers_refused.add(),
        }
    }

    fn join(&mut self, record: Arc<Member>, result: ProbeResult, now: Time, out: &mut Vec<Action>) {
        if self.members.len() >= self.config.max_members {
            return self.counters.newcomers_refused.add();
        }
        // One of ours answered under its own id, so whoever had its address before is gone.
        if record.id().is_ours() && result == ProbeResult::Answered {
            for former in self.at_address_of(&record) {
                self.remove(&former, Departure::Failed, out);
            }
        }
        let entry = Entry { record: Arc::clone(&record), alive_ms: record.alive_ms(), heard: now, leaving: None };
        self.members.insert(Arc::clone(&record), entry);
        self.look_after(now);
        out.push(Action::Raise(MemberEvent::Added(record)));
    }

    fn at_address_of(&self, member: &Member) -> Vec<Arc<Member>> {
        let bound = |id| Member::from_parts(MemberId::from_bytes(id), member.host().clone(), member.port());
        self.members.range(bound([0; 16])..=bound([0xFF; 16])).map(|(known, _)| Arc::clone(known)).collect()
    }

    fn heard_again(&mut self, member: Member, now: Time, out: &mut Vec<Action>) {
        let Some(entry) = self.members.get_mut(&member) else { return };
        let alive_ms = member.alive_ms();
        if alive_ms >= entry.alive_ms && !entry.record.same_content(&member) {
            entry.record = Arc::new(member);
            out.push(Action::Raise(MemberEvent::Updated(Arc::clone(&entry.record))));
        }
        if alive_ms > entry.alive_ms {
            entry.alive_ms = alive_ms;
            entry.heard = now;
            if entry.leaving.is_none_or(|left| alive_ms > left) {
                entry.leaving = None;
                self.checks.cancel(&entry.record);
            }
            return;
        }
        self.counters.stale_heartbeats.add();
        if now.since(entry.heard) >= self.config.drop_time / 2 {
            self.checks.add(&entry.record, Reason::Stale { alive_ms }, now, now + self.config.drop_time);
        }
    }

    fn goodbye(&mut self, member: &Member, connected: bool, now: Time, out: &mut Vec<Action>) {
        let Some(entry) = self.members.get_mut(member) else {
            return self.forget_newcomer(member, member.alive_ms(), now);
        };
        if entry.leaving.is_some() {
            return; // A copy.
        }
        let replayed = member.alive_ms() < entry.alive_ms;
        let alive_ms = member.alive_ms().min(entry.latest(now));
        entry.leaving = Some(alive_ms);
        let record = Arc::clone(&entry.record);
        if !connected && !replayed && !record.id().is_ours() {
            return self.leave(&record, alive_ms, now, out);
        }
        self.counters.goodbyes_unconfirmed.add();
        if connected {
            out.push(Action::Raise(MemberEvent::Suspected(Arc::clone(&record), Suspicion::GoodbyeUnconfirmed)));
        }
        self.checks.add(&record, Reason::Goodbye { alive_ms }, now, now + self.config.drop_time);
    }

    /// A newcomer left before it had answered.
    fn forget_newcomer(&mut self, member: &Member, alive_ms: i64, now: Time) {
        if let Some(record) = self.newcomers.forget(member) {
            self.gone.insert(&record, alive_ms.min(record.alive_ms().saturating_add(SLACK_MS)), now);
            self.look_after(now);
        }
    }

    /// A member left on purpose; what it sent up to `alive_ms` does not bring it back.
    fn leave(&mut self, member: &Member, alive_ms: i64, now: Time, out: &mut Vec<Action>) {
        if let Some(entry) = self.members.get(member) {
            self.gone.insert(&entry.record, alive_ms.min(entry.latest(now)), now);
            self.look_after(now);
            self.remove(member, Departure::Shutdown, out);
        }
    }

    fn remove(&mut self, member: &Member, why: Departure, out: &mut Vec<Action>) {
        if let Some(entry) = self.members.remove(member) {
            self.checks.cancel(&entry.record);
            out.push(Action::Raise(MemberEvent::Removed(entry.record, why)));
        }
    }

    /// Something new will have to be forgotten one day.
    fn look_after(&mut self, now: Time) {
        self.expiry = self.expiry.min(now + self.config.drop_time);
    }

    /// Removes who was silent for too long. Looks at all members, therefore not at each call but when the one who had
    /// been silent longest at the last call may have expired.
    fn expire(&mut self, now: Time, out: &mut Vec<Action>) {
        let limit = self.config.drop_time;
        if now.since(self.expiry) >= limit / 2 {
            // This process itself stood still: nobody could be heard.
            self.members.values_mut().for_each(|entry| entry.heard = now);
        }
        let expired: Vec<_> = self
            .members
            .values()
            .filter(|entry| now.since(entry.heard) >= limit)
            .map(|entry| (Arc::clone(&entry.record), entry.leaving))
            .collect();
        for (member, leaving) in expired {
            match leaving {
                // It had said so.
                Some(alive_ms) => self.leave(&member, alive_ms, now, out),
                None => self.remove(&member, Departure::Expired, out),
            }
        }
        self.newcomers.expire(limit, now);
        self.gone.expire(limit, now);
        let oldest = self.members.values().map(|entry| entry.heard).min();
        let others = (self.newcomers.len() > 0 || !self.gone.is_empty()).then_some(now);
        self.expiry = oldest.into_iter().chain(others).min().map_or(Time::NEVER, |heard| heard + limit);
    }

    fn count(&self) {
        self.counters.members.set(self.members.len());
        self.counters.newcomers.set(self.newcomers.len());
    }
}

impl Entry {
    /// The highest alive time that the member can have by now, in its own count.
    fn latest(&self, now: Time) -> i64 {
        let elapsed = i64::try_from(now.since(self.heard).as_millis()).unwrap_or(i64::MAX);
        self.alive_ms.saturating_add(elapsed).saturating_add(SLACK_MS)
    }
}
