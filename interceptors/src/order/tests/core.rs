use std::time::Duration;

use tribes_core::Time;

use super::BOUNDS;
use crate::order::core::{Bounds, Counts, Fate, MEMORY, Stream, wire};
use crate::vectors::{int32, list, load, text};

/// A stream of messages that are named by their numbers, and by what tells two of the same number apart.
#[derive(Default)]
struct Case {
    stream: Stream<String>,
    now: Time,
}

impl Case {
    fn arrive_as(&mut self, number: i32, id: u64, bounds: &Bounds) -> Fate<String> {
        let name = format!("m{number}");
        self.stream.arrive(number, id, name, self.now, bounds, |_| {})
    }

    /// Message `number` of a sender that numbers each message once.
    fn arrive(&mut self, number: i32) -> Fate<String> {
        self.arrive_as(number, u64::from(number.cast_unsigned()) + 1, &BOUNDS)
    }

    fn ready(&mut self) -> Vec<String> {
        self.stream.ready.drain(..).collect()
    }

    fn pass(&mut self, time: Duration, bounds: &Bounds) {
        self.now = self.now + time;
        self.stream.tick(self.now, bounds);
    }
}

/// What Java delivers, without what it should not: duplicates, and numbers that no sender gives.
#[test]
fn as_java_where_java_is_right() {
    let vectors = load("order");
    let scripts = list(&vectors["receive_scripts"]);
    assert_eq!(scripts.len(), 8);
    for script in scripts {
        let mut case = Case::default();
        let mut delivered = Vec::new();
        for number in list(&script["arrivals"]) {
            let fate = case.arrive(int32(number));
            assert_eq!(matches!(fate, Fate::Impossible(_)), int32(number) < 1, "{script}");
            delivered.extend(case.ready());
        }
        let mut java: Vec<_> = list(&script["delivered"]).iter().map(|name| text(name).to_owned()).collect();
        java.retain(|name| !matches!(name.as_str(), "m-7" | "m0"));
        java.dedup();
        if text(&script["script"]).starts_with("duplicate of a delivered") {
            assert_eq!(java, ["m1", "m2", "m1"]);
            java.pop();
        }
        assert_eq!(delivered, java, "{script}");
        // What waits comes without another message, which in Java it does not.
        case.pass(BOUNDS.expire, &BOUNDS);
        assert_eq!(case.stream.waiting(), 0, "{script}");
    }
}

#[test]
fn a_full_queue_gives_up_what_is_missing() {
    let expected: Vec<_> =
        list(&load("order")["max_queue_2_after_5_7_9"]).iter().map(|name| text(name).to_owned()).collect();
    let bounds = Bounds { max_queue: 2, ..BOUNDS };
    let mut case = Case::default();
    for number in [5, 7, 9] {
        case.arrive_as(number, 9, &bounds);
    }
    assert_eq!(case.ready(), expected);
    assert_eq!((case.stream.waiting(), case.stream.counts.given_up), (1, 5));
    // With a queue of one nothing waits.
    let mut case = Case::default();
    assert_eq!(case.arrive_as(5, 9, &Bounds { max_queue: 1, ..BOUNDS }), Fate::Ready);
    assert_eq!(case.ready(), ["m5"]);
}

/// Java delivers it with the next arrival only (T25).
#[test]
fn a_gap_ends_by_time_alone() {
    let expiry = load("order")["expiry"].clone();
    let bounds = Bounds { expire: Duration::from_millis(expiry["expire_ms"].as_u64().unwrap()), ..BOUNDS };
    let mut case = Case::default();
    assert_eq!(case.arrive_as(int32(&expiry["queued"]), 1, &bounds), Fate::Waits);
    assert_eq!(case.stream.deadline(&bounds), Time::ZERO + bounds.expire);
    case.pass(bounds.expire - Duration::from_nanos(1), &bounds);
    assert_eq!(case.ready(), Vec::<String>::new());
    case.pass(Duration::from_nanos(1), &bounds);
    assert_eq!(case.ready(), ["m3"]);
    assert_eq!(case.stream.deadline(&bounds), Time::NEVER);
    // Those that were given up come too late; the one after is in order.
    assert_eq!(case.arrive(2), Fate::Late("m2".to_owned()));
    assert_eq!(case.arrive(4), Fate::Ready);
}

#[test]
fn none_waits_longer_than_the_limit_and_all_before_it_go_first() {
    let mut case = Case::default();
    let second = Duration::from_secs(1);
    for number in [7, 9, 3] {
        assert_eq!(case.arrive(number), Fate::Waits);
        case.pass(second, &BOUNDS);
    }
    // 7 has waited for three seconds; 3, which came later, stands before it in order.
    assert_eq!(case.ready(), ["m3", "m7"]);
    case.arrive(11);
    case.pass(second, &BOUNDS);
    assert_eq!(case.ready(), ["m9"]);
    assert_eq!(case.arrive(10), Fate::Ready);
    assert_eq!(case.ready(), ["m10", "m11"]);
    assert_eq!(case.stream.counts.given_up, 2 + 3 + 1);
}

