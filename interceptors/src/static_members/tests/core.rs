//! The state without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{Departure, Member, MemberEvent, MemberId, ProbeResult, Suspicion};

use super::super::StaticMember;
use super::super::core::{Action, Census, Core, Notice};
use crate::testing::member;

use Action::{Greet, Probe, Raise, Resolve};
use MemberEvent::{Added, Removed, Suspected, Updated};

/// The entry for the `number`th member, with its id.
fn with_id(number: u16) -> StaticMember {
    let member = member(number);
    StaticMember::new(member.to_string()).unwrap().with_id(member.id())
}

fn without_id(number: u16) -> StaticMember {
    StaticMember::new(member(number).to_string()).unwrap()
}

/// What stands for a member of which only the address is known.
fn placeholder(number: u16) -> Arc<Member> {
    Arc::new(member(number).as_ref().clone().with_id(MemberId::ZERO))
}

fn core(members: &[StaticMember]) -> Core {
    let mut core = Core::default();
    core.start(members, member(9).addr());
    core
}

fn appears(member: &Arc<Member>) -> [Action; 2] {
    [Raise(Added(Arc::clone(member))), Greet(Arc::clone(member))]
}

#[test]
fn all_of_the_list_are_there_from_the_start_on() {
    let mut core = Core::default();
    // The local member, and one twice.
    let list = [with_id(1), without_id(2), with_id(9), with_id(1), without_id(1)];
    let actions = core.start(&list, member(9).addr());
    assert_eq!(actions, [appears(&member(1)), appears(&placeholder(2))].concat());
    assert_eq!(core.census(), Census { present: 2, ..Census::default() });
    assert_eq!(core.tick(), []);
}

#[test]
fn names_are_resolved_until_they_can_be() {
    let mut core = Core::default();
    let list = [StaticMember::new("node-1:1").unwrap().with_id(member(1).id()), StaticMember::new("self:9").unwrap()];
    let ask = |number: usize, addr: &str| Resolve { number, addr: addr.to_owned() };
    assert_eq!(core.start(&list, member(9).addr()), [ask(0, "node-1:1"), ask(1, "self:9")]);
    assert_eq!(core.tick(), [], "one at a time");
    assert_eq!(core.resolved(0, None), []);
    assert_eq!(core.resolved(1, member(9).addr()), [], "the local member by another name");
    assert_eq!(core.tick(), [ask(0, "node-1:1")]);
    assert_eq!(core.resolved(0, member(1).addr()), appears(&member(1)));
    assert_eq!(core.resolved(0, member(2).addr()), [], "late");
    assert_eq!(core.resolved(7, member(2).addr()), [], "never asked");
}

#[test]
fn a_start_notice_is_told_again_for_a_detector_above() {
    let mut core = core(&[with_id(1)]);
    assert_eq!(core.notice(Notice::Start, &member(1)), [Raise(Added(member(1)))]);
    let changed = Arc::new(member(1).as_ref().clone().with_payload("p"));
    assert_eq!(core.notice(Notice::Start, &changed), [Raise(Updated(Arc::clone(&changed)))]);
}

#[test]
fn whoever_left_is_looked_for() {
    let mut core = core(&[with_id(1)]);
    assert_eq!(core.notice(Notice::Stop, &member(1)), [Raise(Removed(member(1), Departure::Shutdown))]);
    assert_eq!(core.notice(Notice::Stop, &member(1)), [], "once");
    let [Probe { ticket, .. }] = core.tick()[..] else { panic!() };
    assert_eq!(core.tick(), [], "one at a time");
    assert_eq!(core.probed(ticket, ProbeResult::Refused), []);
    assert_eq!(core.probed(ticket, ProbeResult::Answered), [], "an old ticket");
    let [Probe { ticket, .. }] = core.tick()[..] else { panic!() };
    assert_eq!(core.census().gone, 1);
    assert_eq!(core.probed(ticket, ProbeResult::Connected), appears(&member(1)));
    // Or it says so itself, while a probe is under way.
    core.notice(Notice::Stop, &member(1));
    let [Probe { ticket, .. }] = core.tick()[..] else { panic!() };
    assert_eq!(core.notice(Notice::Start, &member(1)), appears(&member(1)));
    assert_eq!(core.probed(ticket, ProbeResult::Answered), []);
}

#[test]
fn an_id_that_was_given_must_be_right() {
    let mut core = core(&[with_id(1)]);
    let other = Arc::new(member(1).as_ref().clone().with_id(MemberId::from_bytes([5; 16])));
    for notice in [Notice::Start, Notice::Stop] {
        assert_eq!(core.notice(notice, &other), []);
        assert_eq!(core.notice(notice, &member(2)), []);
    }
    assert_eq!(core.census().strangers, 4);
    // The service found a member of its own, whom this list does not concern.
    assert_eq!(core.event(&Added(Arc::clone(&other))), [Raise(Added(other))]);
    // Another process in its place is not it.
    core.notice(Notice::Stop, &member(1));
    let [Probe { ticket, .. }] = core.tick()[..] else { panic!() };
    assert_eq!(core.probed(ticket, ProbeResult::Replaced), []);
}

