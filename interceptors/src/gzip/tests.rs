use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tribes_core::settings::Settings as _;
use tribes_core::{Body, ChannelMessage, Handled, IntoLayer, Member, SendOptions};
use tribes_testkit::{Layered, Reaction};

use super::core::{MAX_MEMBERS, NotShorter, Packing, STEP, Step, Unpacking, claimed_size, compressor, decompressor};
use super::{Gzip, GzipConfig, UnpackError};

use crate::vectors::{bytes, int, list, load, pattern, size, text};

const MARK: SendOptions = SendOptions::GZIP;
const SYNC: SendOptions = SendOptions::SYNC_ACK;

fn pack(body: &[u8], level: u32, limit: usize) -> Result<Vec<u8>, NotShorter> {
    let mut packing = Packing::new(compressor(level), body.len(), limit);
    body.chunks(1000).try_for_each(|chunk| packing.feed(chunk)).and_then(|()| packing.finish())
}

fn packed(body: &[u8]) -> Vec<u8> {
    pack(body, 6, usize::MAX).unwrap()
}

fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacking = Unpacking::new(decompressor(), packed, limit);
    while unpacking.step()? == Step::More {}
    Ok(unpacking.into_parts().0)
}

/// Bytes that no compressor makes shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..len).map(|_| rng.u8(..)).collect()
}

/// A vector's input; the one that is given by its hash alone is of one letter.
fn input(blob: &serde_json::Value) -> Bytes {
    if size(&blob["len"]) == 70_000 { Bytes::from(vec![0x41; 70_000]) } else { bytes(blob) }
}

async fn stack(config: GzipConfig) -> Layered {
    tribes_testkit::stack([Gzip::new(config).into_layer()]).await
}

/// A marked message, as it comes from `from`.
fn marked(stack: &Layered, from: &Arc<Member>, body: impl Into<Body>) -> ChannelMessage {
    stack.below.message(from, body, MARK | SYNC)
}

async fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

#[tokio::test]
async fn what_java_packed_is_unpacked_and_the_other_way_round() {
    let vectors = load("gzip");
    assert_eq!(list(&vectors["cases"]).len(), 5);
    for case in list(&vectors["cases"]) {
        let (input, wire) = (input(&case["input"]), bytes(&case["message"]));
        let stack = stack(GzipConfig::default()).await;
        let options = SendOptions::from_bits_retain(u32::try_from(int(&case["options_out"])).unwrap());
        let message = stack.below.message(&stack.members[0], wire.clone(), options);
        assert!(stack.below.inject(message).await.passed.is_ok());
        let received = stack.above.wait_received(1).await.remove(0);
        assert_eq!(received.message.bytes(), &input);
        assert_eq!(received.message.options(), SendOptions::BYTE_MESSAGE);

        stack.channel.send(&stack.members[0], input.clone(), SendOptions::NONE).await.unwrap();
        let sent = stack.below.sent().remove(0).message;
        let body = sent.body.to_bytes();
        if sent.options.contains(MARK) {
            // Not the same bytes, for there are many ways to compress; the same header, and as short, nearly.
            assert_eq!(sent.options, options);
            assert_eq!(body[..10], wire[..10]);
            assert!(body.len() <= wire.len() + wire.len() / 10, "{} instead of {}", body.len(), wire.len());
            assert_eq!(unpack(&body, input.len()), Ok(input.to_vec()));
        } else {
            // No shorter when compressed: as it is, which Java reads as well.
            assert_eq!((sent.options, &body), (SendOptions::BYTE_MESSAGE, &input));
            assert!(wire.len() + 10 > input.len());
        }
    }
}

