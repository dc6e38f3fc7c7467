#![cfg(all(feature = "compress-lz4", feature = "compress-zstd"))]

use std::sync::Arc;

use proptest::prelude::*;
use tribes_core::settings::Settings as _;
use tribes_core::wire::ExtensionKind;
use tribes_core::{Body, ChannelMessage, Handled, IntoLayer, Member, SendOptions};
use tribes_testkit::{Layered, Reaction};

use super::core::{Entry, NotShorter, Packer, Packing, Step, UnpackError, Unpacking};
use super::{Algorithm, Compress, CompressConfig, MARK, STEP};

const SYNC: SendOptions = SendOptions::SYNC_ACK;
const BOTH: [Algorithm; 2] = [Algorithm::Lz4, Algorithm::Zstd];

fn pack(algorithm: Algorithm, body: &[u8], level: u32, limit: usize) -> Result<Vec<u8>, NotShorter> {
    let mut packing = Packing::new(Packer::new(algorithm, level).unwrap(), body.len(), limit);
    body.chunks(1000).try_for_each(|chunk| packing.feed(chunk)).and_then(|()| packing.finish())
}

fn unpack(algorithm: Algorithm, packed: &[u8], len: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacking = Unpacking::new(Entry { algorithm, len: u32::try_from(len).unwrap() }, packed)?;
    while unpacking.step()? == Step::More {}
    Ok(unpacking.into_body())
}

/// Bytes that no compressor makes shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn with(algorithm: Algorithm) -> CompressConfig {
    CompressConfig::default().with_algorithm(algorithm)
}

