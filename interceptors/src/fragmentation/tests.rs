use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, ChannelMessage, Delivery, FaultKind, Handled, IntoLayer, Member, MessageId, SendError, SendOptions,
};
use tribes_testkit::{Answer, Layered, Reaction};

use super::{Fragmentation, FragmentationConfig};
use crate::vectors::{assert_blob, bytes, hex, list, load, pattern, size, text};

const SYNC: SendOptions = SendOptions::SYNC_ACK;

async fn stack(config: FragmentationConfig) -> Layered {
    tribes_testkit::stack([Fragmentation::new(config).into_layer()]).await
}

fn pieces_of(bytes: usize) -> FragmentationConfig {
    FragmentationConfig::default().with_max_size(bytes)
}

/// A piece as it stands on the wire.
fn piece(body: &[u8], number: i32, count: i32) -> Bytes {
    [body, &number.to_be_bytes(), &count.to_be_bytes(), &[1]].concat().into()
}

/// A message of this id, as it comes from `from`.
fn message(stack: &Layered, from: &Arc<Member>, id: u8, body: impl Into<Body>) -> ChannelMessage {
    ChannelMessage { id: MessageId::from_array([id; 16]), ..stack.below.message(from, body, SYNC) }
}

async fn inject(stack: &Layered, from: &Arc<Member>, id: u8, body: impl Into<Body>) -> Handled {
    stack.below.inject(message(stack, from, id, body)).await.handled().await
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

#[tokio::test]
async fn it_cuts_as_java_does() {
    let vectors = load("frag");
    assert_eq!(list(&vectors["cases"]).len(), 7);
    for case in list(&vectors["cases"]) {
        let (input, max) = (bytes(&case["input"]), size(&case["max_size"]));
        let stack = stack(pieces_of(max)).await;
        stack.channel.send(&stack.members[0], input.clone(), SendOptions::NONE).await.unwrap();
        let sent = stack.below.sent();
        let fragments = list(&case["fragments"]);
        assert_eq!(sent.len(), fragments.len());
        for (number, (sent, fragment)) in sent.iter().zip(fragments).enumerate() {
            // The vectors show what Java's receiver left of the buffers: the last byte is gone, and the piece that came
            // first there, the last one, holds the whole message.
            let mut expected = bytes(&fragment["message"]).to_vec();
            if fragments.len() == 1 {
                expected.push(0);
            } else if number + 1 < fragments.len() {
                expected.push(1);
            } else {
                assert_eq!(expected, input);
                let (number, count) = (i32::try_from(number).unwrap(), i32::try_from(fragments.len()).unwrap());
                expected = piece(&input[max * (fragments.len() - 1)..], number, count).to_vec();
            }
            assert_eq!(sent.message.body.to_bytes(), expected);
            assert_eq!(
                (sent.message.options, &sent.message.id),
                (SendOptions::BYTE_MESSAGE, &stack.below.sent()[0].message.id)
            );
        }
        // And back, the last first.
        for sent in sent.into_iter().rev() {
            let _ = stack.below.inject(sent.message).await;
        }
        assert_eq!(stack.above.wait_received(1).await.remove(0).message.bytes(), &input);
    }
}

#[tokio::test]
async fn the_default_size_is_javas() {
    let vectors = load("frag");
    let stack = stack(FragmentationConfig::default()).await;
    assert_eq!(FragmentationConfig::MAX_SIZE, size(&vectors["default_max_size"]));
    stack.channel.send(&stack.members[0], pattern(250_000), SendOptions::NONE).await.unwrap();
    let sent = stack.below.sent();
    let blobs = list(&vectors["default_250000"]);
    assert_eq!(sent.len(), blobs.len());
    for (sent, blob) in sent.iter().zip(blobs) {
        assert_blob(&sent.message.body.to_bytes(), blob, "piece");
    }
}

#[tokio::test]
async fn odd_pieces() {
    let vectors = load("frag");
    let cases = list(&vectors["receive"]);
    assert_eq!(cases.len(), 12);
    for case in cases {
        let name = text(&case["case"]);
        let stack = stack(FragmentationConfig::default()).await;
        let mut refused = 0;
        for wire in list(&case["messages"]) {
            let handled = inject(&stack, &stack.members[0], 1, hex(wire)).await;
            refused += usize::from(matches!(handled, Handled::Failed(_)));
        }
        let delivered: Vec<_> = list(&case["delivered"]).iter().map(|message| bytes(&message["message"])).collect();
        let received: Vec<_> = stack.above.received().iter().map(|one| one.message.bytes().clone()).collect();
        if name.contains("states another count") {
            // The one thing that Java overlooks and we do not.
            assert_eq!((received.len(), refused), (0, 1), "{name}");
        } else {
            let failing = list(&case["outcomes"]).iter().filter(|outcome| outcome["result"] != "ok").count();
            assert_eq!((received, refused), (delivered, failing), "{name}");
        }
    }
}

#[tokio::test]
async fn pieces_of_two_senders_never_mix() {
    let stack = stack(FragmentationConfig::default()).await;
    let [a, b, _] = &stack.members[..] else { panic!() };
    // In Java the first two make a message.
    for (from, body, number) in [(a, "A0", 0), (b, "B1", 1), (b, "B0", 0), (a, "A1", 1)] {
        assert_eq!(inject(&stack, from, 7, piece(body.as_bytes(), number, 2)).await, Handled::Accepted);
    }
    let received = stack.above.received();
    let received: Vec<_> = received.iter().map(|one| (one.from.port(), one.text())).collect();
    assert_eq!(received, [(b.port(), "B0B1".to_owned()), (a.port(), "A0A1".to_owned())]);
    assert_eq!((gauge(&stack, "incomplete_bytes"), gauge(&stack, "unhandled_bytes")), (0, 0));
}

#[tokio::test]
async fn a_cut_message_has_one_outcome() {
    let stack = stack(pieces_of(10)).await;
    let failing = FaultKind::Disconnected("reset".to_owned());
    // The second of three pieces fails for one of three members.
    stack.below.answer_next(Answer::Deliver);
    stack.below.answer_next(Answer::Hold);
    let to = &stack.members[..2];
    let pending = stack.channel.send_with(to, pattern(30), SendOptions::ACK).await.unwrap();
    stack.below.wait_held(2).await;
    assert_eq!(stack.below.fail_held(&failing), 2);
    let outcome = pending.await;
    assert_eq!((outcome.attempted, outcome.faults.len()), (2, 2));
    assert!(outcome.faults.iter().all(|fault| fault.kind == failing));

    // The answer is that of the piece that completes it.
    stack.below.answer_next(Answer::As(Delivery::Handled));
    stack.below.answer_next(Answer::As(Delivery::NoTaker));
    let outcome = stack.channel.send_with(to, pattern(20), SYNC).await.unwrap().await;
    assert_eq!((outcome.faults.len(), outcome.no_taker.len()), (0, 2));

    // A piece that is refused ends it: the rest is not sent, and counts as failed.
    let _ = stack.below.take_sent();
    stack.below.answer_next(Answer::Deliver);
    stack.below.answer_next(Answer::Refuse("no more"));
    assert!(stack.channel.send(to, pattern(50), SendOptions::ACK).await.is_err());
    assert_eq!(stack.below.take_sent().len(), 2);
}

#[tokio::test]
async fn too_long_a_message_is_refused_before_its_first_piece() {
    let stack = stack(pieces_of(10).with_max_message(100).with_max_memory(5000)).await;
    let error = stack.channel.send(&stack.members[0], pattern(101), SYNC).await.unwrap_err();
    assert!(matches!(error, SendError::Layer { layer: "fragmentation", .. }), "{error:?}");
    stack.channel.send(&stack.members[0], pattern(100), SYNC).await.unwrap();
    assert_eq!(stack.below.take_sent().len(), 10);
    // Without waiting, too.
    stack.channel.try_send(&stack.members[0], pattern(100), SYNC).unwrap().await.into_result().unwrap();
    assert_eq!(stack.below.take_sent().len(), 10);
    // What is not to be cut is not its affair.
    let stack = tribes_testkit::stack([Fragmentation::new(
        pieces_of(10).with_max_message(100).with_max_memory(5000).with_trigger(SendOptions::from_bits_retain(0x80)),
    )
    .into_layer()])
    .await;
    stack.channel.send(&stack.members[0], pattern(101), SYNC).await.unwrap();
    let sent = stack.below.sent();
    assert_eq!((sent.len(), sent[0].message.body.len()), (1, 102));
}

#[tokio::test(start_paused = true)]
async fn what_lacks_pieces_goes_by_a_timer() {
    let stack = stack(FragmentationConfig::default().with_expire(Duration::from_secs(10))).await;
    let from = Arc::clone(&stack.members[0]);
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    assert_eq!(inject(&stack, &from, 1, piece(b"a", 0, 3)).await, Handled::Accepted);
    pause(9).await;
    // A further piece gives it further time.
    assert_eq!(inject(&stack, &from, 1, piece(b"b", 1, 3)).await, Handled::Accepted);
    pause(9).await;
    assert_eq!(gauge(&stack, "incomplete_messages"), 1);
    pause(2).await;
    assert_eq!((gauge(&stack, "incomplete_messages"), gauge(&stack, "incomplete_bytes")), (0, 0));
    assert_eq!(gauge(&stack, "expired_messages"), 1);
    // Too late; the sender hears of it.
    assert!(matches!(inject(&stack, &from, 1, piece(b"c", 2, 3)).await, Handled::Failed(_)));
    // Begun anew.
    for (number, body) in (0..).zip(["a", "b", "c"]) {
        assert_eq!(inject(&stack, &from, 1, piece(body.as_bytes(), number, 3)).await, Handled::Accepted);
    }
    assert_eq!(stack.above.texts(), ["abc"]);
}

#[tokio::test]
async fn a_piece_that_comes_again_is_answered_as_before() {
    let stack = stack(FragmentationConfig::default()).await;
    let from = Arc::clone(&stack.members[0]);
    let (first, last) = (piece(b"a", 0, 2), piece(b"b", 1, 2));
    assert_eq!(inject(&stack, &from, 1, first.clone()).await, Handled::Accepted);
    assert_eq!(inject(&stack, &from, 1, last.clone()).await, Handled::Accepted);
    for again in [&first, &last] {
        assert_eq!(inject(&stack, &from, 1, again.clone()).await, Handled::Accepted);
    }
    assert_eq!((stack.above.count(), gauge(&stack, "repeated_pieces"), gauge(&stack, "incomplete_bytes")), (1, 2, 0));

    // Java sends a refused frame once more.
    stack.above.react_next(Reaction::Fail("the disk is full"));
    assert_eq!(inject(&stack, &from, 2, first.clone()).await, Handled::Accepted);
    for _ in 0..2 {
        match inject(&stack, &from, 2, last.clone()).await {
            Handled::Failed(why) => assert!(why.contains("the disk is full"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stack.above.count(), 2);
    // All of it again is a new attempt.
    for again in [&first, &last] {
        assert_eq!(inject(&stack, &from, 2, again.clone()).await, Handled::Accepted);
    }
    assert_eq!(stack.above.count(), 3);
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about a task that waits")]
async fn complete_messages_that_wait_for_listeners_are_bounded_for_each_sender() {
    let stack = stack(pieces_of(600).with_max_message(2000).with_max_memory(8000)).await;
    stack.above.react_next(Reaction::Hold);
    let (slow, other) = (Arc::clone(&stack.members[0]), Arc::clone(&stack.members[1]));
    assert_eq!(inject(&stack, &slow, 1, piece(&[1; 600], 0, 2)).await, Handled::Accepted);
    let _ = stack.below.inject(message(&stack, &slow, 1, piece(&[1; 600], 1, 2))).await;
    stack.above.wait_holding(1).await;
    assert_eq!((gauge(&stack, "unhandled_bytes"), gauge(&stack, "incomplete_bytes")), (1200, 0));
    // Its quarter is used up: the next one waits.
    assert_eq!(inject(&stack, &slow, 2, piece(&[2; 600], 0, 2)).await, Handled::Accepted);
    let (below, last) = (stack.below.clone(), message(&stack, &slow, 2, piece(&[2; 600], 1, 2)));
    let waiting = tokio::spawn(async move { below.inject(last).await.handled().await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!waiting.is_finished());
    assert_eq!((stack.above.count(), gauge(&stack, "unhandled_bytes")), (1, 1200));
    assert!(gauge(&stack, "incomplete_bytes") >= 1200);
    // Others have room.
    for number in 0..2 {
        assert_eq!(inject(&stack, &other, 3, piece(&[3; 600], number, 2)).await, Handled::Accepted);
    }
    assert_eq!(stack.above.count(), 2);
    stack.above.release();
    assert_eq!(waiting.await.unwrap(), Handled::Accepted);
    assert_eq!((gauge(&stack, "unhandled_bytes"), gauge(&stack, "incomplete_bytes")), (0, 0));
}

#[tokio::test]
async fn stopped_it_keeps_nothing() {
    let stack = stack(FragmentationConfig::default()).await;
    let from = Arc::clone(&stack.members[0]);
    assert_eq!(inject(&stack, &from, 1, piece(b"a", 0, 2)).await, Handled::Accepted);
    stack.channel.stop().await;
    assert_eq!(gauge(&stack, "incomplete_bytes"), 0);
    stack.channel.start().await.unwrap();
    assert_eq!(inject(&stack, &from, 1, piece(b"b", 1, 2)).await, Handled::Accepted);
    assert_eq!((stack.above.count(), gauge(&stack, "incomplete_messages")), (0, 1));
}

#[test]
fn options_from_text() {
    let mut config = FragmentationConfig::default();
    for (key, value) in
        [("max_size", "1024"), ("max_message", "1MiB"), ("max_memory", "4MiB"), ("expire", "5s"), ("trigger", "512")]
    {
        config.set(key, value).unwrap();
    }
    let expected = pieces_of(1024).with_max_message(1 << 20).with_max_memory(4 << 20);
    let expected = expected.with_expire(Duration::from_secs(5)).with_trigger(SendOptions::from_bits_retain(512));
    assert_eq!(config, expected);
    for (key, value) in [
        ("max_size", "0"),
        ("max_size", "2GiB"),
        ("max_message", "much"),
        ("max_memory", "0"),
        ("expire", "0s"),
        ("expire", "25h"),
        ("trigger", "often"),
    ] {
        assert!(config.set(key, value).unwrap_err().to_string().contains(key), "{key}={value}");
    }
    assert!(config.set("size", "1").unwrap_err().to_string().ends_with("max_message, max_memory)"));
    assert!(config.with_max_memory(1000).validate().is_err());
    assert!(config.with_max_size(0).validate().is_err() && config.validate().is_ok());
}

/// It is not the length that is too much.
#[tokio::test]
async fn a_message_of_too_many_pieces_is_refused_with_the_right_advice() {
    let stack = stack(pieces_of(1).with_max_message(1000).with_max_memory(5000)).await;
    let error = stack.channel.send(&stack.members[0], vec![7; 500], SendOptions::NONE).await.unwrap_err();
    let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    assert!(text.contains("500 pieces") && text.contains("5000 bytes; raise `max_size`"), "{text}");
}
