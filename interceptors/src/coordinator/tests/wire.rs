//! The bytes, against what Java wrote and read.

use bytes::Bytes;
use proptest::prelude::*;
use tribes_core::Body;
use tribes_core::wire::{Limits, decode_member};

use super::super::election::{Election, Kind, MAX_BODY, MAX_MEMBERS, Malformed, Recognised, recognise};
use super::super::view_id::ViewId;
use crate::testing::member;
use crate::vectors::{hex, list, load, size, text, try_hex};

/// Of constants.json.
const ALIVE: &str = "4f87e7f1c505405eb37189a83472c8d2ee660a2281f74773ba489b5848847f6f4a4c8c326f674103b333dd00777509e67732b5979a244f25bcac850fea936ac9";

fn decode(bytes: impl Into<Bytes>) -> Result<Election, Malformed> {
    Election::decode(&Body::new(bytes.into()))
}

#[test]
fn javas_messages_are_read_and_written_byte_for_byte() {
    let vectors = load("coordinator");
    assert_eq!(list(&vectors["messages"]).len(), 5);
    for case in list(&vectors["messages"]) {
        let body = hex(&case["body"]);
        assert_eq!(recognise(&Body::new(body.clone())), Recognised::Election);
        let election = decode(body.clone()).unwrap();
        let member = |key: &str| decode_member(&hex(&case[key]), &Limits::default()).unwrap();
        assert_eq!((&*election.leader, &*election.source), (&member("leader"), &member("source")), "{case}");
        assert!(election.leader.same_content(&member("leader")));
        assert_eq!(election.members.len(), size(&case["view_size"]));
        assert_eq!(election.id.as_bytes()[..], hex(&case["id"])[..]);
        let confirms = text(&case["name"]).starts_with("confirmation");
        assert_eq!(election.kind == Kind::Confirmation, confirms, "{case}");
        assert_eq!(election.encode(), body, "{case}");
    }
}

#[test]
fn what_java_throws_at_is_refused() {
    let vectors = load("coordinator");
    assert_eq!(list(&vectors["malformed"]).len(), 7);
    for case in list(&vectors["malformed"]) {
        let body = Body::new(hex(&case["body"]));
        assert_eq!(recognise(&body), Recognised::Election, "{case}");
        match Election::decode(&body) {
            // Every type that is not a confirmation is a request.
            Ok(election) => {
                assert_eq!((text(&case["outcome"]["result"]), election.kind), ("ok", Kind::Request), "{case}");
            }
            Err(_) => assert_eq!(case["outcome"]["result"], "throws", "{case}"),
        }
    }
}

#[test]
fn a_sign_of_life_is_known() {
    let alive = try_hex(ALIVE).unwrap();
    // By its beginning.
    assert_eq!(recognise(&Body::new([&alive[..], b"and more"].concat())), Recognised::Alive);
    for at in 0..alive.len() {
        let mut bytes = alive.to_vec();
        bytes[at] ^= 1;
        assert_eq!(recognise(&Body::new(bytes)), Recognised::Other, "{at}");
    }
}

fn election(members: u16) -> Election {
    let (leader, source) = (member(1), member(2));
    let id = ViewId::new(7, &source);
    Election { kind: Kind::Confirmation, id, leader, source, members: (1..=members).map(member).collect() }
}

#[test]
fn each_cut_and_each_byte_too_many_is_refused() {
    let whole = election(3).encode();
    for len in 16..whole.len() {
        assert!(decode(whole.slice(..len)).is_err(), "{len}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(decode(longer), Err(Malformed::Trailing(1))));
}

#[test]
fn lists_and_bodies_are_bounded() {
    let full = u16::try_from(MAX_MEMBERS).unwrap();
    assert_eq!(decode(election(full).encode()).unwrap(), election(full));
    assert!(matches!(decode(election(full + 1).encode()), Err(Malformed::Members(4097))));
    assert!(matches!(decode(vec![0; MAX_BODY + 1]), Err(Malformed::TooLong(_))));
}

#[test]
fn a_body_of_several_segments_is_recognised() {
    let bytes = election(2).encode();
    let mut body = Body::new(bytes.slice(..5));
    body.push_trailer(bytes.slice(5..));
    assert_eq!(recognise(&body), Recognised::Election);
    assert_eq!(Election::decode(&body).unwrap(), election(2));
    assert_eq!(recognise(&Body::new(bytes.slice(..15))), Recognised::Other);
    assert_eq!(recognise(&Body::new("")), Recognised::Other);
}

proptest! {
    #[test]
    fn it_reads_what_it_wrote(numbers in proptest::collection::vec(1u16..500, 0..20), term in 0u64..1 << 47, confirm: bool) {
        let mut election = election(0);
        election.members = numbers.into_iter().map(member).collect();
        election.id = election.id.with_term(term);
        election.kind = if confirm { Kind::Confirmation } else { Kind::Request };
        prop_assert_eq!(decode(election.encode()).unwrap(), election);
    }

    #[test]
    fn changed_bytes_do_no_harm(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = election(4).encode().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Whatever is read is written the same, up to a type that is none.
        if let Ok(election) = decode(bytes.clone()) {
            prop_assert_eq!(&election.encode()[16..bytes.len() - 16], &bytes[16..bytes.len() - 16]);
        }
    }
}
