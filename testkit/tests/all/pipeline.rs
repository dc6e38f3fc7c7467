//! The walk through the layers, of either form and mixed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic"
)]

use std::sync::Arc;
use std::time::Duration;

use tribes_core::error::{FaultKind, SendError};
use tribes_core::{
    Body, Departure, EventVerdict, Handled, Inbound, Interest, Layer, Lease, MemberEvent, Outbound, Receipt,
    ReceiveError, SendOptions, Verdict, WireEffect,
};
use tribes_testkit::{Answer, Call, Layered, Recorder, member, stack};

use crate::common::{A, B, FORMS, Log, Spy, three};

#[tokio::test(start_paused = true)]
async fn messages_go_down_from_the_first_layer_and_up_from_the_last_and_events_up() {
    for forms in FORMS {
        let log = Log::default();
        let stack = stack(three(&log, forms, |spy| spy)).await;
        assert_eq!(log.take()[..3], ["low start", "mid start", "top start"], "{forms}");
        stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
        let down = ["top send m true", "mid send m true", "low send m true"];
        let outcomes = ["top outcome 1/1", "mid outcome 1/1", "low outcome 1/1"];
        assert_eq!(log.take(), [&down[..], &outcomes].concat(), "{forms}");
        assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::ACK).await, Handled::Accepted);
        assert_eq!(log.take(), ["low receive m true", "mid receive m true", "top receive m true"], "{forms}");
        stack.below.remove(&member(3), Departure::Failed);
        stack.channel.view_when(|view| view.len() == 2).await;
        assert_eq!(log.take(), ["low event 3", "mid event 3", "top event 3"], "{forms}");
        stack.channel.heartbeat().await;
        assert_eq!(log.take(), ["top heartbeat", "mid heartbeat", "low heartbeat"], "{forms}");
        stack.channel.stop().await;
        assert_eq!(log.take(), ["top stop", "mid stop", "low stop"], "{forms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_not_called_on_hooks_that_it_does_not_name() {
    for forms in FORMS {
        for (interest, hook) in [
            (Interest::SEND, "send m true"),
            (Interest::RECEIVE, "receive m true"),
            (Interest::MEMBERS, "event 1"),
            (Interest::HEARTBEAT, "heartbeat"),
            (Interest::OUTCOME, "outcome 1/1"),
        ] {
            let log = Log::default();
            let stack = stack(three(&log, forms, |spy| spy.interest(interest))).await;
            stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
            stack.below.receive(&stack.members[0], "m", SendOptions::ACK).await;
            stack.channel.heartbeat().await;
            let calls = log.take();
            assert!(
                calls.iter().all(|call| call.contains(&hook[..5]) || call.ends_with("start")),
                "{interest:?} {calls:?}"
            );
            assert!(calls.contains(&format!("mid {hook}")), "{interest:?} {calls:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trigger_needs_all_its_bits() {
    for forms in FORMS {
        let log = Log::default();
        let stack =
            stack(three(&log, forms, |spy| spy.trigger(A | B).interest(Interest::SEND | Interest::RECEIVE))).await;
        log.take();
        for options in [SendOptions::ACK, A, B] {
            stack.channel.send(&stack.members[0], "m", options).await.unwrap();
            stack.below.receive(&stack.members[0], "m", options).await;
        }
        assert_eq!(log.take(), [""; 0], "{forms}");
        stack.channel.send(&stack.members[0], "m", A | B).await.unwrap();
        stack.below.receive(&stack.members[0], "m", A | B | SendOptions::ACK).await;
        assert_eq!(log.take().len(), 6);
        assert_eq!(stack.above.received().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_sees_all_is_told_whether_its_trigger_matches() {
    for forms in ["sss", "aaa", "sas"] {
        let log = Log::default();
        let interest = Interest::SEND | Interest::RECEIVE | Interest::SEES_ALL;
        let stack = stack(three(&log, forms, |spy| spy.trigger(A).interest(interest))).await;
        log.take();
        stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
        assert_eq!(log.take(), ["top send m false", "mid send m false", "low send m false"]);
        stack.channel.send(&stack.members[0], "m", A).await.unwrap();
        assert_eq!(log.take(), ["top send m true", "mid send m true", "low send m true"]);
        stack.below.receive(&stack.members[0], "m", B).await;
        stack.below.receive(&stack.members[0], "m", A).await;
        let up = log.take();
        assert!(
            up[..3].iter().all(|call| call.ends_with("m false")) && up[3..].iter().all(|call| call.ends_with("m true"))
        );
    }
}

/// `top`, a layer with this hook named `mid`, and `low`, with `forms` of the outer two and all forms of the inner one.
fn around(log: &Log, forms: &str, mid: impl Fn(Spy) -> Spy) -> Vec<Layer> {
    let interest = Interest::SEND | Interest::RECEIVE | Interest::MEMBERS;
    three(log, forms, |spy| {
        let middle = format!("{spy:?}") == "mid";
        let spy = spy.interest(interest);
        if middle { mid(spy) } else { spy }
    })
}

#[tokio::test(start_paused = true)]
async fn replace_and_many_go_on_below_in_their_order() {
    for forms in FORMS {
        let log = Log::default();
        let stack = stack(around(&log, forms, |spy| {
            spy.on_send(|out, _| {
                let whole = std::mem::replace(out, Outbound::new(out.message.clone(), &[]).0);
                let mut parts = whole.split(["a", "b", "c"].map(Body::new));
                if parts[0].message.options.contains(A) {
                    Verdict::Many(parts)
                } else {
                    Verdict::Replace(parts.remove(0))
                }
            })
            .on_receive(|msg, _| {
                let mut first = msg.message.clone();
                first.body = Body::new("first");
                let first = Inbound::new(first, std::mem::take(&mut msg.receipt), Lease::none(), msg.route);
                let second = Inbound::new(msg.message.clone(), Receipt::none(), Lease::none(), msg.route);
                if msg.message.options.contains(A) {
                    Verdict::Many(vec![first, second])
                } else {
                    Verdict::Replace(first)
                }
            })
        }))
        .await;
        log.take();
        // A part that is dropped fails its join, so replacing one of three by itself is a fault of that destination.
        let error = stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap_err();
        assert_eq!(error.faults().len(), 3, "{forms}");
        assert_eq!(log.take(), ["top send m true", "mid send m true", "low send a true"], "{forms}");
        stack.channel.send(&stack.members, "m", SendOptions::ACK | A).await.unwrap();
        let below = ["low send a true", "low send b true", "low send c true"];
        assert_eq!(log.take()[2..], below, "{forms}");
        assert_eq!(stack.below.sent().iter().map(tribes_testkit::Sent::text).collect::<String>(), "aabc");
        stack.below.receive(&stack.members[0], "m", SendOptions::ACK).await;
        stack.below.receive(&stack.members[0], "n", SendOptions::ACK | A).await;
        stack.above.wait_received(3).await;
        assert_eq!(stack.above.texts(), ["first", "first", "n"], "{forms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_message_fails_down_and_is_acknowledged_up() {
    let log = Log::default();
    let dropping = |spy: Spy| spy.on_send(|_, _| Verdict::Drop("test")).on_receive(|_, _| Verdict::Drop("test"));
    let stack = stack(around(&log, "sss", dropping)).await;
    let outcome = stack.channel.send_with(&stack.members, "m", SendOptions::ACK).await.unwrap().await;
    assert_eq!(outcome.faults.len(), 3);
    assert_eq!(outcome.faults[0].kind, FaultKind::Dropped { by: "mid", reason: "test" });
    assert!(stack.below.sent().is_empty());
    assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
    let mid = &stack.channel.stats().layers[1];
    assert_eq!((mid.down.drops["test"], mid.up.drops["test"]), (1, 1));
    assert!(stack.above.received().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_to_the_sender_in_either_direction() {
    for forms in FORMS {
        let log = Log::default();
        let refusing =
            |spy: Spy| spy.on_send(|_, _| Verdict::Refuse("no".into())).on_receive(|_, _| Verdict::Refuse("no".into()));
        let stack = stack(around(&log, forms, refusing)).await;
        let error = stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap_err();
        assert!(matches!(error, SendError::Layer { layer: "mid", .. }), "{forms}: {error}");
        let answer = stack.below.inject(stack.below.message(&stack.members[0], "m", SendOptions::SYNC_ACK)).await;
        assert!(matches!(answer.passed, Err(ReceiveError::Refused { layer: "mid", .. })));
        assert!(matches!(answer.handled().await, Handled::Failed(_)), "{forms}");
        let mid = &stack.channel.stats().layers[1];
        assert_eq!((mid.down.errors["refused"], mid.up.errors["refused"]), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_that_message_only_and_is_counted() {
    for forms in FORMS {
        let log = Log::default();
        let panicking = |spy: Spy| {
            spy.interest(Interest::all_hooks())
                .on_send(|out, _| if out.is_empty() { panic!("down") } else { Verdict::Pass })
                .on_receive(|msg, _| if msg.message.body.is_empty() { panic!("up") } else { Verdict::Pass })
                .on_event(|event| if event.member().port() == 9 { panic!("event") } else { EventVerdict::Pass })
                .on_other(|hook| panic!("{hook}"))
        };
        let stack = stack(around(&log, forms, panicking)).await;
        let error = stack.channel.send(&stack.members, "", SendOptions::ACK).await.unwrap_err();
        assert!(matches!(&error, SendError::Panicked { layer: "mid", text } if text == "down"), "{forms}: {error}");
        stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
        let answer = stack.below.receive(&stack.members[0], "", SendOptions::SYNC_ACK).await;
        assert!(matches!(answer, Handled::Failed(_)), "{forms}");
        assert_eq!(stack.below.receive(&stack.members[0], "m", SendOptions::SYNC_ACK).await, Handled::Accepted);
        // Membership goes on past a layer that panics over it.
        stack.below.add([&member(9)]);
        stack.channel.view_when(|view| view.contains(&member(9))).await;
        stack.channel.heartbeat().await;
        assert!(stack.below.calls().contains(&Call::Heartbeat));
        let mid = &stack.channel.stats().layers[1];
        assert_eq!(mid.down.errors["panicked"], 1, "{forms}");
        assert_eq!(mid.up.errors["panicked"], 2, "{forms}");
        assert_eq!(mid.down.errors["heartbeat panicked"], 1);
        assert!(mid.down.errors["outcome panicked"] >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_forgets_is_resolved_negatively() {
    for forms in FORMS {
        let log = Log::default();
        let forgetting = |spy: Spy| {
            spy.on_send(|out, _| {
                out.to.clear();
                Verdict::Pass
            })
            .on_receive(|msg, _| {
                drop(std::mem::take(&mut msg.receipt));
                Verdict::Pass
            })
        };
        let stack = stack(around(&log, forms, forgetting)).await;
        let error = stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap_err();
        assert!(matches!(error.faults()[0].kind, FaultKind::Dropped { .. }) && error.faults().len() == 3);
        assert!(matches!(stack.below.receive(&stack.members[0], "m", SendOptions::ACK).await, Handled::Failed(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_forgets_or_refuses_is_no_different() {
    let stack = stack([]).await;
    stack.below.answer_next(Answer::Forget);
    let error = stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap_err();
    assert_eq!(error.faults().len(), 3);
    stack.below.answer_next(Answer::Refuse("too large"));
    assert!(matches!(stack.channel.send(&stack.members, "m", SendOptions::ACK).await, Err(SendError::Layer { .. })));
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_split_report_once_and_the_first_fault_counts() {
    let log = Log::default();
    let splitting = |spy: Spy| {
        spy.on_send(|out, _| {
            let whole = std::mem::replace(out, Outbound::new(out.message.clone(), &[]).0);
            Verdict::Many(whole.split(["a", "b"].map(Body::new)))
        })
    };
    let stack = stack(around(&log, "sss", splitting)).await;
    stack.below.answer_next(Answer::Deliver);
    stack.below.answer_next(Answer::Fault(FaultKind::Left));
    let outcome = stack.channel.send_with(&stack.members, "m", SendOptions::ACK).await.unwrap().await;
    assert_eq!((outcome.attempted, outcome.faults.len()), (3, 3));
    let outcome = stack.channel.send_with(&stack.members, "m", SendOptions::ACK).await.unwrap().await;
    assert!(outcome.is_complete());
}

#[tokio::test(start_paused = true)]
async fn our_own_wire_effects_are_passed_by_towards_java() {
    for forms in FORMS {
        let log = Log::default();
        let ours = |spy: Spy| {
            spy.wire(WireEffect::Ours)
                .on_send(|out, _| {
                    out.message.body.push_trailer("+");
                    Verdict::Pass
                })
                .on_receive(|msg, _| {
                    drop(msg.message.body.split_trailer(1));
                    Verdict::Pass
                })
        };
        let layers = around(&log, forms, ours);
        let builder = layers.into_iter().fold(Layered::builder(), tribes_testkit::LayeredBuilder::layer);
        let stack = builder.members(2).java_members(1).start().await;
        stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
        let mut sent: Vec<_> = stack.below.sent().iter().map(|sent| (sent.text(), sent.to.len())).collect();
        sent.sort();
        assert_eq!(sent, [("m".to_owned(), 1), ("m+".to_owned(), 2)], "{forms}");
        assert_eq!(stack.below.sent().iter().find(|sent| sent.text() == "m").unwrap().to, [stack.members[2].clone()]);
        // To Java alone, the layer is not called at all; to us alone, nothing is passed by.
        log.take();
        stack.channel.send(&stack.members[2], "m", SendOptions::ACK).await.unwrap();
        assert_eq!(log.take(), ["top send m true", "low send m true"]);
        stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
        stack.below.receive(&stack.members[2], "java", SendOptions::ACK).await;
        stack.below.receive(&stack.members[0], "ours+", SendOptions::ACK).await;
        stack.above.wait_received(2).await;
        let mut texts = stack.above.texts();
        texts.sort();
        assert_eq!(texts, ["java", "ours"]);
        let mid = &stack.channel.stats().layers[1];
        assert_eq!((mid.down.passed_by, mid.up.passed_by), (2, 1), "{forms}");
        assert_eq!((mid.down.messages, mid.up.messages), (2, 1), "{forms}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_layer_is_counted_and_timed_by_itself() {
    for forms in FORMS {
        let log = Log::default();
        let stack = stack(three(&log, forms, |spy| spy)).await;
        for _ in 0..130 {
            stack.channel.send(&stack.members[0], "12345", SendOptions::ACK).await.unwrap();
            stack.below.receive(&stack.members[0], "123", SendOptions::ACK).await;
        }
        let stats = stack.channel.stats();
        let names: Vec<_> = stats.layers.iter().map(|layer| layer.name).collect();
        assert_eq!(names, ["top", "mid", "low"]);
        for layer in &stats.layers {
            assert_eq!((layer.down.messages, layer.down.bytes), (130, 650));
            assert_eq!((layer.up.messages, layer.up.bytes), (130, 390));
            // One in 64 is timed, beginning with the first.
            assert_eq!((layer.down.latency.count(), layer.up.latency.count()), (3, 3), "{forms} {}", layer.name);
            assert_eq!(layer.member_events, 3);
        }
        assert_eq!((stats.top.down.messages, stats.top.up.messages), (130, 130));
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_s_latency_is_without_those_below() {
    let layers = [Slow("slow", Duration::from_secs(2)), Slow("quick", Duration::ZERO)];
    let stack = stack(layers.map(|layer| Layer::Async(Arc::new(layer)))).await;
    stack.channel.send(&stack.members[0], "m", SendOptions::ACK).await.unwrap();
    stack.below.receive(&stack.members[0], "m", SendOptions::ACK).await;
    let stats = stack.channel.stats();
    for flow in [&stats.layers[0].down, &stats.layers[0].up] {
        assert!(flow.latency.quantile(1.0).unwrap() >= Duration::from_secs(2));
    }
    for flow in [&stats.layers[1].down, &stats.layers[1].up] {
        assert!(flow.latency.quantile(1.0).unwrap() < Duration::from_secs(1));
    }
}

/// Takes its time.
#[derive(Debug)]
struct Slow(&'static str, Duration);

#[async_trait::async_trait]
impl tribes_core::ChannelInterceptor for Slow {
    fn name(&self) -> &'static str {
        self.0
    }
    async fn send(&self, out: Outbound, next: tribes_core::Next<'_>) -> Result<(), SendError> {
        tokio::time::sleep(self.1).await;
        next.send(out).await
    }
    async fn receive(&self, msg: Inbound, next: tribes_core::Next<'_>) -> Result<(), ReceiveError> {
        tokio::time::sleep(self.1).await;
        next.receive(msg).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_stops_just_what_was_started() {
    for forms in ["sss", "aaa"] {
        let log = Log::default();
        let layers = three(&log, forms, |spy| if format!("{spy:?}") == "mid" { spy.failing() } else { spy });
        let below = Recorder::new();
        let builder = below.install(tribes_core::Channel::builder());
        let channel = layers.into_iter().fold(builder, tribes_core::ChannelBuilder::interceptor).build().unwrap();
        let error = channel.start().await.unwrap_err();
        assert!(matches!(error, tribes_core::StartError::Part { part: "mid", .. }), "{error}");
        // `mid` never began, `top` was not even asked.
        assert_eq!(log.take(), ["low start", "mid start", "low stop"], "{forms}");
        let expected = [Call::ReceiverStarted, Call::SenderStarted, Call::SenderStopped, Call::ReceiverStopped];
        assert_eq!(below.calls(), expected);
        assert!(channel.services().await.is_empty());
        assert!(channel.send(&member(1), "m", SendOptions::ACK).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_send_from_within_a_hook() {
    for forms in FORMS {
        let log = Log::default();
        let answering = |spy: Spy| {
            spy.on_receive(|msg, link| {
                // An answer of the layer's own takes the way below it only.
                let (to, link) = (Arc::clone(msg.from()), link.clone());
                let task = link.clone();
                link.spawn(async move {
                    let pending = task.post(&[to], "answer", SendOptions::ACK).await.unwrap();
                    assert!(pending.await.is_complete());
                });
                Verdict::Pass
            })
        };
        let stack = stack(around(&log, forms, answering)).await;
        log.take();
        stack.below.receive(&stack.members[0], "ask", SendOptions::ACK).await;
        stack.below.wait_sent(1).await;
        let calls = log.take();
        assert!(calls.contains(&"low send answer true".to_owned()), "{forms} {calls:?}");
        assert!(!calls.iter().any(|call| call.starts_with("top send") || call.starts_with("mid send")));
    }
}

/// Answers each message from within `receive`, and sends before it delivers.
#[derive(Debug)]
struct Echo;

#[async_trait::async_trait]
impl tribes_core::ChannelInterceptor for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    async fn receive(&self, msg: Inbound, next: tribes_core::Next<'_>) -> Result<(), ReceiveError> {
        let mut answer = msg.message.clone();
        let to = Arc::clone(msg.from());
        answer.body.push_trailer(" too");
        let (out, pending) = Outbound::new(answer, &[to]);
        next.send(out).await.unwrap();
        assert!(pending.await.is_complete());
        next.receive(msg).await
    }
}

#[tokio::test(start_paused = true)]
async fn next_sends_down_from_within_receive() {
    let stack = stack([tribes_core::IntoLayer::into_layer(Echo)]).await;
    stack.below.receive(&stack.members[0], "hello", SendOptions::ACK).await;
    assert_eq!(stack.below.sent()[0].text(), "hello too");
    assert_eq!(stack.above.texts(), ["hello"]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_swallow_events_and_raise_its_own() {
    for forms in FORMS {
        let log = Log::default();
        let filter = |spy: Spy| {
            spy.on_event(|event| if event.member().port() == 2 { EventVerdict::Swallow } else { EventVerdict::Pass })
        };
        let layers = around(&log, forms, filter);
        let builder = layers.into_iter().fold(Layered::builder(), tribes_testkit::LayeredBuilder::layer);
        let stack = builder.expect_members(2).start().await;
        stack.below.raise(MemberEvent::Updated(member(3)));
        stack.above.wait_events(3).await;
        let view: Vec<_> = stack.channel.view().members().iter().map(|member| member.port()).collect();
        assert_eq!(view, [1, 3], "{forms}");
        assert!(!log.take().contains(&"top event 2".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_multicast_goes_to_the_membership_service() {
    let log = Log::default();
    let stack = stack(three(&log, "sas", |spy| spy)).await;
    stack.channel.send(tribes_core::To::All, "m", SendOptions::MULTICAST).await.unwrap();
    let sent = stack.below.sent();
    assert!(sent[0].multicast && sent[0].to.is_empty());
    assert!(log.take().contains(&"low send m true".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_tasks_of_all_layers() {
    let stack = stack([]).await;
    let link = stack.below.link().unwrap();
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    link.spawn(async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    stack.channel.stop().await;
    assert!(weak.upgrade().is_none());
    drop(stack);
    assert!(matches!(link.post(&[member(1)], "m", SendOptions::ACK).await, Err(SendError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_member_without_our_mark_is_to_all_a_java_member_and_behaves_as_one() {
    for forms in FORMS {
        let log = Log::default();
        let layers = around(&log, forms, |spy| spy.wire(WireEffect::Ours));
        let builder = layers.into_iter().fold(Layered::builder(), tribes_testkit::LayeredBuilder::layer);
        let id = tribes_testkit::java_member(50).id();
        let stack = builder.members(2).java_members(1).configure(|builder| builder.id(id)).start().await;
        log.take();
        stack.channel.send(&stack.members, "m", SendOptions::ACK).await.unwrap();
        for member in &stack.members {
            stack.below.receive(member, "m", SendOptions::ACK).await;
        }
        stack.above.wait_received(3).await;
        let mut batch: Vec<_> =
            stack.members.iter().map(|from| stack.below.message(from, "m", SendOptions::ACK)).collect();
        for message in batch.drain(..) {
            stack.below.inject(message).await.handled().await;
        }
        let calls = log.take();
        assert!(calls.iter().any(|call| call.starts_with("low receive")), "{forms} {calls:?}");
        assert!(
            !calls.iter().any(|call| call.starts_with("mid send") || call.starts_with("mid receive")),
            "{forms} {calls:?}"
        );
        let mid = &stack.channel.stats().layers[1];
        assert_eq!((mid.down.passed_by, mid.up.passed_by), (1, 6), "{forms}");
    }
}
