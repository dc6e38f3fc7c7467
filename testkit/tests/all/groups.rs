//! Whole groups over the simulated network, with nothing but core in the stack.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::error::FaultKind;
use tribes_core::{Channel, Departure, MemberEvent, SendOptions, Services, To};
use tribes_testkit::checkers::ViewsConverge;
use tribes_testkit::net::Node;
use tribes_testkit::{RecordingListener, World, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// As many channels, started at the same time.
async fn group(world: &World, count: usize) -> (Vec<Node>, Vec<Channel>) {
    let nodes: Vec<_> = (0..count).map(|_| world.node()).collect();
    let channels: Vec<_> = nodes.iter().map(|node| node.join(Channel::builder()).build().unwrap()).collect();
    let mut starting = Vec::new();
    for channel in &channels {
        let channel = channel.clone();
        starting.push(world.env().spawn(async move { channel.start().await.unwrap() }));
    }
    for mut task in starting {
        task.ended().await;
    }
    (nodes, channels)
}

async fn converged(world: &World, channels: &[Channel], limit: Duration) {
    world.until(limit, || channels.iter().all(|channel| channel.view().len() + 1 == channels.len())).await;
    let mut checker = ViewsConverge::new();
    channels.iter().for_each(|channel| checker.channel(channel));
    checker.finish().unwrap();
}

/// Tribes' `TestGroupChannelMemberArrival`, without its five seconds.
#[test]
fn ten_channels_started_at_once_see_nine_each() {
    for seed in 0..20 {
        simulate(seed, async |world| {
            let (_nodes, channels) = group(&world, 10).await;
            converged(&world, &channels, SECOND).await;
        });
    }
}

/// Catalogue, section 3, number 22: time to join and the number of tasks stay bounded.
#[test]
fn fifty_channels_of_one_process() {
    let run = simulate(1, async |world| {
        let (_nodes, channels) = group(&world, 50).await;
        converged(&world, &channels, SECOND).await;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(tasks <= 50 * 5, "{tasks} tasks for 50 idle channels");
        channels[0].send(To::All, "hello", SendOptions::ACK).await.unwrap();
    });
    assert!(run.took < SECOND);
}

/// Catalogue, section 3, number 9 (T27-T29).
#[test]
fn a_dead_and_a_black_holed_member_delay_no_healthy_one() {
    simulate(2, async |world| {
        let (nodes, channels) = group(&world, 4).await;
        converged(&world, &channels, SECOND).await;
        let heard = RecordingListener::new();
        channels[1].listen(heard.clone()).forever();
        let (dead, cut_off) = (channels[2].local(), channels[3].local());
        let to = vec![Arc::clone(&dead), Arc::clone(&cut_off), channels[1].local()];
        nodes[2].crash();
        world.net().cut(&nodes[0], &nodes[3]);
        let begin = world.env().now();
        let pending = channels[0].send_with(to, "m", SendOptions::ACK).await.unwrap();
        heard.wait_received(1).await;
        assert!(world.env().now() - begin < Duration::from_millis(10));
        let outcome = pending.await;
        assert_eq!(world.env().now() - begin, 3 * SECOND, "the deadline is exact");
        assert!(matches!(outcome.fault_of(&dead), Some(FaultKind::Connect(_) | FaultKind::Disconnected(_))));
        assert_eq!(outcome.fault_of(&cut_off), Some(&FaultKind::AckTimeout(3 * SECOND)));
        assert_eq!(outcome.delivered(), 1);
    });
}

#[test]
fn a_changed_payload_reaches_everybody() {
    simulate(3, async |world| {
        let (_nodes, channels) = group(&world, 3).await;
        converged(&world, &channels, SECOND).await;
        channels[0].set_payload("new");
        let told =
            |at: usize| channels[at].view().find(&channels[0].local()).is_some_and(|member| member.payload() == "new");
        assert!(world.until(SECOND, || told(1) && told(2)).await);
        assert_eq!(channels[1].view().number(), 3, "two joins and an update");
    });
}

#[test]
fn datagrams_and_multicasts_go_beside_the_connections() {
    simulate(4, async |world| {
        let (_nodes, channels) = group(&world, 3).await;
        converged(&world, &channels, SECOND).await;
        let heard = [RecordingListener::new(), RecordingListener::new()];
        channels[1].listen(heard[0].clone()).forever();
        channels[2].listen(heard[1].clone()).forever();
        channels[0].send(&channels[1].local(), "datagram", SendOptions::UDP).await.unwrap();
        channels[0].send(To::All, "multicast", SendOptions::MULTICAST).await.unwrap();
        heard[0].wait_received(2).await;
        assert_eq!(heard[1].wait_received(1).await[0].text(), "multicast");
        // A datagram to nobody is as good as sent.
        let gone = channels[2].local();
        channels[2].stop().await;
        channels[0].send(&gone, "datagram", SendOptions::UDP).await.unwrap();
    });
}

/// Tribes' `testTcpMcastFail`, as far as membership alone goes: who only stops announcing itself expires, and hears on.
#[test]
fn a_member_that_stops_announcing_itself_leaves_and_may_come_back() {
    simulate(5, async |world| {
        let (_nodes, channels) = group(&world, 2).await;
        converged(&world, &channels, SECOND).await;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (mut stream, seen) = (channels[0].member_events(), Arc::clone(&events));
        world.env().spawn(async move {
            while let Some(event) = stream.next().await {
                seen.lock().unwrap().push(event);
            }
        });
        channels[1].stop_services(Services::MEMBERSHIP_TX).await;
        channels[0].view_when(|view| view.is_empty()).await;
        assert_eq!(channels[1].view().len(), 1);
        channels[1].send(&channels[0].local(), "m", SendOptions::ACK).await.unwrap();
        let removed = MemberEvent::Removed(channels[1].local(), Departure::Shutdown);
        assert!(world.until(SECOND, || events.lock().unwrap().contains(&removed)).await);
        channels[1].start().await.unwrap();
        converged(&world, &channels, SECOND).await;
    });
}
