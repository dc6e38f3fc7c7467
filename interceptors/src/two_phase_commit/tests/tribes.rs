//! Tribes' dialect: the vectors, and what a Java member may send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{ChannelMessage, FaultKind, Handled, IntoLayer as _, Member, MessageId, SendOptions, Time};
use tribes_testkit::Answer;
use tribes_testkit::{Layered, Reaction};

use crate::two_phase_commit::tribes::{Came, Confirmed, First, confirmation, confirmed};
use crate::two_phase_commit::{TwoPhaseCommit, TwoPhaseCommitConfig, Vote};
use crate::vectors::{bytes, hex, int, list, load};

const SYNC: SendOptions = SendOptions::SYNC_ACK;

async fn with(layer: TwoPhaseCommit) -> Layered {
    Layered::builder().layer(layer.into_layer()).members(1).java_members(2).start().await
}

async fn stack() -> Layered {
    with(TwoPhaseCommit::default()).await
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

fn confirm(stack: &Layered, from: &Arc<Member>, id: &MessageId) -> ChannelMessage {
    stack.below.message(from, confirmation(id), SYNC)
}

#[tokio::test]
async fn what_java_sends_is_released_by_its_confirmation() {
    let vectors = load("twophase");
    assert_eq!(list(&vectors["cases"]).len(), 2);
    for case in list(&vectors["cases"]) {
        let stack = stack().await;
        let delivered: Vec<_> = list(&case["delivered_after_each"]).iter().map(int).collect();
        for (sent, delivered) in list(&case["sent"]).iter().zip(delivered) {
            let options = SendOptions::from_bits_retain(u32::try_from(int(&sent["options"])).unwrap());
            let plain = stack.below.message(&stack.members[1], bytes(&sent["message"]), options | SYNC);
            let id = hex(&sent["unique_id"]);
            let message = ChannelMessage { id: MessageId::from_bytes(id), ..plain };
            assert_eq!(stack.below.inject(message).await.handled().await, Handled::Accepted);
            assert_eq!(i64::try_from(stack.above.count()).unwrap(), delivered);
        }
        for (received, expected) in stack.above.received().iter().zip(list(&case["delivered"])) {
            assert_eq!(received.message.bytes(), &bytes(&expected["message"]));
            assert_eq!(received.message.id().as_bytes(), hex(&expected["unique_id"]));
        }
    }
}

#[tokio::test]
async fn what_java_gets_is_what_java_sends() {
    let vectors = load("twophase");
    let wire = bytes(&list(&vectors["cases"])[0]["sent"][1]["message"]);
    let stack = stack().await;
    let options = SendOptions::SYNC_ACK | SendOptions::from_bits_retain(0x8000);
    let to = [Arc::clone(&stack.members[1]), Arc::clone(&stack.members[2])];
    stack.channel.send(&to[..], "commit me", options).await.unwrap();
    let sent = stack.below.wait_sent(3).await;
    let [first, confirmations @ ..] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((first.text().as_str(), first.to.as_slice()), ("commit me", &to[..]));
    for (confirmation, to) in confirmations.iter().zip(&to) {
        assert_eq!(confirmation.to, [Arc::clone(to)]);
        let (one, other) = (&first.message, &confirmation.message);
        assert_eq!((one.options, one.timestamp_ms, &one.sender), (other.options, other.timestamp_ms, &other.sender));
        assert_ne!(one.id, other.id);
        let body = other.body.to_bytes();
        assert_eq!((&body[..16], &body[16..32], &body[32..]), (&wire[..16], one.id.as_bytes(), &wire[32..]));
        assert_eq!(confirmed(&other.body, &other.id).as_ref(), Some(&one.id));
    }
    assert_eq!(confirmations.len(), 2);
    // Whatever was asked for: it is parked when it is acknowledged. The second phase has the options of the message.
    stack.channel.send(&to[..1], "commit me", SendOptions::NONE).await.unwrap();
    let options: Vec<_> = stack.below.wait_sent(5).await[3..].iter().map(|sent| sent.message.options).collect();
    assert_eq!(options, [SYNC | SendOptions::BYTE_MESSAGE, SendOptions::BYTE_MESSAGE]);
}

#[tokio::test]
async fn the_second_phase_waits_for_the_first_and_its_outcome_is_that_of_the_message() {
    let stack = stack().await;
    let [java, other] = [&stack.members[1], &stack.members[2]].map(Arc::clone);
    // The first phase: one has it, the other not yet.
    stack.below.answer_member(&other, Answer::Hold);
    let sent = stack.channel.send_with(vec![Arc::clone(&java), Arc::clone(&other)], "hello", SYNC).await.unwrap();
    stack.below.wait_held(1).await;
    assert_eq!((stack.below.sent().len(), gauge(&stack, "open_messages")), (1, 1));
    let refused = FaultKind::RemoteFailure(Some("its listener's words".to_owned()));
    stack.below.answer_member(&other, Answer::Fault(refused.clone()));
    stack.below.release();
    let outcome = sent.await;
    assert_eq!((outcome.faults.len(), outcome.fault_of(&other)), (1, Some(&refused)));
    // A first phase that fails for one is confirmed to nobody.
    let _ = stack.below.take_sent();
    let outcome = stack.channel.send_with(vec![Arc::clone(&java), other], "hello", SYNC).await.unwrap().await;
    assert_eq!(stack.below.take_sent().len(), 1);
    assert_eq!(outcome.faults.len(), 2);
    assert!(matches!(outcome.fault_of(&java), Some(FaultKind::Dropped { by: "two-phase-commit", .. })));
    assert_eq!(
        (gauge(&stack, "sent_commits"), gauge(&stack, "sent_aborts"), gauge(&stack, "open_messages")),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_confirmation_that_comes_first_releases_its_message_when_that_comes() {
    let stack = stack().await;
    let java = &stack.members[1];
    let message = stack.below.message(java, "late", SYNC);
    let confirmation = confirm(&stack, java, &message.id);
    assert_eq!(stack.below.inject(confirmation.clone()).await.handled().await, Handled::Accepted);
    // That of another sender is another one.
    let other = ChannelMessage { sender: Arc::clone(&stack.members[2]), ..message.clone() };
    assert_eq!(stack.below.inject(other).await.handled().await, Handled::Accepted);
    assert_eq!((stack.above.count(), gauge(&stack, "parked_messages")), (0, 1));
    // And each comes once, however often it comes.
    for _ in 0..2 {
        for message in [&message, &confirmation] {
            assert_eq!(stack.below.inject(message.clone()).await.handled().await, Handled::Accepted);
        }
    }
    assert_eq!(stack.above.texts(), ["late"]);
}

#[tokio::test]
async fn what_the_listener_says_answers_the_confirmation_also_when_that_comes_again() {
    let stack = stack().await;
    let java = &stack.members[1];
    stack.above.react_next(Reaction::Fail("no"));
    let message = stack.below.message(java, "hello", SYNC);
    assert_eq!(stack.below.inject(message.clone()).await.handled().await, Handled::Accepted);
    for _ in 0..2 {
        let handled = stack.below.inject(confirm(&stack, java, &message.id)).await.handled().await;
        assert!(matches!(handled, Handled::Failed(_)), "{handled:?}");
    }
    assert_eq!((stack.above.count(), gauge(&stack, "held_bytes")), (1, 0));
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the test is about what time does")]
async fn what_is_never_confirmed_is_forgotten() {
    let stack = stack().await;
    let java = &stack.members[1];
    for number in 0..100 {
        let _ = stack.below.receive(java, format!("{number}"), SYNC).await;
        let early = stack.below.message(java, "other", SYNC).id;
        let _ = stack.below.inject(confirm(&stack, java, &early)).await;
    }
    assert!(gauge(&stack, "held_bytes") > 100 * 1024);
    tokio::time::sleep(TwoPhaseCommitConfig::EXPIRE + Duration::from_secs(1)).await;
    assert_eq!((gauge(&stack, "parked_messages"), gauge(&stack, "held_bytes")), (0, 0));
    assert_eq!((gauge(&stack, "unconfirmed_messages"), stack.above.count()), (100, 0));
    // And nothing is remembered: what comes again is as new.
    let message = stack.below.message(java, "again", SYNC);
    for message in [message.clone(), confirm(&stack, java, &message.id)] {
        assert_eq!(stack.below.inject(message).await.handled().await, Handled::Accepted);
    }
    assert_eq!((stack.above.texts(), gauge(&stack, "held_bytes")), (vec!["again".to_owned()], 0));
}

#[tokio::test]
async fn a_sender_has_a_quarter_of_the_memory_or_one_message() {
    let memory = TwoPhaseCommitConfig::default().with_max_memory(100_000);
    let stack = with(TwoPhaseCommit::new(memory)).await;
    let (java, other) = (&stack.members[1], &stack.members[2]);
    assert_eq!(stack.below.receive(java, vec![0; 90_000], SYNC).await, Handled::Accepted);
    for (from, len) in [(java, 1), (other, 10_000)] {
        let handled = stack.below.receive(from, vec![0; len], SYNC).await;
        assert!(matches!(&handled, Handled::Failed(why) if why.contains("max_memory")), "{handled:?}");
    }
    assert_eq!(stack.below.receive(other, vec![0; 5000], SYNC).await, Handled::Accepted);
    assert_eq!(gauge(&stack, "held_bytes"), 90_000 + 5000 + 2 * 1024);
}

#[tokio::test]
async fn the_voter_is_asked_about_messages_of_java_too() {
    let layer = TwoPhaseCommit::default().with_voter(|message| match message.body.len() {
        3 => Vote::No("three bytes".to_owned()),
        _ => Vote::Yes,
    });
    let stack = with(layer).await;
    let handled = stack.below.receive(&stack.members[1], "bad", SYNC).await;
    assert!(matches!(&handled, Handled::Failed(why) if why.contains("three bytes")), "{handled:?}");
    assert_eq!(stack.below.receive(&stack.members[1], "good", SYNC).await, Handled::Accepted);
    assert_eq!((gauge(&stack, "votes_against"), gauge(&stack, "parked_messages")), (1, 1));
}

#[test]
fn what_is_a_confirmation() {
    let (own, id) = (MessageId::from_array([1; 16]), MessageId::from_array([2; 16]));
    let body = confirmation(&id);
    assert_eq!(confirmed(&body, &own), Some(id));
    let whole = body.to_bytes();
    for at in (0..16).chain(32..48) {
        let mut changed = whole.to_vec();
        changed[at] ^= 1;
        assert_eq!(confirmed(&changed.into(), &own), None, "{at}");
    }
    for len in 0..whole.len() {
        assert_eq!(confirmed(&whole.slice(..len).into(), &own), None);
    }
    // Tribes goes by the length of the confirmation's own id.
    let short = MessageId::from_bytes(Bytes::from_static(b"short"));
    assert_eq!(confirmed(&body, &short), None);
    assert_eq!(confirmed(&confirmation(&short), &MessageId::from_bytes(Bytes::from_static(b"other"))), Some(short));
}

/// Each was confirmed at once; none of them stands in line for its time all the same.
#[test]
fn what_was_confirmed_leaves_the_line() {
    let java = crate::testing::member(1);
    let mut first = First::new(Duration::from_secs(60));
    let mut held_back = None;
    for number in 0..100_000_u128 {
        let id = MessageId::from_array(number.to_be_bytes());
        let came = first.message(&java, &id, number, 1, Time::ZERO, || Ok::<(), ()>(()));
        assert_eq!(came, Ok(Came::Parked));
        if number % 1000 == 7 {
            held_back.get_or_insert(id);
        } else {
            assert_eq!(first.confirm(&java, id, Time::ZERO), Confirmed::Released(number, 1));
        }
        assert!(first.line() <= 2 * first.len() + 1025, "{} in line, {} parked", first.line(), first.len());
    }
    // Those that wait still expire, and can be confirmed.
    assert_eq!(first.confirm(&java, held_back.unwrap(), Time::ZERO), Confirmed::Released(7, 1));
    assert_eq!(first.tick(Time::ZERO + Duration::from_secs(60)).len(), 99);
    assert_eq!(first.len(), 0);
}
