//! The core with a made-up clock: whole lists of actions.

use std::net::Ipv4Addr;

use super::*;
use tribes_core::Env;
use tribes_core::member::SHUTDOWN_COMMAND;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn ours(port: u16) -> Member {
    Member::new(MemberId::generate(&Env::real()).unwrap(), (HERE, port).into())
}

fn java(port: u16) -> Member {
    Member::new(MemberId::from_bytes([7; 16]), (HERE, port).into())
}

fn leaving(member: &Member) -> Member {
    member.clone().with_command(SHUTDOWN_COMMAND)
}

fn added(member: &Member) -> Action {
    Action::Raise(MemberEvent::Added(Arc::new(member.clone())))
}

fn removed(member: &Member, why: Departure) -> Action {
    Action::Raise(MemberEvent::Removed(Arc::new(member.clone()), why))
}

fn suspected(member: &Member) -> Action {
    Action::Raise(MemberEvent::Suspected(Arc::new(member.clone()), Suspicion::GoodbyeUnconfirmed))
}

fn probe(ticket: u64, member: &Member) -> Action {
    Action::Probe { ticket, member: Arc::new(member.clone()), limit: Duration::from_secs(1) }
}

/// A core that hears and keeps still, so that only what is asked about is in the lists.
struct Fixture {
    core: Core,
}

impl Fixture {
    fn new() -> Self {
        Self::with(McastConfig::default())
    }

    fn with(config: McastConfig) -> Self {
        let mut core = Core::new(config, Arc::new(ours(1)), Arc::default());
        let local = Arc::clone(&core.local);
        core.start(Services::MEMBERSHIP_RX, local, at(0), &mut Vec::new());
        Self { core }
    }

    fn call(&mut self, input: impl FnOnce(&mut Core, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        input(&mut self.core, &mut out);
        out
    }

    fn heard(&mut self, member: &Member, millis: u64) -> Vec<Action> {
        self.heard_from(member, false, millis)
    }

    fn heard_from(&mut self, member: &Member, connected: bool, millis: u64) -> Vec<Action> {
        let heard = Heard { member: member.clone(), source: HERE, connected };
        self.call(|core, out| core.heard(heard, at(millis), out))
    }

    /// A heartbeat as the member itself sends it.
    fn beat(&mut self, member: &Member, millis: u64) -> Vec<Action> {
        let alive = i64::try_from(millis).unwrap();
        self.heard(&member.clone().with_alive_ms(alive), millis)
    }

    fn goodbye(&mut self, member: &Member, connected: bool, millis: u64) -> Vec<Action> {
        let alive = i64::try_from(millis).unwrap();
        self.heard_from(&leaving(member).with_alive_ms(alive), connected, millis)
    }

    fn probed(&mut self, ticket: u64, result: ProbeResult, millis: u64) -> Vec<Action> {
        self.call(|core, out| core.probed(ticket, result, at(millis), out))
    }

    fn tick(&mut self, millis: u64) -> Vec<Action> {
        self.call(|core, out| core.tick(at(millis), out))
    }

    /// Calls the core at each of its deadlines up to then.
    fn pass(&mut self, until: u64) -> Vec<(u64, Action)> {
        let mut all = Vec::new();
        while self.core.deadline() <= at(until) {
            let now = self.core.deadline();
            let out = self.call(|core, out| core.tick(now, out));
            all.extend(out.into_iter().map(|action| (now.as_nanos() / 1_000_000, action)));
        }
        all
    }

    /// Makes `member` one of the group.
    fn join(&mut self, member: &Member, millis: u64) {
        let ticket = self.core.tickets;
        assert_eq!(self.beat(member, millis), [probe(ticket, member)]);
        let alive = if member.id().is_ours() { ProbeResult::Answered } else { ProbeResult::Connected };
        assert_eq!(self.probed(ticket, alive, millis), [added(member)]);
    }

    fn count(&self, gauge: &str) -> u64 {
        self.core.counters.gauges().iter().find(|known| known.name == gauge).unwrap().value
    }
}

#[test]
fn a_newcomer_counts_once_it_has_answered() {
    let mut core = Fixture::new();
    let member = ours(2);
    assert_eq!(core.beat(&member, 10), [probe(0, &member)]);
    // Meanwhile it is heard again, with another payload.
    let changed = member.clone().with_payload("new");
    assert_eq!(core.beat(&changed, 20), []);
    let events = core.probed(0, ProbeResult::Answered, 25);
    assert_eq!(events, [added(&changed)]);
    assert!(matches!(&events[0], Action::Raise(event) if event.member().payload() == "new"));
    // From now on it is refreshed, silently.
    assert_eq!(core.beat(&changed, 500), []);
}

#[test]
fn a_forged_heartbeat_adds_nobody_and_is_retried_sparingly() {
    let mut core = Fixture::new();
    let member = ours(2);
    assert_eq!(core.beat(&member, 0), [probe(0, &member)]);
    assert_eq!(core.probed(0, ProbeResult::Refused, 1), []);
    // Too early; then once; then the pause has doubled.
    assert_eq!(core.beat(&member, 50), []);
    assert_eq!(core.beat(&member, 101), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::TimedOut, 102), []);
    assert_eq!(core.beat(&member, 250), []);
    assert_eq!(core.beat(&member, 302), [probe(2, &member)]);
    assert_eq!(core.probed(2, ProbeResult::Answered, 303), [added(&member)]);
    assert_eq!(core.count("newcomers_unanswered"), 2);
}

