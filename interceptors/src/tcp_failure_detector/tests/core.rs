//! The core alone: made-up times, whole lists of actions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Departure, FaultKind, Member, MemberEvent, MemberId, ProbeResult, Suspicion, Time};

use crate::tcp_failure_detector::core::{Action, Census, Core, SLOW, SPACING, Timing};
use crate::testing::member_of_ours as member;

use Action::{Probe, Raise, WakeAt};
use MemberEvent::{Added, Removed, Suspected, Updated};
use ProbeResult::{Answered, Refused, TimedOut, Unreachable};

const RECHECK: Duration = Duration::from_secs(1);

fn fresh() -> Core {
    Core::new(Timing { recheck: RECHECK, close_watch: Duration::from_secs(300) })
}

const fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn probe(number: u16, ticket: u64) -> Action {
    Probe { member: member(number), ticket }
}

/// A core that has announced member 1 at time 0; the next ticket is 1.
fn with_member() -> Core {
    let mut core = fresh();
    assert_eq!(core.event(Added(member(1)), ms(0)), [probe(1, 0)]);
    assert_eq!(core.probed(&member(1), 0, Answered, ms(0)), [Raise(Added(member(1)))]);
    core
}

#[test]
fn a_newcomer_is_announced_when_it_answers() {
    let mut core = fresh();
    let m = member(1);
    assert_eq!(core.event(Added(m.clone()), ms(0)), [probe(1, 0)]);
    // Refused, it is tried again soon.
    assert_eq!(core.probed(&m, 0, Refused, ms(1)), [WakeAt(ms(1001))]);
    assert_eq!(core.census(), Census { members: 0, suspects: 0, unverified: 1 });
    assert_eq!(core.tick(ms(1001)), [probe(1, 1), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&m, 1, TimedOut, ms(2001)), [WakeAt(ms(3001))]);
    // The service has news of it: reason enough.
    assert_eq!(core.event(Updated(m.clone()), ms(2100)), [probe(1, 2), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&m, 2, Answered, ms(2101)), [Raise(Added(m.clone()))]);
    // Known: not announced twice.
    assert_eq!(core.event(Added(m.clone()), ms(2200)), []);
    let renamed = Arc::new(m.as_ref().clone().with_payload("new"));
    assert_eq!(core.event(Updated(renamed.clone()), ms(2300)), [Raise(Updated(renamed))]);
}

#[test]
fn a_newcomer_that_stays_away_is_tried_less_often_and_then_forgotten() {
    let mut core = fresh();
    core.event(Added(member(1)), ms(0));
    let mut now = ms(0);
    let mut pauses = Vec::new();
    for ticket in 0..7 {
        let Some(WakeAt(at)) = core.probed(&member(1), ticket, Unreachable, now).pop() else { panic!() };
        pauses.push((at - now).as_secs());
        now = at;
        assert_eq!(core.tick(now), [probe(1, ticket + 1), WakeAt(Time::NEVER)]);
    }
    assert_eq!(pauses, [1, 1, 1, 1, 1, 5, 5]);
    assert_eq!(core.event(Removed(member(1), Departure::Expired), now), []);
    // The probe in flight comes too late.
    assert_eq!(core.probed(&member(1), 7, Answered, now), []);
    assert_eq!(core.census(), Census::default());
}

#[test]
fn leaving_on_purpose_is_believed() {
    for why in [Departure::Shutdown, Departure::Excluded, Departure::Stopped] {
        let mut core = with_member();
        assert_eq!(core.event(Removed(member(1), why), ms(10)), [Raise(Removed(member(1), why))]);
        assert_eq!(core.census(), Census::default());
        assert_eq!(core.event(Removed(member(1), why), ms(20)), []);
    }
}

#[test]
fn a_record_that_says_good_bye_adds_nobody() {
    let mut core = fresh();
    let leaving = Arc::new(member(1).as_ref().clone().with_command(tribes_core::member::SHUTDOWN_COMMAND));
    assert_eq!(core.event(Added(leaving), ms(0)), []);
}

