//! Who is believed to be alive, without I/O: what happened and the time go in, what to do comes out.
//!
//! Two things are known of each member: whether the service below *lists* it, and whether it was *announced* above.
//!
//! | listed | announced | the member is |
//! |---|---|---|
//! | yes | no | to be verified: a newcomer, or lost (it failed a probe, yet the service still hears of it) |
//! | yes | yes | a member; probed when something speaks against it |
//! | no | yes | silent: a suspect as long as it answers probes |
//! | no | no | forgotten, as soon as no probe of it is in flight |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Departure, FaultKind, Member, MemberEvent, ProbeResult, Suspicion, Time};

/// How often a lost member is probed, and a suspect after the time of close watch.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// Probes of one member begin at least this far apart, whatever is said against it; a member that lives and whose
/// messages fail all the same is not to be flooded with connections.
pub(super) const SPACING: Duration = Duration::from_millis(20);
/// A member that dies this soon after a good-bye has left on purpose.
const GOODBYE_HOLDS: Duration = Duration::from_secs(5);
/// A member of Tribes says good-bye by a datagram and then closes its connections. The datagram is read by somebody else, who
/// may be later: whatever speaks against such a member is looked into after this time. One of ours says it on the connection.
const GOODBYE_TRAVELS: Duration = Duration::from_millis(25);
/// A newcomer that cannot be verified is tried again this many times at the pace of suspects.
const EAGER_TRIES: u32 = 5;

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the layers above.
    Raise(MemberEvent),
    /// Probe the member and report the result with this ticket.
    Probe { member: Arc<Member>, ticket: u64 },
    /// Call [`Core::tick`] at this time and not before: replaces the time asked for last.
    WakeAt(Time),
}

/// The times that matter here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// How often a suspect is probed.
    pub(super) recheck: Duration,
    /// For how long at that pace.
    pub(super) close_watch: Duration,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Core {
    timing: Timing,
    watches: BTreeMap<Arc<Member>, Watch>,
    next_ticket: u64,
    /// The last [`Action::WakeAt`]; `None` when it has come.
    wake_at: Option<Time>,
}

/// What is known of one member.
#[derive(Debug)]
struct Watch {
    /// The newest record.
    member: Arc<Member>,
    listed: bool,
    announced: bool,
    /// The ticket of the probe in flight.
    probe: Option<u64>,
    /// Something was said against it while the probe was in flight: a good result may be older than that.
    again: bool,
    /// When the last probe was asked for.
    probed_at: Option<Time>,
    /// When to probe it next, if no probe is in flight.
    next: Time,
    /// Its heartbeats stopped: one probe without an answer is then enough.
    silent: bool,
    /// Probes without an answer, one after another.
    unanswered: u32,
    /// Probes in vain since it was listed.
    tries: u32,
    /// Since when it is a suspect that answers.
    suspect_since: Option<Time>,
    /// When it said good-bye without being believed yet.
    goodbye: Option<Time>,
}

/// How many members there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) members: usize,
    pub(super) suspects: usize,
    pub(super) unverified: usize,
}

impl Core {
    pub(super) const fn new(timing: Timing) -> Self {
        Self { timing, watches: BTreeMap::new(), next_ticket: 0, wake_at: Some(Time::NEVER) }
    }

    /// Forgets everything, as at a new start, and wants no waking. Results of probes in flight are not taken for later ones.
    pub(super) fn clear(&mut self) {
        self.watches.clear();
        self.wake_at = Some(Time::NEVER);
    }

