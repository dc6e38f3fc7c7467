//! Sending and listening.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes_core::error::{FaultKind, SendError};
use tribes_core::message::DecodeError;
use tribes_core::{
    BudgetConfig, Channel, ChannelListener, Delivery, Handled, Interest, Layer, Member, Message, Messages, Outbound,
    OverloadPolicy, SendOptions, To, Verdict,
};
use tribes_testkit::checkers::{ExactlyOnceInOrder, OutcomeOnce};
use tribes_testkit::{Answer, Layered, Reaction, Recorder, RecordingListener, member, simulate, stack};

use crate::common::{Log, Spy};

#[tokio::test(start_paused = true)]
async fn all_listeners_that_accept_get_it_in_the_order_of_registration() {
    struct Named(&'static str, Log);

    #[async_trait::async_trait]
    impl ChannelListener for Named {
        fn accepts(&self, message: &Message, _: &Member) -> bool {
            !message.bytes().starts_with(b"not ") || !message.bytes().ends_with(self.0.as_bytes())
        }
        async fn message_received(&self, _: Message, _: &Arc<Member>) -> Result<(), tribes_core::BoxError> {
            self.1.add(self.0);
            Ok(())
        }
    }

    let below = Recorder::new();
    let channel = below.install(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    let log = Log::default();
    let _first = channel.listen(Named("first", log.clone()));
    let second = channel.listen(Named("second", log.clone()));
    channel.listen(Named("third", log.clone())).forever();
    let receive = async |text: &'static str| {
        let handled = below.receive(&member(1), text, SendOptions::SYNC_ACK).await;
        (handled, log.take())
    };
    assert_eq!(receive("m").await, (Handled::Accepted, vec!["first".into(), "second".into(), "third".into()]));
    assert_eq!(receive("not second").await, (Handled::Accepted, vec!["first".into(), "third".into()]));
    drop(second);
    assert_eq!(receive("m").await, (Handled::Accepted, vec!["first".into(), "third".into()]));
}

#[tokio::test(start_paused = true)]
async fn nobody_s_message_is_told_apart_and_counted() {
    let stack = stack([]).await;
    stack.above.react_next(Reaction::Decline);
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::NoTaker);
    assert_eq!(stack.channel.stats().top.up.drops["no taker"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_listener_answers_negatively_and_ends_the_round() {
    let stack = stack([]).await;
    let later = RecordingListener::new();
    let _handle = stack.channel.listen(later.clone());
    for (reaction, text) in [(Reaction::Fail("no disk"), "no disk"), (Reaction::Panic("oh"), "panicked: oh")] {
        stack.above.react_next(reaction);
        let handled = stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await;
        assert_eq!(handled, Handled::Failed(text.to_owned()));
    }
    assert!(later.received().is_empty());
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    assert_eq!((later.count(), stack.above.count()), (1, 3), "each is delivered once, nothing again");
    let errors = &stack.channel.stats().top.up.errors;
    assert_eq!((errors["listener"], errors["panicked"]), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_delays_only_its_sender() {
    let stack = stack([]).await;
    stack.above.react_next(Reaction::Hold);
    let inject = async |from: usize, text: &'static str| {
        stack.below.inject(stack.below.message(&stack.members[from], text, SendOptions::SYNC_ACK)).await
    };
    let slow = inject(0, "slow").await;
    stack.above.wait_holding(1).await;
    let mut behind = inject(0, "behind").await;
    assert_eq!(inject(1, "other").await.handled().await, Handled::Accepted);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(behind.try_handled(), None);
    assert_eq!(stack.channel.stats().listener_queue, 2);
    stack.above.release();
    assert_eq!((slow.handled().await, behind.handled().await), (Handled::Accepted, Handled::Accepted));
    assert_eq!(stack.above.texts(), ["slow", "other", "behind"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_stream_holds_up_its_senders_when_full() {
    let below = Recorder::new();
    let channel = below.install(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    let mut messages = channel.messages();
    let mut answers = Vec::new();
    for number in 0..Messages::CAPACITY + 10 {
        let message = below.message(&member(1), number.to_string(), SendOptions::SYNC_ACK);
        answers.push(below.inject(message).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(answers.iter_mut().filter_map(tribes_testkit::Answered::try_handled).count(), Messages::CAPACITY);
    for number in 0..Messages::CAPACITY + 10 {
        let (message, from) = messages.next().await.unwrap();
        assert_eq!((message.bytes(), from), (&number.to_string().into(), member(1)));
    }
    drop(messages);
    assert_eq!(below.receive(&member(1), "m", SendOptions::SYNC_ACK).await, Handled::NoTaker);
}

#[tokio::test(start_paused = true)]
async fn destinations() {
    let stack = stack([]).await;
    let [a, b, c] = [0, 1, 2].map(|at| Arc::clone(&stack.members[at]));
    let outside = member(99);
    let view = stack.channel.view();
    for (to, expected) in [
        (To::All, vec![&a, &b, &c]),
        (To::from(&a), vec![&a]),
        (To::from(vec![b.clone(), a.clone(), b.clone(), a.clone()]), vec![&b, &a]),
        (To::from(&outside), vec![&outside]),
        (To::from(&[a.clone(), outside.clone()][..]), vec![&a, &outside]),
        (To::from(&*view), vec![&a, &b, &c]),
    ] {
        stack.channel.send(to, "m", SendOptions::ACK).await.unwrap();
        let sent = stack.below.take_sent();
        assert_eq!(sent.len(), 1, "a message to many enters the transport once");
        assert_eq!(sent[0].to.iter().collect::<Vec<_>>(), expected);
    }
    let nobody = stack.channel.send(Vec::new(), "m", SendOptions::ACK).await;
    assert!(matches!(nobody, Err(SendError::NoDestination)));
    let alone = Layered::builder().members(0).start().await;
    assert!(matches!(alone.channel.send(To::All, "m", SendOptions::ACK).await, Err(SendError::NoDestination)));
    assert!(matches!(alone.channel.try_send(To::All, "m", SendOptions::ACK), Err(SendError::NoDestination)));
}

#[tokio::test(start_paused = true)]
async fn faults_name_the_members_and_the_others_are_served() {
    let stack = stack([]).await;
    stack.below.answer_member(&stack.members[1], Answer::Fault(FaultKind::Connect("refused".into())));
    let error = stack.channel.send(To::All, "m", SendOptions::ACK).await.unwrap_err();
    let SendError::Faulty { attempted, faults } = &error else { panic!("{error}") };
    assert_eq!((*attempted, faults.len(), &faults[0].member), (3, 1, &stack.members[1]));
    assert!(error.is_retryable() && error.to_string().contains("127.0.0.1:2"));
}

#[tokio::test(start_paused = true)]
async fn what_a_send_waits_for_depends_on_its_options() {
    let stack = stack([]).await;
    stack.below.answer(Answer::Hold);
    let to = &stack.members[0];
    // Queued is all that `async` asks for.
    stack.channel.send(to, "m", SendOptions::ASYNC).await.unwrap();
    for options in [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK] {
        let wait = tokio::time::timeout(Duration::from_secs(9), stack.channel.send(to, "m", options));
        assert!(wait.await.is_err());
    }
    let pending = stack.channel.send_with(to, "m", SendOptions::ASYNC).await.unwrap();
    stack.below.fail_held(&FaultKind::Left);
    assert_eq!(pending.await.fault_of(to), Some(&FaultKind::Left), "its outcome comes all the same");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_no_failure() {
    let stack = stack([]).await;
    stack.below.answer(Answer::As(Delivery::NoTaker));
    let outcome = stack.channel.send_with(To::All, "m", SendOptions::SYNC_ACK).await.unwrap().await;
    assert!(outcome.is_complete());
    assert_eq!(outcome.no_taker.len(), 3);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<String>,
}

#[tokio::test(start_paused = true)]
async fn typed_messages() {
    let stack = stack([]).await;
    let order = Order { id: 7, items: vec!["tea".into()] };
    stack.channel.send_message(&stack.members[0], &order, SendOptions::ACK).await.unwrap();
    let body = stack.below.take_sent()[0].message.body.clone();
    stack.below.receive(&stack.members[0], body, SendOptions::ACK).await;
    stack.below.receive(&stack.members[0], "no MessagePack", SendOptions::ACK).await;
    let mut java = stack.below.message(&stack.members[0], "\u{ac}\u{ed}", SendOptions::ACK);
    java.options.remove(SendOptions::BYTE_MESSAGE);
    assert_eq!(stack.below.inject(java).await.handled().await, Handled::Accepted);
    let received = stack.above.received();
    assert_eq!(received[0].message.decode::<Order>().unwrap(), order);
    assert!(matches!(received[1].message.decode::<Order>(), Err(DecodeError::Mismatch { .. })));
    assert!(received[2].message.is_java_object());
    assert!(matches!(received[2].message.decode::<Order>(), Err(DecodeError::JavaObject)));
}

/// Tribes' `removeChannelListener`.
#[tokio::test(start_paused = true)]
async fn a_listener_whose_handle_is_dropped_hears_no_more() {
    let stack = stack([]).await;
    let (kept, dropped) = (RecordingListener::new(), RecordingListener::new());
    stack.channel.listen(kept.clone()).forever();
    let handle = stack.channel.listen(dropped.clone());
    stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await;
    assert_eq!((kept.received().len(), dropped.received().len()), (1, 1));
    drop(handle);
    stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await;
    assert_eq!((kept.received().len(), dropped.received().len()), (2, 1));
}

/// Tribes' `TestXByteBuffer#testEmptyArray`: there nothing comes of no bytes; here they are a body, though no value.
#[tokio::test(start_paused = true)]
async fn an_empty_body_is_a_message_but_no_value() {
    let stack = stack([]).await;
    stack.below.receive(&stack.members[0], "", SendOptions::ACK).await;
    let received = stack.above.received();
    assert!(received[0].message.bytes().is_empty());
    assert!(matches!(received[0].message.decode::<Order>(), Err(DecodeError::Mismatch { len: 0, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_message_knows_its_id_and_carries_the_byte_bit() {
    let stack = stack([]).await;
    let id = stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
    let sent = &stack.below.sent()[0];
    assert_eq!(sent.message.id, id);
    assert_eq!(sent.message.options, SendOptions::ACK | SendOptions::BYTE_MESSAGE);
    assert_eq!(sent.message.sender, stack.channel.local());
}

/// Sends `sync` to everybody from within the handling of a message and keeps the result.
async fn send_while_handling(options: SendOptions) -> (Result<Vec<FaultKind>, SendError>, usize) {
    let stack = stack([]).await;
    let result = Arc::new(Mutex::new(None));
    let (weak, kept) = (stack.channel.downgrade(), Arc::clone(&result));
    let _handle = stack.channel.on_message(move |_, _| {
        let (channel, kept) = (weak.upgrade().unwrap(), Arc::clone(&kept));
        async move {
            let sent = channel.send_with(To::All, "answer", options).await;
            let sent = match sent {
                Ok(pending) => Ok(pending.await.faults.into_iter().map(|fault| fault.kind).collect()),
                Err(error) => Err(error),
            };
            *kept.lock().unwrap() = Some(sent);
            Ok(())
        }
    });
    assert_eq!(stack.below.receive(&stack.members[0], "ask", SendOptions::SYNC_ACK).await, Handled::Accepted);
    let result = result.lock().unwrap().take().unwrap();
    (result, stack.below.sent()[0].to.len())
}

#[tokio::test(start_paused = true)]
async fn a_sync_send_back_from_within_the_handling_fails_at_once_for_that_member_only() {
    let (result, sent_to) = send_while_handling(SendOptions::SYNC_ACK).await;
    assert_eq!((result.unwrap(), sent_to), (vec![FaultKind::WouldDeadlock], 2));
    for options in [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK | SendOptions::ASYNC] {
        let (result, sent_to) = send_while_handling(options).await;
        assert_eq!((result.unwrap(), sent_to), (vec![], 3), "{options}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_send_back_by_another_task_or_another_channel_is_not_stopped() {
    let (one, two) = (stack([]).await, stack([]).await);
    let other = two.channel.clone();
    let to = Arc::clone(&one.members[0]);
    let _handle = one.channel.on_message(move |_, from| {
        let (other, to) = (other.clone(), Arc::clone(&to));
        async move {
            assert_eq!(from, to);
            other.send(&to, "m", SendOptions::SYNC_ACK).await?;
            Ok(())
        }
    });
    assert_eq!(one.below.receive(&one.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    let channel = one.channel.clone();
    let to = Arc::clone(&one.members[0]);
    tokio::spawn(async move { channel.send(&to, "m", SendOptions::SYNC_ACK).await }).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn channels_of_one_process_do_not_see_each_other() {
    let (one, two) = (stack([]).await, stack([]).await);
    one.channel.send(&one.members[0], "m", SendOptions::ACK).await.unwrap();
    one.below.receive(&one.members[0], "m", SendOptions::ACK).await;
    one.below.remove(&one.members[0], tribes_core::Departure::Failed);
    one.channel.view_when(|view| view.len() == 2).await;
    assert!(two.below.sent().is_empty() && two.above.received().is_empty());
    assert_eq!(two.channel.view().len(), 3);
    assert_ne!(one.channel.local().id(), two.channel.local().id());
    one.channel.stop().await;
    two.channel.send(&two.members[0], "m", SendOptions::ACK).await.unwrap();
}

fn small(policy: OverloadPolicy) -> BudgetConfig {
    BudgetConfig::with_total(1000).with_per_member(100).with_policy(policy)
}

#[tokio::test(start_paused = true)]
async fn try_send_refuses_when_there_is_no_room_and_sends_nothing() {
    let stack = Layered::builder().configure(|builder| builder.budget(small(OverloadPolicy::default()))).start().await;
    stack.below.answer_member(&stack.members[0], Answer::Hold);
    let begin = tokio::time::Instant::now();
    stack.channel.try_send(&stack.members[0], vec![0; 100], SendOptions::ACK).unwrap().on_complete(|_| {});
    let full = stack.channel.try_send(To::All, "m", SendOptions::ACK);
    assert!(matches!(full, Err(SendError::Full)));
    assert_eq!(stack.below.sent().len(), 1);
    let other = stack.channel.try_send(&stack.members[1], "m", SendOptions::ACK).unwrap();
    assert!(other.await.is_complete());
    stack.below.release();
    let pending = stack.channel.try_send(To::All, "m", SendOptions::ACK).unwrap();
    stack.below.release();
    assert!(pending.await.is_complete());
    assert_eq!((begin.elapsed(), stack.channel.stats().budget_used), (Duration::ZERO, 0));
    assert!(stack.below.sent().iter().all(|sent| !sent.may_wait));
}

#[tokio::test(start_paused = true)]
async fn try_send_through_a_layer_that_waits_is_full() {
    #[derive(Debug)]
    struct Waits;

    #[async_trait::async_trait]
    impl tribes_core::ChannelInterceptor for Waits {
        fn name(&self) -> &'static str {
            "waits"
        }
        async fn send(&self, out: Outbound, next: tribes_core::Next<'_>) -> Result<(), SendError> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            next.send(out).await
        }
    }

    let stack = stack([Layer::Async(Arc::new(Waits))]).await;
    assert!(matches!(stack.channel.try_send(To::All, "m", SendOptions::ACK), Err(SendError::Full)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stack.below.sent().is_empty());
    stack.channel.send(To::All, "m", SendOptions::ACK).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_once_and_is_no_fault_of_the_member() {
    let stack = Layered::builder().configure(|builder| builder.budget(small(OverloadPolicy::default()))).start().await;
    stack.below.answer_member(&stack.members[0], Answer::Hold);
    let send = async || {
        let begin = tokio::time::Instant::now();
        let pending = stack.channel.send_with(To::All, vec![0; 60], SendOptions::ACK).await.unwrap();
        (pending, begin.elapsed().as_millis())
    };
    let (first, waited) = send().await;
    assert_eq!(waited, 0);
    for expected in [200, 0, 0] {
        let (pending, waited) = send().await;
        let outcome = pending.await;
        assert_eq!((waited, outcome.delivered()), (expected, 2));
        assert_eq!(outcome.faults[0].kind, FaultKind::QueueFull);
        assert!(!outcome.faults[0].kind.speaks_against_member());
    }
    stack.below.release();
    assert!(first.await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn outcomes_come_to_layers_first_and_once() {
    let log = Log::default();
    let stack = stack([Spy::new("spy", &log).interest(Interest::OUTCOME).sync()]).await;
    log.take();
    stack.below.answer_member(&stack.members[2], Answer::after(Duration::from_secs(1)));
    let (told, after) = (log.clone(), log.clone());
    let pending = stack.channel.send_with(To::All, "m", SendOptions::ACK).await.unwrap();
    pending.on_complete(move |outcome| told.add(format!("callback {}", outcome.delivered())));
    assert_eq!(log.take(), [""; 0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(after.take(), ["spy outcome 3/3", "callback 3"]);
    // A refused message has its outcome, too.
    stack.below.answer_next(Answer::Refuse("no"));
    stack.channel.send(To::All, "m", SendOptions::ACK).await.unwrap_err();
    assert_eq!(log.take(), ["spy outcome 0/3"]);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_ends_in_an_outcome() {
    let log = Log::default();
    let waiting = Spy::new("spy", &log).interest(Interest::OUTCOME | Interest::SEND).on_send(|_, _| Verdict::Pass);
    let budget = small(OverloadPolicy::Wait(Duration::from_secs(10)));
    let stack = Layered::builder().layer(waiting.sync()).configure(|builder| builder.budget(budget)).start().await;
    stack.below.answer(Answer::Hold);
    stack.channel.send_with(&stack.members[0], vec![0; 100], SendOptions::ACK).await.unwrap().on_complete(|_| {});
    let wait = stack.channel.send(&stack.members[0], "m", SendOptions::ACK);
    assert!(tokio::time::timeout(Duration::from_secs(1), wait).await.is_err());
    assert!(log.take().contains(&"spy outcome 0/1".to_owned()));
    assert_eq!(stack.below.held(), 1);
}

/// What upstream never tested first of all (catalogue, section 3, number 1): Tribes loses the order (T2).
#[test]
fn ten_thousand_messages_arrive_in_order() {
    simulate(42, async |world| {
        let (one, two) =
            (world.join(Channel::builder()).build().unwrap(), world.join(Channel::builder()).build().unwrap());
        one.start().await.unwrap();
        let mut messages = two.messages();
        two.start_and_wait(1, Duration::from_secs(5)).await.unwrap();
        let options = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::ASYNC];
        let mut checker = ExactlyOnceInOrder::new();
        let mut outcomes = OutcomeOnce::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (number, options) in (0..10_000u64).zip(options.iter().cycle()) {
            checker.sent("one", "two", number);
            let pending = one.send_with(&two.local(), number.to_be_bytes().to_vec(), *options).await.unwrap();
            outcomes.accepted(pending.id());
            let seen = Arc::clone(&seen);
            pending.on_complete(move |outcome| seen.lock().unwrap().push(outcome));
            while let Ok(Some((message, _))) = tokio::time::timeout(Duration::ZERO, messages.next()).await {
                checker.received("one", "two", u64::from_be_bytes(message.bytes()[..].try_into().unwrap()));
            }
        }
        while checker.arrived() < 10_000 {
            let (message, _) = messages.next().await.unwrap();
            checker.received("one", "two", u64::from_be_bytes(message.bytes()[..].try_into().unwrap()));
        }
        world.sleep(Duration::from_secs(5)).await;
        seen.lock().unwrap().iter().for_each(|outcome| outcomes.outcome(outcome));
        assert_eq!((checker.finish().unwrap(), outcomes.finish().unwrap()), (10_000, 10_000));
        assert_eq!(one.stats().budget_used, 0);
    });
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_the_extension_trailer_is_not_for_applications() {
    let stack = stack([]).await;
    // What looks like a trailer without entries would be cut off where it is received.
    let body = b"body\0\0\0\x01TRSX";
    let options = SendOptions::ACK | SendOptions::EXTENSION | SendOptions::from_bits_retain(0x0200_0000);
    let to = &stack.members[0];
    stack.channel.send(to, &body[..], options).await.unwrap();
    stack.channel.send_with(to, &body[..], options).await.unwrap().await.into_result().unwrap();
    stack.channel.send_opaque(to, &body[..], options).await.unwrap().await.into_result().unwrap();
    stack.channel.try_send(to, &body[..], options).unwrap().await.into_result().unwrap();
    stack.channel.send_message(to, "typed", options).await.unwrap();
    let sent = stack.below.sent();
    assert_eq!(sent.len(), 5);
    for sent in sent {
        let options = sent.message.options - SendOptions::BYTE_MESSAGE;
        assert_eq!(options, SendOptions::ACK | SendOptions::from_bits_retain(0x0200_0000));
    }
}
