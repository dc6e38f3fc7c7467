//! The layer in a channel between doubles, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::wire::FAILURE_DETECTOR_PROBE;
use tribes_core::{
    Body, Departure, FaultKind, Handled, Inbound, Lease, MemberEvent, MemberEvents, MemberId, ProbeResult, Receipt,
    Route, SendOptions, Services, Suspicion, SyncInterceptor,
};

use crate::testing::{World, member_of_ours as member, settle};
use crate::{TcpFailureDetector, TcpFailureDetectorConfig};

use MemberEvent::{Added, Removed, Suspected, Updated};

async fn world() -> (World, MemberEvents) {
    with(TcpFailureDetectorConfig::default()).await
}

async fn with(config: TcpFailureDetectorConfig) -> (World, MemberEvents) {
    let world = World::start(|builder| builder.interceptor(TcpFailureDetector::new(config))).await;
    let events = world.channel.member_events();
    (world, events)
}

/// The next event must be this one.
async fn expect(events: &mut MemberEvents, event: MemberEvent) {
    let next = tokio::time::timeout(Duration::from_secs(3600), events.next()).await;
    assert_eq!(next.expect("an event within an hour"), Some(event));
}

/// There must be no event for `quiet`.
async fn nothing(events: &mut MemberEvents, quiet: Duration) {
    let next = tokio::time::timeout(quiet, events.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_probed_beside_each_other() {
    let (world, mut events) = world().await;
    // A black hole among them delays nobody (T22).
    for dead in 1..=20 {
        world.wire.answer(dead, ProbeResult::TimedOut, Duration::ZERO);
    }
    let start = Instant::now();
    for number in 1..=40 {
        world.below.raise(Added(member(number)));
    }
    for number in 21..=40 {
        expect(&mut events, Added(member(number))).await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(world.wire.probed.lock().unwrap().len(), 40);
    assert_eq!((world.gauge("members"), world.gauge("unverified"), world.gauge("probes_answered")), (20, 20, 20));
    assert_eq!(world.channel.view().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_probes_at_a_time() {
    let (world, mut events) = with(TcpFailureDetectorConfig::default().with_max_probes(2)).await;
    for number in 1..=6 {
        world.wire.answer(number.into(), ProbeResult::Answered, Duration::from_millis(10));
        world.below.raise(Added(member(number)));
    }
    let start = Instant::now();
    for number in 1..=6 {
        expect(&mut events, Added(member(number))).await;
        assert_eq!(start.elapsed().as_millis(), u128::from(number.div_ceil(2)) * 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_is_removed_at_once() {
    let (world, mut events) = world().await;
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.wire.answer(1, ProbeResult::Refused, Duration::ZERO);
    let start = Instant::now();
    world.below.link().suspect(&member(1), Suspicion::ConnectionClosed);
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    // The service comes to the same end later; that is no second departure.
    world.below.raise(Removed(member(1), Departure::Expired));
    nothing(&mut events, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_process_is_found() {
    let (world, mut events) = world().await;
    for number in 1..=2 {
        world.below.raise(Added(member(number)));
        expect(&mut events, Added(member(number))).await;
        world.wire.answer(number.into(), ProbeResult::TimedOut, Duration::ZERO);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    // Silent: one probe. Only unresponsive: two.
    world.below.raise(Removed(member(1), Departure::Expired));
    world.below.raise(Suspected(member(2), Suspicion::SendFailed));
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    assert_eq!(start.elapsed().as_millis(), 1000);
    expect(&mut events, Removed(member(2), Departure::Failed)).await;
    assert_eq!(start.elapsed().as_millis(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_watched_as_long_as_it_answers() {
    let (world, mut events) = world().await;
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    world.below.raise(Removed(member(1), Departure::Expired));
    expect(&mut events, Suspected(member(1), Suspicion::Silent)).await;
    nothing(&mut events, Duration::from_secs(400)).await;
    assert!(world.channel.view().contains(&member(1)));
    assert_eq!(world.gauge("suspects"), 1);
    // The join and 300 at a pace of a second, then every five.
    let probes = world.wire.probed.lock().unwrap().len();
    assert!((315..=330).contains(&probes), "{probes}");
    world.wire.answer(1, ProbeResult::Refused, Duration::ZERO);
    let start = Instant::now();
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    assert!(start.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_lost_comes_back_with_a_heartbeat() {
    let (world, mut events) = world().await;
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.wire.answer(1, ProbeResult::Unreachable, Duration::ZERO);
    world.below.raise(Suspected(member(1), Suspicion::ConnectionClosed));
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    nothing(&mut events, Duration::from_secs(1)).await;
    world.wire.answer(1, ProbeResult::Answered, Duration::ZERO);
    let start = Instant::now();
    world.channel.heartbeat().await;
    expect(&mut events, Added(member(1))).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn faults_of_messages_count_but_not_those_of_this_side() {
    let (world, mut events) = world().await;
    for number in 1..=3 {
        world.below.raise(Added(member(number)));
        expect(&mut events, Added(member(number))).await;
        world.wire.answer(number.into(), ProbeResult::Refused, Duration::ZERO);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let probes = || world.wire.probed.lock().unwrap().len();
    for kind in [FaultKind::QueueFull, FaultKind::WouldDeadlock, FaultKind::RemoteFailure(None)] {
        world.wire.faults.lock().unwrap().insert(1, kind);
        world.channel.send(&member(1), "x", SendOptions::ACK).await.unwrap_err();
    }
    nothing(&mut events, Duration::from_secs(1)).await;
    assert_eq!(probes(), 3);
    *world.wire.faults.lock().unwrap() = [
        (1, FaultKind::AckTimeout(Duration::from_secs(3))),
        (2, FaultKind::Replaced(MemberId::ZERO)),
        (3, FaultKind::Left),
    ]
    .into();
    let members = [member(1), member(2), member(3)];
    world.channel.send(&members[..], "x", SendOptions::ACK).await.unwrap_err();
    // The second needs no probe.
    expect(&mut events, Removed(member(2), Departure::Failed)).await;
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    nothing(&mut events, Duration::from_secs(1)).await;
    assert_eq!(probes(), 4);
}

#[tokio::test(start_paused = true)]
async fn updates_and_departures_pass() {
    let (world, mut events) = world().await;
    world.below.raise(Added(member(1)));
    world.below.raise(Updated(member(2)));
    expect(&mut events, Added(member(1))).await;
    expect(&mut events, Added(member(2))).await;
    let renamed = Arc::new(member(1).as_ref().clone().with_payload("new"));
    world.below.raise(Updated(Arc::clone(&renamed)));
    expect(&mut events, Updated(renamed)).await;
    world.below.raise(Removed(member(1), Departure::Shutdown));
    expect(&mut events, Removed(member(1), Departure::Shutdown)).await;
    assert_eq!(world.wire.probed.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn probes_are_those_of_tribes() {
    let flag = SendOptions::from_bits_retain(0x80);
    for (config, options) in [
        (TcpFailureDetectorConfig::default(), Some(3)),
        (TcpFailureDetectorConfig::default().with_trigger(flag), Some(0x83)),
        (TcpFailureDetectorConfig::default().with_read_test(false), None),
    ] {
        let (world, mut events) = with(config).await;
        world.below.raise(Added(member(1)));
        expect(&mut events, Added(member(1))).await;
        let probed = world.wire.probed.lock().unwrap().pop().unwrap();
        let frame = probed.1.map(|frame| (frame.options.bits(), frame.body, frame.sender));
        let expected = options.map(|bits| (bits, Body::new(FAILURE_DETECTOR_PROBE.to_vec()), world.channel.local()));
        assert_eq!(frame, expected);
    }
}

/// Whether a message gets past the layer, and whether its sender gets a positive answer.
async fn passes(world: &World, options: u32, body: impl Into<Bytes>) -> (bool, bool) {
    let seen = Arc::new(AtomicBool::new(false));
    let _listening = world.channel.on_message({
        let seen = Arc::clone(&seen);
        move |_, _| {
            seen.store(true, Ordering::SeqCst);
            async { Ok(()) }
        }
    });
    let (answer, answered) = tokio::sync::oneshot::channel();
    let message = ChannelMessage {
        options: SendOptions::from_bits_retain(options),
        timestamp_ms: 0,
        id: tribes_core::MessageId::from_array([1; 16]),
        sender: member(1),
        body: Body::new(body),
    };
    let receipt = Receipt::new(move |handled| answer.send(handled).unwrap());
    world.below.link().receive(Inbound::new(message, receipt, Lease::none(), Route::Stream)).await.unwrap();
    let accepted = answered.await.unwrap() == Handled::Accepted;
    settle().await;
    (seen.load(Ordering::SeqCst), accepted)
}

#[tokio::test(start_paused = true)]
async fn probes_of_others_are_swallowed() {
    let probe = FAILURE_DETECTOR_PROBE.to_vec();
    let longer = [&probe[..], &[0]].concat();
    let mut changed = probe.clone();
    changed[0] ^= 1;
    let (plain, _events) = world().await;
    for options in [0, 1, 3, 7, 0x81] {
        assert_eq!(passes(&plain, options, probe.clone()).await, (false, true), "{options:#x}");
        assert_eq!(passes(&plain, options, longer.clone()).await, (true, true));
        assert_eq!(passes(&plain, options, changed.clone()).await, (true, true));
        assert_eq!(passes(&plain, options, tribes_core::wire::TCP_PING.to_vec()).await, (true, true));
    }
    assert_eq!(plain.channel.stats().layers[0].up.drops["probe"], 5);
    // With a flag of its own, only those that carry it.
    let (flagged, _events) =
        with(TcpFailureDetectorConfig::default().with_trigger(SendOptions::from_bits_retain(0x80))).await;
    assert_eq!(passes(&flagged, 0x83, probe.clone()).await, (false, true));
    assert_eq!(passes(&flagged, 3, probe).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn stopped_it_does_nothing_and_started_again_it_begins_anew() {
    let (world, mut events) = world().await;
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    world.wire.answer(2, ProbeResult::TimedOut, Duration::ZERO);
    world.below.raise(Added(member(2)));
    settle().await;
    world.channel.stop().await;
    expect(&mut events, Removed(member(1), Departure::Stopped)).await;
    world.below.raise(Added(member(3)));
    nothing(&mut events, Duration::from_secs(60)).await;
    assert_eq!((world.gauge("members"), world.gauge("unverified")), (0, 0));
    world.channel.start().await.unwrap();
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    let start = Instant::now();
    world.below.raise(Removed(member(1), Departure::Expired));
    expect(&mut events, Suspected(member(1), Suspicion::Silent)).await;
    world.wire.answer(1, ProbeResult::Refused, Duration::ZERO);
    expect(&mut events, Removed(member(1), Departure::Failed)).await;
    assert!(start.elapsed() <= Duration::from_millis(1100));
}

/// Stands above the detector; the pipeline counts what it is told.
#[derive(Debug)]
struct Above;

impl SyncInterceptor for Above {
    fn name(&self) -> &'static str {
        "above"
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_it_still_lets_members_go() {
    let world = World::start(|builder| builder.interceptor(Above).interceptor(TcpFailureDetector::default())).await;
    let told = || world.channel.stats().layers[0].member_events;
    world.below.raise(Removed(member(1), Departure::Shutdown));
    settle().await;
    assert_eq!(told(), 0);
    world.channel.stop().await;
    world.below.raise(Added(member(1)));
    world.below.raise(Removed(member(1), Departure::Stopped));
    settle().await;
    assert_eq!(told(), 1);
}

#[test]
fn options_from_text() {
    let mut config = TcpFailureDetectorConfig::default();
    for (key, value) in [
        ("trigger", "0x80"),
        ("connect_timeout", "2s"),
        ("read_test", "false"),
        ("read_test_timeout", "500ms"),
        ("remove_suspects_timeout", "1m"),
        ("recheck_interval", "3s"),
        ("max_probes", "7"),
    ] {
        config.set(key, value).unwrap();
    }
    let expected = TcpFailureDetectorConfig::default()
        .with_trigger(SendOptions::from_bits_retain(0x80))
        .with_connect_timeout(Duration::from_secs(2))
        .with_read_test(false)
        .with_read_test_timeout(Duration::from_millis(500))
        .with_remove_suspects_timeout(Duration::from_secs(60))
        .with_recheck_interval(Duration::from_secs(3))
        .with_max_probes(7);
    assert_eq!(config, expected);
    for (key, value) in [
        ("read_test", "yes"),
        ("connect_timeout", "0s"),
        ("max_probes", "0"),
        ("trigger", "fast"),
        ("recheck_interval", "5"),
    ] {
        let text = config.set(key, value).unwrap_err().to_string();
        assert!(text.starts_with(key) && text.contains(value), "{text}");
    }
    assert_eq!(config, expected);
    let text = config.set("perform_read_test", "true").unwrap_err().to_string();
    assert!(text.contains("read_test, read_test_timeout"), "{text}");
}

#[test]
fn options_out_of_bounds_are_refused() {
    for config in [
        TcpFailureDetectorConfig::default().with_max_probes(0),
        TcpFailureDetectorConfig::default().with_max_probes(usize::MAX),
        TcpFailureDetectorConfig::default().with_connect_timeout(Duration::ZERO),
    ] {
        assert!(TcpFailureDetector::new(config).check_config().is_err(), "{config:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_come_back_after_membership_alone_was_stopped_and_started() {
    let (world, mut events) = world().await;
    world.wire.answer(2, ProbeResult::Refused, Duration::ZERO);
    world.below.raise(Added(member(1)));
    expect(&mut events, Added(member(1))).await;
    world.below.raise(Added(member(2)));
    settle().await;
    for services in [Services::MEMBERSHIP, Services::MEMBERSHIP_RX] {
        world.channel.stop_services(services).await;
        expect(&mut events, Removed(member(1), Departure::Stopped)).await;
        assert!(world.channel.view().is_empty());
        // One that was not verified yet is not looked for any more.
        world.wire.answer(2, ProbeResult::Answered, Duration::ZERO);
        nothing(&mut events, Duration::from_secs(60)).await;
        assert_eq!((world.gauge("members"), world.gauge("unverified")), (0, 0));
        world.channel.start().await.unwrap();
        world.below.raise(Added(member(1)));
        expect(&mut events, Added(member(1))).await;
    }
}
