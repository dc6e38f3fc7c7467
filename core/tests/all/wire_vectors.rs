//! The codec against what the real Java classes wrote and sent: both ways, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use crate::vectors::{assert_blob, bytes, captured, hex, int, int32, list, load, size, text};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tribes_core::wire::{
    self, ACK_FRAME, CONTROL_END, Envelope, FAIL_ACK_FRAME, FRAME_END, FRAME_OVERHEAD, FRAME_START, Field, Frame,
    FrameDecoder, Limits, MEMBER_BEGIN, MEMBER_END, SenderCache, WireError,
};
use tribes_core::{AckMode, ChannelMessage, Member, MemberId, MessageId, SendOptions};

fn encoded(member: &Member) -> Bytes {
    let mut out = BytesMut::new();
    wire::encode_member(member, &mut out);
    assert_eq!(out.len(), wire::member_len(member));
    out.freeze()
}

/// The member that a vector's `fields` describe.
fn member(fields: &Value) -> Member {
    let id = text(&fields["unique_id"]).parse().unwrap();
    Member::from_parts(id, bytes(&fields["host"]), int32(&fields["port"]))
        .with_secure_port(int32(&fields["secure_port"]))
        .with_udp_port(int32(&fields["udp_port"]))
        .with_alive_ms(int(&fields["alive_ms"]))
        .with_domain(bytes(&fields["domain"]))
        .with_command(bytes(&fields["command"]))
        .with_payload(bytes(&fields["payload"]))
}

fn assert_same(found: &Member, expected: &Member, what: &str) {
    assert!(found.same_content(expected), "{what}: {found:?} instead of {expected:?}");
    assert_eq!(found.alive_ms(), expected.alive_ms(), "{what}");
}

/// All frames of a stream; nothing may be left.
fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(stream);
    let frames = std::iter::from_fn(|| decoder.next().unwrap()).collect();
    assert_eq!(decoder.pending(), 0);
    frames
}

/// The one data frame of a stream.
fn contents(stream: &[u8]) -> Bytes {
    match frames(stream).as_slice() {
        [Frame::Data(contents)] => contents.clone(),
        other => panic!("{other:?}"),
    }
}

fn message(contents: &Bytes) -> ChannelMessage {
    wire::decode_message(contents, &Limits::default(), &mut SenderCache::new()).unwrap()
}

fn frame(message: &ChannelMessage) -> Bytes {
    let mut out = BytesMut::new();
    wire::encode_frame(message, &mut out);
    assert_eq!(out.len(), wire::frame_len(message));
    assert_eq!(wire::check_frame_len(message, &Limits::default()), Ok(out.len()));
    out.freeze()
}

#[test]
fn constants() {
    let constants = load("constants");
    for (name, ours) in [
        ("frame_start", FRAME_START.as_slice()),
        ("frame_end", FRAME_END),
        ("member_begin", MEMBER_BEGIN),
        ("member_end", MEMBER_END),
        ("shutdown_command", tribes_core::member::SHUTDOWN_COMMAND),
        ("ack_frame", ACK_FRAME),
        ("fail_ack_frame", FAIL_ACK_FRAME),
        ("tcp_fail_detect", &wire::FAILURE_DETECTOR_PROBE),
        ("tcp_ping", &wire::TCP_PING),
        ("static_member_start", wire::STATIC_MEMBER_START),
        ("static_member_stop", wire::STATIC_MEMBER_STOP),
    ] {
        assert_eq!(ours, hex(&constants[name]), "{name}");
    }
    assert_eq!(FRAME_OVERHEAD, 18);
    assert_eq!(CONTROL_END.len(), FRAME_END.len());
    let java = wire::java::MEMBER_CLASS_VERSION;
    assert_eq!(java[..], hex(&constants["serial_version_uid"]["org.apache.catalina.tribes.membership.MemberImpl"]));
    assert_eq!(frames(&[*ACK_FRAME, *FAIL_ACK_FRAME].concat()), [Frame::Ack, Frame::FailAck]);
}

#[test]
fn members() {
    let vectors = load("members");
    let wide = Limits::default().with_max_member(100_000);
    for case in list(&vectors["cases"]) {
        let name = text(&case["name"]);
        let expected = member(&case["fields"]);
        let bytes = encoded(&expected);
        assert_blob(&bytes, &case["encoded"], name);
        assert_eq!(bytes.len(), size(&case["data_length"]), "{name}");

        let found = wire::decode_member(&bytes, &wide).unwrap();
        assert_same(&found, &expected, name);
        assert_eq!(encoded(&found), bytes, "{name}");
        let shared = wire::decode_member_shared(&bytes, &wide).unwrap();
        assert_same(&shared, &expected, name);

        let refused = WireError::BeyondLimit { field: Field::Member, found: 70_077, limit: 65_536 };
        let default = wire::decode_member(&bytes, &Limits::default()).map(|_| ());
        let sendable = wire::check_member_len(&found, &Limits::default()).map(|_| ());
        assert_eq!(default, if name == "domain-70000-unchecked" { Err(refused) } else { Ok(()) }, "{name}");
        assert_eq!(default, sendable, "{name}");
    }
    assert_eq!(list(&vectors["cases"]).len(), 18);
}