#[test]
fn a_silent_member_that_does_not_answer_is_removed() {
    for result in [TimedOut, Refused, Unreachable, ProbeResult::Replaced] {
        for why in [Departure::Expired, Departure::Failed] {
            let mut core = with_member();
            assert_eq!(core.event(Removed(member(1), why), ms(3000)), [probe(1, 1)]);
            assert_eq!(core.probed(&member(1), 1, result, ms(4000)), [Raise(Removed(member(1), Departure::Failed))]);
            assert_eq!(core.census(), Census::default());
        }
    }
}

#[test]
fn a_silent_member_that_answers_is_a_suspect_until_it_is_heard_of_or_dies() {
    let mut core = with_member();
    core.event(Removed(member(1), Departure::Expired), ms(3000));
    let suspected = Raise(Suspected(member(1), Suspicion::Silent));
    assert_eq!(core.probed(&member(1), 1, Answered, ms(3001)), [suspected, WakeAt(ms(4001))]);
    assert_eq!(core.census(), Census { members: 1, suspects: 1, unverified: 0 });
    // Said once, however often it answers; and never forgotten (T34).
    let (mut now, mut ticket) = (ms(4001), 2);
    while now - ms(3001) < Duration::from_secs(700) {
        assert_eq!(core.tick(now), [probe(1, ticket), WakeAt(Time::NEVER)]);
        let pace = if now - ms(3001) < Duration::from_secs(300) { RECHECK } else { SLOW };
        assert_eq!(core.probed(&member(1), ticket, Answered, now), [WakeAt(now + pace)]);
        (now, ticket) = (now + pace, ticket + 1);
    }
    // Heard of again: nothing to say, and no more probes.
    assert_eq!(core.event(Added(member(1)), now), [WakeAt(Time::NEVER)]);
    assert_eq!(core.census(), Census { members: 1, suspects: 0, unverified: 0 });
    // Silent again, and then dead.
    assert_eq!(core.event(Removed(member(1), Departure::Expired), now + RECHECK), [probe(1, ticket)]);
    core.probed(&member(1), ticket, Answered, now + RECHECK);
    core.tick(now + RECHECK * 2);
    let dead = core.probed(&member(1), ticket + 1, TimedOut, now + RECHECK * 3);
    assert_eq!(dead, [Raise(Removed(member(1), Departure::Failed))]);
}

#[test]
fn a_closed_connection_has_it_probed_at_once() {
    let closed = || Suspected(member(1), Suspicion::ConnectionClosed);
    let mut core = with_member();
    assert_eq!(core.event(closed(), ms(1000)), [probe(1, 1)]);
    assert_eq!(core.probed(&member(1), 1, Answered, ms(1001)), []);
    assert_eq!(core.event(closed(), ms(2000)), [probe(1, 2)]);
    let refused = core.probed(&member(1), 2, Refused, ms(2001));
    // Dead; the service still lists it, so it is tried again at leisure.
    assert_eq!(refused, [Raise(Removed(member(1), Departure::Failed)), WakeAt(ms(2001) + SLOW)]);
    assert_eq!(core.event(closed(), ms(2100)), []);
    assert_eq!(core.heartbeat(ms(5000)), [probe(1, 3), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&member(1), 3, Refused, ms(5001)), [WakeAt(ms(5001) + SLOW)]);
    assert_eq!(core.tick(ms(10_001)), [probe(1, 4), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&member(1), 4, Answered, ms(10_002)), [Raise(Added(member(1)))]);
}

