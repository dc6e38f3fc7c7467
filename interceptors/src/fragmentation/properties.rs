//! Whatever the network does to pieces, what comes out is whole messages, each once, within the bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tribes_core::{Body, Member, MessageId, Time};

use super::core::{Bounds, Core, MESSAGE_COST, PIECE_COST, Taken};
use super::piece::{count, cut, take_off};
use crate::testing::member;

const EXPIRE: Duration = Duration::from_secs(60);

/// A message: its sender and id, of which several have the same, and its body.
#[derive(Clone, Debug)]
struct Given {
    from: u16,
    id: u8,
    body: Vec<u8>,
    piece: usize,
}

fn given() -> impl Strategy<Value = Given> {
    let body = (0..200_usize, any::<u8>());
    (1..4_u16, 0..3_u8, body, 1..20_usize).prop_map(|(from, id, (len, first), piece)| {
        let body = (0..len).map(|at| first.wrapping_add(u8::try_from(at % 256).unwrap())).collect();
        Given { from, id, body, piece }
    })
}

/// Messages that differ in sender or id, and a sequence of their pieces, by message and number: shuffled, some lost, some
/// twice and more.
fn traffic() -> impl Strategy<Value = (Vec<Given>, Vec<(usize, u32)>)> {
    vec(given(), 1..8).prop_flat_map(|mut messages| {
        let mut known = BTreeSet::new();
        messages.retain(|message| known.insert((message.from, message.id)));
        let all = messages.iter().enumerate().flat_map(|(message, given)| {
            let pieces = count(given.body.len().max(1), given.piece).unwrap();
            (0..pieces).map(move |number| (message, number))
        });
        let all: Vec<_> = all.collect();
        let often = vec(prop_oneof![1 => Just(0_usize), 6 => Just(1), 2 => Just(2), 1 => Just(3)], all.len());
        let pieces = often.prop_map(move |often| {
            let repeat = |(piece, often): (&(usize, u32), usize)| std::iter::repeat_n(*piece, often);
            all.iter().zip(often).flat_map(repeat).collect::<Vec<_>>()
        });
        (Just(messages), pieces.prop_shuffle())
    })
}

fn id(number: u8) -> MessageId {
    MessageId::from_array([number; 16])
}

/// Has `core` take a piece of `given`, as it comes from the wire; the body if it is complete.
fn take(core: &mut Core, given: &Given, number: u32, now: Time) -> Result<Option<Vec<u8>>, String> {
    let body = Body::new(given.body.clone());
    let mut piece =
        cut(&body, given.piece, count(given.body.len().max(1), given.piece).unwrap()).remove(number as usize);
    let place = take_off(&mut piece).unwrap().unwrap();
    let from: Arc<Member> = member(given.from);
    match core.take(&from, &id(given.id), place, piece.into_bytes(), now) {
        Ok(Taken::Complete { body, cost }) => {
            core.release(&from, cost);
            Ok(Some(body.to_bytes().to_vec()))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// With room and time enough, exactly the messages come out of which each piece arrived, each once, unmixed.
    #[test]
    fn exactly_the_whole_messages((messages, pieces) in traffic()) {
        let mut core = Core::new(Bounds { message: 1000, memory: 1 << 20, expire: EXPIRE });
        let mut now = Time::ZERO;
        let mut delivered = BTreeMap::new();
        for (message, number) in &pieces {
            now = now + Duration::from_millis(1);
            let given = &messages[*message];
            if let Some(body) = take(&mut core, given, *number, now).unwrap() {
                prop_assert_eq!(&body, &given.body);
                prop_assert!(delivered.insert(*message, ()).is_none(), "message {} came twice", message);
            }
        }
        for (message, given) in messages.iter().enumerate() {
            let all = count(given.body.len().max(1), given.piece).unwrap();
            let came = (0..all).all(|number| pieces.contains(&(message, number)));
            prop_assert_eq!(came, delivered.contains_key(&message));
        }
        // What lacks pieces goes in time, and then nothing is left.
        let incomplete = core.census().1;
        core.tick(now + EXPIRE);
        prop_assert_eq!((core.census(), core.counts().expired), ((0, 0), u64::try_from(incomplete).unwrap()));
        core.tick(now + 2 * EXPIRE);
        prop_assert_eq!(core.next_tick(), Time::NEVER);
    }

    /// With too little of either, messages are given up, but none comes out wrong or twice, and the bounds hold all the time.
    #[test]
    fn bounds_hold(
        (messages, pieces) in traffic(),
        memory in MESSAGE_COST..8 * MESSAGE_COST,
        message in 1..300_usize,
        pause in 0..20_000_u64,
    ) {
        let mut core = Core::new(Bounds { message, memory, expire: EXPIRE });
        let mut now = Time::ZERO;
        let mut delivered = BTreeSet::new();
        for (number_of_message, number) in &pieces {
            now = now + Duration::from_millis(pause);
            let given = &messages[*number_of_message];
            if let Ok(Some(body)) = take(&mut core, given, *number, now) {
                prop_assert_eq!(&body, &given.body);
                prop_assert!(body.len() <= message);
                // It may be begun anew when it has been forgotten that it was complete, after the time for that.
                prop_assert!(delivered.insert(*number_of_message) || now >= Time::ZERO + EXPIRE);
            }
            let (held, incomplete) = core.census();
            prop_assert!(held <= memory, "{held} of {memory}");
            prop_assert!(held >= incomplete * (MESSAGE_COST + PIECE_COST));
            prop_assert!(core.next_tick() > now);
        }
        core.tick(now + EXPIRE);
        prop_assert_eq!(core.census(), (0, 0));
        core.tick(now + 2 * EXPIRE);
        prop_assert_eq!(core.next_tick(), Time::NEVER);
    }

    /// Whatever a peer says of its pieces, nothing panics and the bounds hold.
    #[test]
    fn any_claim_is_answered(claims in vec((1..4_u16, 0..3_u8, vec(any::<u8>(), 0..40), any::<bool>()), 1..60)) {
        let mut core = Core::new(Bounds { message: 500, memory: 5000, expire: EXPIRE });
        for (from, of, bytes, plausible) in claims {
            let mut body = Body::new(bytes);
            if plausible {
                let len = u8::try_from(body.len() % 4).unwrap();
                body.push_trailer(vec![0, 0, 0, len, 0, 0, 0, 3, 1]);
            }
            if let Ok(Some(place)) = take_off(&mut body) {
                let taken = core.take(&member(from), &id(of), place, body.into_bytes(), Time::ZERO);
                if let Ok(Taken::Complete { cost, .. }) = taken {
                    core.release(&member(from), cost);
                }
            }
            prop_assert!(core.census().0 <= 5000);
        }
    }
}
