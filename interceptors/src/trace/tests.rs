use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::wire::ExtensionKind;
use tribes_core::{Channel, Env, IntoLayer, MessageId, SendOptions};
use tribes_testkit::{Layered, simulate, stack};

use super::core::Recent;
use super::{Trace, TraceConfig, TraceContext};
use crate::testing::Written;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn parent() -> TraceContext {
    PARENT.parse().unwrap()
}

#[test]
fn text_form() {
    assert_eq!(parent().to_string(), PARENT);
    assert!(parent().is_sampled());
    let not_sampled: TraceContext = PARENT.replace("-01", "-00").parse().unwrap();
    assert!(!not_sampled.is_sampled());
    // A later version may have more, and is written as the one that we know.
    let later: TraceContext = format!("cc{}-what-the-future-holds", &PARENT[2..]).parse().unwrap();
    assert_eq!(later, parent());
    for wrong in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902\u{20ac}-01",
    ] {
        assert!(wrong.parse::<TraceContext>().is_err(), "{wrong}");
    }
}

#[test]
fn binary_form() {
    let bytes = parent().encode();
    assert_eq!(TraceContext::decode(&bytes), Some(parent()));
    for len in 0..bytes.len() {
        assert_eq!(TraceContext::decode(&bytes[..len]), None);
    }
    let mut longer = bytes.to_vec();
    longer.push(7);
    assert_eq!(TraceContext::decode(&longer), None);
    longer[0] = 1;
    assert_eq!(TraceContext::decode(&longer), Some(parent()));
    longer[0] = 0xFF;
    assert_eq!(TraceContext::decode(&longer), None);
    assert_eq!(TraceContext::decode(&[0; 26]), None);
}

#[test]
fn a_child_is_of_the_same_trace() {
    let env = Env::real();
    let child = parent().child(&env);
    assert_eq!((child.trace_id(), child.is_sampled()), (parent().trace_id(), true));
    assert_ne!(child.span_id(), parent().span_id());
    assert_ne!(TraceContext::fresh(&env).trace_id(), TraceContext::fresh(&env).trace_id());
}

#[test]
fn memory_is_bounded() {
    let mut recent = Recent::default();
    let id = |number: u8| MessageId::from_array([number; 16]);
    for number in 0..10 {
        recent.remember(&id(number), parent(), 3);
        recent.remember(&id(number), parent(), 3);
    }
    for number in 0..10 {
        assert_eq!(recent.get(&id(number)).is_some(), number >= 7);
    }
    recent.remember(&id(11), parent(), 0);
    assert_eq!(recent.get(&id(11)), None);
}

#[test]
fn options_from_text() {
    let mut config = TraceConfig::default();
    config.set("begin", "false").unwrap();
    config.set("remember", "5").unwrap();
    assert_eq!((config.begin, config.remember), (false, 5));
    for (key, wrong) in [("begin", "maybe"), ("remember", "-1"), ("remember", "1048577"), ("source", "x")] {
        assert!(config.set(key, wrong).is_err(), "{key}={wrong}");
    }
    assert!(config.with_remember(1 << 21).validate().is_err());
}

fn gauge(stack: &Layered, name: &str) -> u64 {
    stack.channel.stats().layers[0].gauges.iter().find(|gauge| gauge.name == name).unwrap().value
}

/// The context in a message that left the stack, and the message without it.
fn carried(sent: &tribes_testkit::Sent) -> (Option<TraceContext>, String) {
    let mut message = sent.message.clone();
    let entry = message.take_extension(ExtensionKind::TRACE);
    assert!(!message.options.contains(SendOptions::EXTENSION));
    let body = String::from_utf8(message.body.to_bytes().to_vec()).unwrap();
    (entry.map(|entry| TraceContext::decode(&entry).unwrap()), body)
}