#[test]
fn a_newcomer_that_never_answers_is_forgotten() {
    let mut core = Fixture::new();
    core.beat(&ours(2), 0);
    core.probed(0, ProbeResult::Unreachable, 1);
    assert_eq!(core.pass(10_000), []);
    assert_eq!(core.core.newcomers.len(), 0);
    assert_eq!(core.core.deadline(), Time::NEVER);
}

#[test]
fn silence_of_the_drop_time_removes() {
    let mut core = Fixture::new();
    let (member, other) = (ours(2), ours(3));
    core.join(&member, 0);
    core.join(&other, 100);
    core.beat(&member, 500);
    assert_eq!(core.pass(3_099), []);
    assert_eq!(core.pass(3_499), [(3_100, removed(&other, Departure::Expired))]);
    assert_eq!(core.pass(60_000), [(3_500, removed(&member, Departure::Expired))]);
    assert_eq!(core.core.deadline(), Time::NEVER);
}

#[test]
fn a_change_is_an_update_and_the_alive_time_is_not() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    assert_eq!(core.beat(&member, 500), []);
    for changed in [
        member.clone().with_payload("p"),
        member.clone().with_domain("d"),
        member.clone().with_udp_port(9),
        member.clone().with_secure_port(9),
        member.clone().with_command("c"),
    ] {
        let now = core.count("heartbeats_received") * 500;
        let out = core.beat(&changed, now);
        let [Action::Raise(MemberEvent::Updated(record))] = out.as_slice() else { panic!("{out:?}") };
        assert!(record.same_content(&changed));
    }
}

#[test]
fn old_heartbeats_change_nothing_and_keep_nobody_alive() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    core.beat(&member, 500);
    let replay = member.clone().with_alive_ms(500).with_payload("");
    for millis in (600..1_900).step_by(100) {
        assert_eq!(core.heard(&replay, millis), []);
    }
    // An older payload does not come back either.
    core.heard(&member.clone().with_alive_ms(1_900).with_payload("new"), 1_900);
    assert_eq!(core.heard(&replay, 1_950), []);
    // Nothing else for half of the drop time: a probe finds out, once.
    assert_eq!(core.heard(&replay, 3_400), [probe(1, &member)]);
    assert_eq!(core.heard(&replay, 3_450), []);
    assert_eq!(core.probed(1, ProbeResult::Refused, 3_460), []);
    let gone = member.clone().with_payload("new");
    assert_eq!(core.pass(10_000), [(4_900, removed(&gone, Departure::Expired))]);
    // And a replay revives nobody: it has to answer.
    assert_eq!(core.heard(&replay, 10_000), [probe(2, &member)]);
    assert_eq!(core.probed(2, ProbeResult::Refused, 10_001), []);
}