#[test]
fn expired_messages_are_dropped_if_so_configured() {
    let bounds = Bounds { forward_expired: false, ..BOUNDS };
    let mut case = Case::default();
    case.arrive_as(3, 3, &bounds);
    case.now = case.now + Duration::from_secs(2);
    case.arrive_as(2, 2, &bounds);
    case.arrive_as(4, 4, &bounds);
    case.pass(Duration::from_secs(1), &bounds);
    // 2 has not waited too long, and nor has 4.
    assert_eq!(case.ready(), ["m2", "m4"]);
    assert_eq!(case.stream.expired, ["m3"]);
    assert_eq!(case.arrive_as(3, 3, &bounds), Fate::Late("m3".to_owned()));
}

#[test]
fn a_sender_that_counts_anew_is_followed() {
    let mut case = Case::default();
    for number in [1, 2, 3, 4, 6] {
        case.arrive(number);
    }
    case.ready();
    // Another first message: what waited is delivered, and nothing is lost.
    assert_eq!(case.arrive_as(1, 100, &BOUNDS), Fate::Ready);
    assert_eq!(case.ready(), ["m6", "m1"]);
    assert_eq!(case.stream.counts, Counts { given_up: 1, restarts: 1 });
    assert_eq!(case.arrive_as(2, 101, &BOUNDS), Fate::Ready);
    assert_eq!(case.arrive_as(2, 101, &BOUNDS), Fate::Duplicate("m2".to_owned()));
    // Under a number that waits.
    assert_eq!(case.arrive_as(5, 102, &BOUNDS), Fate::Waits);
    assert_eq!(case.arrive_as(5, 102, &BOUNDS), Fate::Duplicate("m5".to_owned()));
    assert_eq!(case.arrive_as(5, 103, &BOUNDS), Fate::Waits);
    assert_eq!(case.ready(), ["m2", "m5"]);
    assert_eq!((case.stream.waiting(), case.stream.counts.restarts), (1, 2));
    assert_eq!(case.arrive_as(1, 104, &BOUNDS), Fate::Ready);
    // So long ago that nobody remembers what it was.
    let mut case = Case::default();
    for number in 1..=i32::try_from(MEMORY).unwrap() + 5 {
        case.arrive(number);
    }
    case.ready();
    assert_eq!(case.arrive(6), Fate::Duplicate("m6".to_owned()));
    assert_eq!(case.arrive(1), Fate::Ready);
    assert_eq!(case.stream.counts.restarts, 1);
}

#[test]
fn a_copy_that_took_very_long_is_no_new_count() {
    let memory = i32::try_from(MEMORY).unwrap();
    let mut case = Case { now: Time::from_millis(5000), ..Case::default() };
    for number in 1..=3 * memory {
        case.arrive(number);
    }
    let old = 3 * memory / 2;
    case.now = case.now + (BOUNDS.expire - Duration::from_nanos(1));
    assert_eq!(case.arrive(old), Fate::Late(format!("m{old}")));
    assert_eq!(case.arrive(3 * memory + 1), Fate::Ready);
    assert_eq!(case.stream.counts, Counts::default());
    // The sender does not go on where it was: it has begun anew, and much of what it sent was lost.
    case.now = case.now + BOUNDS.expire;
    case.ready();
    assert_eq!([case.arrive(old), case.arrive(old + 1), case.arrive(old + 3)], [Fate::Ready, Fate::Ready, Fate::Waits]);
    assert_eq!(case.arrive(old - 1), Fate::Late(format!("m{}", old - 1)));
    assert_eq!(case.stream.counts, Counts { given_up: 0, restarts: 1 });
}

#[test]
fn numbers_go_on_beyond_the_largest() {
    let mut case = Case::default();
    assert_eq!(case.arrive(i32::MAX - 1), Fate::Waits);
    case.pass(BOUNDS.expire, &BOUNDS);
    case.ready();
    for number in [i32::MIN, i32::MIN + 1, i32::MAX] {
        case.arrive(number);
    }
    assert_eq!(case.ready(), [i32::MAX, i32::MIN, i32::MIN + 1].map(|number| format!("m{number}")));
    assert_eq!(case.arrive(i32::MIN), Fate::Duplicate(format!("m{}", i32::MIN)));
    assert_eq!([wire(1), wire(i64::from(i32::MAX) + 1), wire(1 << 32)], [1, i32::MIN, 0]);
    // Whoever hears such a sender for the first time waits once.
    let mut case = Case::default();
    assert_eq!(case.arrive(-5), Fate::Waits);
    case.pass(BOUNDS.expire, &BOUNDS);
    assert_eq!(case.arrive(-4), Fate::Ready);
    assert_eq!(case.ready(), ["m-5", "m-4"]);
}

#[test]
fn what_no_sender_gives_is_refused_and_does_no_harm() {
    let mut case = Case::default();
    assert_eq!(case.arrive(0), Fate::Impossible("m0".to_owned()));
    assert_eq!(case.arrive(1), Fate::Ready);
    for number in [0, -1, -1000, i32::MIN + 100] {
        assert_eq!(case.arrive(number), Fate::Impossible(format!("m{number}")));
    }
    assert_eq!(case.arrive(2), Fate::Ready);
    assert_eq!(case.stream.counts, Counts::default());
}
