//! What those do who have voted and lost their sender, without a network.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, MemberId, Time};

use crate::testing::member_of_ours;
use crate::two_phase_commit::frame::{Decision, Frame, Key, Known};
use crate::two_phase_commit::parked::{Act, Shelf, Terms};
use crate::two_phase_commit::records::Records;

const SECOND: Duration = Duration::from_secs(1);
const MESSAGE: u32 = 1;
/// The coordinator's frame.
const WORD: u32 = 2;
/// Another's.
const OTHER: u32 = 3;

/// Member 2 to 4 are destinations of a message that member 1 decides over.
fn key() -> Key {
    Key { coordinator: member_of_ours(1).id(), id: [7; 16] }
}

fn id(number: u16) -> MemberId {
    member_of_ours(number).id()
}

fn shelf(own: u16) -> Shelf<u32> {
    let terms = Terms { ask_every: SECOND, expire: 60 * SECOND };
    let mut shelf = Shelf::new(id(own), terms, Records::new(120 * SECOND, SECOND, 100, Time::ZERO));
    for number in (1..=4).filter(|number| *number != own) {
        shelf.added(&member_of_ours(number));
    }
    shelf
}

fn parked(own: u16) -> Shelf<u32> {
    let mut shelf = shelf(own);
    shelf.park(key(), &member_of_ours(1), [id(2), id(3), id(4)], 4 * SECOND, MESSAGE, 10, at(10));
    shelf
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// Acts in short.
fn short(acts: Vec<Act<u32>>) -> Vec<String> {
    let acts = acts.into_iter().map(|act| match act {
        Act::Tell { to, frame } => format!(
            "{} {}",
            to.port(),
            match frame {
                Frame::Decide(Decision::Commit, _) => "commit",
                Frame::Decide(Decision::Abort, _) => "abort",
                Frame::Ask(..) => "ask",
                Frame::Collect(..) => "collect",
                Frame::Answer(Known::Doubt, _) => "doubt",
                Frame::Answer(Known::ToldToCommit, _) => "told",
                Frame::Answer(Known::CannotSay, _) => "unknown",
                other => panic!("{other:?}"),
            }
        ),
        Act::Release { message: MESSAGE, carrier, .. } => format!("release by {carrier:?}"),
        Act::Discard { message: MESSAGE, .. } => "discard".to_owned(),
        Act::Answer { carrier, done } => format!("answer {carrier} {done}"),
        other => panic!("{other:?}"),
    });
    acts.collect()
}

fn left(shelf: &mut Shelf<u32>, number: u16, now: u64) -> Vec<String> {
    short(shelf.removed(&member_of_ours(number), at(now)))
}

fn peer(number: u16) -> Arc<Member> {
    member_of_ours(number)
}

#[test]
fn the_coordinator_decides() {
    let mut shelf = parked(2);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Commit, WORD, at(11))), ["release by Some(2)"]);
    // Once.
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Commit, WORD, at(12))), ["answer 2 true"]);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Abort, WORD, at(12))), ["answer 2 true"]);
    assert_eq!(shelf.counts.conflicts, 1);
    let mut shelf = parked(2);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Abort, WORD, at(11))), ["answer 2 true", "discard"]);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Commit, WORD, at(12))), ["answer 2 false"]);
    assert_eq!((shelf.len(), shelf.in_doubt(at(12))), (0, 0));
}

#[test]
fn an_abort_that_comes_first_keeps_its_message_out() {
    let mut shelf = shelf(2);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Abort, WORD, at(9))), ["answer 2 true"]);
    assert!(matches!(shelf.known(&key()), Some(Err(_))));
}

#[test]
fn one_that_hears_nothing_asks_the_coordinator_until_it_is_told() {
    let mut shelf = parked(2);
    assert!(shelf.tick(at(14)).is_empty());
    for second in [15, 16, 17] {
        assert_eq!(short(shelf.tick(at(second))), ["1 ask"]);
    }
    assert_eq!(shelf.in_doubt(at(17)), 1);
    assert_eq!(short(shelf.decide(id(1), key(), Decision::Commit, WORD, at(17))), ["release by Some(2)"]);
}