#[test]
fn a_member_whose_clock_was_set_back_stays_by_answering() {
    let mut core = Fixture::new();
    let member = java(2);
    core.heard(&member.clone().with_alive_ms(1_790_000_000_000), 0);
    core.probed(0, ProbeResult::Connected, 0);
    let back = |millis: i64| member.clone().with_alive_ms(1_000 + millis);
    for millis in [500, 1_000] {
        assert_eq!(core.heard(&back(millis), u64::try_from(millis).unwrap()), []);
    }
    assert_eq!(core.heard(&back(1_500), 1_500), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::Connected, 1_501), []);
    // Its new count holds.
    for millis in (2_000..9_000).step_by(500) {
        assert_eq!(core.heard(&back(millis), u64::try_from(millis).unwrap()), []);
        assert_eq!(core.pass(u64::try_from(millis).unwrap()), []);
    }
}

#[test]
fn what_is_said_over_the_connection_is_believed_at_once_and_once() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    core.beat(&member, 500);
    let left = core.call(|core, out| core.departed(&member, at(600), out));
    assert_eq!(left, [removed(&member, Departure::Shutdown)]);
    // The datagrams that say the same, and a late heartbeat.
    assert_eq!(core.goodbye(&member, false, 601), []);
    assert_eq!(core.beat(&member, 550), []);
    assert_eq!(core.count("late_heartbeats"), 1);
    assert_eq!(core.pass(60_000), []);
}

#[test]
fn a_java_goodbye_without_a_connection_is_believed_at_once_even_three_times() {
    let mut core = Fixture::new();
    let member = java(2);
    core.join(&member, 0);
    assert_eq!(core.goodbye(&member, false, 700), [removed(&member, Departure::Shutdown)]);
    assert_eq!(core.goodbye(&member, false, 701), []);
    assert_eq!(core.goodbye(&member, false, 702), []);
    // It comes back as a newcomer.
    assert_eq!(core.beat(&member, 5_000), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::Connected, 5_001), [added(&member)]);
}

#[test]
fn a_goodbye_with_an_open_connection_is_verified() {
    let mut core = Fixture::new();
    let member = java(2);
    core.join(&member, 0);
    assert_eq!(core.goodbye(&member, true, 700), [suspected(&member), probe(1, &member)]);
    assert_eq!(core.goodbye(&member, true, 701), []);
    // It still answers, for it is only about to close its port; each pause is twice as long.
    assert_eq!(core.probed(1, ProbeResult::Connected, 702), []);
    assert_eq!(core.pass(752), [(752, probe(2, &member))]);
    assert_eq!(core.probed(2, ProbeResult::Connected, 753), []);
    assert_eq!(core.pass(853), [(853, probe(3, &member))]);
    assert_eq!(core.probed(3, ProbeResult::Refused, 854), [removed(&member, Departure::Shutdown)]);
}

#[test]
fn a_closed_connection_hurries_the_verification() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    let suspect = |core: &mut Core, out: &mut Vec<Action>, now| {
        core.suspected(&member, Suspicion::ConnectionClosed, at(now), out);
    };
    // Without a good-bye it is the failure detector's business.
    assert_eq!(core.call(|core, out| suspect(core, out, 600)), []);
    core.goodbye(&member, true, 700);
    core.probed(1, ProbeResult::Answered, 701);
    core.pass(751);
    core.probed(2, ProbeResult::Answered, 752);
    assert_eq!(core.call(|core, out| suspect(core, out, 760)), [probe(3, &member)]);
    assert_eq!(core.probed(3, ProbeResult::Refused, 761), [removed(&member, Departure::Shutdown)]);
}