#[test]
fn heartbeats_differ_in_the_alive_time_only() {
    let vectors = load("members");
    let member = member(&list(&vectors["cases"])[1]["fields"]);
    let mut out = BytesMut::new();
    wire::encode_member_alive(&member, 0x0102_0304_0506_0708, &mut out);
    let mut expected = encoded(&member).to_vec();
    expected[14..22].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(out, expected);
}

#[test]
fn member_identity_and_order() {
    let vectors = load("members");
    let minimal = member(&list(&vectors["cases"])[0]["fields"]);
    let other_id = MemberId::from_bytes([9; 16]);
    let port = minimal.port();
    let mapped = hex(&Value::from("00000000000000000000ffff7f000001"));
    for case in list(&vectors["equality"]) {
        let other = match text(&case["versus_ipv4_minimal"]) {
            "identical" => minimal.clone(),
            "different port" => Member::from_parts(minimal.id(), minimal.host().clone(), port + 1),
            "different host" => Member::from_parts(minimal.id(), Bytes::from_static(&[10, 0, 0, 1]), port),
            "different unique id" => minimal.clone().with_id(other_id),
            "different alive, secure, udp, domain, command, payload" => {
                let other = minimal.clone().with_alive_ms(5).with_secure_port(1).with_udp_port(2);
                other.with_domain("d").with_command("c").with_payload("p")
            }
            "ipv4-mapped ipv6 host" => Member::from_parts(minimal.id(), mapped.clone(), port),
            other => panic!("a case that the test does not know: {other}"),
        };
        assert_eq!(minimal == other, case["equal"] == true, "{case}");
    }

    let sorted = list(&vectors["absolute_order_sorted"]);
    let java: Vec<_> = sorted
        .iter()
        .map(|case| {
            Member::from_parts(text(&case["unique_id"]).parse().unwrap(), hex(&case["host"]), int32(&case["port"]))
        })
        .collect();
    let mut ours = java.clone();
    ours.reverse();
    ours.sort();
    assert_eq!(ours, java);
    assert_eq!(ours.len(), 7);
}

#[test]
fn a_member_that_java_retains_with_trailing_bytes_is_refused() {
    let vectors = load("members");
    let quirk = list(&vectors["quirks"]).iter().find(|quirk| text(&quirk["case"]).starts_with("bytes after")).unwrap();
    let error = wire::decode_member(&hex(&quirk["re_encoded"]), &Limits::default()).unwrap_err();
    assert_eq!(error, WireError::TrailingBytes { field: Field::Member, extra: 8 });
}

#[test]
fn messages() {
    let vectors = load("channeldata");
    for case in list(&vectors["cases"]) {
        let name = text(&case["name"]);
        let sender = (!case["sender"].is_null()).then(|| hex(&case["sender"]));
        let envelope = Envelope::new(
            SendOptions::from_bits_retain(int32(&case["options"]).cast_unsigned()),
            int(&case["timestamp"]),
            MessageId::from_bytes(hex(&case["unique_id"])),
            sender.clone(),
            bytes(&case["message"]),
        );
        let (mut package, mut whole) = (BytesMut::new(), BytesMut::new());
        envelope.encode(&mut package);
        envelope.encode_frame(&mut whole);
        assert_blob(&package, &case["package"], name);
        assert_blob(&whole, &case["frame"], name);
        assert_eq!(package.len(), size(&case["package_length"]), "{name}");
        assert_eq!(package.len(), envelope.encoded_len(), "{name}");

        let contents = contents(&whole);
        assert_eq!(contents, package, "{name}");
        assert_eq!(Envelope::decode(&contents, &Limits::default()).as_ref(), Ok(&envelope), "{name}");

        let ack = match (case["ack_before_processing"] == true, case["ack_after_processing"] == true) {
            (false, false) => AckMode::None,
            (true, false) => AckMode::Received,
            (false, true) => AckMode::Handled,
            (true, true) => panic!("{name}"),
        };
        assert_eq!(envelope.options.ack_mode(), ack, "{name}");

        let mut cache = SenderCache::new();
        let found = wire::decode_message(&contents, &Limits::default(), &mut cache);
        let Some(sender) = sender else {
            assert_eq!(found.map(|_| ()), Err(WireError::MissingSender), "{name}");
            continue;
        };
        let found = found.unwrap();
        assert_eq!(encoded(&found.sender), sender, "{name}");
        assert_eq!(found.body.to_bytes(), envelope.body, "{name}");
        assert_eq!(frame(&found), whole, "{name}");

        let mut parts = BytesMut::new();
        wire::encode_frame_head(&found, &sender, &mut parts);
        assert_eq!(parts.len() + envelope.body.len() + FRAME_END.len(), wire::frame_len(&found), "{name}");
        found.body.segments().for_each(|segment| parts.extend_from_slice(segment));
        parts.extend_from_slice(FRAME_END);
        assert_eq!(parts, whole, "{name}");
    }
    assert_eq!(list(&vectors["cases"]).len(), 28);
}