#[tokio::test(start_paused = true)]
async fn our_own_nodes_get_the_context_and_java_members_do_not() {
    let stack = Layered::builder().layer(Trace::default()).members(2).java_members(1).start().await;
    let send = stack.channel.send(&stack.members[..], "hello", SendOptions::ACK);
    parent().scope(send).await.unwrap();
    let sent = stack.below.sent();
    assert_eq!(sent.len(), 2);
    for sent in sent {
        let (context, body) = carried(&sent);
        assert_eq!(body, "hello");
        let ours = sent.to.iter().all(|member| member.id().is_ours());
        assert_eq!(context.map(|context| *context.trace_id()), ours.then(|| *parent().trace_id()));
        assert!(context.is_none_or(|context| context.span_id() != parent().span_id()));
        assert_eq!(sent.to.len(), if ours { 2 } else { 1 });
    }
    assert_eq!((gauge(&stack, "continued"), gauge(&stack, "begun")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_multicast_carries_nothing() {
    let stack = stack([Trace::default().into_layer()]).await;
    parent().scope(stack.channel.send(&stack.members[..], "x", SendOptions::MULTICAST)).await.unwrap();
    let sent = stack.below.sent();
    assert!(sent[0].multicast);
    assert_eq!(carried(&sent[0]), (None, "x".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_context_comes_from_the_task_or_the_source_or_is_made() {
    let source: fn() -> _ = || "00-11111111111111111111111111111111-2222222222222222-00".parse().ok();
    for (config, in_scope, expected) in [
        (TraceConfig::default().with_source(source), true, Some("4bf92f3577b34da6a3ce929d0e0e4736")),
        (TraceConfig::default().with_source(source), false, Some("11111111111111111111111111111111")),
        (TraceConfig::default().with_begin(false), false, None),
        (TraceConfig::default().with_begin(false), true, Some("4bf92f3577b34da6a3ce929d0e0e4736")),
    ] {
        let stack = stack([Trace::new(config).into_layer()]).await;
        let send = stack.channel.send(&stack.members[0], "x", SendOptions::ACK);
        if in_scope {
            parent().scope(send).await.unwrap()
        } else {
            send.await.unwrap()
        };
        let (context, _) = carried(&stack.below.sent()[0]);
        assert_eq!(context.map(|context| context.to_string()[3..35].to_owned()).as_deref(), expected);
    }
    let stack = stack([Trace::default().into_layer()]).await;
    for _ in 0..2 {
        stack.channel.send(&stack.members[0], "x", SendOptions::ACK).await.unwrap();
    }
    let contexts: Vec<_> = stack.below.sent().iter().map(|sent| carried(sent).0.unwrap()).collect();
    assert_ne!(contexts[0].trace_id(), contexts[1].trace_id());
    assert_eq!(gauge(&stack, "begun"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_received_is_clean_and_remembered() {
    let layer = Arc::new(Trace::default());
    let stack = Layered::builder().layer(Arc::clone(&layer)).java_members(1).start().await;
    let mut message = stack.below.message(&stack.members[0], "hello", SendOptions::SYNC_ACK);
    message.add_extension(ExtensionKind::new(0x9999), "of a layer that is not here").unwrap();
    message.add_extension(ExtensionKind::TRACE, parent().encode().to_vec()).unwrap();
    let id = message.id.clone();
    stack.below.inject(message.clone()).await.handled().await;
    let received = &stack.above.received()[0];
    assert_eq!(
        (received.text(), received.message.options()),
        ("hello".into(), SendOptions::SYNC_ACK | SendOptions::BYTE_MESSAGE)
    );
    let context = layer.context_of(&id).unwrap();
    assert_eq!(context.trace_id(), parent().trace_id());
    assert_ne!(context.span_id(), parent().span_id());
    // A Java member's bit means something else, or nothing: its bytes are left alone.
    message.sender = Arc::clone(&stack.members[3]);
    let body = message.body.to_bytes();
    stack.below.inject(message).await.handled().await;
    assert_eq!(stack.above.received()[1].message.bytes(), &body);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_entry_is_left_out() {
    let layer = Arc::new(Trace::default());
    let stack = Layered::builder().layer(Arc::clone(&layer)).start().await;
    for entry in [vec![], vec![0; 26], vec![1; 25], vec![0xFF; 26]] {
        let mut message = stack.below.message(&stack.members[0], "hello", SendOptions::SYNC_ACK);
        message.add_extension(ExtensionKind::TRACE, entry).unwrap();
        let id = message.id.clone();
        stack.below.inject(message).await.handled().await;
        assert_eq!(layer.context_of(&id), None);
    }
    assert_eq!(stack.above.texts(), ["hello"; 4]);
    assert_eq!(gauge(&stack, "malformed"), 4);
}

#[test]
fn a_trace_goes_on_from_hop_to_hop_with_a_span_for_each() {
    let lines = Written::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("off,tribes::trace=info")
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NEW)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    simulate(1, async |world: tribes_testkit::World| {
        let mut channels = Vec::new();
        for _ in 0..3 {
            let trace = Arc::new(Trace::default());
            let channel = world.join(Channel::builder()).interceptor(Arc::clone(&trace)).build().unwrap();
            channels.push((channel, trace));
        }
        let heard = Arc::new(Mutex::new(None));
        let [first, second, third] = &channels[..] else { panic!("three") };
        let (forward, to, trace) = (second.0.clone(), third.0.clone(), Arc::clone(&second.1));
        second
            .0
            .on_message(move |message, _| {
                let (forward, to, trace) = (forward.clone(), to.clone(), Arc::clone(&trace));
                async move {
                    let to = to.local();
                    let send = forward.send(&to, message.bytes().clone(), SendOptions::ACK);
                    trace.context_of(message.id()).unwrap().scope(send).await?;
                    Ok(())
                }
            })
            .forever();
        let (hear, trace) = (Arc::clone(&heard), Arc::clone(&third.1));
        third
            .0
            .on_message(move |message, _| {
                *hear.lock().unwrap() = trace.context_of(message.id());
                async { Ok(()) }
            })
            .forever();
        for (channel, _) in &channels {
            channel.start().await.unwrap();
        }
        world.sleep(Duration::from_secs(2)).await;
        parent().scope(first.0.send(&second.0.local(), "x", SendOptions::SYNC_ACK)).await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        let heard = heard.lock().unwrap().unwrap();
        assert_eq!(heard.trace_id(), parent().trace_id());
    });
    let text = lines.text();
    let field = |line: &str, name: &str| {
        let start = line.rfind(&format!("{name}=")).unwrap() + name.len() + 1;
        line[start..].split([' ', '}']).next().unwrap().to_owned()
    };
    // Four hops, each the child of the one before.
    let hops: Vec<_> = text.lines().filter(|line| line.contains("trace_id=")).collect();
    assert_eq!(hops.len(), 4, "{text}");
    let mut expected = "00f067aa0ba902b7".to_owned();
    for (hop, kind) in hops.iter().zip(["send{", "receive{", "send{", "receive{"]) {
        assert!(hop.contains(kind), "{hop}");
        assert_eq!(
            (field(hop, "trace_id"), field(hop, "parent_id")),
            ("4bf92f3577b34da6a3ce929d0e0e4736".into(), expected)
        );
        expected = field(hop, "span_id");
    }
}
