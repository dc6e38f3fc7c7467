//! The layer in a channel.

use std::sync::Arc;

use tribes_core::error::Unsupported;
use tribes_core::{ChannelMessage, FaultKind, Handled, Link, Member, SendOptions, SyncInterceptor};
use tribes_testkit::{Layered, java_member};

use super::super::{Algorithm, Encrypt, EncryptConfig, Mode, TowardsJava};
use super::key;

const SYNC: SendOptions = SendOptions::SYNC_ACK;

fn tribes() -> EncryptConfig {
    EncryptConfig::default().with_keys([key(1)])
}

fn authenticated() -> EncryptConfig {
    tribes().with_mode(Mode::Authenticated)
}

async fn stack(config: EncryptConfig) -> Layered {
    Layered::builder().layer(Encrypt::new(config)).members(0).java_members(1).start().await
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let gauges = &stack.channel.stats().layers[0].gauges;
    gauges.iter().find(|gauge| gauge.name == name).unwrap_or_else(|| panic!("no gauge {name}")).value
}

/// Sends `body` to these members and returns what left the stack.
async fn sent(from: &Layered, to: &[Arc<Member>], body: &'static str) -> Vec<ChannelMessage> {
    from.channel.send(to, body, SYNC).await.unwrap();
    from.below.take_sent().into_iter().map(|sent| sent.message).collect()
}

async fn inject(to: &Layered, message: &ChannelMessage) -> Handled {
    to.below.inject(message.clone()).await.handled().await
}

#[tokio::test]
async fn what_cannot_be_opened_is_answered_so() {
    for config in [tribes(), authenticated()] {
        let (one, other) = (stack(config.clone()).await, stack(config).await);
        let message = sent(&one, &[other.channel.local()], "hello").await.remove(0);
        let mut altered = message.clone();
        let mut body = message.body.to_bytes().to_vec();
        body[30] ^= 1;
        altered.body = body.into();
        assert!(matches!(inject(&other, &altered).await, Handled::Failed(text) if text.contains("altered")));
        assert_eq!(inject(&other, &message).await, Handled::Accepted);
        assert!(matches!(inject(&other, &message).await, Handled::Failed(text) if text.contains("replay")));
        assert_eq!(other.above.texts(), ["hello"]);
        assert_eq!((gauge(&other, "unopened"), gauge(&other, "replayed"), gauge(&other, "opened")), (1, 1, 1));
        assert_eq!(gauge(&one, "sealed"), 1);
    }
}

#[tokio::test]
async fn clear_text_never_goes_up() {
    for config in [tribes(), authenticated(), authenticated().with_towards_java(TowardsJava::Tribes)] {
        let stack = stack(config).await;
        for from in [java_member(7), tribes_testkit::member(7)] {
            for body in ["", "clear", "clear text that is long enough to be something that was sealed, by its length"] {
                let handled = stack.below.receive(&from, body, SYNC).await;
                assert!(matches!(handled, Handled::Failed(_)), "{handled:?}");
            }
        }
        assert_eq!(stack.above.count(), 0);
    }
}

#[tokio::test]
async fn legacy_algorithms_answer_alike_whatever_comes() {
    let config = tribes().with_algorithm(Algorithm::Cbc).with_legacy(true);
    let (one, other) = (stack(config.clone()).await, stack(config).await);
    let message = sent(&one, &[other.channel.local()], "hello").await.remove(0);
    for byte in 0..message.body.len() {
        let mut altered = message.clone();
        let mut body = message.body.to_bytes().to_vec();
        body[byte] ^= 0x80;
        altered.body = body.into();
        assert_eq!(inject(&other, &altered).await, Handled::Accepted, "byte {byte}");
    }
    assert_eq!(other.below.receive(&java_member(1), "short", SYNC).await, Handled::Accepted);
    assert!(gauge(&other, "unopened") + gauge(&other, "stale") > 20);
}

