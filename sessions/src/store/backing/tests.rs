//! The queue, and records, without I/O.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tribes_core::Time;

use super::queue::{Job, Queue};
use super::record::{Unfit, from_record, to_record};
use crate::SessionId;
use crate::conflict::{Conflict, Policies};
use crate::document::{Change, Document, Hashes, Lifetime, Limits, Session};
use crate::shared::ForeignRecord;
use crate::stamp::Stamp;

const DELAY: Duration = Duration::from_secs(1);

const fn id(number: u128) -> SessionId {
    SessionId::from_bits(number)
}

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

const WRITE: Job = Job::Write { known: false };
const WRITE_AGAIN: Job = Job::Write { known: true };

#[test]
fn several_changes_are_one_write() {
    let mut queue = Queue::new(DELAY);
    assert_eq!(queue.next(), Time::NEVER);
    queue.changed(id(1), at(0));
    queue.changed(id(1), at(900));
    assert_eq!(queue.next(), at(1000), "the first change has waited long enough then");
    assert_eq!(queue.take(at(999)), []);
    assert_eq!(queue.take(at(1000)), [(id(1), WRITE)]);
    queue.changed(id(1), at(1000));
    assert_eq!(queue.take(at(5000)), [], "never two at once of one session");
    queue.done(id(1), false, at(5000));
    assert_eq!(queue.take(at(5000)), [(id(1), WRITE_AGAIN)]);
    queue.done(id(1), false, at(5000));
    assert!(queue.is_empty());
    assert_eq!(queue.stats().written, 2);
}

#[test]
fn what_has_ended_is_removed_whatever_is_told_later() {
    let mut queue = Queue::new(DELAY);
    queue.changed(id(1), at(0));
    queue.ended(id(1), at(10));
    queue.changed(id(1), at(20));
    assert_eq!(queue.take(at(20)), [(id(1), Job::Remove)]);
    // It was being removed, and that failed; in between there was a change.
    queue.changed(id(1), at(30));
    queue.failed(id(1), true, at(40));
    assert_eq!(queue.take(at(10_000)), [(id(1), Job::Remove)]);
    queue.done(id(1), true, at(10_000));
    assert!(queue.is_empty());

    // It ended while it was written: the end comes after, and what comes then does not take it away.
    queue.changed(id(2), at(20_000));
    assert_eq!(queue.take(at(21_000)), [(id(2), WRITE)]);
    queue.ended(id(2), at(21_001));
    assert_eq!(queue.take(at(21_001)), []);
    queue.changed(id(2), at(21_002));
    assert_eq!(queue.take(at(30_000)), []);
    queue.done(id(2), false, at(30_000));
    assert_eq!(queue.take(at(30_000)), [(id(2), Job::Remove)]);
}

#[test]
fn while_it_fails_one_is_tried_at_a_time_after_growing_pauses() {
    let mut queue = Queue::new(Duration::ZERO);
    (0..10).for_each(|number| queue.changed(id(number), at(0)));
    let jobs = queue.take(at(0));
    assert_eq!(jobs.len(), 10);
    for (id, _) in jobs {
        queue.failed(id, false, at(0));
    }
    assert!(queue.stats().is_failing);
    let (mut now, mut tries) = (at(0), 0);
    while now < at(120_000) {
        let next = queue.next();
        assert!(next > now && next - now <= Duration::from_secs(10), "{:?}", next - now);
        assert!(queue.take(now).is_empty() && queue.may_read(now), "what is read is another matter");
        now = next;
        let jobs = queue.take(now);
        assert_eq!(jobs.len(), 1);
        queue.failed(jobs[0].0, false, now);
        tries += 1;
    }
    assert!((15..25).contains(&tries), "{tries} tries in two minutes");
    assert_eq!(queue.stats().pending, 10);
    now = queue.next();
    let jobs = queue.take(now);
    queue.done(jobs[0].0, false, now);
    assert_eq!(queue.take(now).len(), 9, "it is there again");
}

#[test]
fn after_a_failure_nothing_is_taken_for_there() {
    let mut queue = Queue::new(Duration::ZERO);
    for number in [1, 2] {
        queue.changed(id(number), at(0));
        queue.take(at(0));
        queue.done(id(number), false, at(0));
    }
    queue.changed(id(1), at(10));
    assert_eq!(queue.take(at(10)), [(id(1), WRITE_AGAIN)]);
    queue.failed(id(1), false, at(10));
    queue.changed(id(2), at(10));
    let now = queue.next();
    assert_eq!(queue.take(now), [(id(2), WRITE)], "it may have been emptied");
    queue.done(id(2), false, now);
    assert_eq!(queue.take(now), [(id(1), WRITE)]);
}

