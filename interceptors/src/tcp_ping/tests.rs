use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::wire::{self, FAILURE_DETECTOR_PROBE, Frame, FrameDecoder, Limits, SenderCache, TCP_PING};
use tribes_core::{
    Body, Departure, FaultKind, Handled, Inbound, Lease, Member, MemberEvent, MemberEvents, MessageId, Receipt, Route,
    SendOptions, Suspicion,
};

use super::core::{Core, Finding};
use super::{TcpPing, TcpPingConfig};
use crate::testing::{World, member, settle};

use MemberEvent::{Added, Removed, Suspected, Updated};

const SECOND: Duration = Duration::from_secs(1);

async fn world(config: TcpPingConfig) -> World {
    World::start(|builder| builder.interceptor(TcpPing::new(config))).await
}

async fn drain(events: &mut MemberEvents) -> Vec<MemberEvent> {
    settle().await;
    let mut all = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        all.extend(event);
    }
    all
}

fn hex(text: &str) -> Bytes {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/vectors/probes.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The frame of this name, and the message in it.
fn vector(name: &str) -> (Bytes, ChannelMessage) {
    let vectors = vectors();
    let entry = vectors["frames"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
    let frame = hex(entry["frame"].as_str().unwrap());
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.extend(&frame);
    let Ok(Some(Frame::Data(contents))) = decoder.next() else { panic!("{name} is no data frame") };
    (frame, wire::decode_message(&contents, &Limits::default(), &mut SenderCache::new()).unwrap())
}

/// Whether the layer takes the message for a ping; its sender is answered positively in any case.
async fn swallowed(world: &World, body: impl Into<Body>, options: SendOptions) -> bool {
    let before = world.gauge("pings_received");
    let (answer, answered) = oneshot::channel();
    let message = ChannelMessage {
        options: options | SendOptions::SYNC_ACK,
        timestamp_ms: 0,
        id: MessageId::from_array([1; 16]),
        sender: member(1),
        body: body.into(),
    };
    let receipt = Receipt::new(move |handled| drop(answer.send(handled)));
    world.below.link().receive(Inbound::new(message, receipt, Lease::none(), Route::Stream)).await.unwrap();
    let swallowed = world.gauge("pings_received") > before;
    let expected = if swallowed { Handled::Accepted } else { Handled::NoTaker };
    assert_eq!(answered.await.unwrap(), expected);
    swallowed
}

#[tokio::test(start_paused = true)]
async fn what_goes_out_is_javas_ping_byte_for_byte() {
    let (frame, known) = vector("tcp ping");
    let world = world(TcpPingConfig::default().with_ack(false)).await;
    world.below.raise(Added(member(1)));
    sleep(SECOND).await;
    settle().await;
    let taken = world.wire.taken.lock().unwrap()[0].clone();
    // With the envelope of the vector, which no two messages share.
    let ours = ChannelMessage { options: taken.options, body: Body::new(taken.body), ..known };
    let mut out = BytesMut::new();
    wire::encode_frame(&ours, &mut out);
    assert_eq!(out, frame);
}

#[tokio::test(start_paused = true)]
async fn what_java_sends_is_taken_as_java_takes_it() {
    let (_, known) = vector("tcp ping");
    let (_, probe) = vector("failure detector probe, no read test");
    let vectors = vectors();
    let cases: Vec<_> =
        vectors["receive"].as_array().unwrap().iter().filter(|case| case["interceptor"] == "ping").collect();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let bits = |key: &str| SendOptions::from_bits_retain(u32::try_from(case[key].as_u64().unwrap()).unwrap());
        let world = world(TcpPingConfig::default().with_trigger(bits("option_flag"))).await;
        let mut body = known.body.to_bytes().to_vec();
        match case["body"].as_str().unwrap() {
            "one byte longer" => body.push(0),
            "first byte changed" => body[0] ^= 1,
            _ => {}
        }
        let swallowed = swallowed(&world, body, bits("message_options")).await;
        assert_eq!(swallowed, case["passed_up"] == false, "{case}");
        // Five bytes apart.
        assert!(!self::swallowed(&world, probe.body.clone(), bits("message_options")).await);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_exact_body_is_a_ping() {
    let world = world(TcpPingConfig::default()).await;
    assert!(swallowed(&world, TCP_PING.as_slice(), SendOptions::NONE).await);
    // In pieces, as a layer below may leave it.
    let mut pieces = Body::new(&TCP_PING[..10]);
    pieces.push_trailer(&TCP_PING[10..]);
    assert!(swallowed(&world, pieces, SendOptions::BYTE_MESSAGE).await);
    for at in 0..TCP_PING.len() {
        let mut other = TCP_PING;
        other[at] ^= 0x80;
        assert!(!swallowed(&world, other.to_vec(), SendOptions::NONE).await, "byte {at}");
    }
    for other in [&TCP_PING[..63], &FAILURE_DETECTOR_PROBE, &[]] {
        assert!(!swallowed(&world, other, SendOptions::NONE).await);
    }
    assert_eq!(world.channel.stats().layers[0].up.drops["ping"], 2);
}

#[tokio::test(start_paused = true)]
async fn each_member_is_pinged_at_each_interval() {
    let world = world(TcpPingConfig::default().with_interval(2 * SECOND)).await;
    for number in 1..=3 {
        world.below.raise(Added(member(number)));
    }
    world.below.raise(Removed(member(3), Departure::Shutdown));
    let bodies = || (world.wire.bodies(1).len(), world.wire.bodies(2).len(), world.wire.bodies(3).len());
    sleep(2 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(bodies(), (0, 0, 0));
    sleep(Duration::from_millis(2)).await;
    assert_eq!(bodies(), (1, 1, 0));
    sleep(8 * SECOND).await;
    assert_eq!(bodies(), (5, 5, 0));
    let taken = world.wire.taken.lock().unwrap();
    assert!(taken.iter().all(|taken| taken.options == SendOptions::USE_ACK && taken.body == TCP_PING.as_slice()));
    assert_eq!((world.gauge("pings_sent"), world.gauge("pings_answered"), world.gauge("members")), (10, 10, 2));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_take_its_ping_gets_no_other_and_delays_nobody() {
    let world = world(TcpPingConfig::default()).await;
    for number in 1..=2 {
        world.below.raise(Added(member(number)));
    }
    // The double takes for one member after another, and gives up what it is not let: then each interval has one ping.
    world.wire.block(1);
    sleep(10 * SECOND + Duration::from_millis(1)).await;
    assert_eq!(world.wire.bodies(1).len(), 0);
    world.wire.unblock(1);
    sleep(10 * SECOND).await;
    assert!(world.wire.bodies(1).len() >= 9 && world.wire.bodies(2).len() >= 9);
    // What was not sent speaks against nobody.
    assert_eq!((world.gauge("pings_failed"), world.gauge("silent_members")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_ping_is_a_suspicion_and_not_a_flood_of_them() {
    let world = world(TcpPingConfig::default()).await;
    let mut events = world.channel.member_events();
    world.below.raise(Added(member(1)));
    world.below.raise(Added(member(2)));
    drain(&mut events).await;
    world.wire.faults.lock().unwrap().insert(1, FaultKind::AckTimeout(SECOND));
    sleep(10 * SECOND + Duration::from_millis(1)).await;
    assert_eq!(drain(&mut events).await, [Suspected(member(1), Suspicion::SendFailed)]);
    assert_eq!((world.gauge("pings_failed"), world.gauge("silent_members")), (10, 1));
    sleep(SECOND).await;
    assert_eq!(drain(&mut events).await, [Suspected(member(1), Suspicion::SendFailed)]);
    world.wire.faults.lock().unwrap().clear();
    sleep(SECOND).await;
    assert_eq!((drain(&mut events).await, world.gauge("silent_members")), (vec![], 0));
    // A full queue and a refusal are no signs of death.
    for harmless in [FaultKind::QueueFull, FaultKind::RemoteFailure(None)] {
        world.wire.faults.lock().unwrap().insert(1, harmless);
        sleep(5 * SECOND).await;
    }
    assert_eq!((drain(&mut events).await, world.gauge("pings_failed")), (vec![], 11));
}

#[cfg(feature = "tcp-failure-detector")]
#[tokio::test(start_paused = true)]
async fn a_failure_detector_below_looks_into_it() {
    use tribes_core::ProbeResult;

    use crate::TcpFailureDetector;
    let build = |builder: tribes_core::ChannelBuilder| {
        builder.interceptor(TcpPing::default()).interceptor(TcpFailureDetector::default())
    };
    let world = World::start(build).await;
    let mut events = world.channel.member_events();
    world.below.raise(Added(member(1)));
    world.below.raise(Added(member(2)));
    sleep(SECOND / 2).await;
    assert_eq!(drain(&mut events).await, [Added(member(1)), Added(member(2))]);
    // Frozen: nothing that it was sent is acknowledged, nor is it reported by anybody else.
    world.wire.faults.lock().unwrap().insert(1, FaultKind::AckTimeout(SECOND));
    world.wire.answer(1, ProbeResult::TimedOut, Duration::ZERO);
    sleep(4 * SECOND).await;
    assert_eq!(drain(&mut events).await, [Removed(member(1), Departure::Failed)]);
    let before = world.wire.bodies(1).len();
    sleep(4 * SECOND).await;
    assert_eq!(world.wire.bodies(1).len(), before, "a member that has gone is not pinged");
    // It thaws.
    world.wire.faults.lock().unwrap().clear();
    world.wire.answer(1, ProbeResult::Answered, Duration::ZERO);
    sleep(6 * SECOND).await;
    assert_eq!(drain(&mut events).await, [Added(member(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_pings_and_a_start_begins_anew() {
    let world = world(TcpPingConfig::default()).await;
    world.below.raise(Added(member(1)));
    sleep(SECOND + Duration::from_millis(1)).await;
    world.channel.stop().await;
    sleep(10 * SECOND).await;
    assert_eq!(world.wire.bodies(1).len(), 1);
    world.channel.start().await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((world.wire.bodies(1).len(), world.gauge("members")), (1, 0));
    world.below.raise(Added(member(1)));
    sleep(SECOND + Duration::from_millis(1)).await;
    assert_eq!(world.wire.bodies(1).len(), 2);
}

#[test]
fn outcomes_of_former_lives_mean_nothing() {
    let mut core = Core::default();
    let fault = FaultKind::AckTimeout(SECOND);
    core.event(&Added(member(1)));
    let [(_, first)] = core.due()[..] else { panic!() };
    assert_eq!(core.due(), [], "one at a time");
    core.event(&Removed(member(1), Departure::Failed));
    core.event(&Added(member(1)));
    assert_eq!(core.done(&member(1), first, Some(&fault)), Finding::Stale);
    assert_eq!(core.census(), (1, 0));
    // The ping goes to the newest record, and an update loses no ping that is under way.
    let [(_, second)] = core.due()[..] else { panic!() };
    let changed: Arc<Member> = Arc::new(member(1).as_ref().clone().with_payload("p"));
    core.event(&Updated(changed));
    assert_eq!(core.done(&member(1), second, Some(&fault)), Finding::Failed { report: true });
    assert_eq!(core.due()[0].0.payload(), "p");
    core.event(&Updated(member(7)));
    core.clear();
    assert_eq!((core.census(), core.due()), ((0, 0), vec![]));
}

#[test]
fn options_from_text() {
    let mut config = TcpPingConfig::default();
    assert_eq!((config.interval, config.ack, config.trigger), (SECOND, true, SendOptions::NONE));
    for (key, value) in [("interval", "250ms"), ("ack", "false"), ("trigger", "0x400")] {
        config.set(key, value).unwrap();
    }
    let expected = TcpPingConfig::default().with_interval(SECOND / 4).with_ack(false);
    assert_eq!(config, expected.with_trigger(SendOptions::from_bits_retain(0x400)));
    for (key, value) in [
        ("interval", "0s"),
        ("interval", "2h"),
        ("interval", "1"),
        ("ack", "maybe"),
        ("trigger", "x"),
        ("static_only", "true"),
    ] {
        let error = config.set(key, value).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert!(config.with_interval(Duration::ZERO).validate().is_err());
}
