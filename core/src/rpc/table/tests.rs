use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;
use crate::rpc::Payload;

const CALL: CallId = CallId::new([1; 16]);
/// Before the deadline, and at it.
const NOW: Time = Time::from_millis(1);
const LATER: Time = Time::from_millis(10);

fn member(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::from_bytes([1; 16]), ([127, 0, 0, 1], port).into()))
}

fn members(count: u16) -> Vec<Arc<Member>> {
    (1..=count).map(member).collect()
}

fn reply() -> Answer {
    Answer::Replied(Payload::from("yes"))
}

fn opened(count: u16, wait: Wait) -> Table {
    let mut table = Table::new(1000);
    table.open(CALL, members(count), wait, LATER);
    table
}

fn is_done(table: &mut Table) -> bool {
    table.is_done(&CALL, Waker::noop())
}

fn answers(table: &mut Table) -> Vec<Answer> {
    table.close(&CALL).unwrap().answers.into_iter().map(|(_, answer)| answer).collect()
}

/// After how many replies the call ends.
fn replies_to_end(count: u16, wait: Wait) -> u16 {
    let mut table = opened(count, wait);
    for replied in 0..=count {
        if is_done(&mut table) {
            let closed = table.close(&CALL).unwrap();
            assert!(closed.satisfied && !closed.cancelled);
            assert_eq!(closed.answers.iter().filter(|(_, answer)| answer.is_reply()).count(), usize::from(replied));
            return replied;
        }
        assert_eq!(table.answer(&CALL, &member(replied + 1), reply(), NOW).0, Told::Noted);
    }
    panic!("never");
}

#[test]
fn each_wait_ends_when_it_is_satisfied() {
    for count in 1..=6 {
        assert_eq!(replies_to_end(count, Wait::First), 1);
        // Strictly more than half: two of two, three of four (T52).
        assert_eq!(replies_to_end(count, Wait::Majority), count / 2 + 1);
        assert_eq!(replies_to_end(count, Wait::All), count);
        assert_eq!(replies_to_end(count, Wait::Quorum(1)), 1);
    }
    assert_eq!(replies_to_end(5, Wait::Quorum(0)), 0);
    let mut table = opened(0, Wait::All);
    assert!(is_done(&mut table), "nobody was asked");
    assert!(table.close(&CALL).unwrap().satisfied);
}

#[test]
fn a_wait_that_cannot_be_satisfied_ends_at_once() {
    for (wait, failures) in [(Wait::First, 5), (Wait::Majority, 3), (Wait::Quorum(4), 2), (Wait::Quorum(6), 0)] {
        let mut table = opened(5, wait);
        for port in 1..=failures {
            assert!(!is_done(&mut table), "{wait:?}");
            table.fault(&CALL, &member(port), Answer::NoHandler, NOW);
        }
        assert!(is_done(&mut table), "{wait:?}");
        assert!(!table.close(&CALL).unwrap().satisfied);
    }
    // All are waited for, whatever they say.
    let mut table = opened(2, Wait::All);
    table.fault(&CALL, &member(1), Answer::NoHandler, NOW);
    assert!(!is_done(&mut table));
    table.answer(&CALL, &member(2), reply(), NOW);
    assert!(is_done(&mut table) && !table.close(&CALL).unwrap().satisfied);
}

#[test]
fn each_member_has_one_answer_the_first() {
    let mut table = opened(3, Wait::All);
    assert_eq!(table.answer(&CALL, &member(1), reply(), NOW).0, Told::Noted);
    assert_eq!(table.answer(&CALL, &member(1), Answer::NoHandler, NOW).0, Told::Duplicate);
    assert!(table.fault(&CALL, &member(1), Answer::TimedOut, NOW).is_none());
    assert_eq!(table.answer(&CALL, &member(9), reply(), NOW).0, Told::Stranger);
    assert!(table.removed(&member(2), Departure::Failed, NOW).is_empty(), "nobody waits yet");
    table.tick(&CALL, Time::from_millis(9));
    assert!(!is_done(&mut table));
    table.tick(&CALL, LATER);
    assert!(is_done(&mut table));
    assert_eq!(table.answer(&CALL, &member(3), reply(), NOW).0, Told::Late(reply()));
    assert_eq!(answers(&mut table), [reply(), Answer::Left(Departure::Failed), Answer::TimedOut]);
    assert_eq!(table.answer(&CALL, &member(3), reply(), NOW).0, Told::Late(reply()));
}