#[test]
fn a_loaded_machine_gets_a_second_chance_unless_it_is_silent() {
    let mut core = with_member();
    core.event(Suspected(member(1), Suspicion::ConnectionClosed), ms(1000));
    assert_eq!(core.probed(&member(1), 1, TimedOut, ms(2000)), [probe(1, 2)]);
    assert_eq!(core.probed(&member(1), 2, Answered, ms(2500)), []);
    core.fault(&member(1), &FaultKind::AckTimeout(RECHECK), ms(3000));
    assert_eq!(core.probed(&member(1), 3, TimedOut, ms(4000)), [probe(1, 4)]);
    let dead = core.probed(&member(1), 4, TimedOut, ms(5000));
    assert_eq!(dead[0], Raise(Removed(member(1), Departure::Failed)));

    // Word of its silence while it is being probed ends the patience.
    let mut core = with_member();
    core.event(Suspected(member(1), Suspicion::SendFailed), ms(1000));
    assert_eq!(core.event(Suspected(member(1), Suspicion::Silent), ms(1500)), []);
    assert_eq!(core.probed(&member(1), 1, TimedOut, ms(2000))[0], Raise(Removed(member(1), Departure::Failed)));
}

#[test]
fn an_answer_ends_the_talk_of_silence() {
    let mut core = with_member();
    assert_eq!(core.event(Suspected(member(1), Suspicion::Silent), ms(1000)), [probe(1, 1)]);
    assert_eq!(core.probed(&member(1), 1, Answered, ms(1001)), []);
    core.event(Suspected(member(1), Suspicion::ConnectionClosed), ms(2000));
    assert_eq!(core.probed(&member(1), 2, TimedOut, ms(3000)), [probe(1, 3)]);
}

#[test]
fn what_this_side_causes_has_nobody_probed() {
    let mut core = with_member();
    for kind in [
        FaultKind::QueueFull,
        FaultKind::WouldDeadlock,
        FaultKind::RemoteFailure(None),
        FaultKind::Left,
        FaultKind::Stopped,
        FaultKind::Dropped { by: "test", reason: "test" },
    ] {
        assert_eq!(core.fault(&member(1), &kind, ms(1000)), [], "{kind:?}");
    }
    // Nor what happens to strangers.
    assert_eq!(core.fault(&member(2), &FaultKind::Connect("refused".to_owned()), ms(1000)), []);
    assert_eq!(core.fault(&member(1), &FaultKind::Connect("refused".to_owned()), ms(1000)), [probe(1, 1)]);
}

#[test]
fn another_process_at_its_address_proves_its_death() {
    let mut core = with_member();
    core.fault(&member(1), &FaultKind::Timeout(RECHECK), ms(1000));
    let replaced = core.fault(&member(1), &FaultKind::Replaced(MemberId::ZERO), ms(1001));
    assert_eq!(replaced, [Raise(Removed(member(1), Departure::Failed)), WakeAt(ms(1001) + SLOW)]);
    // The probe that was in flight has no say any more.
    assert_eq!(core.probed(&member(1), 1, Answered, ms(1002)), []);
    assert_eq!(core.fault(&member(1), &FaultKind::Replaced(MemberId::ZERO), ms(1003)), []);
}

#[test]
fn probes_of_one_member_are_spaced() {
    let fault = FaultKind::Disconnected("reset".to_owned());
    let mut core = with_member();
    assert_eq!(core.fault(&member(1), &fault, ms(1000)), [probe(1, 1)]);
    // Said while the probe is in flight: its result may be older than that.
    assert_eq!(core.fault(&member(1), &fault, ms(1000)), []);
    assert_eq!(core.probed(&member(1), 1, Answered, ms(1001)), [WakeAt(ms(1001) + SPACING)]);
    assert_eq!(core.fault(&member(1), &fault, ms(1002)), [WakeAt(ms(1000) + SPACING)]);
    let due = ms(1000) + SPACING;
    assert_eq!(core.tick(due), [probe(1, 2), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&member(1), 2, Answered, due), []);
    assert_eq!(core.fault(&member(1), &fault, due), [WakeAt(due + SPACING)]);
}

