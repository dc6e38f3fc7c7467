//! The core with a made-up clock: whole lists of actions.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;
use tribes_core::Env;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn ours(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::generate(&Env::real()).unwrap(), (HERE, port).into()))
}

/// A Java member as it is without any configured id, which is also whom we call where we know nobody.
fn java(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::ZERO, (HERE, port).into()))
}

fn added(member: &Arc<Member>) -> Action {
    Action::Raise(MemberEvent::Added(Arc::clone(member)))
}

fn removed(member: &Arc<Member>, why: Departure) -> Action {
    Action::Raise(MemberEvent::Removed(Arc::clone(member), why))
}

fn call(call: u64, kind: Kind, to: &Arc<Member>) -> Action {
    Action::Call { call, kind, to: Arc::clone(to), connect_first: kind == Kind::Start }
}

fn resolve(addr: &str) -> Action {
    Action::Resolve { addr: addr.to_owned() }
}

fn said(kind: Kind, member: &Arc<Member>) -> Said {
    Said { kind, member: member.as_ref().clone(), sender: Arc::clone(member) }
}

/// A core at 127.0.0.1:1 with this list.
struct Fixture {
    core: Core,
}

impl Fixture {
    fn new(peers: &[&str]) -> Self {
        Self::with(StaticConfig::default(), peers)
    }

    fn with(config: StaticConfig, peers: &[&str]) -> Self {
        let config = config.with_peers(list(peers));
        Self { core: Core::new(config, ours(1), Arc::default()) }
    }

    fn act(&mut self, input: impl FnOnce(&mut Core, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        input(&mut self.core, &mut out);
        out
    }

    fn start(&mut self) -> Vec<Action> {
        self.act(|core, out| core.start(at(0), out))
    }

    fn resolved(&mut self, name: &str, ports: &[u16], millis: u64) -> Vec<Action> {
        let addrs = ports.iter().map(|port| (HERE, *port).into()).collect();
        self.act(|core, out| core.resolved(name, addrs, at(millis), out))
    }

    fn reply(&mut self, call: u64, kind: Kind, member: &Arc<Member>, millis: u64) -> Vec<Action> {
        self.act(|core, out| core.reply(Some(call), said(kind, member), at(millis), out))
    }

    fn request(&mut self, kind: Kind, member: &Arc<Member>, millis: u64) -> Vec<Action> {
        self.act(|core, out| core.request(said(kind, member), Bytes::from_static(b"id"), at(millis), out))
    }

    fn set(&mut self, peers: &[&str], millis: u64) -> Vec<Action> {
        self.act(|core, out| core.set_peers(list(peers), at(millis), out))
    }

    /// Calls the core at each of its deadlines up to then; resolved names mean their own port.
    fn pass(&mut self, until: u64) -> Vec<(u64, Action)> {
        let mut all = Vec::new();
        while self.core.deadline() <= at(until) {
            let now = self.core.deadline();
            let out = self.act(|core, out| core.tick(now, out));
            all.extend(out.into_iter().map(|action| (now.as_nanos() / 1_000_000, action)));
        }
        all
    }

    /// A group of this and `member`, which is in the list.
    fn joined(member: &Arc<Member>) -> Self {
        let name = member.to_string();
        let mut core = Self::new(&[&name]);
        assert_eq!(core.start(), [resolve(&name)]);
        let port = u16::try_from(member.port()).unwrap();
        assert_eq!(core.resolved(&name, &[port], 0), [call(0, Kind::Start, &java(port))]);
        assert_eq!(core.reply(0, Kind::Start, member, 1), [added(member)]);
        core
    }

    fn count(&self, gauge: &str) -> u64 {
        self.core.counters.gauges().iter().find(|known| known.name == gauge).unwrap().value
    }
}

fn list(peers: &[&str]) -> Vec<StaticPeer> {
    peers.iter().map(|peer| peer.parse().unwrap()).collect()
}

fn events(actions: Vec<(u64, Action)>) -> Vec<(u64, Action)> {
    actions.into_iter().filter(|(_, action)| matches!(action, Action::Raise(_))).collect()
}

#[test]
fn a_peer_joins_by_its_reply() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    // From now on it is pinged, and its name is not asked for any more.
    assert_eq!(core.pass(1_000), [(1_000, call(1, Kind::Ping, &member))]);
    let changed = Arc::new(member.as_ref().clone().with_payload("p"));
    let update = core.reply(1, Kind::Ping, &changed, 1_002);
    assert!(matches!(&update[..], [Action::Raise(MemberEvent::Updated(record))] if record.payload() == "p"));
}

#[test]
fn who_is_not_there_is_tried_again_each_interval() {
    let mut core = Fixture::new(&["127.0.0.1:2"]);
    core.start();
    core.resolved("127.0.0.1:2", &[2], 0);
    core.core.unreachable(0);
    assert_eq!(core.pass(1_500), [(1_000, resolve("127.0.0.1:2"))]);
    // As long as the resolver has not answered it is not asked again.
    assert_eq!(core.pass(4_500), []);
    core.resolved("127.0.0.1:2", &[], 4_600);
    assert_eq!(core.pass(5_000), [(5_000, resolve("127.0.0.1:2"))]);
    // The name may mean several addresses; they are tried side by side, four at most.
    assert_eq!(core.resolved("127.0.0.1:2", &[2, 3, 4, 5, 6], 5_001).len(), 4);
}

