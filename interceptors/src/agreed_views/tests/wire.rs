//! What is written can be read, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tribes_core::Body;

use crate::agreed_views::core::{MAX_CHAIN, Primary};
use crate::agreed_views::wire::{
    Beat, EPOCH_LIMIT, Install, Kind, MAX_BODY, Malformed, Message, Report, State, recognise,
};
use crate::agreed_views::{Seat, ViewId};
use crate::testing::member_of_ours;

fn id(epoch: u64) -> ViewId {
    ViewId { epoch, coordinator: member_of_ours(3).id(), incarnation: 77 }
}

fn seats(count: u16) -> Arc<[Seat]> {
    let seat =
        |number| Seat { weight: 9, since: 3, remembers: number % 2 == 0, ..Seat::new(member_of_ours(number), 5) };
    (1..=count).map(seat).collect()
}

fn chain() -> Vec<Primary> {
    vec![
        Primary { id: id(1), seats: seats(2), token: 1, confirmed: true },
        Primary { id: id(2), seats: seats(3), token: 2, confirmed: false },
    ]
}

fn messages() -> Vec<Message> {
    let state = State {
        promised: 9,
        installed: Some(id(8)),
        holds: true,
        confirmed: false,
        follows: member_of_ours(1).id(),
        lease: Duration::from_millis(1234),
        lease_token: Some(u64::MAX),
    };
    let report = Report {
        view: Some((id(7), seats(2))),
        chain: chain(),
        remembers: true,
        forgets: true,
        since: 4,
        up_for: Duration::from_secs(3),
        waits: Duration::from_millis(7),
        max_token: 6,
    };
    let install = Install {
        epoch: 9,
        seats: seats(3),
        primary: true,
        token: 8,
        wait: Duration::from_millis(2500),
        sides: vec![(id(4), vec![0, 2]), (id(5), vec![1])],
        chain: chain(),
        consents: seats(1),
    };
    let kinds = [
        Kind::Beat(Beat { to: 1, sent: 2, echo: 3, state }),
        Kind::Beat(Beat::default()),
        Kind::Propose { epoch: 9, seats: seats(3) },
        Kind::Promise { epoch: 9, report },
        Kind::Promise { epoch: 9, report: Report::default() },
        Kind::Refuse { epoch: 9, promised: EPOCH_LIMIT - 1 },
        Kind::Install(Arc::new(install)),
        Kind::Leave { consent: None, votes: seats(0) },
        Kind::Leave {
            consent: Some(ViewId { epoch: 9, coordinator: member_of_ours(3).id(), incarnation: 4 }),
            votes: seats(2),
        },
    ];
    kinds.into_iter().map(|kind| Message { incarnation: u64::MAX, kind }).collect()
}

#[test]
fn what_is_written_is_read() {
    for message in messages() {
        let body = Body::new(message.encode());
        assert!(recognise(&body));
        // Seats are equal if their processes are: compare all that there is.
        assert_eq!(format!("{:?}", Message::decode(&body).unwrap()), format!("{message:?}"));
    }
}

#[test]
fn the_end_is_where_it_should_be() {
    for message in messages() {
        let bytes = message.encode();
        for len in 16..bytes.len() {
            assert!(Message::decode(&Body::new(bytes.slice(..len))).is_err(), "{len} of {message:?}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Message::decode(&Body::new(longer)), Err(Malformed::Trailing(1)));
    }
    assert!(!recognise(&Body::new(messages()[0].encode().slice(..15))));
}

#[test]
fn numbers_beyond_their_bounds_are_refused() {
    let decode = |kind| Message::decode(&Body::new(Message { incarnation: 1, kind }.encode()));
    assert_eq!(decode(Kind::Refuse { epoch: EPOCH_LIMIT, promised: 1 }), Err(Malformed::Number(EPOCH_LIMIT)));
    let too_many = seats(513);
    assert_eq!(decode(Kind::Propose { epoch: 1, seats: too_many }), Err(Malformed::TooMany(513, "members")));
    let chain = vec![chain()[0].clone(); MAX_CHAIN + 1];
    let report = Report { chain, ..Report::default() };
    assert_eq!(decode(Kind::Promise { epoch: 1, report }), Err(Malformed::TooMany(MAX_CHAIN + 1, "earlier views")));
    let mut long = messages()[0].encode().to_vec();
    long.resize(MAX_BODY + 1, 0);
    assert_eq!(Message::decode(&Body::new(long)), Err(Malformed::TooLong(MAX_BODY + 1)));
    let mut other = messages()[0].encode().to_vec();
    other[16] = 2;
    assert_eq!(Message::decode(&Body::new(other.clone())), Err(Malformed::Version(2)));
    (other[16], other[17]) = (1, 7);
    assert_eq!(Message::decode(&Body::new(other)), Err(Malformed::Kind(7)));
    // The largest that there is fits.
    let full = Primary { seats: seats(512), ..chain_of_one() };
    let report = Report { view: Some((id(1), seats(512))), chain: vec![full; MAX_CHAIN], ..Report::default() };
    assert!(decode(Kind::Promise { epoch: 1, report }).is_ok());
}

fn chain_of_one() -> Primary {
    chain().remove(0)
}

proptest! {
    #[test]
    fn nothing_that_comes_panics(at in 16_usize..400, byte: u8, which in 0_usize..8) {
        let mut bytes = messages()[which].encode().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(message) = Message::decode(&Body::new(bytes)) {
            let again = Message::decode(&Body::new(message.encode())).unwrap();
            prop_assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
    }
}