#[test]
fn one_that_is_only_read_is_written_anew_before_it_ends_there() {
    let limit = Duration::from_secs(100);
    let mut queue = Queue::new(DELAY);
    // Another node wrote it, who knows when.
    queue.used(id(1), limit, at(0));
    queue.used(id(1), limit, at(500));
    assert_eq!(queue.take(at(1000)), [(id(1), WRITE)]);
    queue.done(id(1), false, at(0));
    // It came from there.
    queue.restored(id(2), at(0));
    queue.used(id(2), limit, at(1000));
    queue.used(id(1), limit, at(24_999));
    assert!(queue.is_empty());
    queue.used(id(1), limit, at(25_000));
    assert_eq!(queue.take(at(26_000)), [(id(1), WRITE)]);
    queue.done(id(1), false, at(26_000));
    queue.used(id(1), limit, at(50_000));
    assert!(queue.is_empty());
    queue.used(id(1), limit, at(51_000));
    assert_eq!(queue.take(at(52_000)), [(id(1), WRITE)], "looked for: it may have been let go of");
}

#[test]
fn what_another_changes_is_written_when_that_one_is_gone_and_when_the_two_may_have_crossed() {
    let mut queue = Queue::new(Duration::ZERO);
    queue.heard(id(1), false, at(0));
    assert!(queue.is_empty());
    assert_eq!(queue.recent(), [id(1)]);
    // This one wrote it just now.
    queue.changed(id(2), at(0));
    queue.take(at(0));
    queue.done(id(2), false, at(0));
    queue.heard(id(2), false, at(5000));
    assert_eq!(queue.take(at(5000)), [(id(2), WRITE_AGAIN)]);
    queue.done(id(2), false, at(5000));
    queue.heard(id(2), false, at(20_000));
    assert!(queue.is_empty(), "long ago");
    queue.heard(id(2), true, at(20_000));
    assert_eq!(queue.take(at(20_000)), [(id(2), Job::Remove)], "it may have written it last");
    queue.done(id(2), true, at(20_000));
    queue.heard(id(2), true, at(20_001));
    assert!(queue.is_empty());
    // Of what came long ago its author has seen to it.
    queue.heard(id(3), false, at(59_999));
    assert!(queue.recent().contains(&id(1)));
    queue.heard(id(3), false, at(120_000));
    assert!(!queue.recent().contains(&id(1)));
    // How long that is follows from how long things wait.
    let mut slow = Queue::new(Duration::from_secs(100));
    slow.heard(id(1), false, at(0));
    slow.heard(id(2), false, at(219_000));
    assert!(slow.recent().contains(&id(1)));
}

#[test]
fn what_was_written_long_ago_is_not_taken_to_be_there() {
    let mut queue = Queue::new(Duration::ZERO);
    for (now, job) in [(0, WRITE), (9_999, WRITE_AGAIN), (19_998, WRITE_AGAIN), (29_998, WRITE)] {
        queue.changed(id(1), at(now));
        assert_eq!(queue.take(at(now)), [(id(1), job)], "at {now} ms");
        queue.done(id(1), false, at(now));
    }
}

#[test]
fn an_end_that_is_not_there_yet_is_known() {
    let mut queue = Queue::new(DELAY);
    queue.changed(id(1), at(0));
    assert!(!queue.is_ending(id(1)));
    queue.take(at(1000));
    queue.ended(id(1), at(1000));
    assert!(queue.is_ending(id(1)), "it waits");
    queue.done(id(1), false, at(1001));
    queue.take(at(1001));
    assert!(queue.is_ending(id(1)), "it is being done");
    queue.failed(id(1), true, at(1002));
    assert!(queue.is_ending(id(1)), "again");
    queue.take(at(20_000));
    queue.done(id(1), true, at(20_000));
    assert!(!queue.is_ending(id(1)));
}