    /// The service below says something of a member.
    pub(super) fn event(&mut self, event: MemberEvent, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            // Its record says that it leaves: the service will say so, too.
            MemberEvent::Added(member) | MemberEvent::Updated(member) if member.is_leaving() => {}
            MemberEvent::Added(member) => self.listed(member, false, now, &mut out),
            MemberEvent::Updated(member) => self.listed(member, true, now, &mut out),
            MemberEvent::Suspected(member, why) => {
                if why == Suspicion::GoodbyeUnconfirmed
                    && let Some(watch) = self.watches.get_mut(&member)
                {
                    watch.goodbye = Some(now);
                }
                self.suspected(&member, why == Suspicion::Silent, now, &mut out);
            }
            MemberEvent::Removed(member, departure) => self.unlisted(&member, departure, now, &mut out),
            _ => {}
        }
        self.finish(out)
    }

    /// A message did not reach a member.
    pub(super) fn fault(&mut self, member: &Arc<Member>, kind: &FaultKind, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        match kind {
            // Its address belongs to another process: that needs no probe. One that is not announced is being probed as it is.
            FaultKind::Replaced(_) if self.watches.get(member).is_some_and(|watch| watch.announced) => {
                self.died(member, now, &mut out);
            }
            kind if kind.speaks_against_member() => self.suspected(member, false, now, &mut out),
            _ => {}
        }
        self.finish(out)
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, member: &Arc<Member>, ticket: u64, result: ProbeResult, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(watch) = self.watches.get_mut(member).filter(|watch| watch.probe == Some(ticket)) else { return out };
        watch.probe = None;
        if !watch.listed && !watch.announced {
            self.watches.remove(member);
        } else if result.is_alive() {
            watch.answered(self.timing, now, &mut out);
        } else if result == ProbeResult::TimedOut && watch.announced && !watch.silent && watch.unanswered == 0 {
            // A loaded machine is not dead: it gets a second chance, at once.
            watch.unanswered = 1;
            watch.probe(now, &mut self.next_ticket, &mut out);
        } else {
            self.died(member, now, &mut out);
        }
        self.finish(out)
    }

    /// The channel's heartbeat: all that are not certain are probed.
    pub(super) fn heartbeat(&mut self, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        for watch in self.watches.values_mut().filter(|watch| !(watch.listed && watch.announced)) {
            watch.ask(now, &mut self.next_ticket, &mut out);
        }
        self.finish(out)
    }

    /// The time asked for has come.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        self.wake_at = None;
        for watch in self.watches.values_mut().filter(|watch| watch.probe.is_none() && watch.next <= now) {
            watch.probe(now, &mut self.next_ticket, &mut out);
        }
        self.finish(out)
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for watch in self.watches.values() {
            census.members += usize::from(watch.announced);
            census.suspects += usize::from(watch.suspect_since.is_some());
            census.unverified += usize::from(watch.listed && !watch.announced);
        }
        census
    }

    fn listed(&mut self, member: Arc<Member>, updated: bool, now: Time, out: &mut Vec<Action>) {
        let watch = self.watches.entry(Arc::clone(&member)).or_insert_with(|| Watch::new(Arc::clone(&member)));
        let changed = !watch.member.same_content(&member);
        watch.member = member;
        if watch.announced && !watch.listed {
            // A suspect is back. If a probe is in flight, that still decides; it has the patience due to a member.
            watch.silent = false;
            watch.suspect_since = None;
            watch.next = Time::NEVER;
        }
        watch.listed = true;
        if !watch.announced {
            watch.ask(now, &mut self.next_ticket, out);
        } else if updated || changed {
            out.push(Action::Raise(MemberEvent::Updated(Arc::clone(&watch.member))));
        }
    }

    fn suspected(&mut self, member: &Arc<Member>, silent: bool, now: Time, out: &mut Vec<Action>) {
        // One that is not announced is being probed as it is.
        let Some(watch) = self.watches.get_mut(member).filter(|watch| watch.announced) else { return };
        watch.silent |= silent;
        if silent || !watch.listed || watch.goodbye.is_some() || member.id().is_ours() || watch.probe.is_some() {
            watch.ask(now, &mut self.next_ticket, out);
        } else {
            watch.next = watch.next.min(now + GOODBYE_TRAVELS);
        }
    }

    fn unlisted(&mut self, member: &Arc<Member>, departure: Departure, now: Time, out: &mut Vec<Action>) {
        let Some(watch) = self.watches.get_mut(member) else { return };
        watch.listed = false;
        if watch.announced && matches!(departure, Departure::Expired | Departure::Failed) {
            watch.silent = true;
            watch.ask(now, &mut self.next_ticket, out);
            return;
        }
        if watch.announced {
            // Said by the member itself and verified by the service, or decided on this side.
            out.push(Action::Raise(MemberEvent::Removed(Arc::clone(&watch.member), departure)));
        }
        watch.forget();
        // A service that adds and removes it again and again must not have it probed more than once at a time.
        if watch.probe.is_none() {
            self.watches.remove(member);
        }
    }

    /// A member is known to be dead. While the service still lists it, it may come back.
    fn died(&mut self, member: &Arc<Member>, now: Time, out: &mut Vec<Action>) {
        let Some(watch) = self.watches.get_mut(member) else { return };
        if watch.announced {
            // It closed its connections before the service had verified its good-bye.
            let said_so = watch.goodbye.is_some_and(|at| now - at < GOODBYE_HOLDS);
            let departure = if said_so { Departure::Shutdown } else { Departure::Failed };
            out.push(Action::Raise(MemberEvent::Removed(Arc::clone(&watch.member), departure)));
            watch.tries = EAGER_TRIES;
        }
        if !watch.listed {
            self.watches.remove(member);
            return;
        }
        let pace = if watch.again && !watch.announced {
            SPACING
        } else if watch.tries < EAGER_TRIES {
            self.timing.recheck
        } else {
            SLOW
        };
        watch.forget();
        (watch.listed, watch.probe) = (true, None);
        watch.tries = watch.tries.saturating_add(1);
        watch.next = now + pace;
    }

    /// Adds the time to wake at, if it is another than the one asked for last.
    fn finish(&mut self, mut out: Vec<Action>) -> Vec<Action> {
        let next = self.watches.values().filter(|watch| watch.probe.is_none()).map(|watch| watch.next).min();
        let next = next.unwrap_or(Time::NEVER);
        if self.wake_at != Some(next) {
            self.wake_at = Some(next);
            out.push(Action::WakeAt(next));
        }
        out
    }
}

