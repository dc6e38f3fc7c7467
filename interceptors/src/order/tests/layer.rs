use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tribes_core::error::FaultKind;
use tribes_core::{
    ChannelInterceptor, ChannelMessage, Delivery, Departure, Handled, Inbound, Interest, Lease, Member, MemberEvent,
    Next, Receipt, ReceiveError, Route, SendError, SendOptions,
};
use tribes_testkit::{Answer, Layered, Reaction};

use crate::order::{Order, OrderConfig};
use crate::vectors::{hex, int, list, load};

const EXPIRE: Duration = OrderConfig::EXPIRE;

async fn stack(config: OrderConfig) -> Layered {
    Layered::builder().layer(Order::new(config)).start().await
}

/// A body with its number.
fn numbered(text: &str, number: i32) -> Vec<u8> {
    [text.as_bytes(), &number.to_be_bytes()].concat()
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    let stats = stack.channel.stats();
    let layer = stats.layers.iter().find(|layer| layer.name == "order").unwrap();
    layer.gauges.iter().find(|gauge| gauge.name == name).unwrap().value
}

/// A numbered message comes from below; what its sender is told.
async fn comes(stack: &Layered, from: &Arc<Member>, text: &str, number: i32, options: SendOptions) -> Handled {
    stack.below.receive(from, numbered(text, number), options).await
}