#[test]
fn a_suspect_heard_of_during_its_probe_has_the_patience_due_to_a_member() {
    let mut core = with_member();
    core.event(Removed(member(1), Departure::Expired), ms(3000));
    assert_eq!(core.event(Added(member(1)), ms(3500)), []);
    assert_eq!(core.probed(&member(1), 1, TimedOut, ms(4000)), [probe(1, 2)]);
    assert_eq!(core.probed(&member(1), 2, Answered, ms(4001)), []);
}

#[test]
fn one_probe_at_a_time_whatever_the_service_says() {
    let mut core = fresh();
    let m = member(1);
    assert_eq!(core.event(Added(m.clone()), ms(0)), [probe(1, 0)]);
    for _ in 0..3 {
        assert_eq!(core.event(Removed(m.clone(), Departure::Shutdown), ms(1)), []);
        assert_eq!(core.census(), Census::default());
        assert_eq!(core.event(Added(m.clone()), ms(2)), []);
    }
    // It may have started since: another try, soon.
    assert_eq!(core.probed(&m, 0, Refused, ms(3)), [WakeAt(ms(3) + SPACING)]);
    assert_eq!(core.tick(ms(103)), [probe(1, 1), WakeAt(Time::NEVER)]);
    core.event(Removed(m.clone(), Departure::Shutdown), ms(104));
    // Nobody asks any more.
    assert_eq!(core.probed(&m, 1, Answered, ms(105)), []);
    assert_eq!(core.census(), Census::default());
}

#[test]
fn after_a_restart_old_results_mean_nothing() {
    let mut core = fresh();
    core.event(Added(member(1)), ms(0));
    core.clear();
    core.event(Added(member(1)), ms(1));
    assert_eq!(core.probed(&member(1), 0, Refused, ms(2)), []);
    assert_eq!(core.probed(&member(1), 1, Answered, ms(2)), [Raise(Added(member(1)))]);
}

/// A made-up group: who really lives, and what the service below says of them.
struct Fiction {
    core: Core,
    now: Time,
    rng: fastrand::Rng,
    seed: u64,
    alive: BTreeSet<u16>,
    listed: BTreeSet<u16>,
    /// Announced above, as the actions said.
    announced: BTreeSet<u16>,
    /// Probes in flight: ticket to member, with what they will find.
    probes: BTreeMap<u64, (u16, ProbeResult)>,
    /// Members whose last probe was made to time out although they live.
    slow: BTreeSet<u16>,
    wake_at: Time,
}

const MEMBERS: u16 = 6;

impl Fiction {
    fn perform(&mut self, actions: Vec<Action>) {
        let Self { seed, now, .. } = *self;
        for action in actions {
            match action {
                Raise(event) => {
                    let number = u16::try_from(event.member().port()).unwrap();
                    match event {
                        Added(_) => assert!(self.announced.insert(number), "seed {seed}: {number} added twice, {now}"),
                        Removed(_, Departure::Failed) => {
                            assert!(self.announced.remove(&number), "seed {seed}: {number} removed, not added, {now}");
                            assert!(!self.alive.contains(&number), "seed {seed}: {number} removed alive, {now}");
                        }
                        Removed(..) => assert!(self.announced.remove(&number), "seed {seed}: {number} unknown, {now}"),
                        _ => assert!(self.announced.contains(&number), "seed {seed}: {number} unknown, {now}"),
                    }
                }
                Probe { member, ticket } => {
                    let number = u16::try_from(member.port()).unwrap();
                    assert!(
                        self.probes.values().all(|(probed, _)| *probed != number),
                        "seed {seed}: {number} probed twice at a time, {now}"
                    );
                    let alive = self.alive.contains(&number);
                    // A living member may be slow once, if its heartbeats come.
                    let slow =
                        alive && self.listed.contains(&number) && !self.slow.contains(&number) && self.rng.u8(..8) == 0;
                    let result = match (alive, slow) {
                        (true, false) => Answered,
                        (true, true) => TimedOut,
                        (false, _) => self.rng.choice([Refused, TimedOut, Unreachable]).unwrap(),
                    };
                    if slow {
                        self.slow.insert(number)
                    } else {
                        self.slow.remove(&number)
                    };
                    self.probes.insert(ticket, (number, result));
                }
                WakeAt(at) => self.wake_at = at,
            }
        }
    }