#[test]
fn a_lost_answer_or_two_remove_nobody() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    assert_eq!(events(core.pass(4_500)), []);
    let last = core.core.next_call - 1;
    assert_eq!(core.reply(last, Kind::Ping, &member, 4_600), []);
    // Its own calls are a sign of life too.
    assert_eq!(events(core.pass(9_000)), []);
    assert_eq!(core.request(Kind::Ping, &member, 9_100).len(), 1);
    assert_eq!(events(core.pass(14_099)), []);
    assert_eq!(events(core.pass(60_000)), [(14_100, removed(&member, Departure::Expired))]);
}

#[test]
fn an_expired_peer_is_looked_for_again() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    let all = core.pass(6_000);
    assert!(all.contains(&(5_001, removed(&member, Departure::Expired))));
    assert_eq!(all.last(), Some(&(6_000, resolve("127.0.0.1:2"))));
    let call_made = core.core.next_call;
    assert_eq!(core.resolved("127.0.0.1:2", &[2], 6_001), [call(call_made, Kind::Start, &java(2))]);
    assert_eq!(core.reply(call_made, Kind::Start, &member, 6_002), [added(&member)]);
}

#[test]
fn a_stop_counts_once_and_what_was_said_before_it_does_not_count() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    core.pass(1_000);
    let stop = |core: &mut Core, out: &mut Vec<Action>| core.stopped(&said(Kind::Stop, &member), at(1_500), out);
    assert_eq!(core.act(stop), [removed(&member, Departure::Shutdown)]);
    assert_eq!(core.act(stop), []);
    assert_eq!(core.act(|core, out| core.departed(&member, at(1_501), out)), []);
    // Its reply to the ping from before, a late ping of its own: no revival, and nobody to answer.
    assert_eq!(core.reply(1, Kind::Ping, &member, 1_600), []);
    assert_eq!(core.request(Kind::Ping, &member, 1_601), []);
    assert_eq!(core.count("late_replies"), 1);
    // A start is a new life under the same id, as Java's have it; an answer to a later call as well.
    let start = core.request(Kind::Start, &member, 2_000);
    let number = core.core.next_call - 1;
    assert_eq!(start[1], call(number, Kind::Start, &member));
    assert_eq!(core.reply(number, Kind::Start, &member, 2_001), [added(&member)]);
}

#[test]
fn a_restarted_process_replaces_its_predecessor() {
    let (former, member) = (ours(2), ours(2));
    let mut core = Fixture::joined(&former);
    // It calls us before we have noticed anything.
    let called = core.request(Kind::Start, &member, 500);
    let reply = Action::Reply { to: Arc::clone(&member), kind: Kind::Start, id: Bytes::from_static(b"id") };
    assert_eq!(called, [reply, call(1, Kind::Start, &member)]);
    let joined = core.reply(1, Kind::Start, &member, 501);
    assert_eq!(joined, [removed(&former, Departure::Failed), added(&member)]);
}

#[test]
fn oneself_in_the_list_is_passed_by_under_any_name() {
    let mut core = Fixture::new(&["127.0.0.1:1", "localhost:1", "gateway:99"]);
    assert_eq!(core.start().len(), 3);
    assert_eq!(core.resolved("127.0.0.1:1", &[1], 1), []);
    assert_eq!(core.resolved("localhost:1", &[1], 1), []);
    // A third leads here by a detour: the answer is our own.
    assert_eq!(core.resolved("gateway:99", &[99], 1).len(), 1);
    let local = Arc::clone(&core.core.local);
    assert_eq!(core.request(Kind::Start, &local, 2), []);
    assert_eq!(core.reply(0, Kind::Start, &local, 2), []);
    assert_eq!(core.pass(4_000), []);
    // Names may move.
    assert_eq!(core.pass(6_000).len(), 3);
}

#[test]
fn a_wrong_id_is_refused() {
    let right = ours(2);
    let mut core = Fixture::new(&[&format!("127.0.0.1:2@{}", right.id())]);
    core.start();
    assert_eq!(core.resolved("127.0.0.1:2", &[2], 0), [call(0, Kind::Start, &right)]);
    assert_eq!(core.reply(0, Kind::Start, &ours(2), 1), []);
    assert_eq!(core.request(Kind::Start, &ours(2), 2).len(), 1);
    assert_eq!(core.count("wrong_id"), 2);
    core.pass(1_000);
    core.resolved("127.0.0.1:2", &[2], 1_001);
    assert_eq!(core.reply(1, Kind::Start, &right, 1_002), [added(&right)]);
}