/// One that always fails does not stop the others, of which some are done each time.
#[test]
fn one_that_fails_by_itself_is_not_the_backings_fault() {
    let mut queue = Queue::new(Duration::ZERO);
    let (mut now, mut failed) = (at(0), Vec::new());
    queue.changed(id(1), now);
    for number in 2..2000 {
        queue.changed(id(number), now);
        for _ in 0..2 {
            now = now.max(queue.next());
            for (which, _) in queue.take(now) {
                if which == id(1) {
                    failed.push(now);
                    queue.failed(which, false, now);
                } else {
                    queue.done(which, false, now);
                }
            }
        }
        now = now + Duration::from_secs(1);
    }
    let pauses: Vec<u64> = failed.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert!(pauses.len() > 6 && pauses.windows(2).all(|two| two[1] >= two[0] || two[1] >= 599), "{pauses:?}");
    assert!(!queue.stats().is_failing && queue.stats().pending == 1);
    assert_eq!(queue.stats().written, 1998);
    // When it can be written it is as any other.
    now = now + Duration::from_secs(600);
    assert_eq!(queue.take(now), [(id(1), WRITE)]);
    queue.done(id(1), false, now);
    queue.changed(id(1), now);
    queue.take(now);
    queue.failed(id(1), false, now);
    assert!(queue.stats().is_failing, "for once it may be the backing");
}

/// Who logs out where nobody can look may have made the id up.
#[test]
fn ends_that_nobody_could_look_up_are_bounded() {
    let mut queue = Queue::new(Duration::ZERO);
    let noted = (0..70_000).filter(|number| queue.ended_unseen(id(*number), at(0))).count();
    assert_eq!((noted, queue.stats().pending, queue.stats().dropped), (65_536, 65_536, 4464));
    assert!(queue.ended_unseen(id(7), at(0)), "it is noted already");
    queue.ended(id(80_000), at(0));
    assert!(queue.is_ending(id(80_000)), "there is room for what is known");
    queue.take(at(0));
    queue.done(id(0), true, at(0));
    assert!(queue.ended_unseen(id(70_001), at(0)) && !queue.ended_unseen(id(70_002), at(0)));
}

/// An end that is to be forgotten goes again, and is not counted again.
#[test]
fn what_is_to_be_forgotten_goes_first() {
    let mut queue = Queue::new(Duration::ZERO);
    queue.clear(id(1), at(0));
    queue.clear(id(1), at(0));
    assert_eq!(queue.take(at(0)), [(id(1), Job::Remove)]);
    queue.clear(id(1), at(0));
    queue.done(id(1), true, at(0));
    assert_eq!((queue.stats().removed, queue.stats().pending), (0, 0));
    queue.ended(id(1), at(1));
    queue.take(at(1));
    queue.done(id(1), true, at(1));
    assert_eq!(queue.stats().removed, 1);
}

#[test]
fn what_is_no_fault_of_the_backing_does_not_count_as_one() {
    let mut queue = Queue::new(Duration::ZERO);
    (1..=3).for_each(|number| queue.changed(id(number), at(0)));
    assert_eq!(queue.take(at(0)).len(), 3);
    queue.later(id(1), false, at(0));
    queue.impossible(id(2));
    queue.needless(id(3));
    assert!(!queue.stats().is_failing);
    assert_eq!((queue.stats().failed, queue.stats().pending), (1, 1));
    assert_eq!(queue.take(at(999)), []);
    assert_eq!(queue.take(at(1000)), [(id(1), WRITE)]);
    // And reads that fail stop no writes.
    queue.read_failed(at(1000));
    queue.changed(id(4), at(1000));
    assert!(queue.stats().is_failing && !queue.may_read(at(1000)));
    assert_eq!(queue.take(at(1000)), [(id(4), WRITE)]);
    queue.was_read();
    assert!(!queue.stats().is_failing);
}

#[test]
fn in_a_hurry_all_is_written_at_once() {
    let mut queue = Queue::new(DELAY);
    queue.changed(id(1), at(0));
    queue.changed(id(2), at(0));
    queue.hurry(at(1));
    assert_eq!(queue.take(at(1)).len(), 2);
}

const LIMITS: Limits = Limits { field: 1000, session: 2000 };
const HASHES: Hashes = Hashes::new(7);

fn policies() -> Policies {
    let mut policies = Policies::default();
    policies.set("cart", Conflict::Union);
    policies.set("hits", Conflict::Counter);
    policies
}

fn document(data: &Value, lifetime: Lifetime) -> Document {
    let data: HashMap<String, Value> = serde_json::from_value(data.clone()).unwrap();
    let change = Change::between((None, None), &data, (lifetime, [9; 16]), &policies(), HASHES);
    change.new_document(Stamp(77, 5), HASHES)
}