    /// The timer and the probes of `pass` from now.
    fn pass(&mut self, pass: Duration) {
        let end = self.now + pass;
        loop {
            while let Some(ticket) = self.rng.choice(self.probes.keys().copied().collect::<Vec<_>>()) {
                let (number, mut result) = self.probes.remove(&ticket).unwrap();
                // What was found is true at the end of the probe as well, unless it died meanwhile.
                if result.is_alive() && !self.alive.contains(&number) {
                    result = TimedOut;
                }
                // It started meanwhile; or it is slow, but no longer heard of: one that is both silent and slow is taken for dead.
                let patience = self.listed.contains(&number);
                if self.alive.contains(&number) && !(result == TimedOut && patience) {
                    result = Answered;
                }
                let actions = self.core.probed(&member(number), ticket, result, self.now);
                self.perform(actions);
            }
            if self.wake_at > end {
                break;
            }
            self.now = self.now.max(self.wake_at);
            let actions = self.core.tick(self.now);
            self.perform(actions);
        }
        self.now = end;
    }

    fn step(&mut self) {
        let number = self.rng.u16(1..=MEMBERS);
        let m: Arc<Member> = member(number);
        let now = self.now;
        let event = match self.rng.u8(..10) {
            // A process never comes back under the id of a dead one: it starts only while nobody knows it.
            0 | 1 => {
                if !self.listed.contains(&number) && !self.announced.contains(&number) {
                    self.alive.insert(number);
                }
                self.listed.insert(number);
                Some(Added(m))
            }
            2 => {
                self.alive.remove(&number);
                None
            }
            3 => self.listed.contains(&number).then(|| Updated(m)),
            4 => Some(Suspected(m, Suspicion::ConnectionClosed)),
            5 => {
                self.listed.remove(&number);
                Some(Removed(m, self.rng.choice([Departure::Expired, Departure::Failed]).unwrap()))
            }
            6 => {
                self.listed.remove(&number);
                Some(Removed(m, Departure::Shutdown))
            }
            7 => {
                let kind = self.rng.choice([
                    FaultKind::Timeout(RECHECK),
                    FaultKind::QueueFull,
                    FaultKind::Connect("no".to_owned()),
                    FaultKind::RemoteFailure(None),
                ]);
                let actions = self.core.fault(&m, &kind.unwrap(), now);
                self.perform(actions);
                None
            }
            8 => {
                let actions = self.core.heartbeat(now);
                self.perform(actions);
                None
            }
            _ => {
                let pass = Duration::from_millis(self.rng.u64(..3000));
                self.pass(pass);
                None
            }
        };
        if let Some(event) = event {
            let actions = self.core.event(event, now);
            self.perform(actions);
        }
    }

    /// Everything quiet: what is announced above must be the truth.
    fn settle(&mut self) {
        self.pass(Duration::from_secs(1));
        let now = self.now;
        // The service notices who is dead, and each departure has been said.
        for number in 1..=MEMBERS {
            if !self.alive.contains(&number) && self.listed.remove(&number) {
                let actions = self.core.event(Removed(member(number), Departure::Expired), now);
                self.perform(actions);
            }
        }
        self.pass(SLOW * 3);
        let Self { seed, .. } = *self;
        for number in 1..=MEMBERS {
            let announced = self.announced.contains(&number);
            if !self.alive.contains(&number) {
                assert!(!announced, "seed {seed}: {number} is dead, and still a member");
            } else if self.listed.contains(&number) {
                assert!(announced, "seed {seed}: {number} lives and is listed, yet no member");
            }
        }
        assert_eq!(self.core.census().members, self.announced.len(), "seed {seed}");
    }
}