#[tokio::test]
async fn what_java_refuses_is_refused() {
    let vectors = load("gzip");
    assert_eq!(list(&vectors["receive"]).len(), 8);
    for case in list(&vectors["receive"]) {
        let name = text(&case["case"]);
        let stack = stack(GzipConfig::default()).await;
        let options = SendOptions::from_bits_retain(u32::try_from(int(&case["options"])).unwrap());
        let message = stack.below.message(&stack.members[0], bytes(&case["message"]), options | SYNC);
        let handled = stack.below.inject(message).await.handled().await;
        let delivered: Vec<_> = list(&case["delivered"]).iter().map(|message| bytes(&message["message"])).collect();
        // The one thing that Java overlooks and we do not.
        if delivered.is_empty() || name.contains("trailing garbage") {
            assert!(matches!(handled, Handled::Failed(_)), "{name}: {handled:?}");
            assert_eq!((stack.above.count(), gauge(&stack, "refused_messages").await), (0, 1), "{name}");
        } else {
            assert_eq!(handled, Handled::Accepted, "{name}");
            let received: Vec<_> = stack.above.received().iter().map(|one| one.message.bytes().clone()).collect();
            assert_eq!(received, delivered, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_compressed_and_what_not() {
    let stack = stack(GzipConfig::default().with_min_size(10)).await;
    let text = "0123456789 ".repeat(20);
    let noise = noise(500);
    let sizes = [
        ("", SendOptions::NONE, false),
        ("", MARK, true),
        ("0123456789", SendOptions::NONE, false),
        ("0123456789", MARK, true),
        (text.as_str(), SendOptions::NONE, true),
    ];
    for (body, options, compressed) in sizes {
        stack.channel.send(&stack.members[..], body.to_owned(), options).await.unwrap();
        // Once for all destinations.
        let sent = stack.below.take_sent();
        assert_eq!((sent.len(), sent[0].to.len()), (1, 3));
        let message = &sent[0].message;
        assert_eq!(message.options.contains(MARK), compressed, "{body:?}");
        let plain = message.body.to_bytes();
        let plain = if compressed { unpack(&plain, 1000).unwrap() } else { plain.to_vec() };
        assert_eq!(plain, body.as_bytes());
    }
    stack.channel.send(&stack.members[0], noise.clone(), SendOptions::NONE).await.unwrap();
    let message = stack.below.take_sent().remove(0).message;
    assert_eq!((message.options, message.body), (SendOptions::BYTE_MESSAGE, Body::new(noise)));
    assert_eq!((gauge(&stack, "plain_messages").await, gauge(&stack, "packed_messages").await), (3, 3));
}

#[tokio::test]
async fn a_large_body_goes_in_steps_and_comes_back() {
    let stack = stack(GzipConfig::default()).await;
    for len in [STEP, STEP + 1, 5 * STEP + 17, 5_000_000] {
        // Half of it compresses.
        let mut body = noise(len);
        body.iter_mut().skip(len / 4).step_by(2).for_each(|byte| *byte = 7);
        stack.channel.send(&stack.members[0], body.clone(), SendOptions::NONE).await.unwrap();
        let sent = stack.below.take_sent().remove(0).message;
        assert!(sent.options.contains(MARK) && sent.body.len() < len);
        let count = stack.above.count();
        let _ = stack.below.inject(ChannelMessage { sender: Arc::clone(&stack.members[1]), ..sent }).await;
        let received = stack.above.wait_received(count + 1).await.pop().unwrap();
        assert!(received.message.bytes() == &body, "{len}");
    }
    // Without waiting.
    stack.channel.try_send(&stack.members[0], vec![7; 5 * STEP], SendOptions::NONE).unwrap().await;
    assert!(stack.below.take_sent().remove(0).message.options.contains(MARK));
    // All of it noise: given up when it has become too long.
    stack.channel.send(&stack.members[0], noise(5 * STEP), SendOptions::NONE).await.unwrap();
    assert!(!stack.below.take_sent().remove(0).message.options.contains(MARK));
}

#[tokio::test]
async fn a_bomb_is_refused() {
    let limit = 100_000;
    let stack = stack(GzipConfig::default().with_max_size(limit).with_max_memory(limit)).await;
    let member = Arc::clone(&stack.members[0]);
    let refused = async |body: Vec<u8>| {
        let handled = stack.below.inject(marked(&stack, &member, body)).await.handled().await;
        match handled {
            Handled::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    };
    // Honest about its size.
    assert!(refused(packed(&vec![0; limit + 1])).await.contains("100000"));
    // A lie: it says less.
    let mut lie = packed(&vec![0; 5_000_000]);
    let end = lie.len();
    lie[end - 4..].copy_from_slice(&1000u32.to_le_bytes());
    assert!(refused(lie).await.contains("100000"));
    // A lie: more than so few bytes can be.
    let mut lie = packed(b"small");
    let end = lie.len();
    lie[end - 4..].copy_from_slice(&90_000u32.to_le_bytes());
    assert!(refused(lie).await.contains("damaged"));
    // Several members, each of them small enough.
    assert!(refused(packed(&vec![0; limit / 2 + 1]).repeat(2)).await.contains("100000"));
    // The largest that is allowed, alone and in parts.
    for body in [packed(&vec![0; limit]), packed(&vec![0; limit / 4]).repeat(4)] {
        let handled = stack.below.inject(marked(&stack, &member, body)).await.handled().await;
        assert_eq!(handled, Handled::Accepted);
    }
    assert_eq!((stack.above.count(), gauge(&stack, "held_bytes").await), (2, 0));
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about a task that waits")]
async fn unpacked_bodies_that_wait_for_listeners_are_bounded_for_each_sender() {
    let stack = stack(GzipConfig::default().with_max_size(1000).with_max_memory(4000)).await;
    stack.above.react_next(Reaction::Hold);
    let (slow, other) = (Arc::clone(&stack.members[0]), Arc::clone(&stack.members[1]));
    let message = |from: &Arc<Member>| marked(&stack, from, packed(&[7; 900]));
    let _ = stack.below.inject(message(&slow)).await;
    stack.above.wait_holding(1).await;
    assert_eq!(gauge(&stack, "held_bytes").await, 900);
    // Its quarter is used up: the next one waits.
    let (below, next) = (stack.below.clone(), message(&slow));
    let waiting = tokio::spawn(async move { below.inject(next).await.handled().await });
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert!(!waiting.is_finished());
    assert_eq!((stack.above.count(), gauge(&stack, "held_bytes").await), (1, 900));
    // Others have room.
    assert_eq!(stack.below.inject(message(&other)).await.handled().await, Handled::Accepted);
    stack.above.release();
    assert_eq!(waiting.await.unwrap(), Handled::Accepted);
    assert_eq!((stack.above.count(), gauge(&stack, "held_bytes").await), (3, 0));
}

#[tokio::test]
async fn another_mark() {
    let bits = SendOptions::from_bits_retain(0x300);
    let stack = stack(GzipConfig::default().with_trigger(bits)).await;
    let body = "a".repeat(100);
    stack.channel.send(&stack.members[0], body.clone(), SendOptions::NONE).await.unwrap();
    let sent = stack.below.take_sent().remove(0).message;
    assert_eq!(sent.options, bits | SendOptions::BYTE_MESSAGE);
    let _ = stack.below.inject(sent.clone()).await;
    // One of its bits is not the mark.
    let _ = stack.below.inject(ChannelMessage { options: MARK, ..sent.clone() }).await;
    let received = stack.above.wait_received(2).await;
    assert_eq!((received[0].text(), received[0].message.options()), (body, SendOptions::BYTE_MESSAGE));
    assert_eq!((received[1].message.bytes(), received[1].message.options()), (&sent.body.to_bytes(), MARK));
}

#[test]
fn headers_with_everything_in_them() {
    let plain = packed(b"hello");
    let mut head = vec![0x1F, 0x8B, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 0, 3, 3, 0, 9, 9, 9];
    head.extend(b"name\0comment\0");
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    let sum = u16::try_from(crc.sum() & 0xFFFF).unwrap().to_le_bytes();
    let whole = [&head[..], &sum, &plain[10..]].concat();
    assert_eq!(unpack(&whole, 5), Ok(b"hello".to_vec()));
    assert_eq!(claimed_size(&whole), Ok(5));
    let wrong = [&head[..], &[sum[0] ^ 1, sum[1]], &plain[10..]].concat();
    assert_eq!(unpack(&wrong, 5), Err(UnpackError::Damaged));
    let mut reserved = plain;
    reserved[3] = 0x20;
    assert_eq!(unpack(&reserved, 5), Err(UnpackError::Damaged));
    for len in 0..whole.len() {
        assert!(unpack(&whole[..len], 5).is_err(), "{len}");
    }
}

#[test]
fn damage_is_found() {
    let body = pattern(300);
    let whole = packed(&body);
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let result = claimed_size(&damaged).and_then(|_| unpack(&damaged, 1000));
        // Time, level and system mean nothing, nor does the flag of text, nor what fills the last compressed byte.
        let meaningless = (3..10).contains(&(bit / 8)) || bit / 8 == whole.len() - 9;
        match result {
            Ok(found) => assert_eq!((found, meaningless), (body.to_vec(), true), "bit {bit}"),
            Err(_) => assert!(!(4..10).contains(&(bit / 8)), "bit {bit}"),
        }
    }
}

proptest! {
    #[test]
    fn any_body_comes_back(body: Vec<u8>, repeat in 1..200_usize, level in 1..=9_u32) {
        let body = body.repeat(repeat);
        let packed = pack(&body, level, usize::MAX).unwrap();
        prop_assert_eq!(claimed_size(&packed), Ok(body.len()));
        prop_assert_eq!(unpack(&packed, body.len()), Ok(body.clone()));
        // No longer than allowed, to the byte.
        prop_assert_eq!(pack(&body, level, packed.len()), Ok(packed.clone()));
        prop_assert_eq!(pack(&body, level, packed.len() - 1), Err(NotShorter));
        if let Some(less) = body.len().checked_sub(1) {
            prop_assert_eq!(unpack(&packed, less), Err(UnpackError::TooLarge { limit: less }));
        }
    }

    #[test]
    fn any_garbage_is_answered(mut bytes: Vec<u8>, head in 0..11_usize, limit in 0..2000_usize) {
        let proper = packed(b"some body or other");
        bytes.iter_mut().zip(&proper[..head]).for_each(|(byte, proper)| *byte = *proper);
        if let Ok(body) = unpack(&bytes, limit) {
            prop_assert!(body.len() <= limit);
        }
        let _ = claimed_size(&bytes);
    }
}

#[test]
fn options_from_text() {
    let mut config = GzipConfig::default();
    for (key, value) in
        [("min_size", "1KiB"), ("max_size", "1MiB"), ("max_memory", "4MiB"), ("level", "9"), ("trigger", "512")]
    {
        config.set(key, value).unwrap();
    }
    let expected = GzipConfig::default().with_min_size(1024).with_max_size(1 << 20).with_max_memory(4 << 20);
    assert_eq!(config, expected.with_level(9).with_trigger(SendOptions::from_bits_retain(0x200)));
    for (key, value) in [
        ("min_size", "-1"),
        ("max_size", "0"),
        ("max_size", "2GiB"),
        ("max_memory", "lots"),
        ("level", "0"),
        ("level", "10"),
        ("trigger", "often"),
    ] {
        assert!(config.set(key, value).unwrap_err().to_string().contains(key), "{key}={value}");
    }
    assert!(config.set("size", "1").unwrap_err().to_string().ends_with("max_memory, level)"));
    for trigger in ["0", "3", "-2147483648"] {
        let error = GzipConfig::from_pairs([("trigger", trigger)]).unwrap_err().remove(0).to_string();
        assert!(error.starts_with("trigger") && error.contains("0x8000"), "{error}");
    }
    assert!(config.with_max_memory(1000).validate().is_err());
    assert!(config.with_level(77).validate().is_err() && config.validate().is_ok());
}

/// Twenty bytes each, and as much work as tens of thousands.
#[test]
fn members_are_counted() {
    let (empty, last) = (packed(b""), packed(b"the last one"));
    let body = |members: u32| [empty.repeat(members as usize - 1), last.clone()].concat();
    assert_eq!(unpack(&body(MAX_MEMBERS), 1 << 20).unwrap(), b"the last one");
    assert_eq!(unpack(&body(MAX_MEMBERS + 1), 1 << 20), Err(UnpackError::TooManyMembers));
}
