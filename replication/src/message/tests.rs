#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn dot() -> impl Strategy<Value = Dot> {
    (any::<u64>(), 1..u64::MAX).prop_map(|(node, counter)| Dot { node: Incarnation::new(node), counter })
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), dot()).prop_map(|(time, dot)| Version { time, dot })
}

fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    vec(any::<u8>(), 0..40).prop_map(Vec::into_boxed_slice)
}

fn have() -> impl Strategy<Value = Have> {
    (any::<u64>(), vec(dot(), 0..4)).prop_map(|(key_hash, dots)| Have { key_hash, dots })
}

fn context() -> impl Strategy<Value = Context> {
    vec((0..5u64, 1..50u64), 0..30).prop_map(|dots| {
        let mut context = Context::default();
        dots.into_iter().for_each(|(node, counter)| context.add(Dot { node: Incarnation::new(node), counter }));
        context
    })
}

fn write() -> impl Strategy<Value = Write> {
    let payload = prop_oneof![
        Just(Payload::Removed),
        bytes().prop_map(|value| Payload::Value(value.into())),
        (dot(), bytes()).prop_map(|(base, diff)| Payload::Diff { base, diff: diff.into() }),
    ];
    (bytes(), version(), vec(dot(), 0..4), payload).prop_map(|(key, version, past, payload)| Write {
        key,
        version,
        past: past.into(),
        payload,
    })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let sibling = (version(), vec(dot(), 0..3), proptest::option::of(bytes())).prop_map(|(version, past, value)| {
        crate::store::Sibling { version, past: past.into(), value: value.map(Arc::from) }
    });
    (vec((bytes(), vec(sibling, 0..3)), 0..4), vec(have(), 0..4), proptest::option::of(bytes()), any::<bool>())
        .prop_map(|(entries, gone, next, behind)| Chunk { entries, gone, next, behind })
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn message() -> impl Strategy<Value = Message> {
    let level = || proptest::option::of(0u16..64);
    prop_oneof![
        (
            any::<bool>(),
            any::<bool>(),
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
            vec((addr(), any::<u64>().prop_map(Duration::from_millis)), 0..3)
        )
            .prop_map(|(ready, reply, written, time, latest, away)| {
                let keeping = if latest { Keeping::Latest } else { Keeping::Concurrent };
                Message::Hello(Hello { ready, reply, written, time, keeping, away })
            }),
        Just(Message::Bye),
        (vec(write(), 0..5), any::<bool>()).prop_map(|(writes, ack)| Message::Write { writes, ack }),
        (any::<u64>(), vec((0..100u64, 0..100u64), 0..3)).prop_map(|(upto, ranges)| Message::Ack {
            seen: Seen::new(upto, ranges.into_iter().map(|(first, more)| (first, first + more)).collect()),
        }),
        (any::<u64>(), any::<bool>()).prop_map(|(written, compare)| Message::Offer { written, compare }),
        (any::<u64>(), level()).prop_map(|(round, level)| Message::Ask { round, level }),
        (any::<u64>(), level(), context(), vec(any::<u64>(), 0..64))
            .prop_map(|(round, level, seen, digests)| Message::Digests { round, level, seen, digests }),
        (any::<u64>(), 0..4096u16, proptest::option::of(bytes()), vec(have(), 0..5))
            .prop_map(|(round, bucket, after, have)| Message::Pull { round, bucket, after, have }),
        (any::<u64>(), 0..4096u16, proptest::option::of(bytes()), context(), chunk())
            .prop_map(|(round, bucket, after, seen, chunk)| Message::Chunk { round, bucket, after, seen, chunk }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message(), from: u64, to in proptest::option::of(1..u64::MAX)) {
        let envelope = Envelope { from: Incarnation::new(from), to: to.map(Incarnation::new), message };
        prop_assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
    }

    #[test]
    fn a_part_of_a_message_is_none(message in message(), cut: prop::sample::Index) {
        let bytes = Envelope { from: Incarnation::new(1), to: None, message }.encode();
        prop_assert!(Envelope::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(Envelope::decode(&longer), Err(Malformed::Leftover));
    }

    #[test]
    fn nothing_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Envelope::decode(&bytes);
        let mut with_head = vec![1];
        with_head.extend_from_slice(&[0; 16]);
        with_head.extend_from_slice(&bytes);
        let _ = Envelope::decode(&with_head);
    }
}

#[test]
fn another_format_is_named() {
    assert_eq!(Envelope::decode(&[9, 0, 0]), Err(Malformed::Format(9)));
}