#[tokio::test]
async fn one_message_for_several_is_sealed_once() {
    for config in [tribes(), authenticated()] {
        let one = stack(config.clone()).await;
        let (two, three) = (stack(config.clone()).await, stack(config).await);
        let messages = sent(&one, &[two.channel.local(), three.channel.local()], "for two").await;
        assert_eq!((messages.len(), gauge(&one, "sealed")), (1, 1));
        for other in [two, three] {
            assert_eq!(inject(&other, &messages[0]).await, Handled::Accepted);
            assert_eq!(other.above.texts(), ["for two"]);
        }
    }
}

#[tokio::test]
async fn a_copy_for_another_member_is_refused() {
    let (one, two, three) = (stack(authenticated()).await, stack(authenticated()).await, stack(authenticated()).await);
    let message = sent(&one, &[two.channel.local()], "for two").await.remove(0);
    assert!(matches!(inject(&three, &message).await, Handled::Failed(text) if text.contains("other members")));
    // Nor does it count against the one that it is for.
    assert_eq!(inject(&two, &message).await, Handled::Accepted);
    assert_eq!((two.above.texts(), three.above.count()), (vec!["for two".to_owned()], 0));
    assert_eq!(gauge(&three, "misdirected"), 1);
}

#[tokio::test]
async fn java_members_are_failed_and_nothing_goes_out_in_clear() {
    let (one, two) = (stack(authenticated()).await, stack(authenticated()).await);
    let java = java_member(9);
    let pending = one.channel.send_with(&[java.clone(), two.channel.local()][..], "both", SYNC).await.unwrap();
    let outcome = pending.await;
    assert_eq!((outcome.attempted, outcome.faults.len()), (2, 1));
    let fault = outcome.fault_of(&java);
    assert!(matches!(fault, Some(FaultKind::Unsupported(Unsupported::Other(text))) if text.contains("towards_java")));
    let sent = one.below.take_sent();
    assert_eq!((sent.len(), sent[0].to.len()), (1, 1));
    assert_eq!(inject(&two, &sent[0].message).await, Handled::Accepted);
    // All of them.
    one.channel.send(&java, "alone", SYNC).await.unwrap_err();
    assert!(one.below.take_sent().is_empty());
    assert_eq!(gauge(&one, "java_refused"), 2);
    // And from them, though the key is right.
    let theirs = stack(tribes()).await;
    let mut message = self::sent(&theirs, &[two.channel.local()], "hello").await.remove(0);
    message.sender = java;
    assert!(matches!(inject(&two, &message).await, Handled::Failed(_)));
}

#[tokio::test]
async fn with_leave_java_members_are_spoken_to_as_tribes_does() {
    let mixed = authenticated().with_towards_java(TowardsJava::Tribes);
    let (one, two, java) = (stack(mixed.clone()).await, stack(mixed).await, stack(tribes()).await);
    let java_member = java_member(9);
    let outcome =
        one.channel.send_with(&[two.channel.local(), java_member.clone()][..], "both", SYNC).await.unwrap().await;
    assert!(outcome.faults.is_empty());
    for sent in one.below.take_sent() {
        let (receiver, length) = if sent.to == [java_member.clone()] { (&java, 36 + 4) } else { (&two, 63 + 4) };
        assert_eq!(sent.message.body.len(), length);
        assert_eq!(inject(receiver, &sent.message).await, Handled::Accepted);
        assert_eq!(receiver.above.texts(), ["both"]);
    }
    let mut answer = sent(&java, &[two.channel.local()], "answer").await.remove(0);
    // One of ours does not speak like that.
    assert!(matches!(inject(&two, &answer).await, Handled::Failed(_)));
    answer.sender = java_member.clone();
    assert_eq!(inject(&two, &answer).await, Handled::Accepted);
    // To Java alone.
    sent(&one, &[java_member], "alone").await.remove(0);
}

