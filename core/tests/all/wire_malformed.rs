//! Damaged and hostile input: what becomes of every case that was tried on Java. Stricter than Java in all cases where
//! it accepts what no sender produces, or waits for what can never come.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use crate::vectors::{hex, list, load, text};
use tribes_core::wire::{
    Envelope, Field, Frame, FrameDecoder, Limits, Marker, SenderCache, WireError, decode_member, decode_message,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Good; for a stream, so many messages and nothing left.
    Parses(usize),
    /// So many messages, then so many bytes of a frame that may still become whole.
    Waits(usize, usize),
    /// So many messages, then this.
    Rejected(usize, WireError),
    /// An acknowledgement where only messages are legal: whole and well-formed, refused by the receiver.
    NotAMessage,
}
use Expected::{NotAMessage, Parses, Rejected, Waits};

const MAX: usize = 0x7FFF_FFFF;

fn truncated(field: Field, needed: usize, available: usize) -> Expected {
    Rejected(0, WireError::Truncated { field, needed, available })
}
fn beyond(field: Field, found: usize, available: usize) -> Expected {
    Rejected(0, WireError::BeyondEnclosing { field, found, available })
}
fn over_limit(field: Field, found: usize, limit: usize) -> Expected {
    Rejected(0, WireError::BeyondLimit { field, found, limit })
}
fn negative(field: Field, found: i32) -> Expected {
    Rejected(0, WireError::NegativeLength { field, found })
}
fn marker(good: usize, marker: Marker, found: u8, at: usize) -> Expected {
    Rejected(good, WireError::BadMarker { marker, found, at })
}
fn slack(field: Field, slack: usize) -> Expected {
    Rejected(0, WireError::Slack { field, slack })
}

/// What the member parser says. The damaged members have 88 bytes, a body of 64.
fn members() -> Vec<(String, Expected)> {
    use Field::{Command, Domain, Host, Member, MemberBody, Payload};
    let limit = Limits::default().max_member;
    let mut table: Vec<(String, Expected)> = (0..77)
        .map(|len| {
            let expected = match len {
                0..10 => truncated(Member, 10, len),
                10..14 => truncated(Member, 4, len - 10),
                14..67 => beyond(MemberBody, 53, len - 14),
                _ => truncated(Member, 10, len - 67),
            };
            (format!("truncated to {len}"), expected)
        })
        .collect();
    let rest = [
        ("first marker byte wrong", marker(0, Marker::MemberBegin, 0, 0)),
        ("marker version byte 2", marker(0, Marker::MemberBegin, 2, 8)),
        ("end marker wrong", marker(0, Marker::MemberEnd, 1, 87)),
        ("one byte in front", marker(0, Marker::MemberBegin, 0, 0)),
        ("trailing bytes", Rejected(0, WireError::TrailingBytes { field: Member, extra: 5 })),
        ("body length 0", marker(0, Marker::MemberEnd, 0, 14)),
        ("body length -1", negative(MemberBody, -1)),
        ("body length -14 (end marker sought at offset 0)", negative(MemberBody, -14)),
        ("body length one less", marker(0, Marker::MemberEnd, b'y', 77)),
        ("body length one more", marker(0, Marker::MemberEnd, b'R', 79)),
        ("body length 2^31-1", beyond(MemberBody, MAX, 74)),
        ("body length -2^31", negative(MemberBody, i32::MIN)),
        ("host length 128", Rejected(0, WireError::HostTooLong { found: 128 })),
        ("host length 127", beyond(Host, 127, 43)),
        // Swallows a byte of the command's length, which then reads as 0x363.
        ("host length 5", beyond(Command, 0x363, 34)),
        ("command length -1", negative(Command, -1)),
        ("command length 1000", beyond(Command, 1000, 35)),
        ("command length 2^31-1", over_limit(Command, MAX, limit)),
        ("domain length -1", negative(Domain, -1)),
        ("domain length 2^31-1", over_limit(Domain, MAX, limit)),
        ("payload length -1", negative(Payload, -1)),
        ("payload length 2^31-1", over_limit(Payload, MAX, limit)),
        ("payload length one less (slack inside the body)", slack(MemberBody, 1)),
        ("payload length ten more (runs over the end marker)", beyond(Payload, 13, 3)),
        ("payload length eleven more", beyond(Payload, 14, 3)),
    ];
    table.extend(rest.map(|(case, expected)| (case.to_owned(), expected)));
    table
}