#[test]
fn a_forged_goodbye_removes_nobody() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    // Connected or not: one of ours is asked.
    assert_eq!(core.goodbye(&member, false, 600), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::Answered, 601), []);
    // A newer heartbeat ends the suspicion.
    assert_eq!(core.beat(&member, 620), []);
    assert_eq!(core.core.checks.deadline(), Time::NEVER);
    // One that claims to be far in the future is not ended by heartbeats, but by its time.
    let forged = leaving(&member).with_alive_ms(i64::MAX);
    assert_eq!(core.heard_from(&forged, true, 700), [suspected(&member), probe(2, &member)]);
    let mut ticket = 2;
    for millis in (700..6_000).step_by(10) {
        if millis % 500 == 0 {
            core.beat(&member, millis);
        }
        if core.core.probes.contains_key(&ticket) {
            core.probed(ticket, ProbeResult::Answered, millis);
        }
        for (_, action) in core.pass(millis) {
            let Action::Probe { ticket: next, .. } = action else { panic!("{action:?}") };
            ticket = next;
        }
    }
    assert!((4..10).contains(&ticket), "{ticket} probes");
    assert_eq!(core.core.members.len(), 1);
}

#[test]
fn a_goodbye_that_nothing_refutes_ends_as_a_shutdown() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    core.beat(&member, 500);
    core.goodbye(&member, true, 600);
    // It drains its queues for longer than we ask, and sends no more heartbeats.
    let mut ends = Vec::new();
    for millis in 600..4_000 {
        for ticket in core.core.probes.keys().copied().collect::<Vec<_>>() {
            core.probed(ticket, ProbeResult::Answered, millis);
        }
        ends.extend(core.pass(millis).into_iter().filter(|(_, action)| matches!(action, Action::Raise(_))));
    }
    assert_eq!(ends, [(3_500, removed(&member, Departure::Shutdown))]);
}

#[test]
fn after_a_goodbye_a_newer_heartbeat_counts_only_with_an_answer() {
    let mut core = Fixture::new();
    let member = java(2);
    core.join(&member, 0);
    core.goodbye(&member, false, 700);
    assert_eq!(core.heard(&member.clone().with_alive_ms(699), 710), []);
    assert_eq!(core.heard(&member.clone().with_alive_ms(5_000), 720), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::Refused, 721), []);
    assert_eq!(core.core.members.len(), 0);
}

#[test]
fn a_process_may_come_back_under_its_old_id() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    core.beat(&member, 20_000);
    core.call(|core, out| core.departed(&member, at(20_100), out));
    // Its new heartbeats look like old ones at first.
    let again = |millis: i64| member.clone().with_alive_ms(millis);
    assert_eq!(core.heard(&again(0), 20_400), []);
    assert_eq!(core.heard(&again(500), 20_900), [probe(1, &member)]);
    assert_eq!(core.probed(1, ProbeResult::Answered, 20_901), [added(&member)]);
    // After a crash nobody even notices: it answers.
    core.heard(&again(5_000), 25_000);
    assert_eq!(core.heard(&again(0), 25_500), []);
    assert_eq!(core.heard(&again(1_000), 26_500), [probe(2, &member)]);
    assert_eq!(core.probed(2, ProbeResult::Answered, 26_501), []);
    assert_eq!(core.heard(&again(1_500), 27_000), []);
    assert_eq!(core.pass(29_999), []);
}

#[test]
fn a_restarted_member_replaces_its_predecessor() {
    let mut core = Fixture::new();
    let (former, member) = (ours(2), ours(2));
    core.join(&former, 0);
    assert_eq!(core.beat(&member, 100), [probe(1, &member)]);
    let events = core.probed(1, ProbeResult::Answered, 101);
    assert_eq!(events, [removed(&former, Departure::Failed), added(&member)]);
    // A Java member cannot prove that it is not its predecessor: both stay until the old one expires.
    let other = java(2);
    assert_eq!(core.beat(&other, 200), [probe(2, &other)]);
    assert_eq!(core.probed(2, ProbeResult::Connected, 201), [added(&other)]);
}