#[test]
fn without_a_coordinator_the_lowest_collects_and_all_in_doubt_abort() {
    let mut leader = parked(2);
    assert_eq!(left(&mut leader, 1, 11), ["3 collect", "4 collect"]);
    let mut other = parked(3);
    assert_eq!(left(&mut other, 1, 11), ["2 ask"]);
    assert_eq!(short(other.collect(&peer(2), key(), SECOND, at(12))), ["2 doubt"]);
    // From then on it obeys the leader only.
    assert!(
        other.decide(id(1), key(), Decision::Commit, WORD, at(13)).iter().all(|act| matches!(act, Act::Tell { .. }))
    );
    assert!(leader.answer(id(3), key(), Known::Doubt, at(13)).is_empty());
    // Again: it counts once.
    assert!(leader.answer(id(3), key(), Known::Doubt, at(13)).is_empty());
    assert_eq!(short(leader.answer(id(4), key(), Known::Doubt, at(13))), ["3 abort", "4 abort", "discard"]);
    assert_eq!(
        short(other.decide(id(2), key(), Decision::Abort, OTHER, at(14))),
        ["answer 2 false", "answer 3 true", "discard"]
    );
    assert_eq!((leader.counts.settled, other.counts.settled, other.counts.guessed), (1, 1, 0));
}

#[test]
fn if_one_has_committed_or_was_told_to_all_commit() {
    // One has.
    let mut leader = parked(2);
    left(&mut leader, 1, 11);
    let mut done = parked(3);
    done.decide(id(1), key(), Decision::Commit, WORD, at(11));
    assert_eq!(short(done.collect(&peer(2), key(), SECOND, at(12))), ["2 commit"]);
    let acts = short(leader.decide(id(3), key(), Decision::Commit, OTHER, at(12)));
    assert_eq!(acts, ["3 commit", "4 commit", "release by Some(3)"]);
    // One was told to after it had answered, before the leader knew all.
    let mut leader = parked(2);
    left(&mut leader, 1, 11);
    let mut frozen = parked(4);
    frozen.collect(&peer(2), key(), SECOND, at(12));
    assert_eq!(short(frozen.decide(id(1), key(), Decision::Commit, WORD, at(12))), ["2 told"]);
    assert_eq!(short(frozen.collect(&peer(2), key(), SECOND, at(12))), ["2 told"]);
    assert!(leader.answer(id(4), key(), Known::ToldToCommit, at(13)).is_empty());
    let acts = short(leader.answer(id(3), key(), Known::Doubt, at(13)));
    assert_eq!(acts, ["3 commit", "4 commit", "release by None"]);
    // The coordinator's frame has its answer then.
    let acts = short(frozen.decide(id(2), key(), Decision::Commit, OTHER, at(14)));
    assert_eq!(acts, ["answer 3 true", "release by Some(2)"]);
}

#[test]
fn one_that_never_voted_has_all_abort_and_keeps_to_that() {
    let mut leader = parked(2);
    left(&mut leader, 1, 11);
    let mut never = shelf(3);
    assert_eq!(short(never.collect(&peer(2), key(), SECOND, at(12))), ["2 abort"]);
    assert!(matches!(never.known(&key()), Some(Err(_))));
    assert_eq!(short(leader.decide(id(3), key(), Decision::Abort, OTHER, at(12))).last().unwrap(), "discard");
    // One that began after the message may have forgotten: another has to know.
    let mut young = Shelf::new(
        id(4),
        Terms { ask_every: SECOND, expire: 60 * SECOND },
        Records::new(120 * SECOND, SECOND, 100, at(10)),
    );
    young.added(&peer(2));
    assert_eq!(short(young.collect(&peer(2), key(), SECOND, at(11))), ["2 unknown"]);
    assert!(short(young.ask(&peer(2), key(), SECOND, at(11))).is_empty());
}

