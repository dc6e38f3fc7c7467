//! The Java objects that are written and matched as templates, against streams that Java wrote.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use crate::vectors::{hex, int, list, load, pattern, size, text};
use bytes::Bytes;
use serde_json::Value;
use tribes_core::wire::Limits;
use tribes_core::wire::java::{JavaMessage, MEMBER_CLASS_VERSION, MemberMessage, MemberMessageKind, RpcBody};
use tribes_core::{Member, MemberId};

fn decode(stream: &[u8]) -> Option<JavaMessage> {
    JavaMessage::decode(stream, &Limits::default())
}

fn member_message(case: &Value, message: &MemberMessage) {
    let kind = match int(&case["type"]) {
        1 => MemberMessageKind::Start,
        2 => MemberMessageKind::Stop,
        _ => MemberMessageKind::Ping,
    };
    assert_eq!((message.kind, &message.membership_id), (kind, &hex(&case["membership_id"])), "{}", case["name"]);
}

#[test]
fn streams_of_the_static_membership_service() {
    let cases = load("static_rpc");
    for case in list(&cases["cases"]) {
        let (name, stream) = (text(&case["name"]), hex(&case["stream"]));
        let found = decode(&stream);
        let Some(found) = found else {
            assert_eq!(case["kind"], "rpc-other", "{name}");
            continue;
        };
        match &found {
            JavaMessage::Member(message) => {
                assert_eq!(case["kind"], "member", "{name}");
                member_message(case, message);
            }
            JavaMessage::Rpc { reply, id, rpc_id, body } => {
                assert_eq!(*reply, case["reply"] == true, "{name}");
                assert_eq!((id, rpc_id), (&hex(&case["uuid"]), &hex(&case["rpc_id"])), "{name}");
                match body {
                    RpcBody::Null => assert_eq!(case["kind"], "rpc-null", "{name}"),
                    RpcBody::Bytes(bytes) => {
                        assert_eq!(case["kind"], "rpc-bytes", "{name}");
                        assert_eq!(*bytes, pattern(size(&case["type"])), "{name}");
                    }
                    RpcBody::Text(text) => {
                        assert_eq!((text.as_str(), &case["kind"]), ("question", &Value::from("rpc-other")), "{name}");
                    }
                    RpcBody::Member(message) => {
                        assert_eq!(case["kind"], "rpc", "{name}");
                        member_message(case, message);
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
            JavaMessage::NoRpcChannel { id, rpc_id } => {
                assert_eq!(case["kind"], "no-rpc-channel", "{name}");
                assert_eq!((id, rpc_id), (&hex(&case["uuid"]), &hex(&case["rpc_id"])), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let again = found.encode(MEMBER_CLASS_VERSION);
        if case["member_class"] == "StaticMember" {
            // Read as either class, written as the plain one.
            assert_eq!(decode(&again).unwrap(), found, "{name}");
            assert!(again.len() < stream.len(), "{name}");
        } else {
            assert_eq!(again, stream, "{name}");
        }
    }
    assert_eq!(list(&cases["cases"]).len(), 71);
}

#[test]
fn older_vectors() {
    for case in list(&load("tipis")["member_messages"]) {
        let stream = hex(&case["stream"]);
        let found = decode(&stream).unwrap();
        let JavaMessage::Member(message) = &found else { panic!("{found:?}") };
        member_message(case, message);
        assert_eq!(found.encode(MEMBER_CLASS_VERSION), stream);
    }
    for case in list(&load("rpc")["messages"]) {
        let (name, stream) = (text(&case["name"]), hex(&case["stream"]));
        let found = decode(&stream).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.encode(MEMBER_CLASS_VERSION), stream, "{name}");
    }
    // A replicated map's messages are none of these.
    assert!(list(&load("tipis")["map_messages"]).iter().all(|case| decode(&hex(&case["stream"])).is_none()));
}

#[test]
fn bodies_of_every_size_come_back() {
    let sizes = [0, 1, 245, 246, 247, 1024, 65_535, 65_536, 100_000];
    let bodies = sizes.iter().flat_map(|size| {
        let bytes = pattern(*size);
        [RpcBody::Bytes(bytes.clone()), RpcBody::Array(bytes), RpcBody::Text("\u{e4}\0\u{1f600}".repeat(size / 8))]
    });
    for body in bodies.chain([RpcBody::Null]) {
        for rpc_id in [0, 200, 255, 3000] {
            let message =
                JavaMessage::Rpc { reply: true, id: vec![1; 16].into(), rpc_id: pattern(rpc_id), body: body.clone() };
            assert_eq!(decode(&message.encode(MEMBER_CLASS_VERSION)), Some(message));
        }
    }
}

fn sample() -> JavaMessage {
    let member = Member::new(MemberId::from_bytes([7; 16]), ([127, 0, 0, 1], 4000).into()).with_payload(vec![5; 3000]);
    let message =
        MemberMessage { kind: MemberMessageKind::Ping, member, membership_id: Bytes::from("ch-StaticMembership") };
    JavaMessage::Rpc {
        reply: false,
        id: vec![1; 16].into(),
        rpc_id: message.membership_id.clone(),
        body: RpcBody::Member(message),
    }
}

#[test]
fn the_class_version_of_members_is_written_as_told_and_not_read() {
    let other = [0x53, 0x55, 0x28, 0xFD, 0x04, 0x96, 0x59, 0xFE];
    let stream = sample().encode(other);
    assert!(stream.windows(8).any(|window| window == other));
    assert_eq!(decode(&stream), Some(sample()));
}

#[test]
fn any_cut_or_trailing_byte_is_no_match() {
    let stream = sample().encode(MEMBER_CLASS_VERSION);
    assert!((0..stream.len()).all(|len| decode(&stream[..len]).is_none()));
    assert!(decode(&[&stream[..], b"\x78"].concat()).is_none());
}

#[test]
fn a_damaged_byte_never_panics() {
    let stream = sample().encode(MEMBER_CLASS_VERSION);
    for at in 0..stream.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = stream.to_vec();
            damaged[at] ^= flip;
            let _ = decode(&damaged);
        }
    }
}

#[test]
fn a_member_beyond_the_limit_is_no_match() {
    let stream = sample().encode(MEMBER_CLASS_VERSION);
    assert!(JavaMessage::decode(&stream, &Limits::default().with_max_member(2000)).is_none());
}