#[test]
fn bare_frames() {
    for case in list(&load("channeldata")["bare_frames"]) {
        assert_eq!(contents(&hex(&case["frame"])), hex(&case["payload"]));
    }
}

#[test]
fn message_ids() {
    let vectors = load("uuid");
    for id in list(&vectors["random"]) {
        let bytes = hex(id);
        let message_id = MessageId::from_bytes(bytes.clone());
        assert_eq!(message_id.as_bytes(), bytes);
        assert_eq!(message_id.to_string(), text(id));
        // As a member's id it is no node of ours: version 4, not 8.
        let member_id: MemberId = text(id).parse().unwrap();
        assert_eq!((bytes[6] >> 4, bytes[8] >> 6, member_id.is_ours()), (4, 0b10, false));
        assert_eq!(member_id.to_string(), text(id));
    }
    for form in list(&vectors["text_forms"]) {
        assert_eq!(MessageId::from_bytes(hex(&form["bytes"])).to_string(), text(&form["bytes"]));
    }
}

/// Every frame and every member in a live capture, but for those that were made to do harm.
fn assert_capture(name: &str, harmful: &[&str], counts: (usize, usize)) {
    let capture = load(name);
    let good = |(path, _): &(String, Bytes)| !harmful.contains(&path.as_str());
    let streams: Vec<_> = captured(&capture, FRAME_START).into_iter().filter(good).collect();
    for (path, stream) in &streams {
        let mut again = BytesMut::new();
        for part in frames(stream) {
            match part {
                Frame::Ack => again.extend_from_slice(ACK_FRAME),
                Frame::FailAck => again.extend_from_slice(FAIL_ACK_FRAME),
                Frame::Data(contents) => again.extend_from_slice(&frame(&message(&contents))),
                Frame::Control(_) => panic!("{name}{path}"),
            }
        }
        assert_eq!(again, *stream, "{name}{path}");
    }
    let members: Vec<_> = captured(&capture, MEMBER_BEGIN).into_iter().filter(good).collect();
    for (path, bytes) in &members {
        assert_eq!(encoded(&wire::decode_member(bytes, &Limits::default()).unwrap()), bytes, "{name}{path}");
    }
    assert_eq!((streams.len(), members.len()), counts, "{name}: frames and members");
}

#[test]
fn live_captures() {
    assert_capture("behaviour-tcp", &[], (41, 24));
    let harmful = ["/command_length_2e31_minus_1/datagram", "/frame_with_backward_length/datagram"];
    assert_capture("behaviour-mcast", &harmful, (1, 8));
    assert_capture("probes", &[], (5, 0));
}

#[test]
fn captured_messages_say_what_java_says() {
    fn check(value: &Value, seen: &mut usize) {
        if let (Some(whole), Some(options)) = (value.get("frame"), value.get("options")) {
            let message = message(&contents(&bytes(whole)));
            assert_eq!(i64::from(message.options.bits().cast_signed()), int(options));
            assert_eq!(message.id.to_string(), text(&value["unique_id"]));
            assert_eq!(message.timestamp_ms, int(&value["timestamp"]));
            assert_eq!(encoded(&message.sender), hex(&value["sender"]));
            assert_eq!(message.body.to_bytes(), bytes(&value["message"]));
            *seen += 1;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| check(item, seen)),
            Value::Object(items) => items.values().for_each(|item| check(item, seen)),
            _ => {}
        }
    }
    let mut seen = 0;
    check(&load("behaviour-tcp"), &mut seen);
    check(&load("behaviour-mcast"), &mut seen);
    assert_eq!(seen, 25);
}

#[test]
fn a_multicast_packet_with_a_hostile_length_is_refused() {
    let capture = load("behaviour-mcast");
    let datagram = hex(&capture["command_length_2e31_minus_1"]["datagram"]);
    assert_eq!(
        wire::decode_member(&datagram, &Limits::default()).map(|_| ()),
        Err(WireError::BeyondLimit { field: Field::Command, found: 0x7FFF_FFFF, limit: 65_536 })
    );
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(&hex(&capture["frame_with_backward_length"]["datagram"]));
    assert!(matches!(decoder.next(), Ok(Some(Frame::Data(_)))));
    assert!(matches!(decoder.next(), Err(WireError::NegativeLength { field: Field::Frame, .. })));
}