#[test]
fn as_long_as_one_cannot_say_the_leader_asks_again() {
    let mut leader = parked(2);
    left(&mut leader, 1, 11);
    assert!(leader.answer(id(4), key(), Known::CannotSay, at(11)).is_empty());
    assert!(leader.answer(id(3), key(), Known::Doubt, at(11)).is_empty());
    assert_eq!(short(leader.tick(at(12))), ["3 collect", "4 collect"]);
    // It leaves, and counts no more.
    left(&mut leader, 4, 12);
    assert_eq!(short(leader.answer(id(3), key(), Known::Doubt, at(12))), ["3 abort", "discard"]);
}

#[test]
fn when_the_leader_leaves_the_next_one_leads_and_what_it_was_told_counts() {
    let mut next = parked(3);
    assert_eq!(left(&mut next, 1, 11), ["2 ask"]);
    next.collect(&peer(2), key(), SECOND, at(11));
    next.decide(id(1), key(), Decision::Commit, WORD, at(11));
    assert_eq!(left(&mut next, 2, 12), ["4 collect"]);
    assert_eq!(short(next.answer(id(4), key(), Known::Doubt, at(12))), ["4 commit", "release by Some(2)"]);
    // Alone with nothing known: abort.
    let mut alone = parked(4);
    left(&mut alone, 2, 11);
    left(&mut alone, 3, 11);
    assert_eq!(left(&mut alone, 1, 12), ["discard"]);
}

#[test]
fn of_two_leaders_the_lower_stays() {
    // Member 3 does not see member 2.
    let mut high = parked(3);
    left(&mut high, 2, 11);
    assert_eq!(left(&mut high, 1, 11), ["4 collect"]);
    let mut low = parked(2);
    assert_eq!(left(&mut low, 1, 11), ["3 collect", "4 collect"]);
    assert!(low.collect(&peer(3), key(), SECOND, at(12)).is_empty());
    assert_eq!(short(high.collect(&peer(2), key(), SECOND, at(12))), ["2 doubt"]);
    assert!(high.answer(id(4), key(), Known::Doubt, at(12)).is_empty());
    // One that answered the higher answers the lower.
    let mut third = parked(4);
    third.collect(&peer(3), key(), SECOND, at(12));
    assert_eq!(short(third.collect(&peer(2), key(), SECOND, at(12))), ["2 doubt"]);
    assert!(third.collect(&peer(3), key(), SECOND, at(12)).is_empty());
}

#[test]
fn a_doubt_ends_in_time_by_a_guess_that_is_counted() {
    let mut shelf = parked(2);
    let mut asked = 0;
    for second in 10..70 {
        asked += shelf.tick(at(second)).len();
    }
    assert!(asked > 50);
    assert_eq!(short(shelf.tick(at(70))), ["discard"]);
    assert_eq!((shelf.counts.guessed, shelf.len()), (1, 0));
    // Its decision is remembered, and forgotten.
    assert_eq!(shelf.records.len(), 1);
    let _ = shelf.tick(at(190));
    assert_eq!((shelf.records.len(), shelf.next_tick()), (0, Time::NEVER));
}

#[test]
fn records_are_bounded_and_know_what_they_may_have_forgotten() {
    let mut records = Records::new(100 * SECOND, SECOND, 2, Time::ZERO);
    let key = |number: u8| Key { coordinator: id(1), id: [number; 16] };
    for number in 0..3 {
        records.note(key(number), Decision::Commit, at(50 + u64::from(number)));
    }
    assert_eq!((records.len(), records.get(&key(0)), records.get(&key(1))), (2, None, Some(Decision::Commit)));
    records.note(key(1), Decision::Abort, at(53));
    assert_eq!(records.get(&key(1)), Some(Decision::Commit));
    // What came before it was decided may have been the one that is forgotten.
    assert!(!records.is_sure(5 * SECOND, at(55)));
    assert!(records.is_sure(3 * SECOND, at(55)));
}