async fn stack(config: CompressConfig) -> Layered {
    tribes_testkit::stack([Compress::new(config).into_layer()]).await
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

/// A compressed message as it comes from `from`, with this entry.
fn compressed(stack: &Layered, from: &Arc<Member>, body: impl Into<Body>, entry: Vec<u8>) -> ChannelMessage {
    let mut message = stack.below.message(from, body, MARK | SYNC);
    message.add_extension(ExtensionKind::COMPRESS, entry).unwrap();
    message
}

async fn why_refused(stack: &Layered, message: ChannelMessage) -> String {
    match stack.below.inject(message).await.handled().await {
        Handled::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_compressed_and_what_not() {
    for algorithm in BOTH {
        let stack = stack(with(algorithm).with_min_size(100).with_max_size(10_000)).await;
        let text = "0123456789 ".repeat(20);
        let cases = [
            (String::new(), SendOptions::NONE, false),
            (String::new(), MARK, false),
            (text[..100].to_owned(), SendOptions::NONE, false),
            (text[..100].to_owned(), MARK, true),
            ("short".to_owned(), MARK, false),
            (text.clone(), SendOptions::NONE, true),
            (text.repeat(100), SendOptions::NONE, false),
        ];
        for (body, options, packed) in cases {
            stack.channel.send(&stack.members[..], body.clone(), options).await.unwrap();
            // Once for all destinations.
            let sent = stack.below.take_sent();
            assert_eq!((sent.len(), sent[0].to.len()), (1, 3));
            let mut message = sent[0].message.clone();
            assert_eq!(message.options.contains(MARK), packed, "{algorithm} {} {options}", body.len());
            if packed {
                assert!(message.body.len() < body.len());
                let entry = Entry::decode(&message.take_extension(ExtensionKind::COMPRESS).unwrap()).unwrap();
                assert_eq!(entry, Entry { algorithm, len: u32::try_from(body.len()).unwrap() });
                assert_eq!(unpack(algorithm, &message.body.to_bytes(), body.len()).unwrap(), body.as_bytes());
            } else {
                assert_eq!(message.options, SendOptions::BYTE_MESSAGE);
                assert_eq!(message.body.to_bytes(), body.as_bytes());
            }
        }
        stack.channel.send(&stack.members[0], noise(500), SendOptions::NONE).await.unwrap();
        let message = stack.below.take_sent().remove(0).message;
        assert_eq!((message.options, message.body), (SendOptions::BYTE_MESSAGE, Body::new(noise(500))));
        assert_eq!((gauge(&stack, "plain_messages"), gauge(&stack, "packed_messages")), (6, 2));
    }
}

#[tokio::test]
async fn java_members_get_it_as_it_is() {
    let stack = Layered::builder().layer(Compress::default()).members(1).java_members(1).start().await;
    let body = "a".repeat(1000);
    stack.channel.send(&stack.members[..], body.clone(), SendOptions::NONE).await.unwrap();
    let sent = stack.below.take_sent();
    let [java, ours] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((java.text(), java.message.options), (body.clone(), SendOptions::BYTE_MESSAGE));
    assert_eq!((&java.to[0], &ours.to[0]), (&stack.members[1], &stack.members[0]));
    assert!(ours.message.options.contains(MARK) && ours.message.body.len() < 100);
    // A mark from Java means nothing to us.
    assert_eq!(stack.below.receive(&stack.members[1], "whatever", MARK | SYNC).await, Handled::Accepted);
    assert_eq!(stack.above.texts(), ["whatever"]);
}

#[tokio::test]
async fn whatever_was_sent_comes_back_by_any_algorithm_and_in_steps() {
    let configs = BOTH.map(with).into_iter().chain([with(Algorithm::Zstd).with_level(19)]);
    for config in configs {
        // What is received need not be of one's own algorithm.
        let stack = stack(config).await;
        let receiver = self::stack(with(Algorithm::Lz4)).await;
        for len in [200, STEP, STEP + 1, 5 * STEP + 17, 1_000_000] {
            let mut body = noise(len);
            body.iter_mut().skip(len / 4).step_by(2).for_each(|byte| *byte = 7);
            body[..len / 4].fill(9);
            for now in [false, true] {
                if now {
                    let pending = stack.channel.try_send(&stack.members[0], body.clone(), SendOptions::NONE).unwrap();
                    assert!(pending.await.is_complete());
                } else {
                    stack.channel.send(&stack.members[0], body.clone(), SendOptions::NONE).await.unwrap();
                }
                let sent = stack.below.take_sent().remove(0).message;
                assert!(sent.options.contains(MARK) && sent.body.len() < len);
                let count = receiver.above.count();
                let sender = Arc::clone(&receiver.members[1]);
                assert!(receiver.below.inject(ChannelMessage { sender, ..sent }).await.passed.is_ok());
                let received = receiver.above.wait_received(count + 1).await.pop().unwrap();
                assert!(received.message.bytes() == &body, "{len}");
                assert_eq!(received.message.options(), SendOptions::BYTE_MESSAGE);
            }
        }
        // All of it noise: given up when it has become too long.
        stack.channel.send(&stack.members[0], noise(5 * STEP), SendOptions::NONE).await.unwrap();
        assert!(!stack.below.take_sent().remove(0).message.options.contains(MARK));
        assert_eq!(gauge(&receiver, "held_bytes"), 0);
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words_that_help() {
    let limit = 100_000;
    for algorithm in BOTH {
        let stack = stack(with(algorithm).with_max_size(limit).with_max_memory(limit)).await;
        let from = Arc::clone(&stack.members[0]);
        let body = "a".repeat(1000);
        let packed = pack(algorithm, body.as_bytes(), 3, usize::MAX).unwrap();
        let entry = |number: u8, len: u32| [&[number][..], &len.to_be_bytes()].concat();
        let own = algorithm.number();
        let bomb = pack(algorithm, &vec![0; 5_000_000], 3, usize::MAX).unwrap();
        for (body, entry, expected) in [
            (packed.clone(), entry(77, 1000), "algorithm 77"),
            (packed.clone(), entry(0, 1000), "algorithm 0"),
            (packed.clone(), vec![], "malformed"),
            (packed.clone(), vec![own, 0, 0], "malformed"),
            // It claims more than is allowed, or less than it is, or more.
            (bomb.clone(), entry(own, 5_000_000), "more than the limit of 100000"),
            (bomb.clone(), entry(own, 1000), "damaged"),
            (bomb, entry(own, 0), "damaged"),
            (packed.clone(), entry(own, 999), "damaged"),
            (packed.clone(), entry(own, 1001), "damaged"),
            (packed[..packed.len() - 1].to_vec(), entry(own, 1000), "damaged"),
            ([&packed[..], b"x"].concat(), entry(own, 1000), "damaged"),
            (vec![], entry(own, 1000), "damaged"),
        ] {
            let why = why_refused(&stack, compressed(&stack, &from, body, entry)).await;
            assert!(why.contains(expected), "{why}");
        }
        let why = why_refused(&stack, stack.below.message(&from, packed.clone(), MARK | SYNC)).await;
        assert!(why.contains("nothing says how"), "{why}");
        assert_eq!(gauge(&stack, "refused_messages"), 13);
        // The largest that is allowed.
        let largest = pack(algorithm, &vec![0; limit], 3, usize::MAX).unwrap();
        let message = compressed(&stack, &from, largest, entry(own, 100_000));
        assert_eq!(stack.below.inject(message).await.handled().await, Handled::Accepted);
        assert_eq!((stack.above.count(), gauge(&stack, "held_bytes")), (1, 0));
    }
    let missing = UnpackError::NotInThisBuild { algorithm: Algorithm::Zstd }.to_string();
    assert!(missing.contains("zstd") && missing.contains("the feature compress-zstd"), "{missing}");
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about a task that waits")]
async fn unpacked_bodies_that_wait_for_listeners_are_bounded_for_each_sender() {
    let stack = stack(with(Algorithm::Lz4).with_max_size(1000).with_max_memory(4000)).await;
    stack.above.react_next(Reaction::Hold);
    let (slow, other) = (Arc::clone(&stack.members[0]), Arc::clone(&stack.members[1]));
    let packed = pack(Algorithm::Lz4, &[7; 900], 1, 900).unwrap();
    let entry = Entry { algorithm: Algorithm::Lz4, len: 900 }.encode();
    let message = |from: &Arc<Member>| compressed(&stack, from, packed.clone(), entry.clone());
    let _ = stack.below.inject(message(&slow)).await;
    stack.above.wait_holding(1).await;
    assert_eq!(gauge(&stack, "held_bytes"), 900);
    // Its quarter is used up: the next one waits.
    let (below, next) = (stack.below.clone(), message(&slow));
    let waiting = tokio::spawn(async move { below.inject(next).await.handled().await });
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert!(!waiting.is_finished());
    // Others have room.
    assert_eq!(stack.below.inject(message(&other)).await.handled().await, Handled::Accepted);
    stack.above.release();
    assert_eq!(waiting.await.unwrap(), Handled::Accepted);
    assert_eq!((stack.above.count(), gauge(&stack, "held_bytes")), (3, 0));
}

#[test]
fn any_changed_bit_is_harmless() {
    let body: Vec<u8> = (0..300_u32).flat_map(|number| (number % 17).to_be_bytes()).collect();
    for algorithm in BOTH {
        let whole = pack(algorithm, &body, 3, usize::MAX).unwrap();
        let mut found = 0;
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = unpack(algorithm, &damaged, body.len()) {
                assert_eq!(other.len(), body.len());
                // Zstandard has a checksum.
                assert!(algorithm == Algorithm::Lz4 || other == body, "bit {bit}");
            } else {
                found += 1;
            }
        }
        assert!(found > whole.len());
    }
}

proptest! {
    #[test]
    fn any_body_comes_back(body: Vec<u8>, repeat in 1..2000_usize, level in 1..=19_u32, zstd: bool) {
        let algorithm = BOTH[usize::from(zstd)];
        let body = body.repeat(repeat);
        let packed = pack(algorithm, &body, level, usize::MAX).unwrap();
        prop_assert_eq!(unpack(algorithm, &packed, body.len()).unwrap(), body.clone());
        // No longer than allowed, to the byte.
        prop_assert_eq!(pack(algorithm, &body, level, packed.len()), Ok(packed.clone()));
        if let Some(less) = packed.len().checked_sub(1) {
            prop_assert_eq!(pack(algorithm, &body, level, less), Err(NotShorter));
        }
    }

    #[test]
    fn any_garbage_is_answered(mut bytes: Vec<u8>, head in 0..11_usize, len in 0..2000_usize, zstd: bool) {
        let algorithm = BOTH[usize::from(zstd)];
        let proper = pack(algorithm, &[7; 1000], 3, usize::MAX).unwrap();
        bytes.iter_mut().zip(&proper[..head]).for_each(|(byte, proper)| *byte = *proper);
        if let Ok(body) = unpack(algorithm, &bytes, len) {
            prop_assert_eq!(body.len(), len);
        }
    }
}

#[test]
fn options_from_text() {
    let mut config = CompressConfig::default();
    assert_eq!(config.algorithm, Algorithm::Lz4);
    for (key, value) in
        [("algorithm", "zstd"), ("level", "19"), ("min_size", "1KiB"), ("max_size", "1MiB"), ("max_memory", "4MiB")]
    {
        config.set(key, value).unwrap();
    }
    let expected = with(Algorithm::Zstd).with_level(19).with_min_size(1024);
    assert_eq!(config, expected.with_max_size(1 << 20).with_max_memory(4 << 20));
    for (key, value) in [
        ("algorithm", "brotli"),
        ("level", "0"),
        ("level", "20"),
        ("min_size", "-1"),
        ("max_size", "0"),
        ("max_size", "2GiB"),
        ("max_memory", "lots"),
    ] {
        assert!(config.set(key, value).unwrap_err().to_string().contains(key), "{key}={value}");
    }
    assert!(config.set("size", "1").unwrap_err().to_string().ends_with("max_size, max_memory)"));
    assert!(config.with_max_memory(1000).validate().is_err());
    assert!(config.with_level(77).validate().is_err() && config.validate().is_ok());
}