#[tokio::test]
async fn a_multicast_needs_the_format_of_tribes() {
    let one = stack(authenticated()).await;
    let error = one.channel.send(&java_member(1), "all", SendOptions::MULTICAST).await.unwrap_err();
    assert!(
        std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("multicast")),
        "{error:?}"
    );
    let one = stack(tribes()).await;
    one.channel.send(&java_member(1), "all", SendOptions::MULTICAST).await.unwrap();
    let sent = one.below.take_sent();
    assert!(sent[0].multicast);
    assert_eq!(sent[0].message.body.len(), 36 + 3);
}

#[tokio::test]
async fn an_id_without_our_mark_does_not_start_in_authenticated_mode() {
    let id = java_member(1).id();
    let configure = |builder: tribes_core::ChannelBuilder| builder.id(id);
    // In Tribes' format it does.
    Layered::builder().layer(Encrypt::new(tribes())).configure(configure).members(0).start().await;
    let recorder = tribes_testkit::Recorder::new();
    let builder = configure(recorder.install(tribes_core::Channel::builder()));
    let channel = builder.interceptor(Encrypt::new(authenticated())).build().unwrap();
    let error = channel.start().await.unwrap_err();
    assert!(format!("{error:?}").contains("mark of our nodes"), "{error:?}");
}

#[tokio::test]
async fn keys_change_while_the_channel_runs_and_outlast_a_restart() {
    for config in [tribes(), authenticated()] {
        let (layer, other_layer) = (Arc::new(Encrypt::new(config.clone())), Arc::new(Encrypt::new(config)));
        let one = Layered::builder().layer(Arc::clone(&layer)).members(0).java_members(1).start().await;
        let other = Layered::builder().layer(Arc::clone(&other_layer)).members(0).java_members(1).start().await;
        let mut expected = Vec::new();
        for (ours, theirs, text) in [(vec![1], vec![1, 2], "a"), (vec![2, 1], vec![1, 2], "b"), (vec![2], vec![2], "c")]
        {
            layer.set_keys(ours.into_iter().map(key)).unwrap();
            other_layer.set_keys(theirs.into_iter().map(key)).unwrap();
            let message = sent(&one, &[other.channel.local()], text).await.remove(0);
            assert_eq!(inject(&other, &message).await, Handled::Accepted, "{text}");
            expected.push(text);
        }
        assert!(layer.set_keys([]).is_err());
        one.channel.stop().await;
        one.channel.start().await.unwrap();
        let message = sent(&one, &[other.channel.local()], "d").await.remove(0);
        assert_eq!(inject(&other, &message).await, Handled::Accepted);
        expected.push("d");
        assert_eq!(other.above.texts(), expected);
        // Back to what the configuration says.
        layer.reload().unwrap();
        let message = sent(&one, &[other.channel.local()], "e").await.remove(0);
        assert!(matches!(inject(&other, &message).await, Handled::Failed(_)));
    }
}

/// The bit of a layer below.
const BELOW: SendOptions = SendOptions::from_bits_retain(0x80);

#[derive(Debug)]
struct Below;

impl SyncInterceptor for Below {
    fn name(&self) -> &'static str {
        "below"
    }
    fn trigger(&self) -> SendOptions {
        BELOW
    }
    fn start(&self, link: Link) -> Result<(), tribes_core::BoxError> {
        assert!(link.triggers_below().is_empty());
        Ok(())
    }
}

#[tokio::test]
async fn options_of_layers_below_are_not_bound_and_all_others_are() {
    let start =
        || Layered::builder().layer(Encrypt::new(authenticated())).layer(Below).members(0).java_members(1).start();
    let (one, two) = (start().await, start().await);
    let mut message = sent(&one, &[two.channel.local()], "x").await.remove(0);
    message.options.toggle(SendOptions::SYNCHRONIZED_ACK);
    assert!(matches!(inject(&two, &message).await, Handled::Failed(text) if text.contains("options")));
    message.options.toggle(SendOptions::SYNCHRONIZED_ACK | BELOW);
    assert_eq!(inject(&two, &message).await, Handled::Accepted);
    assert_eq!(gauge(&two, "options_altered"), 1);
}