/// What a connection's reader says. The good frame has 140 bytes, contents of 122.
fn streams() -> Vec<(String, Expected)> {
    use Field::{Envelope, Frame, Message, MessageId, Sender};
    let limits = Limits::default();
    let garbage = |good| marker(good, Marker::FrameStart, b'g', 0);
    [
        ("one frame", Parses(1)),
        ("two frames in one read", Parses(2)),
        ("frame in two reads", Parses(1)),
        ("split inside the start marker", Parses(1)),
        ("frame and a half", Waits(1, 40)),
        ("seven bytes of garbage", garbage(0)),
        ("eight bytes of garbage, then a frame", garbage(0)),
        (
            "two frames in one read, then eight bytes of garbage, then a frame (compare with the fresh-buffer case above)",
            garbage(2),
        ),
        ("length 0x70000000 (buffers without end)", over_limit(Frame, 0x7000_0000, limits.max_frame)),
        ("garbage and frame in one read", garbage(0)),
        ("garbage and frame in one read, then a good frame", garbage(0)),
        ("footer wrong, then a good frame", marker(0, Marker::FrameEnd, 0, 139)),
        ("length one too small", marker(0, Marker::FrameEnd, b'o', 132)),
        ("length one too large, then a good frame", marker(0, Marker::FrameEnd, b'L', 134)),
        ("length 0", truncated(Envelope, 4, 0)),
        ("length 2^31-1", over_limit(Frame, MAX, limits.max_frame)),
        ("length -1", negative(Frame, -1)),
        (
            "good frame, then length -18 (points back at the previous footer)",
            Rejected(1, WireError::NegativeLength { field: Frame, found: -18 }),
        ),
        ("ACK frame sent to a receiver", NotAMessage),
        ("id length -1", negative(MessageId, -1)),
        ("id length 2^31-1", over_limit(MessageId, MAX, limits.max_message_id)),
        ("id length 0 with shifted rest", negative(Sender, 0xA1A2_A3A4_u32.cast_signed())),
        ("address length -1", negative(Sender, -1)),
        // "TRIB" is read as the length of the message.
        ("address length 0", over_limit(Message, 0x5452_4942, limits.max_frame)),
        ("address length 76", slack(Envelope, 6)),
        ("address length 78", beyond(Message, 0x568, 4)),
        ("message length -1", negative(Message, -1)),
        ("message length 4", slack(Envelope, 1)),
        ("message length 6 (one past the package)", beyond(Message, 6, 5)),
        (
            "message length 200 in a 5-byte message while the buffer pool holds an older message (bytes 0x53)",
            beyond(Message, 200, 5),
        ),
        ("message length 2^31-1", over_limit(Message, MAX, limits.max_frame)),
    ]
    .map(|(case, expected)| (case.to_owned(), expected))
    .into()
}

/// Feeds `reads` as a receiver does.
fn receive(reads: impl Iterator<Item = bytes::Bytes>) -> Expected {
    let limits = Limits::default();
    let mut decoder = FrameDecoder::new(limits);
    let mut cache = SenderCache::new();
    let mut good = 0;
    for read in reads {
        decoder.extend(&read);
        loop {
            let contents = match decoder.next() {
                Ok(Some(Frame::Data(contents))) => contents,
                Ok(Some(_)) => return NotAMessage,
                Ok(None) => break,
                Err(error) => {
                    assert!(decoder.is_poisoned());
                    assert_eq!(decoder.pending(), 0);
                    assert_eq!(decoder.next(), Err(error.clone()));
                    return Rejected(good, error);
                }
            };
            match decode_message(&contents, &limits, &mut cache) {
                Ok(message) => {
                    assert_eq!(message.body.to_bytes(), "hello");
                    good += 1;
                }
                Err(error) => return Rejected(good, error),
            }
        }
    }
    match decoder.pending() {
        0 => Parses(good),
        pending => Waits(good, pending),
    }
}

/// Compares table and file; a case on one side only is a fault.
fn compare(entry: &str, table: Vec<(String, Expected)>, run: impl Fn(&serde_json::Value) -> Expected) {
    let mut table: BTreeMap<_, _> = table.into_iter().collect();
    let mut faults = Vec::new();
    for case in list(&load("malformed")["cases"]).iter().filter(|case| case["entry"] == entry) {
        let name = text(&case["case"]);
        let found = run(case);
        match table.remove(name) {
            None => faults.push(format!("not in the table: {name:?}: {found:?}")),
            Some(expected) if expected != found => {
                faults.push(format!("{name:?}: {found:?} instead of {expected:?}"));
            }
            Some(_) => {}
        }
        // Whatever Java refuses or hangs on must be refused here.
        let accepted = matches!(found, Parses(_) | Waits(..));
        assert!(!(accepted && case["outcome"]["result"] != "ok"), "{name}");
    }
    faults.extend(table.keys().map(|name| format!("not in the file: {name:?}")));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn member_parser() {
    compare("member", members(), |case| match decode_member(&hex(&case["input"]), &Limits::default()) {
        Ok(_) => Parses(1),
        Err(error) => Rejected(0, error),
    });
}

#[test]
fn stream_reader() {
    compare("stream", streams(), |case| receive(list(&case["reads"]).iter().map(hex)));
}

#[test]
fn stream_reader_byte_by_byte() {
    compare("stream", streams(), |case| {
        let reads: Vec<_> = list(&case["reads"]).iter().map(hex).collect();
        receive(reads.concat().into_iter().map(|byte| bytes::Bytes::from(vec![byte])))
    });
}

/// A message whose sender field is longer than the member in it, which Java notices only when it copies the message.
#[test]
fn deep_clone() {
    let cases = [(
        "address carries six bytes after its end marker".to_owned(),
        Rejected(0, WireError::TrailingBytes { field: Field::Member, extra: 6 }),
    )];
    compare("deepclone", cases.into(), |case| {
        let envelope = Envelope::new(
            tribes_core::SendOptions::BYTE_MESSAGE,
            0,
            tribes_core::MessageId::from_array([1; 16]),
            Some(hex(&case["address"])),
            "hello".into(),
        );
        let mut frame = bytes::BytesMut::new();
        envelope.encode_frame(&mut frame);
        receive(std::iter::once(frame.freeze()))
    });
}

#[test]
fn no_other_entries() {
    let file = load("malformed");
    let known = ["member", "stream", "deepclone"];
    assert!(list(&file["cases"]).iter().all(|case| known.contains(&text(&case["entry"]))));
}
