//! The layer in a channel between doubles, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::wire::{self, Frame, FrameDecoder, Limits, STATIC_MEMBER_START, STATIC_MEMBER_STOP, SenderCache};
use tribes_core::{
    Body, Departure, FaultKind, Handled, Inbound, Lease, Member, MemberEvent, MemberEvents, MessageId, ProbeResult,
    Receipt, Route, SendOptions, Services,
};

use crate::testing::{World, member, settle};
use crate::{StaticMember, StaticMembers, StaticMembersConfig};

use MemberEvent::{Added, Removed};

const RETRY: Duration = StaticMembersConfig::RETRY_INTERVAL;

fn config(members: impl IntoIterator<Item = u16>) -> StaticMembersConfig {
    let members = members.into_iter().map(|number| {
        let member = member(number);
        StaticMember::new(member.to_string()).unwrap().with_id(member.id())
    });
    StaticMembersConfig::default().with_members(members)
}

async fn world(config: StaticMembersConfig) -> World {
    let world = World::start(|builder| builder.interceptor(StaticMembers::new(config))).await;
    settle().await;
    world
}

fn ports(world: &World) -> Vec<i32> {
    world.channel.view().members().iter().map(|member| member.port()).collect()
}

async fn drain(events: &mut MemberEvents) -> Vec<MemberEvent> {
    settle().await;
    let mut all = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        all.extend(event);
    }
    all
}

/// What the sender of this message is answered.
async fn receive(world: &World, sender: &Arc<Member>, body: impl Into<Body>, options: SendOptions) -> Handled {
    let (answer, answered) = oneshot::channel();
    let message = ChannelMessage {
        options,
        timestamp_ms: 0,
        id: MessageId::from_array([1; 16]),
        sender: Arc::clone(sender),
        body: body.into(),
    };
    let receipt = Receipt::new(move |handled| drop(answer.send(handled)));
    world.below.link().receive(Inbound::new(message, receipt, Lease::none(), Route::Stream)).await.unwrap();
    answered.await.unwrap()
}

