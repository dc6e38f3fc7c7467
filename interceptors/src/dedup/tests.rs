use std::sync::Arc;
use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::{ChannelMessage, Departure, Handled, Member, MessageId, SendOptions};
use tribes_testkit::{Layered, Reaction, member};

use super::{Dedup, DedupConfig};

async fn stack(config: DedupConfig) -> Layered {
    Layered::builder().layer(Dedup::new(config)).start().await
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    stack.channel.stats().layers[0].gauges.iter().find(|gauge| gauge.name == name).unwrap().value
}

/// The message `number` of `from`.
fn message(stack: &Layered, from: &Arc<Member>, number: u64, options: SendOptions) -> ChannelMessage {
    let mut message = stack.below.message(from, number.to_string(), options);
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    message.id = MessageId::from_array(id);
    message
}

async fn comes(stack: &Layered, from: &Arc<Member>, number: u64) -> Handled {
    stack.below.inject(message(stack, from, number, SendOptions::SYNC_ACK)).await.handled().await
}

#[tokio::test(start_paused = true)]
async fn each_message_passes_once_for_each_sender() {
    let stack = stack(DedupConfig::default()).await;
    let [one, two, _] = stack.members.as_slice() else { panic!() };
    for (from, number) in [(one, 1), (one, 2), (one, 1), (two, 1), (two, 1), (one, 2)] {
        assert_eq!(comes(&stack, from, number).await, Handled::Accepted);
    }
    assert_eq!(stack.above.texts(), ["1", "2", "1"]);
    assert_eq!((gauge(&stack, "duplicates"), gauge(&stack, "remembered")), (3, 3));
    let layer = &stack.channel.stats().layers[0];
    assert_eq!(layer.up.drops.get("duplicate"), Some(&3));
    // A member that left may still have something under way twice.
    stack.below.remove(one, Departure::Failed);
    stack.above.wait_events(4).await;
    assert_eq!(comes(&stack, one, 1).await, Handled::Accepted);
    assert_eq!(stack.above.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_hears_what_the_first_heard() {
    let stack = stack(DedupConfig::default()).await;
    let from = &stack.members[0];
    stack.above.react_next(Reaction::Fail("no"));
    let first = comes(&stack, from, 1).await;
    assert!(matches!(first, Handled::Failed(_)));
    assert_eq!(comes(&stack, from, 1).await, first);
    stack.above.react_next(Reaction::Decline);
    assert_eq!([comes(&stack, from, 2).await, comes(&stack, from, 2).await], [Handled::NoTaker, Handled::NoTaker]);
    // While the listener is at it, the copy waits.
    stack.above.react_next(Reaction::Hold);
    let first = stack.below.inject(message(&stack, from, 3, SendOptions::SYNC_ACK)).await;
    stack.above.wait_holding(1).await;
    let mut copy = stack.below.inject(message(&stack, from, 3, SendOptions::SYNC_ACK)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(copy.try_handled(), None);
    stack.above.release();
    assert_eq!([first.handled().await, copy.handled().await], [Handled::Accepted, Handled::Accepted]);
    assert_eq!(stack.above.texts(), ["1", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_bounded_in_time_and_entries() {
    let config = DedupConfig::default().with_window(Duration::from_secs(10)).with_max_entries(16);
    let stack = stack(config).await;
    let from = &stack.members[0];
    comes(&stack, from, 0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    comes(&stack, from, 0).await;
    assert_eq!(stack.above.count(), 1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    comes(&stack, from, 0).await;
    assert_eq!(stack.above.count(), 2);
    for number in 1..=16 {
        comes(&stack, from, number).await;
    }
    assert_eq!((gauge(&stack, "remembered"), gauge(&stack, "crowded_out")), (16, 1));
    comes(&stack, from, 0).await;
    assert_eq!(stack.above.count(), 19);
    // The heartbeat forgets what nobody else would.
    tokio::time::sleep(Duration::from_secs(11)).await;
    stack.channel.heartbeat().await;
    assert_eq!(gauge(&stack, "remembered"), 0);
}

#[tokio::test(start_paused = true)]
async fn many_senders_share_what_there_is() {
    let config = DedupConfig::default().with_max_total(1024).with_max_outsiders(16);
    let stack = stack(config).await;
    let from = &stack.members[0];
    for number in 0..2000 {
        comes(&stack, from, number).await;
        assert!(gauge(&stack, "remembered") <= 1024 + 32);
    }
    for port in 100..1000 {
        for number in 0..2 {
            comes(&stack, &member(port), number).await;
        }
        assert!(gauge(&stack, "senders") <= 3 + 17, "{}", gauge(&stack, "senders"));
        assert!(gauge(&stack, "remembered") <= 1024 + 32, "{}", gauge(&stack, "remembered"));
    }
    // Whoever makes up senders does not make a member forgotten.
    let before = stack.above.count();
    comes(&stack, from, 1999).await;
    assert_eq!(stack.above.count(), before);
    tokio::time::sleep(Duration::from_secs(61)).await;
    stack.channel.heartbeat().await;
    assert_eq!((gauge(&stack, "senders"), gauge(&stack, "remembered")), (3, 0));
}

#[test]
fn options_from_text() {
    let mut config = DedupConfig::default();
    for (key, value) in [("window", "5m"), ("max_entries", "100"), ("max_total", "2048"), ("max_outsiders", "20")] {
        config.set(key, value).unwrap();
    }
    let expected = DedupConfig::default()
        .with_window(Duration::from_secs(300))
        .with_max_entries(100)
        .with_max_total(2048)
        .with_max_outsiders(20);
    assert_eq!(config, expected);
    for (key, value) in [("window", "1ms"), ("max_entries", "1"), ("max_total", "many"), ("max_outsiders", "99999999")]
    {
        let error = config.set(key, value).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("must be"), "{error}");
    }
    assert_eq!(config, expected);
    assert!(config.set("entries", "1").unwrap_err().to_string().contains("known: window"));
}