#[test]
fn a_session_comes_back_with_all_that_is_known_of_its_writes() {
    let document = document(&json!({"user": "ann", "cart": ["a", "b"], "hits": 3}), Lifetime::Idle(60_000));
    let record = to_record((id(4), "shop"), &document, Duration::from_secs(20), 1_000_000).unwrap();
    assert_eq!(record.id, id(4));
    // A quarter longer than it is left.
    assert_eq!(record.date, OffsetDateTime::from_unix_timestamp(1000 + 40 + 15).unwrap());
    let back = |now_ms| from_record("shop", record.clone(), now_ms, (&policies(), LIMITS, None), HASHES);
    assert_eq!(back(1_054_999), Ok(Session::Live(Box::new(document))));
    assert_eq!(back(1_055_000), Err(Unfit::Over));
    for lifetime in [Lifetime::Until(5_000_000), Lifetime::Unlimited] {
        let document = self::document(&json!({"user": "ann"}), lifetime);
        let record = to_record((id(4), "shop"), &document, Duration::ZERO, 1_000_000).unwrap();
        let back = from_record("shop", record.clone(), 4_000_000, (&policies(), LIMITS, None), HASHES);
        assert_eq!(back, Ok(Session::Live(Box::new(document))));
        let elsewhere = from_record("admin", record, 4_000_000, (&policies(), LIMITS, None), HASHES);
        assert_eq!(elsewhere, Err(Unfit::Another), "who knows an id of one application is nobody in another");
    }
    // What the nodes had comes back, whatever single requests may write.
    let document = self::document(&json!({"user": "x".repeat(3000)}), Lifetime::Unlimited);
    let record = to_record((id(4), "shop"), &document, Duration::ZERO, 0).unwrap();
    assert_eq!(back_of(record), Ok(Session::Live(Box::new(document))));
}

fn back_of(record: ForeignRecord) -> Result<Session, Unfit> {
    from_record("shop", record, 1, (&policies(), LIMITS, None), HASHES)
}

#[test]
fn what_another_application_left_is_the_same_on_every_node_that_reads_it() {
    let data = HashMap::from([("cart".to_owned(), json!(["a"])), ("hits".to_owned(), json!(3))]);
    let date = OffsetDateTime::from_unix_timestamp(2000).unwrap();
    let record = ForeignRecord { id: id(4), data, date };
    let read =
        |now_ms, hashes| from_record("shop", record.clone(), now_ms, (&policies(), LIMITS, None), hashes).unwrap();
    let (one, other) = (read(1_000_000, Hashes::new(1)), read(1_900_000, Hashes::new(2)));
    assert_eq!(one, other);
    // So a counter is not counted twice.
    let merged = Session::merge(one.clone(), other);
    assert_eq!(merged, one);
    let values: HashMap<_, _> = merged.live().unwrap().values(&policies()).map(|(k, v)| (k.to_owned(), v)).collect();
    assert_eq!(values, HashMap::from([("cart".to_owned(), json!(["a"])), ("hits".to_owned(), json!(3))]));
    assert_eq!(merged.live().unwrap().lifetime.1, Lifetime::Until(2_000_000));
}

#[test]
fn what_is_damaged_or_too_large_is_not_had_back() {
    let date = OffsetDateTime::from_unix_timestamp(2000).unwrap();
    let read = |key: &str, value: Value| {
        let data = HashMap::from([(key.to_owned(), value)]);
        from_record("shop", ForeignRecord { id: id(4), data, date }, 0, (&policies(), LIMITS, None), HASHES).map(drop)
    };
    for damaged in [json!(7), json!("!"), json!("AAAA"), json!("")] {
        let data = HashMap::from([("\0tribes.session".into(), damaged), ("\0tribes.store".into(), json!("shop"))]);
        assert_eq!(back_of(ForeignRecord { id: id(4), data, date }), Err(Unfit::Damaged));
    }
    assert_eq!(read("\0tribes.session", json!("AAAA")), Err(Unfit::Another), "it names none");
    assert_eq!(read("note", json!("x".repeat(1001))), Err(Unfit::TooLarge));
    let deep = (0..125).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(read("note", deep), Err(Unfit::TooLarge));
    assert_eq!(read("note", json!("x")), Ok(()));
}