#[test]
fn an_id_that_was_not_given_is_learnt() {
    let mut core = core(&[without_id(1)]);
    let removed = |member: &Arc<Member>, why| Raise(Removed(Arc::clone(member), why));
    let mut expected = vec![removed(&placeholder(1), Departure::Excluded)];
    expected.extend(appears(&member(1)));
    // It is greeted, for it may not know this one's id either; and its answer leads to nothing more.
    assert_eq!(core.notice(Notice::Start, &member(1)), expected);
    assert_eq!(core.notice(Notice::Start, &member(1)), [Raise(Added(member(1)))]);
    // Killed and started anew.
    let second = Arc::new(member(1).as_ref().clone().with_id(MemberId::from_bytes([5; 16])));
    let mut expected = vec![removed(&member(1), Departure::Failed)];
    expected.extend(appears(&second));
    assert_eq!(core.notice(Notice::Start, &second), expected);
    // The good-bye of the former one comes late.
    assert_eq!(core.notice(Notice::Stop, &member(1)), []);
    assert_eq!(core.notice(Notice::Stop, &second), [removed(&second, Departure::Shutdown)]);
    // Back under an id that is not known yet.
    let [Probe { ticket, .. }] = core.tick()[..] else { panic!() };
    assert_eq!(core.probed(ticket, ProbeResult::Replaced), appears(&placeholder(1)));
}

#[test]
fn a_service_below_may_know_them_too() {
    let mut core = core(&[with_id(1), without_id(2)]);
    let changed = Arc::new(member(1).as_ref().clone().with_payload("p"));
    assert_eq!(core.event(&Added(Arc::clone(&changed))), [Raise(Updated(Arc::clone(&changed)))]);
    // It stays, as the list says; but above one may want to look.
    for why in [Departure::Expired, Departure::Failed, Departure::Stopped] {
        let gone = Removed(Arc::clone(&changed), why);
        assert_eq!(core.event(&gone), [Raise(Suspected(Arc::clone(&changed), Suspicion::Silent))]);
    }
    let suspected = Suspected(Arc::clone(&changed), Suspicion::ConnectionClosed);
    assert_eq!(core.event(&suspected), [Raise(suspected.clone())]);
    let left = Removed(Arc::clone(&changed), Departure::Shutdown);
    assert_eq!(core.event(&left), [Raise(left.clone())]);
    assert_eq!(core.event(&left), []);
    assert_eq!(core.event(&suspected), []);
    assert_eq!(core.event(&Added(Arc::clone(&changed))), appears(&changed));
    // The id of the other comes from there.
    let Some(Raise(Removed(gone, Departure::Excluded))) = core.event(&Added(member(2))).into_iter().next() else {
        panic!()
    };
    assert_eq!(gone, placeholder(2));
    // A record that says that it leaves is no arrival.
    let leaving = Arc::new(changed.as_ref().clone().with_command(tribes_core::member::SHUTDOWN_COMMAND));
    assert_eq!(core.event(&Updated(leaving)), []);
    // Others are none of its business.
    for event in [Added(member(3)), Removed(member(3), Departure::Failed), Suspected(member(3), Suspicion::Silent)] {
        assert_eq!(core.event(&event), [Raise(event.clone())]);
    }
}

#[test]
fn at_the_end_those_are_told_who_are_there() {
    let mut core = core(&[with_id(1), with_id(2), with_id(3)]);
    core.notice(Notice::Stop, &member(1));
    core.greeted(&member(2), false);
    core.greeted(&member(3), false);
    core.notice(Notice::Start, &member(3));
    assert_eq!(core.stop(), [(member(2), true), (member(3), false)]);
    assert_eq!(core.census(), Census::default());
    assert_eq!((core.stop(), core.tick()), (vec![], vec![]));
    core.greeted(&member(2), true);
    assert_eq!(core.notice(Notice::Start, &member(2)), []);
}

/// Whatever comes: those above are told nothing that makes no sense, and nobody is there twice under one address.
#[test]
fn those_above_are_told_what_makes_sense() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let list = [with_id(1), without_id(2), without_id(3)];
    for _ in 0..200 {
        let mut core = Core::default();
        let mut above: BTreeMap<Arc<Member>, ()> = BTreeMap::new();
        let mut tickets = Vec::new();
        let mut actions = core.start(&list, None);
        for step in 0..200 {
            for action in std::mem::take(&mut actions) {
                match action {
                    Raise(Added(member)) => drop(above.insert(member, ())),
                    Raise(Removed(member, _)) => {
                        assert!(above.remove(&member).is_some(), "removed an unknown one at {step}, seed {seed}");
                    }
                    Raise(other) => {
                        assert!(above.contains_key(other.member()), "{other:?} of an unknown one, seed {seed}");
                    }
                    Probe { ticket, .. } => tickets.push(ticket),
                    Greet(_) | Resolve { .. } => {}
                }
            }
            for number in 1..=3 {
                let there = above.keys().filter(|known| known.port() == number).count();
                assert!(there <= 1, "{number} is there {there} times at {step}, seed {seed}");
            }
            let who = member(rng.u16(1..=3));
            let who = match rng.u8(..4) {
                0 => Arc::new(who.as_ref().clone().with_id(MemberId::from_bytes([rng.u8(1..3); 16]))),
                1 => Arc::new(who.as_ref().clone().with_payload(vec![rng.u8(..2)])),
                _ => who,
            };
            // The first has its id given; another process there is somebody else, and the service's affair.
            let theirs = who.port() == 1 && who.id() != member(1).id();
            actions = match rng.u8(..6) {
                0 => core.notice(Notice::Start, &who),
                1 => core.notice(Notice::Stop, &who),
                2 => core.tick(),
                3 if !tickets.is_empty() => {
                    let results = [ProbeResult::Answered, ProbeResult::Refused, ProbeResult::Replaced];
                    core.probed(tickets.swap_remove(rng.usize(..tickets.len())), results[rng.usize(..3)])
                }
                4 if !theirs => core.event(&Added(who)),
                5 if !theirs => {
                    let reasons = [Departure::Shutdown, Departure::Expired, Departure::Failed];
                    core.event(&Removed(who, reasons[rng.usize(..3)]))
                }
                _ => Vec::new(),
            };
        }
    }
}
