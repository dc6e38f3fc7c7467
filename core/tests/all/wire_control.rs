//! Our own control frames: the bytes of revision 1, fixed here, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use bytes::BytesMut;
use tribes_core::wire::{
    Control, Field, Frame, FrameDecoder, HandledCode, Limits, LinkKind, MAX_FAILURE_TEXT, RefuseReason, WireError,
};
use tribes_core::{Member, MemberId};

fn frame(control: &Control) -> Vec<u8> {
    let mut out = BytesMut::new();
    control.encode(&mut out);
    out.to_vec()
}

fn contents(control: &Control) -> Vec<u8> {
    let frame = frame(control);
    frame[11..frame.len() - 7].to_vec()
}

fn decode(contents: &[u8]) -> Result<Control, WireError> {
    Control::decode(contents, &Limits::default())
}

const ID: MemberId = MemberId::from_bytes([0xAB; 16]);

fn hello() -> Control {
    Control::Hello {
        revision: 1,
        capabilities: 0x0102_0304,
        kind: LinkKind::Probe,
        own: Box::new(Member::new(MemberId::from_bytes([0x11; 16]), ([127, 0, 0, 1], 4000).into())),
        expected: ID,
        session: 0x1122_3344_5566_7788,
    }
}

fn all() -> Vec<Control> {
    let welcome = |taken| Control::Welcome { revision: 1, capabilities: 0, own: ID, session: 9, taken };
    let handled = |result| Control::Handled { seq: 7, result };
    let refused = |reason| Control::Refused { reason };
    vec![
        hello(),
        welcome(None),
        welcome(Some(u64::MAX)),
        refused(RefuseReason::WrongMember { own: ID }),
        refused(RefuseReason::Stopping),
        refused(RefuseReason::Busy),
        refused(RefuseReason::Revision),
        Control::Taken { count: 1 },
        handled(HandledCode::Ok),
        handled(HandledCode::NoTaker),
        handled(HandledCode::Failed("käse".into())),
        handled(HandledCode::Failed(String::new())),
        Control::Goodbye { member: ID },
        Control::Ping { nonce: 2 },
        Control::Pong { nonce: 2 },
    ]
}

#[test]
fn bytes_of_revision_1() {
    let id = [0xAB; 16].as_slice();
    assert_eq!(frame(&Control::Ping { nonce: 3 }), b"TRSCTL1\0\0\0\x09\x07\0\0\0\0\0\0\0\x031LTCSRT");
    let fixed = [b"\x01\x01\x01\x02\x03\x04\x02", id, b"\x11\x22\x33\x44\x55\x66\x77\x88\0\0\0\x4DTRIBES-B"].concat();
    assert_eq!(contents(&hello())[..fixed.len()], fixed);
    assert_eq!(contents(&hello()).len(), 35 + 77);
    let welcome = [b"\x02\x01\0\0\0\0", id, b"\0\0\0\0\0\0\0\x09\0"].concat();
    assert_eq!(contents(&all()[1]), welcome);
    assert_eq!(contents(&all()[2]), [&welcome[..30], b"\x01", &[0xFF; 8]].concat());
    assert_eq!(contents(&all()[3]), [b"\x03\x01", id].concat());
    assert_eq!(contents(&all()[6]), b"\x03\x04");
    assert_eq!(contents(&all()[7]), b"\x04\0\0\0\0\0\0\0\x01");
    assert_eq!(contents(&all()[9]), b"\x05\0\0\0\0\0\0\0\x07\x01");
    assert_eq!(contents(&all()[10]), b"\x05\0\0\0\0\0\0\0\x07\x02\0\x05k\xC3\xA4se");
    assert_eq!(contents(&all()[12]), [b"\x06", id].concat());
}

#[test]
fn both_ways_and_strict() {
    for control in all() {
        let bytes = contents(&control);
        let found = decode(&bytes).unwrap();
        assert_eq!(found, control);
        assert_eq!(contents(&found), bytes);
        for len in 0..bytes.len() {
            let error = decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error, WireError::Truncated { .. } | WireError::BeyondEnclosing { .. }), "{error}");
        }
        let extra = decode(&[&bytes[..], b"\0"].concat());
        assert_eq!(extra, Err(WireError::TrailingBytes { field: Field::Control, extra: 1 }));
    }
}

#[test]
fn unknown_types_are_skippable_and_unknown_codes_are_not() {
    assert_eq!(decode(&[200, 1, 2, 3]), Ok(Control::Unknown(200)));
    assert_eq!(contents(&Control::Unknown(200)), [200]);
    let unknown = |field, found| Err(WireError::UnknownCode { field, found });
    let with = |control: &Control, at: usize, code| {
        let mut bytes = contents(control);
        bytes[at] = code;
        decode(&bytes)
    };
    assert_eq!(with(&hello(), 6, 3), unknown(Field::LinkKind, 3));
    assert_eq!(with(&all()[1], 30, 2), unknown(Field::Flag, 2));
    assert_eq!(with(&all()[4], 1, 0), unknown(Field::RefuseReason, 0));
    assert_eq!(with(&all()[8], 9, 3), unknown(Field::HandledCode, 3));
    assert_eq!(with(&all()[10], 13, 0xFF), Err(WireError::NotUtf8 { field: Field::FailureText }));
}

#[test]
fn a_failure_text_is_cut_between_characters() {
    let text = "ä".repeat(300);
    let long = Control::Handled { seq: 0, result: HandledCode::Failed(format!("x{text}")) };
    let Ok(Control::Handled { result: HandledCode::Failed(found), .. }) = decode(&contents(&long)) else { panic!() };
    assert_eq!(found.len(), MAX_FAILURE_TEXT - 1);
    let mut bytes = b"\x05\0\0\0\0\0\0\0\0\x02\x02\x01".to_vec();
    bytes.extend([b'x'; 513]);
    let error = WireError::BeyondLimit { field: Field::FailureText, found: 513, limit: 512 };
    assert_eq!(decode(&bytes), Err(error));
}

#[test]
fn the_largest_member_fits_and_more_does_not() {
    let limits = Limits::default();
    let fits = |payload: usize| {
        let own = Member::new(ID, ([127, 0, 0, 1], 4000).into()).with_payload(vec![0; payload]);
        let hello = Control::Hello {
            revision: 1,
            capabilities: 0,
            kind: LinkKind::Data,
            own: Box::new(own),
            expected: ID,
            session: 0,
        };
        let mut decoder = FrameDecoder::new(limits);
        decoder.extend(&frame(&hello));
        match decoder.next()? {
            Some(Frame::Control(contents)) => Control::decode(&contents, &limits).map(|found| assert_eq!(found, hello)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fits(65_536 - 77), Ok(()));
    let member = WireError::BeyondLimit { field: Field::Member, found: 65_537, limit: 65_536 };
    assert_eq!(fits(65_536 - 76), Err(member));
    let whole = WireError::BeyondLimit { field: Field::Control, found: 69_644, limit: limits.max_control() };
    assert_eq!(fits(69_644 - 35 - 77), Err(whole));
}

#[test]
fn a_stream_may_mix_both_kinds() {
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(&frame(&Control::Ping { nonce: 1 }));
    decoder.extend(tribes_core::wire::ACK_FRAME);
    decoder.extend(&frame(&Control::Pong { nonce: 1 }));
    assert!(matches!(decoder.next(), Ok(Some(Frame::Control(_)))));
    assert_eq!(decoder.next(), Ok(Some(Frame::Ack)));
    assert!(matches!(decoder.next(), Ok(Some(Frame::Control(_)))));
    assert_eq!(decoder.next(), Ok(None));
}
