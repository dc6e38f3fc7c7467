//! Properties of the codec: decoding undoes encoding, chunking makes no difference, and arbitrary bytes do no harm.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use tribes_core::wire::java::JavaMessage;
use tribes_core::wire::{
    ACK_FRAME, Control, Envelope, FAIL_ACK_FRAME, Frame, FrameAt, FrameDecoder, HandledCode, Limits, LinkKind,
    RefuseReason, SenderCache, WireError, check_frame_len, decode_member, decode_member_shared, decode_message,
    encode_frame, encode_frame_head, encode_member, frame_len, member_len,
};
use tribes_core::{Body, ChannelMessage, Member, MemberId, MessageId, SendOptions};

fn blob(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn member() -> impl Strategy<Value = Member> {
    let numbers = (any::<[u8; 16]>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i64>());
    (numbers, blob(127), blob(40), blob(20), blob(300)).prop_map(
        |((id, port, secure, udp, alive), host, domain, command, payload)| {
            Member::from_parts(MemberId::from_bytes(id), host, port)
                .with_secure_port(secure)
                .with_udp_port(udp)
                .with_alive_ms(alive)
                .with_domain(domain)
                .with_command(command)
                .with_payload(payload)
        },
    )
}

fn message() -> impl Strategy<Value = ChannelMessage> {
    let id = prop_oneof![any::<[u8; 16]>().prop_map(MessageId::from_array), blob(40).prop_map(MessageId::from_bytes)];
    (any::<u32>(), any::<i64>(), id, member(), vec(blob(200), 1..4)).prop_map(
        |(options, timestamp_ms, id, sender, segments)| {
            let mut body = Body::default();
            segments.into_iter().for_each(|segment| body.push_trailer(segment));
            let options = SendOptions::from_bits_retain(options);
            ChannelMessage { options, timestamp_ms, id, sender: Arc::new(sender), body }
        },
    )
}

fn control() -> impl Strategy<Value = Control> {
    let id = || any::<[u8; 16]>().prop_map(MemberId::from_bytes);
    let kind = prop_oneof![Just(LinkKind::Data), Just(LinkKind::Control), Just(LinkKind::Probe)];
    let result =
        prop_oneof![Just(HandledCode::Ok), Just(HandledCode::NoTaker), ".{0,100}".prop_map(HandledCode::Failed)];
    let reason = prop_oneof![
        id().prop_map(|own| RefuseReason::WrongMember { own }),
        Just(RefuseReason::Stopping),
        Just(RefuseReason::Busy),
        Just(RefuseReason::Revision)
    ];
    prop_oneof![
        (any::<u8>(), any::<u32>(), kind, member(), id(), any::<u64>()).prop_map(
            |(revision, capabilities, kind, own, expected, session)| Control::Hello {
                revision,
                capabilities,
                kind,
                own: Box::new(own),
                expected,
                session
            }
        ),
        (any::<u8>(), any::<u32>(), id(), any::<u64>(), any::<Option<u64>>()).prop_map(
            |(revision, capabilities, own, session, taken)| Control::Welcome {
                revision,
                capabilities,
                own,
                session,
                taken
            }
        ),
        reason.prop_map(|reason| Control::Refused { reason }),
        any::<u64>().prop_map(|count| Control::Taken { count }),
        (any::<u64>(), result).prop_map(|(seq, result)| Control::Handled { seq, result }),
        id().prop_map(|member| Control::Goodbye { member }),
        any::<u64>().prop_map(|nonce| Control::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Control::Pong { nonce }),
    ]
}

/// A frame and its bytes.
fn frame() -> impl Strategy<Value = (Frame, Vec<u8>)> {
    fn contents(frame: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&frame[11..frame.len() - 7])
    }
    prop_oneof![
        4 => message().prop_map(|message| {
            let mut out = BytesMut::new();
            encode_frame(&message, &mut out);
            (Frame::Data(contents(&out)), out.to_vec())
        }),
        1 => Just((Frame::Ack, ACK_FRAME.to_vec())),
        1 => Just((Frame::FailAck, FAIL_ACK_FRAME.to_vec())),
        2 => control().prop_map(|control| {
            let mut out = BytesMut::new();
            control.encode(&mut out);
            (Frame::Control(contents(&out)), out.to_vec())
        }),
    ]
}