#[test]
fn oneself_is_never_a_member() {
    let mut core = Fixture::new();
    let local = core.core.local.as_ref().clone();
    assert_eq!(core.beat(&local, 1), []);
    assert_eq!(core.goodbye(&local, true, 2), []);
    // A predecessor at the same address, of ours or Java's.
    assert_eq!(core.beat(&ours(1), 3), []);
    assert_eq!(core.beat(&java(1), 4), []);
    assert_eq!(core.count("own_address"), 2);
}

#[test]
fn a_foreign_source_is_counted_and_refused_when_strict() {
    let member = ours(2);
    let heard = |member: &Member| Heard { member: member.clone(), source: [10, 0, 0, 9].into(), connected: false };
    let mut core = Fixture::new();
    assert_eq!(core.call(|core, out| core.heard(heard(&member), at(1), out)), [probe(0, &member)]);
    assert_eq!(core.count("foreign_source"), 1);
    let mut core = Fixture::with(McastConfig::default().with_strict_source(true));
    assert_eq!(core.call(|core, out| core.heard(heard(&member), at(1), out)), []);
    assert_eq!(core.count("foreign_source"), 1);
    // The same address in its other spelling is no foreign one.
    let mapped = Heard { member: member.clone(), source: "::ffff:127.0.0.1".parse().unwrap(), connected: false };
    assert_eq!(core.call(|core, out| core.heard(mapped, at(1), out)), [probe(0, &member)]);
}

#[test]
fn a_flood_of_forged_identities_stays_within_bounds() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    let mut probes = 0;
    for number in 0..100_000_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let port = u16::try_from(1_000 + number % 60_000).unwrap();
        let forged = Member::new(MemberId::from_bytes(id), (HERE, port).into());
        let millis = 1 + u64::from(number) / 100;
        for action in core.beat(&forged, millis) {
            let Action::Probe { ticket, .. } = action else { panic!("{action:?}") };
            probes += 1;
            // Some are refused at once, the others never answered.
            if number % 2 == 0 {
                core.probed(ticket, ProbeResult::Refused, millis);
            }
        }
        assert!(core.core.newcomers.len() <= 256 && core.core.probes.len() <= 32);
        if number % 50_000 == 0 {
            core.beat(&member, millis);
        }
    }
    assert!(probes > 32, "{probes}");
    assert!(core.count("newcomers_refused") > 90_000);
    assert_eq!(core.core.members.len(), 1);
    // A connection is harder to forge: who has one gets in.
    let real = ours(999);
    core.call(|core, out| core.heard_of(&real, at(1_001), out));
    for ticket in core.core.probes.keys().copied().collect::<Vec<_>>() {
        core.probed(ticket, ProbeResult::TimedOut, 1_002);
    }
    let all: Vec<_> = (0..20)
        .flat_map(|_| {
            let running =
                core.core.probes.iter().map(|(ticket, member)| (*ticket, **member == real)).collect::<Vec<_>>();
            running
                .into_iter()
                .flat_map(|(ticket, real)| {
                    let result = if real { ProbeResult::Answered } else { ProbeResult::TimedOut };
                    core.probed(ticket, result, 1_003)
                })
                .collect::<Vec<_>>()
        })
        .filter(|action| matches!(action, Action::Raise(_)))
        .collect();
    assert_eq!(all, [added(&real)]);
}

#[test]
fn the_group_is_bounded() {
    let mut core = Fixture::with(McastConfig::default().with_max_members(1));
    core.join(&ours(2), 0);
    assert_eq!(core.beat(&ours(3), 1), []);
    assert_eq!(core.count("newcomers_refused"), 1);
}

