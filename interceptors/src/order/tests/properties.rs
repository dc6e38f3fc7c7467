use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tribes_core::Time;

use super::BOUNDS;
use crate::order::core::{Bounds, Fate, Stream};

/// One arrival: when, and the message.
type Arrival = (Time, i32);

/// What a run gave: deliveries with their times, and messages that came too late.
#[derive(Default)]
struct Run {
    delivered: Vec<(i32, Time)>,
    late: BTreeSet<i32>,
    waiting_at_most: usize,
}

/// Lets the arrivals in, and the timer run, until nothing waits.
fn run(arrivals: &[Arrival], bounds: &Bounds) -> Run {
    let (mut stream, mut seen) = (Stream::default(), Run::default());
    let deliver = |stream: &mut Stream<i32>, seen: &mut Run, now: Time| {
        seen.delivered.extend(stream.ready.drain(..).map(|number| (number, now)));
        seen.waiting_at_most = seen.waiting_at_most.max(stream.waiting());
    };
    let ends = std::iter::once(&(Time::NEVER, 0));
    for (at, number) in arrivals.iter().chain(ends) {
        while stream.deadline(bounds) <= *at && stream.waiting() > 0 {
            let due = stream.deadline(bounds);
            stream.tick(due, bounds);
            deliver(&mut stream, &mut seen, due);
        }
        if *at == Time::NEVER {
            break;
        }
        let fingerprint = u64::from(number.cast_unsigned());
        if let Fate::Late(number) = stream.arrive(*number, fingerprint, *number, *at, bounds, |_| {}) {
            seen.late.insert(number);
        }
        deliver(&mut stream, &mut seen, *at);
    }
    assert_eq!(stream.waiting(), 0);
    seen
}

/// For each message the delays of its copies in milliseconds; none: it is lost.
fn copies(longest: u64) -> impl Strategy<Value = Vec<Vec<u64>>> {
    vec(prop_oneof![1 => Just(Vec::new()), 6 => vec(0..longest, 1), 2 => vec(0..longest, 2..4)], 0..150)
}

fn arrivals(copies: &[Vec<u64>], spacing: u64) -> Vec<Arrival> {
    let mut all: Vec<_> = (1i32..)
        .zip(copies)
        .flat_map(|(number, delays)| {
            let sent = u64::from(number.unsigned_abs()) * spacing;
            delays.iter().map(move |delay| (Time::from_millis(sent + delay), number))
        })
        .collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

fn first_arrivals(arrivals: &[Arrival]) -> BTreeMap<i32, Time> {
    let mut first = BTreeMap::new();
    for (at, number) in arrivals {
        first.entry(*number).or_insert(*at);
    }
    first
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is lost, doubled and delayed: in order, none twice, none held for longer than the limit, and nothing
    /// disappears but what came after its place was given up.
    #[test]
    fn any_permutation_duplication_and_loss_ends_in_order(copies in copies(6000), spacing in 0u64..40) {
        let arrivals = arrivals(&copies, spacing);
        let seen = run(&arrivals, &BOUNDS);
        prop_assert!(seen.delivered.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", seen.delivered);
        let first = first_arrivals(&arrivals);
        for (number, at) in &seen.delivered {
            prop_assert!(*at - first[number] <= BOUNDS.expire, "{number} waited from {} to {at}", first[number]);
        }
        let delivered: BTreeSet<_> = seen.delivered.iter().map(|(number, _)| *number).collect();
        for (number, at) in &first {
            prop_assert!(delivered.contains(number) != seen.late.contains(number), "{number}");
            // Late is only what a message after it could not wait for.
            let waited = |(later, came): (&i32, &Time)| later > number && *came + BOUNDS.expire <= *at;
            prop_assert!(delivered.contains(number) || first.iter().any(waited), "{number}");
        }
    }

    /// What is only reordered and doubled within the limit arrives whole.
    #[test]
    fn without_loss_nothing_is_lost(copies in vec(vec(0u64..2999, 1..4), 0..150), spacing in 0u64..40) {
        let seen = run(&arrivals(&copies, spacing), &BOUNDS);
        let numbers: Vec<_> = seen.delivered.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(numbers, (1..=i32::try_from(copies.len()).unwrap()).collect::<Vec<_>>());
    }

    /// A bounded queue keeps its bound, order and uniqueness.
    #[test]
    fn a_small_queue_keeps_order(copies in copies(6000), max_queue in 1usize..20, forward_expired in any::<bool>()) {
        let bounds = Bounds { max_queue, forward_expired, ..BOUNDS };
        let seen = run(&arrivals(&copies, 10), &bounds);
        prop_assert!(seen.delivered.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", seen.delivered);
        prop_assert!(seen.waiting_at_most < max_queue);
    }

    /// A sender that counts anew, at any moment, loses nothing, and is in order again.
    #[test]
    fn counting_anew_loses_nothing(before in 0i32..4000, gap in 1i32..5, after in 1i32..300) {
        let mut stream = Stream::default();
        let (mut now, mut delivered) = (Time::ZERO, Vec::new());
        let mut arrive = |number: i32, id: u64| {
            now = now + Duration::from_millis(1);
            let _ = stream.arrive(number, id, id, now, &BOUNDS, |_| {});
            delivered.extend(stream.ready.drain(..));
        };
        // The last one waits behind a gap, except where there is none.
        (1..=before).for_each(|number| arrive(number, u64::from(number.unsigned_abs())));
        arrive(before + gap, 10_000);
        (1..=after).for_each(|number| arrive(number, 20_000 + u64::from(number.unsigned_abs())));
        stream.tick(Time::from_millis(600_000), &BOUNDS);
        delivered.extend(stream.ready.drain(..));
        let mut sorted = delivered.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), usize::try_from(before + after + 1).unwrap());
        if before > 0 || gap == 1 {
            prop_assert!(delivered.is_sorted(), "{delivered:?}");
        }
    }

    /// Numbers of no sender at all: each message is accounted for, within the bounds.
    #[test]
    fn garbage_is_accounted_for(
        messages in vec((any::<i32>(), 1u64..5, 0u64..2000), 0..200),
        small in vec((-5i32..20, 1u64..5, 0u64..2000), 0..200),
        forward_expired in any::<bool>(),
    ) {
        let bounds = Bounds { forward_expired, max_queue: 50, ..BOUNDS };
        let mut stream = Stream::default();
        let (mut now, mut back) = (Time::ZERO, 0);
        let all: Vec<_> = messages.iter().zip(&small).flat_map(|(one, other)| [*one, *other]).collect();
        for (number, id, pause) in &all {
            now = now + Duration::from_millis(*pause);
            stream.tick(now, &bounds);
            match stream.arrive(*number, *id, (), now, &bounds, |()| {}) {
                Fate::Ready | Fate::Waits => {}
                Fate::Duplicate(()) | Fate::Late(()) | Fate::Impossible(()) => back += 1,
            }
            prop_assert!(stream.waiting() < bounds.max_queue);
        }
        stream.tick(now + bounds.expire, &bounds);
        prop_assert_eq!(stream.deadline(&bounds), Time::NEVER);
        prop_assert_eq!(stream.ready.len() + stream.expired.len() + back, all.len());
    }
}
