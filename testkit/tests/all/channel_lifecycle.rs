//! Building, starting and stopping a channel, in whole and in parts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tribes_core::error::{BuildFault, SendError, StartError};
use tribes_core::{
    BudgetConfig, Channel, ChannelBuilder, Departure, Handled, Interest, MemberEvent, MemberId, SendOptions, Services,
};
use tribes_testkit::{Answer, Call, Layered, Reaction, Recorder, RecordingListener, member, stack};

use crate::common::{A, B, Log, Spy};

const SECOND: Duration = Duration::from_secs(1);

fn channel(below: &Recorder) -> Channel {
    below.install(Channel::builder()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn starting_and_stopping_twice_does_nothing() {
    let below = Recorder::new();
    let channel = channel(&below);
    channel.start().await.unwrap();
    let once = below.calls();
    channel.start().await.unwrap();
    assert_eq!(below.calls(), once);
    assert_eq!(channel.services().await, Services::all());
    channel.stop().await;
    let stopped = below.calls();
    channel.stop().await;
    assert_eq!(below.calls(), stopped);
    assert!(channel.services().await.is_empty());
}

/// Tribes' `testFalseOption`: flags that name no service. Here such bits cannot be written; read from elsewhere they name none.
#[tokio::test(start_paused = true)]
async fn naming_no_service_starts_and_stops_nothing() {
    let below = Recorder::new();
    let channel = channel(&below);
    let none = Services::from_bits_truncate(0xF0);
    for _ in 0..2 {
        channel.start_services(none).await.unwrap();
        assert!(below.calls().is_empty() && channel.services().await.is_empty());
    }
    channel.start().await.unwrap();
    channel.stop_services(none).await;
    assert_eq!(channel.services().await, Services::all());
}

/// Tribes' `heartbeat` and `heartbeatSleeptime`; a partial stop does not end it (T21).
#[tokio::test(start_paused = true)]
async fn it_beats_at_its_interval_as_long_as_anything_runs() {
    for (every, beats) in [(Some(5 * SECOND), 4), (Some(SECOND), 20), (None, 0)] {
        let below = Recorder::new();
        let channel = below.install(Channel::builder()).heartbeat(every).build().unwrap();
        let count = || below.calls().iter().filter(|call| **call == Call::Heartbeat).count();
        channel.start().await.unwrap();
        channel.stop_services(Services::MEMBERSHIP_TX).await;
        tokio::time::sleep(20 * SECOND + SECOND / 2).await;
        assert_eq!(count(), beats, "{every:?}");
        channel.stop().await;
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(count(), beats, "{every:?}, stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn parts_start_once_in_their_order_and_stop_in_reverse() {
    let below = Recorder::new();
    let channel = channel(&below);
    channel.start_services(Services::MEMBERSHIP | Services::SENDER | Services::RECEIVER).await.unwrap();
    channel.stop().await;
    let lifecycle = |call: &Call| !matches!(call, Call::LocalUpdated(_));
    let calls: Vec<_> = below.calls().into_iter().filter(lifecycle).collect();
    let expected = [
        Call::ReceiverStarted,
        Call::SenderStarted,
        Call::MembershipStarted(Services::MEMBERSHIP),
        Call::MembershipStopped(Services::MEMBERSHIP),
        Call::SenderStopped,
        Call::ReceiverStopped,
    ];
    assert_eq!(calls, expected);
}

/// Tribes restarts what is running (T20), and fails when all that is asked for runs.
#[tokio::test(start_paused = true)]
async fn a_partial_start_leaves_alone_what_runs() {
    let below = Recorder::new();
    let channel = channel(&below);
    channel.start_services(Services::RECEIVER).await.unwrap();
    let local = channel.local();
    channel.start_services(Services::RECEIVER | Services::MEMBERSHIP_RX).await.unwrap();
    channel.start_services(Services::RECEIVER | Services::MEMBERSHIP_RX).await.unwrap();
    channel.start_services(Services::RECEIVER).await.unwrap();
    assert_eq!(channel.local(), local, "one incarnation as long as anything runs");
    assert_eq!(channel.services().await, Services::RECEIVER | Services::MEMBERSHIP_RX);
    assert!(matches!(channel.send(&member(1), "m", SendOptions::ACK).await, Err(SendError::NotStarted)));
    channel.start().await.unwrap();
    let count = |call: &Call| below.calls().iter().filter(|known| *known == call).count();
    assert_eq!((count(&Call::ReceiverStarted), count(&Call::SenderStarted)), (1, 1));
    assert_eq!(count(&Call::MembershipStarted(Services::MEMBERSHIP_RX)), 1);
    assert_eq!(count(&Call::MembershipStarted(Services::MEMBERSHIP_TX)), 1);
    channel.send(&member(1), "m", SendOptions::ACK).await.unwrap();
}

/// In Tribes any partial stop ends the heartbeat and what the layers have of the channel (T21).
#[tokio::test(start_paused = true)]
async fn a_partial_stop_leaves_the_rest_running() {
    let log = Log::default();
    let stack = stack([Spy::new("spy", &log).interest(Interest::HEARTBEAT | Interest::SEND).sync()]).await;
    stack.channel.stop_services(Services::MEMBERSHIP_TX).await;
    assert_eq!(stack.channel.services().await, Services::all() - Services::MEMBERSHIP_TX);
    log.take();
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(log.take(), ["spy heartbeat", "spy heartbeat"]);
    stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    stack.channel.stop_services(Services::SENDER).await;
    assert!(matches!(stack.channel.send(&stack.members, "m", SendOptions::ACK).await, Err(SendError::Stopped)));
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    stack.channel.start_services(Services::SENDER).await.unwrap();
    stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
    assert!(!log.take().contains(&"spy stop".to_owned()), "layers stop with the last service");
    stack.channel.stop().await;
    assert_eq!(log.take(), ["spy stop"]);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(log.take(), [""; 0], "no heartbeat after `stop`");
}

#[tokio::test(start_paused = true)]
async fn membership_needs_the_receiver() {
    let below = Recorder::new();
    let channel = channel(&below);
    for services in [Services::MEMBERSHIP_RX, Services::MEMBERSHIP_TX | Services::SENDER] {
        assert!(matches!(channel.start_services(services).await, Err(StartError::NoReceiver)));
    }
    assert!(below.calls().is_empty());
    assert!(channel.services().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_part_that_does_not_start_stops_the_others_and_may_be_tried_again() {
    for (part, count) in [("receiver", 0), ("sender", 1), ("membership", 2)] {
        let log = Log::default();
        let below = Recorder::new();
        below.fail_start(part, true);
        let channel = below.install(Channel::builder()).interceptor(Spy::new("spy", &log).sync()).build().unwrap();
        let error = channel.start().await.unwrap_err();
        assert!(matches!(error, StartError::Part { part: named, .. } if named == part), "{error}");
        let stops = [Call::SenderStopped, Call::ReceiverStopped];
        assert_eq!(below.calls().iter().filter(|call| stops.contains(call)).count(), count, "{part}");
        let expected: &[&str] = if part == "membership" { &["spy start", "spy stop"] } else { &[] };
        assert_eq!(log.take(), expected, "{part}");
        below.fail_start(part, false);
        channel.start().await.unwrap();
        channel.send(&member(1), "m", SendOptions::ACK).await.unwrap();
    }
}

#[test]
fn the_builder_reports_everything_at_once() {
    let log = Log::default();
    let layer = |name, bits| Spy::new(name, &log).trigger(SendOptions::from_bits_retain(bits)).sync();
    let error = Channel::builder()
        .interceptor(layer("one", 0x200))
        .interceptor(layer("one", 0x02))
        .interceptor(layer("two", 0x08))
        .budget(BudgetConfig::with_total(0))
        .heartbeat(Duration::ZERO)
        .build()
        .unwrap_err();
    let faults: Vec<_> = error.faults().iter().map(std::mem::discriminant).collect();
    assert_eq!(faults.len(), 8, "{error}");
    let text = error.to_string();
    for part in
        ["no sender", "no receiver", "no membership", "budget", "heartbeat", "one stands in the stack twice", "two"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn option_check_makes_shared_triggers_an_error() {
    let log = Log::default();
    let build = |check, first, second| {
        Recorder::new()
            .install(Channel::builder())
            .interceptor(Spy::new("first", &log).trigger(first).sync())
            .interceptor(Spy::new("second", &log).trigger(second).sync())
            .option_check(check)
            .build()
    };
    assert!(build(false, A, A).is_ok());
    assert!(build(true, A, B).is_ok());
    assert!(build(true, SendOptions::empty(), SendOptions::empty()).is_ok());
    // Sharing one bit is enough: a message for the one then switches the other half-way.
    for (first, second) in [(A, A), (A, A | B), (A | B, B)] {
        let error = build(true, first, second).unwrap_err();
        assert!(matches!(&error.faults()[0], BuildFault::SharedTrigger { upper: "first", lower: "second", .. }));
    }
}

#[test]
fn tribes_own_bits_are_reserved() {
    let log = Log::default();
    let build = |name, bits| {
        let spy = Spy::new(name, &log).trigger(SendOptions::from_bits_retain(bits));
        Recorder::new().install(Channel::builder()).interceptor(spy.sync()).build()
    };
    for bit in 0..7 {
        assert!(matches!(&build("mine", 1 << bit).unwrap_err().faults()[0], BuildFault::ReservedTrigger { .. }));
    }
    assert!(build("mine", 0x0100_0000).is_err(), "the mark of the extension trailer");
    for bits in [0x80, 0x200, 0x8000, 0x0200_0000] {
        assert!(build("mine", bits).is_ok());
    }
    assert!(build("message-dispatch", 0x08).is_ok());
    assert!(build("message-dispatch", 0x48).is_err());
}

#[tokio::test(start_paused = true)]
async fn before_the_start_and_after_the_stop_sends_say_so() {
    let below = Recorder::new();
    let channel = channel(&below);
    let send = async || channel.send(&member(1), "m", SendOptions::ACK).await;
    assert!(matches!(send().await, Err(SendError::NotStarted)));
    assert!(matches!(channel.try_send(member(1), "m", SendOptions::ACK), Err(SendError::NotStarted)));
    channel.start().await.unwrap();
    send().await.unwrap();
    channel.stop().await;
    assert!(matches!(send().await, Err(SendError::Stopped)));
    channel.start().await.unwrap();
    send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restarted_channel_is_another_member_unless_its_id_is_fixed() {
    let below = Recorder::new();
    let channel = channel(&below);
    channel.start().await.unwrap();
    let first = channel.local();
    assert!(first.id().is_ours());
    assert_eq!(first.addr().unwrap().port(), 4000);
    channel.stop().await;
    channel.start().await.unwrap();
    assert_ne!(channel.local().id(), first.id());
    assert!(channel.local().id().is_ours());

    let id = MemberId::from_bytes([7; 16]);
    let fixed = below.install(Channel::builder()).id(id).build().unwrap();
    for _ in 0..2 {
        fixed.start().await.unwrap();
        assert_eq!(fixed.local().id(), id);
        fixed.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn payload_and_domain_are_announced_and_survive_a_restart() {
    let below = Recorder::new();
    let channel = below.install(Channel::builder()).payload("p").domain("d").build().unwrap();
    channel.start().await.unwrap();
    assert_eq!((channel.local().payload(), channel.local().domain()), (&"p".into(), &"d".into()));
    channel.set_payload("new");
    let announced = |call: &Call| matches!(call, Call::LocalUpdated(local) if local.payload() == "new");
    below.wait_call(announced).await;
    channel.stop().await;
    channel.start().await.unwrap();
    assert_eq!(channel.local().payload(), "new");
    assert!(!channel.local().is_leaving());
}

#[tokio::test(start_paused = true)]
async fn start_and_wait_says_how_many_came_and_leaves_the_channel_running() {
    let below = Recorder::new();
    let channel = channel(&below);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { channel.start_and_wait(2, 3 * SECOND).await.map(|view| view.len()) }
    });
    below.wait_call(|call| matches!(call, Call::MembershipStarted(_))).await;
    below.add([&member(1)]);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, StartError::TooFewMembers { seen: 1, wanted: 2, .. }), "{error}");
    below.add([&member(2)]);
    assert_eq!(channel.start_and_wait(2, SECOND).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn stop_lets_listeners_finish_within_the_drain_time() {
    let stack = Layered::builder().configure(|builder| builder.drain(2 * SECOND)).start().await;
    stack.above.react(Reaction::Hold);
    let message = |text: &str| stack.below.message(&stack.members[0], text.to_owned(), SendOptions::SYNC_ACK);
    let first = stack.below.inject(message("first")).await;
    stack.above.wait_holding(1).await;
    stack.above.react(Reaction::Take);
    let second = stack.below.inject(message("second")).await;
    let stopping = tokio::spawn({
        let channel = stack.channel.clone();
        async move { channel.stop().await }
    });
    tokio::time::sleep(SECOND).await;
    assert!(!stopping.is_finished());
    stack.above.release();
    stopping.await.unwrap();
    assert_eq!((first.handled().await, second.handled().await), (Handled::Accepted, Handled::Accepted));
    assert_eq!(stack.channel.stats().listener_queue, 0);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_returns_is_given_up_at_the_deadline() {
    let stack = Layered::builder().configure(|builder| builder.drain(2 * SECOND)).start().await;
    stack.above.react(Reaction::Hold);
    let mut answers = Vec::new();
    for number in 0..5 {
        let message = stack.below.message(&stack.members[0], number.to_string(), SendOptions::SYNC_ACK);
        answers.push(stack.below.inject(message).await);
    }
    stack.above.wait_holding(1).await;
    let begin = tokio::time::Instant::now();
    stack.channel.stop().await;
    assert_eq!(begin.elapsed(), 2 * SECOND);
    for answer in answers {
        assert!(matches!(answer.handled().await, Handled::Failed(_)));
    }
    // What was given up does not hold up the next stop.
    assert_eq!(stack.channel.stats().listener_queue, 0);
    stack.above.react(Reaction::Take);
    stack.channel.start().await.unwrap();
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    let begin = tokio::time::Instant::now();
    stack.channel.stop().await;
    assert!(begin.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn stop_fails_what_the_transport_still_holds() {
    let stack = stack([]).await;
    stack.below.answer(Answer::Hold);
    let pending = stack.channel.send_with(&stack.members, "m", SendOptions::ACK).await.unwrap();
    assert!(stack.channel.stats().budget_used > 0);
    stack.channel.stop().await;
    let outcome = pending.await;
    assert!(outcome.faults.iter().all(|fault| fault.kind == tribes_core::error::FaultKind::Stopped));
    assert_eq!((outcome.faults.len(), stack.channel.stats().budget_used), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn members_are_gone_after_the_listening_half_stopped() {
    let stack = stack([]).await;
    stack.channel.stop_services(Services::MEMBERSHIP_RX).await;
    stack.channel.view_when(|view| view.is_empty()).await;
    let events = stack.above.wait_events(6).await;
    assert!(events[3..].iter().all(|event| matches!(event, MemberEvent::Removed(_, Departure::Stopped))));
    stack.channel.start().await.unwrap();
    stack.below.add(&stack.members);
    stack.channel.view_when(|view| view.len() == 3).await;
    stack.channel.stop().await;
    stack.channel.view_when(|view| view.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn many_starts_and_stops_at_once_end_well() {
    let below = Recorder::new();
    let channel = channel(&below);
    let mut tasks = Vec::new();
    for number in 0..20 {
        let channel = channel.clone();
        tasks.push(tokio::spawn(async move {
            if number % 2 == 0 { channel.start().await.unwrap() } else { channel.stop().await }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let count = |wanted: &Call| below.calls().iter().filter(|call| *call == wanted).count();
    assert!(count(&Call::ReceiverStarted) - count(&Call::ReceiverStopped) <= 1);
    channel.start().await.unwrap();
    channel.send(&member(1), "m", SendOptions::ACK).await.unwrap();
}

/// Ends when it is dropped, and is counted.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_everything() {
    let log = Log::default();
    let ended = Arc::new(AtomicUsize::new(0));
    let below = Recorder::new();
    // A layer that wants outcomes, and messages without one: they must not keep the channel alive.
    let builder: ChannelBuilder = below.install(Channel::builder()).interceptor(Spy::new("spy", &log).sync());
    let channel = builder.build().unwrap();
    let listener = RecordingListener::new();
    listener.react(Reaction::Hold);
    channel.listen(listener.clone()).forever();
    let counted = Counted(Arc::clone(&ended));
    channel
        .on_message(move |_, _| {
            let _ = &counted;
            std::future::ready(Ok(()))
        })
        .forever();
    channel.start().await.unwrap();
    let mut messages = channel.messages();
    let mut events = channel.member_events();
    below.answer(Answer::Hold);
    let pending = channel.send_with(&member(1), "m", SendOptions::ACK).await.unwrap();
    let handling = below.inject(below.message(&member(1), "m", SendOptions::SYNC_ACK)).await;
    listener.wait_holding(1).await;
    let task = Counted(Arc::clone(&ended));
    below.link().unwrap().spawn(async move {
        std::future::pending::<()>().await;
        drop(task);
    });
    let weak = channel.downgrade();
    let clone = channel.clone();
    drop(channel);
    assert!(weak.upgrade().is_some());
    drop(clone);
    assert!(weak.upgrade().is_none());
    let soon = Duration::from_secs(1);
    assert!(tokio::time::timeout(soon, messages.next()).await.unwrap().is_none());
    assert!(tokio::time::timeout(soon, events.next()).await.unwrap().is_none());
    assert!(matches!(handling.handled().await, Handled::Failed(_)));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ended.load(Ordering::SeqCst), 2, "the listener and the task are gone");
    assert!(below.link().unwrap().local().is_none());
    drop((pending, below));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_channel_leaves_no_task_behind() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..20 {
        let stack = stack([]).await;
        stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await;
        stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
    }
    // The heartbeat notices at its next turn.
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn stop_from_within_a_listener_stops_the_channel() {
    let below = Recorder::new();
    let channel = channel(&below);
    let weak = channel.downgrade();
    channel
        .on_message(move |_, _| {
            let channel = weak.upgrade();
            async move {
                channel.unwrap().stop().await;
                Ok(())
            }
        })
        .forever();
    channel.start().await.unwrap();
    let _answer = below.inject(below.message(&member(1), "m", SendOptions::SYNC_ACK)).await;
    below.wait_call(|call| *call == Call::ReceiverStopped).await;
    tokio::time::sleep(10 * SECOND).await;
    assert!(channel.services().await.is_empty());
    channel.start().await.unwrap();
    channel.send(&member(1), "m", SendOptions::ACK).await.unwrap();
}

/// Looks into a newcomer for a while, as a failure detector does.
#[derive(Debug)]
struct Verifies;

#[async_trait::async_trait]
impl tribes_core::ChannelInterceptor for Verifies {
    fn name(&self) -> &'static str {
        "verifies"
    }
    async fn member_event(&self, event: MemberEvent, next: tribes_core::Next<'_>) {
        tokio::time::sleep(SECOND).await;
        next.member_event(event).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_is_being_verified_while_membership_stops_does_not_stay_in_the_view() {
    let stack = Layered::builder().layer(Verifies).members(1).start().await;
    for services in [Services::MEMBERSHIP, Services::all()] {
        stack.below.add([&member(8), &member(9)]);
        tokio::task::yield_now().await;
        stack.channel.stop_services(services).await;
        tokio::time::sleep(10 * SECOND).await;
        assert!(stack.channel.view().is_empty(), "{services:?}: {:?}", stack.channel.view());
        stack.channel.start().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_stop_reaches_no_listener() {
    let stack = stack([]).await;
    stack.channel.stop().await;
    let answer = stack.below.inject(stack.below.message(&stack.members[0], "late", SendOptions::SYNC_ACK)).await;
    assert!(answer.passed.is_err());
    assert!(matches!(answer.handled().await, Handled::Failed(text) if text.contains("stopped")));
    stack.channel.start().await.unwrap();
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    assert_eq!(stack.above.texts(), ["m"]);
}

#[tokio::test(start_paused = true)]
async fn made_up_senders_make_no_tasks_without_end() {
    let stack = stack([]).await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for number in 0..20_000 {
        stack.below.receive(&member(number), "m", SendOptions::SYNC_ACK).await;
    }
    let now = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(now - before < 3000, "{} tasks", now - before);
    assert_eq!(stack.above.count(), 20_000);
}

/// Panics in its start or its stop.
#[derive(Debug)]
struct Clumsy(&'static str);

impl tribes_core::SyncInterceptor for Clumsy {
    fn name(&self) -> &'static str {
        "clumsy"
    }
    fn start(&self, _: tribes_core::Link) -> Result<(), tribes_core::BoxError> {
        assert_ne!(self.0, "start", "clumsy");
        Ok(())
    }
    fn stop(&self) {
        assert_ne!(self.0, "stop", "clumsy");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_in_start_or_stop_leaves_no_part_running() {
    let below = Recorder::new();
    let channel = below.install(Channel::builder()).interceptor(Clumsy("start")).build().unwrap();
    assert!(matches!(channel.start().await, Err(StartError::Part { part: "clumsy", .. })));
    assert!(channel.services().await.is_empty() && below.calls().contains(&Call::ReceiverStopped));

    let below = Recorder::new();
    let channel = below.install(Channel::builder()).interceptor(Clumsy("stop")).build().unwrap();
    channel.start().await.unwrap();
    channel.stop().await;
    assert!(channel.services().await.is_empty() && below.calls().contains(&Call::ReceiverStopped));
    channel.start().await.unwrap();
}