#[test]
fn three_goodbyes_or_one_with_java_in_the_group() {
    let stop = |members: &[Member]| {
        let mut core = Fixture::new();
        let local = Arc::clone(&core.core.local);
        core.call(|core, out| core.start(Services::MEMBERSHIP, local, at(0), out));
        for member in members {
            let ticket = core.core.tickets;
            core.beat(member, 1);
            core.probed(ticket, ProbeResult::Answered, 1);
        }
        core.call(|core, out| core.stop(Services::MEMBERSHIP_TX, at(10), out))
    };
    let goodbye = |copies| [Action::Goodbye { alive_ms: 10, copies }];
    assert_eq!(stop(&[]), goodbye(3));
    assert_eq!(stop(&[ours(2)]), goodbye(3));
    assert_eq!(stop(&[ours(2), java(3)]), goodbye(1));
    // Nobody listens: who is there is not known.
    let mut core = Core::new(McastConfig::default(), Arc::new(ours(1)), Arc::default());
    let local = Arc::clone(&core.local);
    core.start(Services::MEMBERSHIP_TX, local, at(0), &mut Vec::new());
    let mut out = Vec::new();
    core.stop(Services::MEMBERSHIP, at(10), &mut out);
    assert_eq!(out, goodbye(1));
}

#[test]
fn the_halves_run_apart_and_a_running_one_is_left_alone() {
    let mut core = Fixture::new();
    let local = Arc::clone(&core.core.local);
    let start = |core: &mut Fixture, services, millis| {
        let local = Arc::clone(&local);
        core.call(|core, out| core.start(services, local, at(millis), out))
    };
    assert_eq!(start(&mut core, Services::MEMBERSHIP_TX, 0), [Action::Announce { alive_ms: 0 }]);
    assert_eq!(start(&mut core, Services::MEMBERSHIP, 20), []);
    let member = ours(2);
    core.beat(&member, 30);
    core.probed(0, ProbeResult::Answered, 31);
    let out = core.call(|core, out| core.stop(Services::MEMBERSHIP_RX, at(40), out));
    assert_eq!(out, [removed(&member, Departure::Stopped)]);
    assert_eq!(core.beat(&member, 41), []);
    assert_eq!(core.core.services(), Services::MEMBERSHIP_TX);
    assert!(!core.pass(600).is_empty());
}

#[test]
fn a_newcomer_is_answered_at_once_and_a_change_is_announced_at_once() {
    let mut core = Fixture::new();
    let local = Arc::clone(&core.core.local);
    core.call(|core, out| core.start(Services::MEMBERSHIP_TX, local, at(0), out));
    core.pass(1_000);
    let member = ours(2);
    assert_eq!(core.beat(&member, 1_001), [Action::Announce { alive_ms: 1_001 }, probe(0, &member)]);
    // Its further heartbeats, and further newcomers within 50 ms, are not answered at once.
    assert_eq!(core.beat(&member, 1_002), []);
    assert_eq!(core.beat(&ours(3), 1_003).len(), 1);
    assert_eq!(core.pass(1_051).first(), Some(&(1_051, Action::Announce { alive_ms: 1_051 })));
    let changed = Arc::new(core.core.local.as_ref().clone().with_payload("x"));
    let out = core.call(|core, out| core.set_local(changed, at(1_100), out));
    assert_eq!(out, [Action::Announce { alive_ms: 1_100 }]);
}

#[test]
fn a_broken_socket_and_a_stalled_process_remove_nobody() {
    let mut core = Fixture::new();
    let member = ours(2);
    core.join(&member, 0);
    core.core.deaf();
    assert_eq!(core.pass(20_000), []);
    assert_eq!(core.tick(20_000), []);
    assert_eq!(core.call(|core, out| core.hearing(at(20_000), out)), []);
    assert_eq!(core.pass(22_999), []);
    core.beat(&member, 23_000);
    // Nobody called the core for a minute: it was not the member that was silent.
    assert_eq!(core.tick(83_000), []);
    assert_eq!(core.pass(90_000), [(86_000, removed(&member, Departure::Expired))]);
}

/// What the network, the transport and the clock may do.
#[derive(Clone, Debug)]
enum Input {
    Heartbeat { who: usize, alive_ms: i64, leaving: bool, connected: bool },
    Probed { nth: usize, result: ProbeResult },
    Departed(usize),
    Suspected(usize),
    HeardOf(usize),
    Pass(u64),
    Tick,
}

