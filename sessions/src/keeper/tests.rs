//! Who ends a session, and when.

use super::*;
use crate::document::{Death, Document, EndReason};
use crate::stamp::Stamp;

const A: NodeId = [1; 16];
const B: NodeId = [2; 16];
const S: SessionId = SessionId::from_bits(1);
const T: u64 = 5000;

fn at(ms: u64) -> Now {
    Now { time: Time::from_millis(ms), wall_ms: 1_000_000 + ms }
}

fn keeper(me: NodeId) -> Keeper {
    let rules = Rules { max_lag: Duration::from_secs(30), remember: Duration::from_secs(100) };
    let mut keeper = Keeper::new(me, rules);
    keeper.present(BTreeSet::from([A, B]));
    keeper
}

fn session(owner: NodeId, lifetime: Lifetime) -> Session {
    Session::Live(Box::new(Document::new(Stamp(1, 1), lifetime, owner)))
}

/// Lets time pass in steps of 10 ms until something other than a touch is to be done.
fn until_done(keeper: &mut Keeper, from: u64) -> (u64, Action) {
    for now in (from..from + 1_000_000).step_by(10) {
        for action in keeper.tick(at(now)) {
            if !matches!(action, Action::Touch(_)) {
                return (now, action);
            }
        }
    }
    (u64::MAX, Action::Touch(Vec::new()))
}

#[test]
fn the_owner_ends_it_when_its_time_is_over() {
    let mut keeper = keeper(A);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    assert_eq!(keeper.next_wake(), Time::from_millis(T));
    assert!(!keeper.used(S, at(4000)));
    assert_eq!(until_done(&mut keeper, 4000), (9000, Action::End(S)));
    // It is tried again.
    assert_eq!(until_done(&mut keeper, 9010), (14_000, Action::End(S)));
}

#[test]
fn another_ends_it_a_little_later_and_only_if_the_owner_is_gone() {
    let mut keeper = keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    assert_eq!(until_done(&mut keeper, 0), (2 * T + 500, Action::End(S)), "the owner is there, and has forgotten");
    let mut keeper = self::keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    keeper.present(BTreeSet::from([B]));
    assert_eq!(until_done(&mut keeper, 0), (T + 500, Action::End(S)));
    // The owner goes when the time is over already.
    let mut keeper = self::keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    assert!((0..6000).step_by(10).all(|now| keeper.tick(at(now)).is_empty()));
    keeper.present(BTreeSet::from([B]));
    let (ended, _) = until_done(&mut keeper, 6000);
    assert!(ended <= 6000 + 500, "{ended}");
}

#[test]
fn what_others_say_of_its_use_counts() {
    let mut keeper = keeper(A);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    assert!(keeper.heard(S, Duration::from_millis(200), at(4500)));
    assert_eq!(until_done(&mut keeper, 4500), (9300, Action::End(S)));
    assert!(keeper.heard(S, Duration::from_millis(9000), at(9300)), "older news change nothing");
    assert_eq!(keeper.idle(S, at(9300)), Some(Duration::from_secs(5)));
    assert!(!keeper.heard(SessionId::from_bits(9), Duration::ZERO, at(0)));
}

#[test]
fn what_came_with_the_state_counts_from_when_it_was_used() {
    let mut keeper = keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Came, at(11_000));
    assert!(keeper.ages(None, at(11_000)).0.is_empty(), "it knows nothing to tell");
    keeper.heard(S, Duration::from_secs(3), at(11_100));
    assert_eq!(keeper.ages(None, at(11_200)), (vec![(S, 3100)], false));
    keeper.present(BTreeSet::from([B]));
    let (ended, _) = until_done(&mut keeper, 11_200);
    assert!((13_600..=13_610).contains(&ended), "{ended}");
}

#[test]
fn uses_are_told_in_batches_and_at_once_if_the_owner_may_end_it() {
    let mut keeper = keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(600_000)), News::Written, at(0));
    let told = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Touch(_))).count();
    let mut messages = 0;
    for now in (0..300_000).step_by(100) {
        keeper.used(S, at(now));
        messages += told(keeper.tick(at(now)));
    }
    assert!((8..=12).contains(&messages), "every 30 s: {messages}");
    let quiet = 300_000 + 400_000;
    assert!(told(keeper.tick(at(340_000))) <= 1);
    keeper.used(S, at(quiet));
    assert_eq!(keeper.tick(at(quiet)), [Action::Touch(vec![(S, 0)])]);
    // Nobody heard of it.
    keeper.untold([S], at(quiet + 1000));
    assert_eq!(keeper.tick(at(quiet + 1100)), [Action::Touch(vec![(S, 1100)])]);
    assert!(keeper.tick(at(quiet + 2000)).is_empty());
}

#[test]
fn whoever_serves_a_session_of_one_that_is_gone_becomes_its_owner() {
    let mut keeper = keeper(B);
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    assert!(!keeper.used(S, at(10)));
    keeper.present(BTreeSet::from([B]));
    assert!(keeper.used(S, at(20)));
    keeper.changed(S, &session(B, Lifetime::Idle(T)), News::Written, at(20));
    assert_eq!((keeper.used(S, at(30)), keeper.owned(), keeper.live()), (false, 1, 1));
}

#[test]
fn an_end_is_remembered_for_a_while() {
    let mut keeper = keeper(A);
    let death = Death { stamp: Stamp(5, 1), reason: EndReason::Invalidated, by: B };
    keeper.changed(S, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    keeper.changed(S, &Session::Dead(death), News::Written, at(1000));
    assert_eq!(keeper.live(), 0);
    keeper.used(S, at(1500));
    assert_eq!(until_done(&mut keeper, 1500), (111_000, Action::Forget(S)), "the one that ended it comes first");
    keeper.gone(S);
    assert_eq!((keeper.next_wake(), keeper.live()), (Time::NEVER, 0));
    keeper.changed(S, &Session::Dead(Death { by: A, ..death }), News::Written, at(0));
    assert_eq!(until_done(&mut keeper, 0), (100_000, Action::Forget(S)));
}

#[test]
fn a_session_may_end_at_a_date_or_never() {
    let mut keeper = keeper(A);
    keeper.changed(S, &session(A, Lifetime::Until(1_020_000)), News::Written, at(0));
    keeper.used(S, at(15_000));
    assert_eq!(until_done(&mut keeper, 15_000), (20_000, Action::End(S)));
    keeper.gone(S);
    keeper.changed(S, &session(A, Lifetime::Unlimited), News::Written, at(0));
    assert_eq!(keeper.next_wake(), Time::NEVER);
    keeper.present(BTreeSet::from([B]));
}

#[test]
fn ages_come_in_parts() {
    let mut keeper = keeper(A);
    let ids = || (0..5000).map(SessionId::from_bits);
    for id in ids() {
        keeper.changed(id, &session(A, Lifetime::Idle(T)), News::Written, at(0));
    }
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let (part, more) = keeper.ages(after, at(10));
        after = part.last().map(|(id, _)| *id);
        all.extend(part);
        if !more {
            break;
        }
    }
    assert_eq!(all, ids().map(|id| (id, 10)).collect::<Vec<_>>());
}