#[tokio::test(start_paused = true)]
async fn the_bytes_are_those_of_java() {
    let vectors = load("order");
    let stack = stack(OrderConfig::default()).await;
    let [one, two, _] = stack.members.as_slice() else { panic!() };
    for body in ["first", "second", ""] {
        stack.channel.send(&[one, two].map(Arc::clone)[..], body, SendOptions::NONE).await.unwrap();
    }
    let mut expected = list(&vectors["sent_per_destination"]).iter();
    for sent in stack.below.take_sent() {
        // Both have the same number, so one message serves both.
        assert_eq!(sent.to, [Arc::clone(one), Arc::clone(two)]);
        for _ in &sent.to {
            assert_eq!(sent.message.body.to_bytes(), hex(&expected.next().unwrap()["message"]));
        }
    }
    assert!(expected.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn members_with_other_numbers_get_a_message_of_their_own() {
    let stack = stack(OrderConfig::default()).await;
    let [one, two, three] = stack.members.as_slice() else { panic!() };
    stack.channel.send(two, "a", SendOptions::NONE).await.unwrap();
    // The slow one delays nobody.
    stack.below.answer_member(one, Answer::after(Duration::from_secs(1)));
    stack.below.answer_member(two, Answer::Fault(FaultKind::QueueFull));
    let all = [one, two, three].map(Arc::clone);
    let error = stack.channel.send(&all[..], "b", SendOptions::ACK).await.unwrap_err();
    assert_eq!(error.faults().len(), 1);
    let sent = stack.below.take_sent();
    let bodies: Vec<_> = sent.iter().map(|sent| (sent.message.body.to_bytes().to_vec(), sent.to.clone())).collect();
    assert_eq!(bodies[0], (numbered("a", 1), vec![Arc::clone(two)]));
    assert_eq!(bodies[1], (numbered("b", 1), vec![Arc::clone(one), Arc::clone(three)]));
    assert_eq!(bodies[2], (numbered("b", 2), vec![Arc::clone(two)]));
    assert_eq!(bodies.len(), 3);
    // The message that found the queue full left no gap.
    stack.below.answer_member(two, Answer::As(Delivery::Acknowledged));
    stack.channel.send(&all[..], "c", SendOptions::ACK).await.unwrap();
    assert_eq!(stack.below.take_sent()[0].message.body.to_bytes(), numbered("c", 2));
}

#[tokio::test(start_paused = true)]
async fn messages_without_the_trigger_pass_as_they_are() {
    let trigger = SendOptions::from_bits_retain(0x200);
    let stack = stack(OrderConfig::default().with_trigger(trigger)).await;
    let member = &stack.members[0];
    stack.channel.send(member, "plain", SendOptions::NONE).await.unwrap();
    stack.channel.send(member, "ordered", trigger).await.unwrap();
    for (sent, expected) in stack.below.take_sent().iter().zip(list(&load("order")["option_flag_0x200"])) {
        assert_eq!(sent.message.body.to_bytes(), hex(&expected["message"]["hex"]));
        assert_eq!(i64::from(sent.message.options.bits()), int(&expected["options"]));
    }
    assert_eq!(stack.below.receive(member, "four", SendOptions::ACK).await, Handled::Accepted);
    assert_eq!(stack.below.receive(member, numbered("ordered", 1), trigger).await, Handled::Accepted);
    assert_eq!(stack.above.texts(), ["four", "ordered"]);
    // A multicast has no number; without the trigger it needs none.
    stack.channel.send(tribes_core::To::All, "x", SendOptions::MULTICAST).await.unwrap();
    let error = stack.channel.send(tribes_core::To::All, "x", SendOptions::MULTICAST | trigger).await.unwrap_err();
    assert!(matches!(&error, SendError::Unsupported(_)) && error.to_string().contains("multicast"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_early_is_acknowledged_and_waits() {
    let stack = stack(OrderConfig::default()).await;
    let [one, two, _] = stack.members.as_slice() else { panic!() };
    for number in [3, 2] {
        let text = format!("m{number}");
        assert_eq!(comes(&stack, one, &text, number, SendOptions::SYNC_ACK).await, Handled::Accepted);
    }
    // Another sender has an order of its own.
    comes(&stack, two, "other", 1, SendOptions::SYNC_ACK).await;
    assert_eq!((stack.above.texts(), gauge(&stack, "waiting_messages")), (vec!["other".to_owned()], 2));
    stack.above.react_next(Reaction::Fail("no"));
    let answer = comes(&stack, one, "m1", 1, SendOptions::SYNC_ACK).await;
    assert!(matches!(answer, Handled::Failed(_)), "its own outcome");
    stack.above.wait_received(4).await;
    assert_eq!(stack.above.texts(), ["other", "m1", "m2", "m3"]);
    assert_eq!((gauge(&stack, "held_bytes"), gauge(&stack, "waited"), gauge(&stack, "given_up")), (0, 2, 0));
}

/// T25: after a loss, silence.
#[tokio::test(start_paused = true)]
async fn a_gap_ends_without_another_message() {
    let stack = stack(OrderConfig::default()).await;
    let member = &stack.members[0];
    let begin = tokio::time::Instant::now();
    comes(&stack, member, "m2", 2, SendOptions::ACK).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    comes(&stack, member, "m4", 4, SendOptions::ACK).await;
    stack.above.wait_received(1).await;
    assert_eq!(begin.elapsed(), EXPIRE);
    assert_eq!(stack.above.texts(), ["m2"]);
    stack.above.wait_received(2).await;
    assert_eq!(begin.elapsed(), EXPIRE + Duration::from_secs(1));
    // What was given up and comes after all is refused, so that its sender knows.
    let late = comes(&stack, member, "m3", 3, SendOptions::SYNC_ACK).await;
    assert!(matches!(late, Handled::Failed(text) if text.contains("order")));
    assert_eq!((gauge(&stack, "late"), gauge(&stack, "given_up"), stack.above.count()), (1, 2, 2));
}

/// T3: Java sends a refused message again.
#[tokio::test(start_paused = true)]
async fn a_copy_is_answered_as_the_first_was() {
    let stack = stack(OrderConfig::default()).await;
    let member = &stack.members[0];
    let message = |text: &str, number| stack.below.message(member, numbered(text, number), SendOptions::SYNC_ACK);
    let again = async |message: &ChannelMessage| stack.below.inject(message.clone()).await.handled().await;
    let (good, bad, early) = (message("good", 1), message("bad", 2), message("early", 4));
    assert_eq!([again(&good).await, again(&good).await], [Handled::Accepted, Handled::Accepted]);
    stack.above.react_next(Reaction::Fail("no"));
    let first = again(&bad).await;
    assert!(matches!(first, Handled::Failed(_)));
    assert_eq!(again(&bad).await, first);
    assert_eq!([again(&early).await, again(&early).await], [Handled::Accepted, Handled::Accepted]);
    comes(&stack, member, "last", 3, SendOptions::ACK).await;
    stack.above.wait_received(4).await;
    assert_eq!(stack.above.texts(), ["good", "bad", "last", "early"]);
    // Those that ask for less are told apart by their numbers.
    let less = stack.below.message(member, numbered("less", 5), SendOptions::ACK);
    assert_eq!([again(&less).await, again(&less).await], [Handled::Accepted, Handled::Accepted]);
    assert_eq!((stack.above.count(), gauge(&stack, "duplicates")), (5, 4));
}

/// T24: only one side saw the other leave.
#[tokio::test(start_paused = true)]
async fn a_member_that_left_gives_the_rest_and_is_still_known() {
    let stack = stack(OrderConfig::default()).await;
    let member = &stack.members[0];
    for number in [1, 2, 4] {
        comes(&stack, member, &format!("m{number}"), number, SendOptions::ACK).await;
    }
    let events = stack.above.events().len();
    stack.channel.send(member, "x", SendOptions::NONE).await.unwrap();
    stack.below.remove(member, Departure::Failed);
    stack.above.wait_events(events + 1).await;
    assert_eq!(stack.above.texts(), ["m1", "m2", "m4"]);
    // It did not notice, and counts on.
    stack.below.add([member]);
    stack.above.wait_events(events + 2).await;
    comes(&stack, member, "m5", 5, SendOptions::ACK).await;
    // It did, and counts anew.
    comes(&stack, member, "again", 1, SendOptions::ACK).await;
    stack.above.wait_received(5).await;
    assert_eq!(stack.above.texts()[3..], ["m5", "again"]);
    assert_eq!(gauge(&stack, "restarts"), 1);
    // As this side does for a member that left.
    stack.channel.send(member, "y", SendOptions::NONE).await.unwrap();
    let sent: Vec<_> = stack.below.take_sent().iter().map(|sent| sent.message.body.to_bytes().to_vec()).collect();
    assert_eq!(sent, [numbered("x", 1), numbered("y", 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_number_is_refused() {
    let stack = stack(OrderConfig::default()).await;
    let member = &stack.members[0];
    for body in [&b""[..], b"abc", &numbered("x", 0), &numbered("x", 0)] {
        let answer = stack.below.receive(member, body.to_vec(), SendOptions::SYNC_ACK).await;
        assert!(matches!(answer, Handled::Failed(_)));
    }
    assert_eq!(comes(&stack, member, "", 1, SendOptions::SYNC_ACK).await, Handled::Accepted);
    assert_eq!((stack.above.texts(), gauge(&stack, "malformed")), (vec![String::new()], 4));
}

#[tokio::test(start_paused = true)]
async fn at_stop_nothing_waits_any_more() {
    let stack = stack(OrderConfig::default()).await;
    let member = &stack.members[0];
    comes(&stack, member, "m7", 7, SendOptions::ACK).await;
    comes(&stack, member, "m5", 5, SendOptions::ACK).await;
    assert_eq!(stack.above.count(), 0);
    stack.channel.stop().await;
    assert_eq!(stack.above.texts(), ["m5", "m7"]);
    // Another life begins at 1.
    stack.channel.start().await.unwrap();
    comes(&stack, member, "m1", 1, SendOptions::ACK).await;
    stack.above.wait_received(3).await;
}

/// Counts what was let go of.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_has_room_of_its_own_up_to_a_bound() {
    let stack = stack(OrderConfig::default().with_max_bytes(64 << 10)).await;
    let member = &stack.members[0];
    let freed = Arc::new(AtomicUsize::new(0));
    let comes = async |number: i32| {
        let body = numbered(&"x".repeat(10_000), number);
        let message = stack.below.message(member, body, SendOptions::NONE);
        let lease = Lease::new(Counted(Arc::clone(&freed)));
        let inbound = Inbound::new(message, Receipt::none(), lease, Route::Stream);
        stack.below.link().unwrap().receive(inbound).await.unwrap();
    };
    for number in 2..=10 {
        comes(number).await;
    }
    // Six fit; the others hold back their connection.
    assert_eq!((freed.load(Ordering::Relaxed), gauge(&stack, "held_bytes")), (6, 6 * (10_000 + 256)));
    comes(1).await;
    stack.above.wait_received(10).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((freed.load(Ordering::Relaxed), gauge(&stack, "held_bytes")), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn senders_outside_the_group_are_bounded() {
    let stack = stack(OrderConfig::default().with_max_outsiders(16)).await;
    comes(&stack, &stack.members[0], "m1", 1, SendOptions::ACK).await;
    for port in 100..1000 {
        comes(&stack, &tribes_testkit::member(port), "x", 1, SendOptions::ACK).await;
        assert!(gauge(&stack, "senders") <= 3 + 17);
    }
    // A member's order is not forgotten for them.
    comes(&stack, &stack.members[0], "m2", 2, SendOptions::ACK).await;
    stack.above.wait_received(902).await;
    assert_eq!(stack.above.texts()[901], "m2");
}

/// Each restart of a process is another member: those that have gone are not remembered without end.
#[tokio::test(start_paused = true)]
async fn members_that_have_left_are_bounded() {
    let stack = stack(OrderConfig::default().with_max_outsiders(16)).await;
    comes(&stack, &stack.members[0], "m1", 1, SendOptions::ACK).await;
    for port in 100..400 {
        let member = tribes_testkit::member(port);
        stack.below.add([&member]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        stack.below.remove(&member, Departure::Failed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(gauge(&stack, "senders") <= 3 + 17, "{} senders", gauge(&stack, "senders"));
    }
    comes(&stack, &stack.members[0], "m2", 2, SendOptions::ACK).await;
    stack.above.wait_received(2).await;
    assert_eq!(stack.above.texts(), ["m1", "m2"]);
}

/// A layer above that takes its time.
#[derive(Debug)]
struct Slow(Arc<Semaphore>);

#[async_trait]
impl ChannelInterceptor for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    fn interest(&self) -> Interest {
        Interest::RECEIVE
    }
    async fn receive(&self, msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        self.0.acquire().await.unwrap().forget();
        next.receive(msg).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_takes_no_other_message_along() {
    let gate = Arc::new(Semaphore::new(0));
    let stack = Layered::builder().layer(Slow(Arc::clone(&gate))).layer(Order::default()).start().await;
    let member = &stack.members[0];
    let (link, refused) = (stack.below.link().unwrap(), Arc::new(AtomicUsize::new(0)));
    let message = |number: i32| {
        let refused = Arc::clone(&refused);
        let receipt = Receipt::new(move |handled| {
            refused.fetch_add(usize::from(matches!(handled, Handled::Failed(_))), Ordering::Relaxed);
        });
        let message = stack.below.message(member, numbered(&format!("m{number}"), number), SendOptions::SYNC_ACK);
        Inbound::new(message, receipt, Lease::none(), Route::Stream)
    };
    // One connection delivers and is held up; what another brings meanwhile it leaves with the first.
    {
        let first = link.receive(message(1));
        tokio::pin!(first);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut first).await.is_err());
        for number in [2, 4, 3] {
            link.receive(message(number)).await.unwrap();
        }
    }
    // The first connection is gone, with the message that it was about to deliver.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    gate.add_permits(3);
    stack.above.wait_received(3).await;
    assert_eq!(stack.above.texts(), ["m2", "m3", "m4"]);
    // Nobody delivers now, and the next one finds that.
    gate.add_permits(1);
    link.receive(message(5)).await.unwrap();
    stack.above.wait_received(4).await;
    assert_eq!(refused.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_connections_at_once_end_in_order() {
    const COUNT: i32 = 20_000;
    let stack = stack(OrderConfig::default().with_max_queue(1 << 20).with_expire(Duration::from_secs(600))).await;
    let member = &stack.members[0];
    let link = stack.below.link().unwrap();
    let mut connections = Vec::new();
    for connection in 0..8 {
        let messages: Vec<_> = (1..=COUNT)
            .filter(|number| number % 8 == connection)
            .map(|number| stack.below.message(member, numbered(&number.to_string(), number), SendOptions::NONE))
            .collect();
        let up = link.clone();
        connections.push(link.env().spawn(async move {
            for message in messages {
                let inbound = Inbound::new(message, Receipt::none(), Lease::none(), Route::Stream);
                up.receive(inbound).await.unwrap();
                tokio::task::consume_budget().await;
            }
        }));
    }
    for mut connection in connections {
        connection.ended().await;
    }
    stack.above.wait_received(usize::try_from(COUNT).unwrap()).await;
    assert!(stack.above.texts().into_iter().eq((1..=COUNT).map(|number| number.to_string())));
}

#[tokio::test(start_paused = true)]
async fn other_events_pass() {
    let stack = stack(OrderConfig::default()).await;
    let before = stack.above.events().len();
    let updated = MemberEvent::Updated(Arc::new(stack.members[0].as_ref().clone().with_payload("new")));
    stack.below.raise(updated.clone());
    assert_eq!(stack.above.wait_events(before + 1).await.last(), Some(&updated));
}