fn inputs() -> impl proptest::strategy::Strategy<Value = Vec<Input>> {
    use proptest::prelude::*;
    let who = 0..4_usize;
    let result = prop_oneof![
        Just(ProbeResult::Answered),
        Just(ProbeResult::Connected),
        Just(ProbeResult::Replaced),
        Just(ProbeResult::TimedOut)
    ];
    let alive = prop_oneof![4 => 0..10_000_i64, 1 => any::<i64>()];
    let input = prop_oneof![
        8 => (who.clone(), alive, proptest::bool::weighted(0.2), any::<bool>()).prop_map(
            |(who, alive_ms, leaving, connected)| Input::Heartbeat { who, alive_ms, leaving, connected }
        ),
        8 => (0..8_usize, result).prop_map(|(nth, result)| Input::Probed { nth, result }),
        1 => who.clone().prop_map(Input::Departed),
        1 => who.clone().prop_map(Input::Suspected),
        1 => who.prop_map(Input::HeardOf),
        4 => (1..4_000_u64).prop_map(Input::Pass),
        2 => Just(Input::Tick),
    ];
    proptest::collection::vec(input, 1..200)
}

proptest::proptest! {
    /// Whatever happens: events of a member alternate as they should, its table is what they say, nothing is left over in
    /// the end, and the core never asks to be called in the past for ever.
    #[test]
    fn events_make_sense_under_any_input(inputs in inputs()) {
        // Two processes at one address, one of them Java's, and two more.
        let (twin, other) = (ours(2), ours(3));
        let everyone = [twin, java(2), other, java(4)];
        let mut core = Fixture::new();
        let mut known = std::collections::BTreeSet::new();
        let mut now = 0;
        let mut check = |core: &Core, out: Vec<Action>| {
            for action in out {
                match action {
                    Action::Raise(MemberEvent::Added(member)) => assert!(known.insert(member)),
                    Action::Raise(MemberEvent::Removed(member, _)) => assert!(known.remove(&member)),
                    Action::Raise(event) => assert!(known.contains(event.member())),
                    Action::Probe { ticket, .. } => assert!(core.probes.contains_key(&ticket)),
                    Action::Announce { .. } | Action::Goodbye { .. } => panic!("{action:?}"),
                }
            }
            assert!(known.iter().eq(core.members.keys()));
        };
        for input in inputs {
            let out = match input {
                Input::Heartbeat { who, alive_ms, leaving: false, connected } => {
                    core.heard_from(&everyone[who].clone().with_alive_ms(alive_ms), connected, now)
                }
                Input::Heartbeat { who, alive_ms, leaving: true, connected } => {
                    core.heard_from(&leaving(&everyone[who]).with_alive_ms(alive_ms), connected, now)
                }
                Input::Probed { nth, result } => match core.core.probes.keys().nth(nth).copied() {
                    Some(ticket) => core.probed(ticket, result, now),
                    None => core.probed(u64::MAX, result, now),
                },
                Input::Departed(who) => core.call(|core, out| core.departed(&everyone[who], at(now), out)),
                Input::Suspected(who) => {
                    core.call(|core, out| core.suspected(&everyone[who], Suspicion::ConnectionClosed, at(now), out))
                }
                Input::HeardOf(who) => core.call(|core, out| core.heard_of(&everyone[who], at(now), out)),
                Input::Pass(millis) => {
                    now += millis;
                    core.pass(now).into_iter().map(|(_, action)| action).collect()
                }
                Input::Tick => core.tick(now),
            };
            check(&core.core, out);
        }
        // All probes end, and all fall silent.
        for _ in 0..100 {
            for ticket in core.core.probes.keys().copied().collect::<Vec<_>>() {
                let out = core.probed(ticket, ProbeResult::Unreachable, now);
                check(&core.core, out);
            }
            now += 1_000;
            let out = core.pass(now).into_iter().map(|(_, action)| action).collect();
            check(&core.core, out);
        }
        assert!(core.core.members.is_empty() && core.core.newcomers.len() == 0 && core.core.gone.is_empty());
        assert_eq!((core.core.probes.len(), core.core.deadline()), (0, Time::NEVER));
    }
}