fn hex(text: &str) -> Bytes {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The frame of this name in the vectors, and the message in it.
fn vector(name: &str) -> (Bytes, ChannelMessage) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/vectors/probes.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let entry = vectors["frames"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
    let frame = hex(entry["frame"].as_str().unwrap());
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(&frame);
    let Ok(Some(Frame::Data(contents))) = decoder.next() else { panic!("{name} is no data frame") };
    (frame, wire::decode_message(&contents, &Limits::default(), &mut SenderCache::new()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn notices_are_javas_byte_for_byte() {
    let world = world(config([1])).await;
    world.channel.stop().await;
    let taken = world.wire.taken.lock().unwrap().clone();
    let names = ["static member start", "static member stop"];
    assert_eq!(taken.len(), names.len());
    for (taken, name) in taken.into_iter().zip(names) {
        let (frame, known) = vector(name);
        // With the envelope of the vector, which no two messages share.
        let ours = ChannelMessage { options: taken.options, body: Body::new(taken.body), ..known };
        let mut out = BytesMut::new();
        wire::encode_frame(&ours, &mut out);
        assert_eq!(out, frame);
    }
}

#[tokio::test(start_paused = true)]
async fn javas_notices_are_understood() {
    let (_, start) = vector("static member start");
    let (_, stop) = vector("static member stop");
    let sender = Arc::clone(&start.sender);
    let listed = StaticMember::new(sender.to_string()).unwrap().with_id(sender.id());
    let world = world(StaticMembersConfig::default().with_members([listed])).await;
    let mut events = world.channel.member_events();
    drain(&mut events).await;
    assert_eq!(receive(&world, &sender, stop.body, stop.options).await, Handled::Accepted);
    assert_eq!(drain(&mut events).await, [Removed(Arc::clone(&sender), Departure::Shutdown)]);
    assert_eq!(receive(&world, &sender, start.body, start.options).await, Handled::Accepted);
    assert_eq!(drain(&mut events).await, [Added(sender)]);
}

#[tokio::test(start_paused = true)]
async fn members_are_there_without_any_service() {
    let world = World::start(|builder| builder.interceptor(StaticMembers::new(config([1, 2])))).await;
    world.channel.stop().await;
    world.wire.taken.lock().unwrap().clear();
    world.channel.start_services(Services::RECEIVER | Services::SENDER).await.unwrap();
    settle().await;
    assert_eq!(ports(&world), [1, 2]);
    assert_eq!((world.wire.bodies(1), world.wire.bodies(2)), (start_notice(), start_notice()));
    world.channel.stop().await;
    settle().await;
    assert!(ports(&world).is_empty(), "whoever starts again is not to find the old group");
}

fn start_notice() -> Vec<Bytes> {
    vec![Bytes::from_static(STATIC_MEMBER_START)]
}

#[tokio::test(start_paused = true)]
async fn only_the_exact_text_is_a_notice_whatever_its_options() {
    let trigger = SendOptions::from_bits_retain(0x400);
    let world = world(config([1]).with_trigger(trigger)).await;
    assert_eq!(world.wire.taken.lock().unwrap()[0].options, trigger);
    for options in [0, 1, 0x400, 0x401] {
        let options = SendOptions::from_bits_retain(options);
        assert_eq!(receive(&world, &member(1), STATIC_MEMBER_START.as_slice(), options).await, Handled::Accepted);
        for other in [&STATIC_MEMBER_START[1..], b"local StaticMember Notification Data", b""] {
            assert_eq!(receive(&world, &member(1), other, options).await, Handled::NoTaker);
        }
    }
    assert_eq!(world.channel.stats().layers[0].up.drops["notice"], 4);
    // In pieces, and of somebody else: nothing happens.
    let mut pieces = Body::new(&STATIC_MEMBER_STOP[..7]);
    pieces.push_trailer(&STATIC_MEMBER_STOP[7..]);
    assert_eq!(receive(&world, &member(5), pieces, SendOptions::NONE).await, Handled::Accepted);
    assert_eq!((ports(&world), world.gauge("notices_of_strangers")), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_left_comes_back() {
    let world = world(config([1, 2])).await;
    let mut events = world.channel.member_events();
    drain(&mut events).await;
    world.wire.answer(1, ProbeResult::Refused, Duration::ZERO);
    receive(&world, &member(1), STATIC_MEMBER_STOP.as_slice(), SendOptions::NONE).await;
    assert_eq!(drain(&mut events).await, [Removed(member(1), Departure::Shutdown)]);
    sleep(3 * RETRY).await;
    assert_eq!(drain(&mut events).await, []);
    assert!(world.wire.probed.lock().unwrap().iter().all(|(port, frame, _)| *port == 1 && frame.is_none()));
    world.wire.answer(1, ProbeResult::Connected, Duration::ZERO);
    sleep(RETRY).await;
    assert_eq!(drain(&mut events).await, [Added(member(1))]);
    assert_eq!(world.wire.bodies(1).len(), 2, "it is greeted again");
    assert_eq!((world.gauge("members"), world.gauge("members_gone")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_only_those_out_of_reach_are_not_told() {
    let world = world(config([])).await;
    world.channel.stop().await;
    let world = World::start(|builder| builder.interceptor(StaticMembers::new(config([1, 2])))).await;
    world.wire.faults.lock().unwrap().insert(2, FaultKind::Connect("refused".to_owned()));
    world.channel.stop().await;
    world.channel.start().await.unwrap();
    settle().await;
    world.wire.taken.lock().unwrap().clear();
    world.channel.stop().await;
    let stop = vec![Bytes::from_static(STATIC_MEMBER_STOP)];
    assert_eq!((world.wire.bodies(1), world.wire.bodies(2)), (stop, vec![]));
}

#[cfg(feature = "tcp-failure-detector")]
#[tokio::test(start_paused = true)]
async fn a_failure_detector_above_finds_out_who_is_there() {
    use crate::TcpFailureDetector;
    let build = |builder: tribes_core::ChannelBuilder| {
        builder.interceptor(TcpFailureDetector::default()).interceptor(StaticMembers::new(config([1, 2])))
    };
    let world = World::start(build).await;
    // Raised in the start of the layer below, and not lost by the one above.
    settle().await;
    assert_eq!(ports(&world), [1, 2]);
    let mut events = world.channel.member_events();
    drain(&mut events).await;
    // Probes of a member keep some distance.
    sleep(RETRY / 2).await;
    world.wire.answer(1, ProbeResult::Refused, Duration::ZERO);
    world.below.link().suspect(&member(1), tribes_core::Suspicion::ConnectionClosed);
    // Of a member that is not ours a good-bye might come yet.
    sleep(Duration::from_millis(25)).await;
    assert_eq!(drain(&mut events).await, [Removed(member(1), Departure::Failed)]);
    sleep(20 * RETRY + RETRY / 2).await;
    assert_eq!(drain(&mut events).await, []);
    // It says that it is there: it is, at once.
    world.wire.answer(1, ProbeResult::Answered, Duration::ZERO);
    receive(&world, &member(1), STATIC_MEMBER_START.as_slice(), SendOptions::NONE).await;
    assert_eq!(drain(&mut events).await, [Added(member(1))]);
}

#[test]
fn options_from_text() {
    let mut config = StaticMembersConfig::default();
    let id = member(1).id();
    config.set("members", &format!("127.0.0.1:4000@{id}+[::1]:4001+node-3:4002")).unwrap();
    config.set("retry_interval", "1s").unwrap();
    config.set("trigger", "0x400").unwrap();
    let texts: Vec<_> = config.members.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [format!("127.0.0.1:4000@{id}"), "[::1]:4001".into(), "node-3:4002".into()]);
    let wrong =
        ["+", "node", "node:0", "node:65536", ":4000", "::1:4000", "[::1:4000", "[x]:1", "a b:1", "a:1+", "a:1@01"];
    for (key, value) in wrong.map(|value| ("members", value)).into_iter().chain([
        ("retry_interval", "0s"),
        ("retry_interval", "2h"),
        ("trigger", "x"),
        ("member", "a:1"),
    ]) {
        let error = config.set(key, value).unwrap_err().to_string();
        assert!(error.contains(key), "{value}: {error}");
    }
    assert_eq!(config.members.len(), 3);
    let many = vec![StaticMember::new("a:1").unwrap(); StaticMembersConfig::MAX_MEMBERS + 1];
    assert!(config.clone().with_members(many).validate().is_err());
    assert!(config.with_retry_interval(Duration::ZERO).validate().is_err());
}