#[test]
fn a_member_known_by_its_address_answers_with_its_id() {
    let mut table = Table::new(1000);
    let by_address = Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 1).into()));
    table.open(CALL, vec![Arc::clone(&by_address), member(2)], Wait::All, LATER);
    assert_eq!(table.answer(&CALL, &member(1), reply(), NOW).0, Told::Noted);
    assert_eq!(table.answer(&CALL, &by_address, reply(), NOW).0, Told::Duplicate);
    // Another process at an address whose member is known is another member.
    let other = Member::new(MemberId::from_bytes([2; 16]), ([127, 0, 0, 1], 2).into());
    assert_eq!(table.answer(&CALL, &other, reply(), NOW).0, Told::Stranger);
}

#[test]
fn a_call_that_waits_for_nothing_ends_when_it_is_sent() {
    let mut table = opened(2, Wait::None);
    table.fault(&CALL, &member(1), Answer::TimedOut, NOW);
    // However quick it is.
    assert_eq!(table.answer(&CALL, &member(2), reply(), NOW).0, Told::Late(reply()));
    assert!(!is_done(&mut table));
    table.sent(&CALL);
    assert!(is_done(&mut table));
    assert_eq!(answers(&mut table), [Answer::TimedOut, Answer::NotAwaited]);
    let mut other = opened(2, Wait::First);
    other.sent(&CALL);
    assert!(!is_done(&mut other));
}

#[test]
fn a_call_closed_before_its_end_is_given_up() {
    let mut table = opened(2, Wait::All);
    table.answer(&CALL, &member(1), reply(), NOW);
    let closed = table.close(&CALL).unwrap();
    assert!(closed.cancelled);
    assert_eq!(closed.answers[1].1, Answer::NotAwaited);
    assert_eq!((table.len(), table.held()), (0, 0));
    assert!(table.close(&CALL).is_none() && is_done(&mut table));
}

#[test]
fn answers_come_out_in_the_order_in_which_they_came() {
    let mut table = opened(3, Wait::Quorum(2));
    let next = |table: &mut Table| table.next(&CALL, Waker::noop());
    assert_eq!(next(&mut table), Ok(None));
    table.answer(&CALL, &member(3), reply(), NOW);
    table.answer(&CALL, &member(1), reply(), NOW);
    assert_eq!(table.held(), 6);
    assert_eq!(next(&mut table), Ok(Some((member(3), reply()))));
    assert_eq!(next(&mut table), Ok(Some((member(1), reply()))));
    assert_eq!(table.held(), 0, "taken");
    assert_eq!(next(&mut table), Ok(Some((member(2), Answer::NotAwaited))));
    assert_eq!(next(&mut table), Err(()));
}

/// A stream that nobody polls has no timer that runs.
#[test]
fn what_comes_after_the_deadline_is_late_although_nobody_looked_at_the_clock() {
    let mut table = opened(4, Wait::All);
    table.answer(&CALL, &member(1), reply(), Time::from_millis(9));
    assert_eq!(table.answer(&CALL, &member(2), reply(), LATER).0, Told::Late(reply()));
    table.fault(&CALL, &member(3), Answer::Overloaded, LATER);
    table.removed(&member(4), Departure::Failed, LATER);
    assert!(is_done(&mut table));
    assert_eq!(answers(&mut table), [reply(), Answer::TimedOut, Answer::TimedOut, Answer::TimedOut]);
    // Whatever is heard of first.
    type Heard = fn(&mut Table) -> Option<Waker>;
    let heard: [Heard; 3] = [
        |table| table.answer(&CALL, &member(1), reply(), LATER).1,
        |table| table.fault(&CALL, &member(1), Answer::Overloaded, LATER),
        |table| table.removed(&member(1), Departure::Failed, LATER).pop(),
    ];
    for heard in heard {
        let mut table = opened(2, Wait::First);
        assert!(!is_done(&mut table));
        assert!(heard(&mut table).is_some(), "who waits is woken");
        assert_eq!(answers(&mut table), [Answer::TimedOut, Answer::TimedOut]);
    }
}