impl Watch {
    const fn new(member: Arc<Member>) -> Self {
        Self {
            member,
            listed: false,
            announced: false,
            probe: None,
            again: false,
            probed_at: None,
            next: Time::NEVER,
            silent: false,
            unanswered: 0,
            tries: 0,
            suspect_since: None,
            goodbye: None,
        }
    }

    /// As if nothing had been said of it yet; a probe in flight stays so.
    fn forget(&mut self) {
        let fresh = Self::new(Arc::clone(&self.member));
        *self = Self { probe: self.probe, probed_at: self.probed_at, tries: self.tries, ..fresh };
    }

    /// Has it probed now, or a little later if that was done just now; or once more, if it is being done.
    fn ask(&mut self, now: Time, tickets: &mut u64, out: &mut Vec<Action>) {
        if self.probe.is_some() {
            self.again = true;
            return;
        }
        match self.probed_at.map(|at| at + SPACING).filter(|earliest| *earliest > now) {
            Some(earliest) => self.next = self.next.min(earliest),
            None => self.probe(now, tickets, out),
        }
    }

    fn probe(&mut self, now: Time, tickets: &mut u64, out: &mut Vec<Action>) {
        let ticket = *tickets;
        *tickets += 1;
        (self.probe, self.again, self.probed_at, self.next) = (Some(ticket), false, Some(now), Time::NEVER);
        out.push(Action::Probe { member: Arc::clone(&self.member), ticket });
    }

    /// It lives.
    fn answered(&mut self, timing: Timing, now: Time, out: &mut Vec<Action>) {
        (self.unanswered, self.tries) = (0, 0);
        if !self.announced {
            self.announced = true;
            out.push(Action::Raise(MemberEvent::Added(Arc::clone(&self.member))));
        } else if !self.listed && self.suspect_since.is_none() {
            self.suspect_since = Some(now);
            out.push(Action::Raise(MemberEvent::Suspected(Arc::clone(&self.member), Suspicion::Silent)));
        }
        self.silent = !self.listed;
        self.next = match self.suspect_since {
            Some(since) if now - since < timing.close_watch => now + timing.recheck,
            Some(_) => now + SLOW,
            None if std::mem::take(&mut self.again) => now + SPACING,
            None => Time::NEVER,
        };
    }
}