fn drain(decoder: &mut FrameDecoder, into: &mut Vec<Frame>) -> Result<(), WireError> {
    while let Some(frame) = decoder.next()? {
        into.push(frame);
    }
    Ok(())
}

/// The same by whole pieces.
fn drain_split(decoder: &mut FrameDecoder, into: &mut Vec<Frame>) -> Result<(), WireError> {
    while let Some(mut frames) = decoder.split()? {
        let bytes = frames.bytes().clone();
        into.extend(frames.by_ref().map(|frame| match frame {
            FrameAt::Data(at) => Frame::Data(bytes.slice(at)),
            FrameAt::Control(at) => Frame::Control(bytes.slice(at)),
            FrameAt::Ack => Frame::Ack,
            FrameAt::FailAck => Frame::FailAck,
        }));
        assert!(frames.is_done());
    }
    Ok(())
}

fn assert_same_member(found: &Member, expected: &Member) {
    assert!(found.same_content(expected));
    assert_eq!(found.alive_ms(), expected.alive_ms());
}

proptest! {
    #[test]
    fn members_come_back(member in member()) {
        let mut out = BytesMut::new();
        encode_member(&member, &mut out);
        prop_assert_eq!(out.len(), member_len(&member));
        let bytes = out.freeze();
        assert_same_member(&decode_member(&bytes, &Limits::default()).unwrap(), &member);
        assert_same_member(&decode_member_shared(&bytes, &Limits::default()).unwrap(), &member);
        // One byte more or less is refused.
        prop_assert!(decode_member(&bytes[..bytes.len() - 1], &Limits::default()).is_err());
        prop_assert!(decode_member(&[&bytes[..], b"x"].concat(), &Limits::default()).is_err());
    }

    #[test]
    fn messages_come_back(messages in vec(message(), 1..4), repeat in any::<bool>()) {
        let mut cache = SenderCache::new();
        let mut senders: Vec<Arc<Member>> = Vec::new();
        for message in messages.iter().chain(messages.iter().take(usize::from(repeat))) {
            let mut out = BytesMut::new();
            encode_frame(message, &mut out);
            prop_assert_eq!(out.len(), frame_len(message));
            prop_assert_eq!(check_frame_len(message, &Limits::default()), Ok(out.len()));

            let mut sender = BytesMut::new();
            encode_member(&message.sender, &mut sender);
            let mut parts = BytesMut::new();
            encode_frame_head(message, &sender, &mut parts);
            message.body.segments().for_each(|segment| parts.extend_from_slice(segment));
            parts.extend_from_slice(b"TLF2003");
            prop_assert_eq!(&parts, &out);

            let mut decoder = FrameDecoder::new(Limits::default());
            decoder.buffer_mut().extend_from_slice(&out);
            let Some(Frame::Data(contents)) = decoder.next().unwrap() else { panic!() };
            let found = decode_message(&contents, &Limits::default(), &mut cache).unwrap();
            prop_assert_eq!(found.options, message.options);
            prop_assert_eq!(found.timestamp_ms, message.timestamp_ms);
            prop_assert_eq!(&found.id, &message.id);
            prop_assert_eq!(&found.body, &message.body);
            assert_same_member(&found.sender, &message.sender);
            senders.push(found.sender);

            let envelope = Envelope::decode(&contents, &Limits::default()).unwrap();
            prop_assert_eq!(envelope.sender.as_deref(), Some(&sender[..]));
            let mut again = BytesMut::new();
            envelope.encode_frame(&mut again);
            prop_assert_eq!(&again, &out);
        }
    }

    #[test]
    fn control_frames_come_back(control in control()) {
        let mut out = BytesMut::new();
        control.encode(&mut out);
        let found = Control::decode(&out[11..out.len() - 7], &Limits::default()).unwrap();
        prop_assert_eq!(&found, &control);
        let mut again = BytesMut::new();
        found.encode(&mut again);
        prop_assert_eq!(again, out);
    }

    #[test]
    fn chunking_makes_no_difference(frames in vec(frame(), 1..6), cuts in vec(1_usize..400, 0..20)) {
        let expected: Vec<_> = frames.iter().map(|(frame, _)| frame.clone()).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let mut found = Vec::new();
        let mut decoder = FrameDecoder::new(Limits::default());
        let mut rest = &stream[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            decoder.extend(chunk);
            drain(&mut decoder, &mut found).unwrap();
            if let Some(needed) = decoder.needed() {
                prop_assert!(decoder.pending() < needed);
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(decoder.pending(), 0);
        prop_assert_eq!(decoder.needed(), None);
    }

    #[test]
    fn whole_pieces_make_no_difference(
        frames in vec(frame(), 1..6),
        cuts in vec(1_usize..400, 0..20),
        damage in proptest::option::of((any::<usize>(), 1_u8..)),
    ) {
        let mut stream: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        if let Some((at, flip)) = damage {
            let at = at % stream.len();
            stream[at] ^= flip;
        }
        let (mut one, mut other) = (FrameDecoder::new(Limits::default()), FrameDecoder::new(Limits::default()));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        let mut rest = &stream[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            one.extend(chunk);
            other.extend(chunk);
            let (first, second) = (drain(&mut one, &mut expected), drain_split(&mut other, &mut found));
            prop_assert_eq!(first, second);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!((other.pending(), other.needed()), (one.pending(), one.needed()));
        }
    }

    #[test]
    fn any_single_cut_makes_no_difference(frames in vec(frame(), 1..3)) {
        let expected: Vec<_> = frames.iter().map(|(frame, _)| frame.clone()).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        for at in 0..=stream.len() {
            let mut found = Vec::new();
            let mut decoder = FrameDecoder::new(Limits::default());
            for part in [&stream[..at], &stream[at..]] {
                decoder.extend(part);
                drain(&mut decoder, &mut found).unwrap();
            }
            prop_assert_eq!(&found, &expected, "cut at {}", at);
        }
    }

    #[test]
    fn the_buffer_holds_no_more_than_it_was_fed(
        start in prop_oneof![Just(&b"FLT2002"[..]), Just(&b"TRSCTL1"[..]), Just(&b""[..])],
        bytes in blob(600),
        step in 1_usize..50,
    ) {
        let stream = [start, &bytes].concat();
        let mut decoder = FrameDecoder::new(Limits::default());
        let (mut fed, mut taken) = (0, 0);
        let mut error = None;
        for chunk in stream.chunks(step) {
            let before = decoder.buffer_mut().capacity();
            match decoder.next() {
                Ok(Some(_)) => panic!("nothing new came"),
                Ok(None) => prop_assert_eq!(decoder.buffer_mut().capacity(), before),
                Err(found) => prop_assert_eq!(Some(&found), error.as_ref()),
            }
            decoder.extend(chunk);
            fed += chunk.len();
            loop {
                match decoder.next() {
                    Ok(Some(Frame::Data(contents) | Frame::Control(contents))) => taken += contents.len() + 18,
                    Ok(Some(_)) => taken += 21,
                    Ok(None) => {
                        prop_assert_eq!(decoder.pending(), fed - taken);
                        break;
                    }
                    Err(found) => {
                        prop_assert!(decoder.is_poisoned());
                        prop_assert_eq!(decoder.pending(), 0);
                        error = Some(found);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_wrong_byte_in_a_header_is_noticed_at_once(at in 0_usize..7, wrong in any::<u8>()) {
        prop_assume!(wrong != b"FLT2002"[at] && (at > 0 || wrong != b'T'));
        let mut decoder = FrameDecoder::new(Limits::default());
        decoder.extend(&b"FLT2002"[..at]);
        prop_assert_eq!(decoder.next(), Ok(None));
        decoder.extend(&[wrong]);
        prop_assert!(decoder.next().is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in blob(400)) {
        let limits = Limits::default();
        let _ = decode_member(&bytes, &limits);
        let _ = decode_message(&bytes, &limits, &mut SenderCache::new());
        let _ = Envelope::decode(&bytes, &limits);
        let _ = Control::decode(&bytes, &limits);
        let _ = JavaMessage::decode(&bytes, &limits);
    }

    #[test]
    fn damaged_bytes_do_not_panic(message in message(), control in control(), at in any::<usize>(), flip in 1_u8..) {
        let mut sender = BytesMut::new();
        encode_member(&message.sender, &mut sender);
        let mut frame = BytesMut::new();
        encode_frame(&message, &mut frame);
        let mut control_frame = BytesMut::new();
        control.encode(&mut control_frame);
        for bytes in [&mut sender, &mut frame, &mut control_frame] {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        let _ = decode_member(&sender, &Limits::default());
        for bytes in [frame, control_frame] {
            let mut decoder = FrameDecoder::new(Limits::default());
            decoder.extend(&bytes);
            match decoder.next() {
                Ok(Some(Frame::Data(contents))) => {
                    let _ = decode_message(&contents, &Limits::default(), &mut SenderCache::new());
                }
                Ok(Some(Frame::Control(contents))) => {
                    let _ = Control::decode(&contents, &Limits::default());
                }
                _ => {}
            }
        }
    }
}

fn small(body: usize) -> ChannelMessage {
    ChannelMessage {
        options: SendOptions::BYTE_MESSAGE,
        timestamp_ms: 1,
        id: MessageId::from_array([1; 16]),
        sender: Arc::new(Member::new(MemberId::from_bytes([2; 16]), ([127, 0, 0, 1], 4000).into())),
        body: Body::new(vec![0; body]),
    }
}

#[test]
fn the_sender_is_parsed_once_per_connection() {
    let mut cache = SenderCache::new();
    let mut decode = |message: &ChannelMessage| {
        let mut decoder = FrameDecoder::new(Limits::default());
        encode_frame(message, decoder.buffer_mut());
        let Some(Frame::Data(contents)) = decoder.next().unwrap() else { panic!() };
        decode_message(&contents, &Limits::default(), &mut cache).unwrap().sender
    };
    let first = decode(&small(1));
    assert!(Arc::ptr_eq(&first, &decode(&small(2))));
    let mut later = small(3);
    later.sender = Arc::new(Member::clone(&later.sender).with_alive_ms(500));
    let second = decode(&later);
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(second.alive_ms(), 500);
}

#[test]
fn contents_are_slices_of_the_read_buffer() {
    let mut decoder = FrameDecoder::new(Limits::default());
    encode_frame(&small(100), decoder.buffer_mut());
    let buffer = decoder.buffer_mut().as_ptr_range();
    let Some(Frame::Data(contents)) = decoder.next().unwrap() else { panic!() };
    assert!(buffer.contains(&contents.as_ptr()));
    let message = decode_message(&contents, &Limits::default(), &mut SenderCache::new()).unwrap();
    assert!(buffer.contains(&message.body.to_bytes().as_ptr()));
    // The sender lives longer than the message: it keeps none of the buffer.
    assert!(!buffer.contains(&message.sender.host().as_ptr()));
}

#[test]
fn a_frame_says_early_how_long_it_is() {
    let mut frame = BytesMut::new();
    encode_frame(&small(1000), &mut frame);
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(&frame[..10]);
    assert_eq!((decoder.next(), decoder.needed()), (Ok(None), None));
    decoder.extend(&frame[10..11]);
    assert_eq!((decoder.next(), decoder.needed()), (Ok(None), Some(frame.len())));
    assert_eq!(decoder.pending(), 11);
}

#[test]
fn what_a_peer_would_refuse_is_not_sent() {
    use tribes_core::wire::Field;
    let refused = |message: &ChannelMessage, limits: Limits| match check_frame_len(message, &limits) {
        Err(WireError::BeyondLimit { field, found, limit }) => (field, found, limit),
        other => panic!("{other:?}"),
    };
    let limits = Limits::default();
    assert_eq!(check_frame_len(&small(0), &limits.with_max_frame(117)), Ok(135));
    assert_eq!(refused(&small(1), limits.with_max_frame(117)), (Field::Frame, 118, 117));
    assert_eq!(refused(&small(1), limits.with_max_member(76)), (Field::Sender, 77, 76));
    assert_eq!(refused(&small(1), limits.with_max_message_id(15)), (Field::MessageId, 16, 15));
}