#[test]
fn replies_beyond_the_bound_are_not_kept() {
    let mut table = opened(3, Wait::All);
    let large = || Answer::Replied(Payload::from(vec![0; 2000]));
    table.answer(&CALL, &member(1), large(), NOW);
    table.answer(&CALL, &member(2), reply(), NOW);
    assert_eq!(table.held(), 2000, "a large one is admitted alone");
    table.answer(&CALL, &member(3), Answer::NoReply, NOW);
    assert_eq!(answers(&mut table), [large(), Answer::NoRoom, Answer::NoReply]);
    assert_eq!(table.held(), 0);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_is_woken_by_what_ends_the_wait() {
    type End = fn(&mut Table) -> Vec<Waker>;
    let ends: [End; 4] = [
        |table| table.answer(&CALL, &member(1), reply(), NOW).1.into_iter().collect(),
        |table| table.fault(&CALL, &member(1), Answer::Overloaded, NOW).into_iter().collect(),
        |table| table.removed(&member(1), Departure::Shutdown, NOW),
        |table| table.tick(&CALL, LATER).into_iter().collect(),
    ];
    for end in ends {
        let woken = Arc::new(Woken::default());
        let mut table = opened(1, Wait::All);
        assert!(!table.is_done(&CALL, &Arc::clone(&woken).into()));
        end(&mut table).into_iter().for_each(Waker::wake);
        assert!(woken.0.load(Ordering::Relaxed) == 1 && is_done(&mut table));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reply(u16),
    Fail(u16),
    Leave(u16),
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..8_u16).prop_map(Step::Reply),
        (1..8_u16).prop_map(Step::Fail),
        (1..8_u16).prop_map(Step::Leave),
        Just(Step::Tick)
    ];
    proptest::collection::vec(step, 0..20)
}

proptest! {
    /// Whatever comes in whatever order: once a call is done nothing changes, and each member has one answer.
    #[test]
    fn a_call_ends_once(steps in steps(), count in 0..6_u16, kind in 0..4_u8) {
        let wait = [Wait::First, Wait::Majority, Wait::All, Wait::Quorum(2)][usize::from(kind)];
        let mut table = opened(count, wait);
        let mut seen = Vec::new();
        for step in steps {
            let was_done = is_done(&mut table);
            match step {
                Step::Reply(port) => drop(table.answer(&CALL, &member(port), reply(), NOW)),
                Step::Fail(port) => drop(table.answer(&CALL, &member(port), Answer::Failed("no".to_owned()), NOW)),
                Step::Leave(port) => drop(table.removed(&member(port), Departure::Failed, NOW)),
                Step::Tick => drop(table.tick(&CALL, LATER)),
            }
            prop_assert!(!was_done || is_done(&mut table));
        }
        while let Ok(Some((member, _))) = table.next(&CALL, Waker::noop()) {
            seen.push(member);
        }
        table.tick(&CALL, LATER);
        while let Ok(Some((member, _))) = table.next(&CALL, Waker::noop()) {
            seen.push(member);
        }
        seen.sort();
        prop_assert_eq!(seen, members(count));
        let closed = table.close(&CALL).unwrap();
        prop_assert!(!closed.cancelled && closed.answers.len() == usize::from(count));
        prop_assert_eq!((table.len(), table.held()), (0, 0));
    }
}