#[test]
fn a_stranger_must_answer_and_may_be_unwelcome() {
    let stranger = ours(9);
    let mut core = Fixture::new(&[]);
    core.start();
    let called = core.request(Kind::Start, &stranger, 1);
    assert_eq!(called[1], call(0, Kind::Start, &stranger));
    // Answered sparingly, however often it calls; and a reply to nothing adds nobody.
    assert_eq!(core.request(Kind::Start, &stranger, 2).len(), 1);
    assert_eq!(core.act(|core, out| core.reply(None, said(Kind::Start, &stranger), at(3), out)), []);
    assert_eq!(core.reply(0, Kind::Start, &stranger, 4), [added(&stranger)]);
    // A hint of the transport works the same.
    let other = ours(10);
    assert_eq!(core.act(|core, out| core.heard_of(&other, at(5), out)), [call(1, Kind::Start, &other)]);

    let mut core = Fixture::with(StaticConfig::default().with_accept_unlisted(false), &["127.0.0.1:2"]);
    core.start();
    core.resolved("127.0.0.1:2", &[2], 0);
    assert_eq!(core.request(Kind::Start, &stranger, 1).len(), 1);
    assert_eq!(core.request(Kind::Start, &ours(2), 1).len(), 2);
    assert_eq!(core.count("refused"), 1);
}

#[test]
fn nobody_speaks_for_others() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    let lie = |kind| Said { kind, member: member.as_ref().clone(), sender: ours(3) };
    assert_eq!(core.act(|core, out| core.stopped(&lie(Kind::Stop), at(10), out)), []);
    assert_eq!(core.act(|core, out| core.request(lie(Kind::Ping), Bytes::new(), at(10), out)), []);
    assert_eq!(core.act(|core, out| core.reply(Some(0), lie(Kind::Ping), at(10), out)), []);
    assert_eq!(core.count("dishonest"), 3);
}

#[test]
fn the_list_changes_at_run_time() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    assert_eq!(core.set(&["127.0.0.1:2", "127.0.0.1:3"], 100), [resolve("127.0.0.1:3")]);
    let gone = core.set(&["127.0.0.1:3"], 200);
    let farewell = Action::Farewell { to: vec![Arc::clone(&member)] };
    assert_eq!(gone, [farewell, removed(&member, Departure::Excluded)]);
    // It may not come back by itself, and is not answered.
    assert_eq!(core.request(Kind::Start, &member, 300), []);
    assert_eq!(core.request(Kind::Ping, &member, 301), []);
    // Only by the list.
    assert_eq!(core.set(&["127.0.0.1:2"], 400), [resolve("127.0.0.1:2")]);
    assert_eq!(core.resolved("127.0.0.1:2", &[2], 401).len(), 1);
    let number = core.core.next_call - 1;
    assert_eq!(core.reply(number, Kind::Start, &member, 402), [added(&member)]);
}

#[test]
fn a_stop_says_farewell_and_a_start_begins_anew() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    let farewell = Action::Farewell { to: vec![Arc::clone(&member)] };
    assert_eq!(core.act(Core::stop), [farewell, removed(&member, Departure::Stopped)]);
    assert_eq!(core.act(Core::stop), []);
    assert_eq!(core.request(Kind::Ping, &member, 10), []);
    assert_eq!(core.core.deadline(), Time::NEVER);
    let again = core.act(|core, out| core.start(at(50), out));
    assert_eq!(again, [resolve("127.0.0.1:2")]);
}

#[test]
fn a_suspicion_and_a_new_payload_call_at_once() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    let asked = core.act(|core, out| core.suspected(&member, at(500), out));
    assert_eq!(asked, [call(1, Kind::Ping, &member)]);
    let local = Arc::new(core.core.local.as_ref().clone().with_payload("new"));
    assert_eq!(core.act(|core, out| core.set_local(local, at(600), out)), [call(2, Kind::Ping, &member)]);
}

#[test]
fn everything_is_bounded_and_a_stalled_process_removes_nobody() {
    let member = ours(2);
    let mut core = Fixture::joined(&member);
    let mut calls = 0;
    for number in 0..100_000_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let addr = (IpAddr::from(Ipv4Addr::from(0x0A00_0000 + number)), 4_000);
        let stranger = Arc::new(Member::new(MemberId::from_bytes(id), addr.into()));
        let out = core.request(Kind::Start, &stranger, 2);
        calls += out.iter().filter(|action| matches!(action, Action::Call { .. })).count();
    }
    assert_eq!(calls, STRANGERS);
    assert!(core.core.calls.len() <= STRANGERS + 2);
    assert!(core.count("refused") > 90_000);
    // Nobody called the core for a minute: it was not the member that was silent.
    let out = core.act(|core, out| core.tick(at(60_000), out));
    assert_eq!(out, [call(core.core.next_call - 1, Kind::Ping, &member)]);
    assert!(core.core.calls.len() <= 2);
    let expired = core.pass(60_000 + 5_000);
    assert_eq!(events(expired), [(65_000, removed(&member, Departure::Expired))]);
    assert!(Duration::from_secs(5) == core.core.config.expiration);
}