#[test]
fn whatever_happens_the_living_stay_and_the_dead_go() {
    let first = fastrand::u64(..);
    eprintln!("first seed {first}");
    for seed in (0..400).map(|offset| first.wrapping_add(offset)) {
        let mut fiction = Fiction {
            core: fresh(),
            now: Time::ZERO,
            rng: fastrand::Rng::with_seed(seed),
            seed,
            alive: BTreeSet::new(),
            listed: BTreeSet::new(),
            announced: BTreeSet::new(),
            probes: BTreeMap::new(),
            slow: BTreeSet::new(),
            wake_at: Time::NEVER,
        };
        for _ in 0..6 {
            for _ in 0..40 {
                fiction.step();
            }
            fiction.settle();
        }
    }
}

#[test]
fn a_death_right_after_a_goodbye_is_a_shutdown() {
    // Its sockets close before the service below has verified what it said.
    let mut core = with_member();
    core.event(Suspected(member(1), Suspicion::GoodbyeUnconfirmed), ms(1000));
    core.event(Suspected(member(1), Suspicion::ConnectionClosed), ms(1001));
    let told = core.probed(&member(1), 1, Refused, ms(1002));
    assert!(told.contains(&Raise(Removed(member(1), Departure::Shutdown))), "{told:?}");
    // The service's own word comes later and is old news.
    assert!(
        !core.event(Removed(member(1), Departure::Shutdown), ms(1010)).iter().any(|action| matches!(action, Raise(_)))
    );
    // Long after, the goodbye explains nothing.
    let mut core = with_member();
    core.event(Suspected(member(1), Suspicion::GoodbyeUnconfirmed), ms(1000));
    core.probed(&member(1), 1, Answered, ms(1001));
    core.event(Suspected(member(1), Suspicion::ConnectionClosed), ms(60_000));
    assert!(core.probed(&member(1), 2, Refused, ms(60_001)).contains(&Raise(Removed(member(1), Departure::Failed))));
}

#[test]
fn the_goodbye_of_a_tribes_member_may_come_after_its_connection_is_closed() {
    let theirs = crate::testing::member(1);
    assert!(!theirs.id().is_ours());
    let with_theirs = || {
        let mut core = fresh();
        core.event(Added(theirs.clone()), ms(0));
        core.probed(&theirs, 0, Answered, ms(0));
        core
    };
    let closed = Suspected(theirs.clone(), Suspicion::ConnectionClosed);
    let probe = Probe { member: theirs.clone(), ticket: 1 };

    // The service below believes the good-bye: no probe at all.
    let mut core = with_theirs();
    assert_eq!(core.event(closed.clone(), ms(1000)), [WakeAt(ms(1025))]);
    assert_eq!(core.fault(&theirs, &FaultKind::Connect("refused".to_owned()), ms(1010)), []);
    let left = Removed(theirs.clone(), Departure::Shutdown);
    assert_eq!(core.event(left.clone(), ms(1011)), [Raise(left.clone()), WakeAt(Time::NEVER)]);

    // It wants to verify it: probed at once, and not found.
    let mut core = with_theirs();
    core.event(closed.clone(), ms(1000));
    let unconfirmed = Suspected(theirs.clone(), Suspicion::GoodbyeUnconfirmed);
    assert_eq!(core.event(unconfirmed, ms(1003)), [probe.clone(), WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&theirs, 1, Refused, ms(1004))[0], Raise(left));

    // There was none: dead.
    let mut core = with_theirs();
    core.event(closed, ms(1000));
    assert_eq!(core.tick(ms(1025)), [probe, WakeAt(Time::NEVER)]);
    assert_eq!(core.probed(&theirs, 1, Refused, ms(1026))[0], Raise(Removed(theirs.clone(), Departure::Failed)));
}
