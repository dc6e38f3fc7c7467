use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Body, MessageId, Time};

use super::core::{Bounds, Core, REMEMBERED, RefusedPiece, Taken};
use super::piece::{MalformedPiece, Place, count, take_off};
use crate::testing::member;

fn core(message: usize, memory: usize) -> Core {
    Core::new(Bounds { message, memory, expire: Duration::from_secs(60) })
}

fn take(core: &mut Core, from: u16, id: u8, place: (u32, u32), bytes: usize) -> Result<Taken, RefusedPiece> {
    let place = Place { number: place.0, count: place.1 };
    let id = MessageId::from_array([id; 16]);
    core.take(&member(from), &id, place, vec![0; bytes].into(), Time::ZERO)
}

#[test]
fn a_sender_with_several_messages_has_a_quarter() {
    let mut core = core(30_000, 40_000);
    assert!(matches!(take(&mut core, 1, 1, (0, 2), 5000), Ok(Taken::Kept)));
    // Beyond its quarter, with another that is incomplete: given up, and the rest of it refused.
    assert_eq!(take(&mut core, 1, 2, (0, 3), 5000).unwrap_err(), RefusedPiece::NoMemory);
    assert_eq!(take(&mut core, 1, 2, (1, 3), 1).unwrap_err(), RefusedPiece::GivenUp);
    // Others are not concerned; one that is alone may have more.
    assert!(matches!(take(&mut core, 2, 2, (0, 2), 25_000), Ok(Taken::Kept)));
    assert!(matches!(take(&mut core, 1, 1, (1, 2), 100), Ok(Taken::Complete { .. })));
    assert_eq!(take(&mut core, 3, 1, (0, 2), 9000).unwrap_err(), RefusedPiece::NoMemory);
    assert_eq!(core.census().1, 1);
}

#[test]
fn what_a_piece_states_costs_nothing() {
    let mut core = core(1000, 1 << 20);
    // Nine bytes that cost Java's receiver all of its memory.
    let many = 0x7FFF_FFFF;
    assert_eq!(take(&mut core, 1, 1, (0, many), 1).unwrap_err(), RefusedPiece::TooLong { limit: 1000 });
    assert!(matches!(take(&mut core, 1, 2, (999, 1000), 1), Ok(Taken::Kept)));
    assert!(core.census().0 < 2000);
    // Empty pieces cost something, too.
    let mut core = self::core(1000, 10_000);
    let taken = (0..1000).take_while(|number| take(&mut core, 1, 1, (*number, 1000), 0).is_ok()).count();
    assert!(taken < 200, "{taken}");
    assert_eq!(core.census(), (0, 0));
}

#[test]
fn a_repeated_piece_replaces_the_one_before() {
    let mut core = core(1000, 4000);
    for bytes in [500, 900, 100] {
        for _ in 0..100 {
            assert!(matches!(take(&mut core, 1, 1, (0, 2), bytes), Ok(Taken::Kept)));
        }
    }
    match take(&mut core, 1, 1, (1, 2), 50) {
        Ok(Taken::Complete { body, cost }) => {
            assert_eq!(body.len(), 150);
            core.release(&member(1), cost);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(core.census(), (0, 0));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut core = core(1000, 1 << 20);
    for number in 0..60_000_u32 {
        let id = MessageId::from_bytes(Bytes::copy_from_slice(&number.to_be_bytes()));
        let from = member(u16::try_from(number % 50_000).unwrap());
        let taken = core.take(&from, &id, Place { number: 0, count: 1 }, Bytes::new(), Time::ZERO);
        let Ok(Taken::Complete { cost, .. }) = taken else { panic!("{taken:?}") };
        core.release(&from, cost);
    }
    // One more than that many senders at most: the others have been forgotten.
    let text = format!("{core:?}");
    assert!(text.matches("Delivered").count() <= REMEMBERED);
    assert_eq!(core.census(), (0, 0));
}

#[test]
fn trailers() {
    for (wire, expected) in [
        (&b""[..], Err(MalformedPiece::NoTrailer)),
        (b"\x01", Err(MalformedPiece::TooShort)),
        (b"1234567\x01", Err(MalformedPiece::TooShort)),
        (b"\0\0\0\0\0\0\0\0\x01", Err(MalformedPiece::Place { number: 0, count: 0 })),
        (b"\0\0\0\x02\0\0\0\x02\x01", Err(MalformedPiece::Place { number: 2, count: 2 })),
        (b"\xFF\xFF\xFF\xFF\0\0\0\x02\x01", Err(MalformedPiece::Place { number: -1, count: 2 })),
        (b"\0\0\0\x01\0\0\0\x02\xFF", Ok(Some(Place { number: 1, count: 2 }))),
        (b"\0", Ok(None)),
        (b"x\0", Ok(None)),
    ] {
        assert_eq!(take_off(&mut Body::new(wire)), expected, "{wire:?}");
    }
    assert_eq!((count(0, 10), count(10, 10), count(11, 10), count(usize::MAX, 1)), (Some(0), Some(1), Some(2), None));
}
