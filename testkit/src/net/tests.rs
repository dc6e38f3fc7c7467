//! The network as channels see it.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::error::{FaultKind, SendError};
use tribes_core::member::{Departure, Suspicion};
use tribes_core::{BudgetConfig, Channel, ChannelSender, MemberEvent, OverloadPolicy, ProbeResult, SendOptions};

use super::*;
use crate::checkers::{ExactlyOnceInOrder, ViewsConverge};
use crate::{Reaction, RecordingListener, World, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// A channel at `node`, started, and what it hears.
async fn start(node: &Node) -> (Channel, RecordingListener) {
    let channel = node.join(Channel::builder()).build().unwrap();
    let listener = RecordingListener::new();
    channel.listen(listener.clone()).forever();
    channel.listen_members(listener.clone()).forever();
    channel.start().await.unwrap();
    (channel, listener)
}

async fn pair(world: &World) -> ([Node; 2], [Channel; 2], [RecordingListener; 2]) {
    let nodes = [world.node(), world.node()];
    let ((a, heard_a), (b, heard_b)) = (start(&nodes[0]).await, start(&nodes[1]).await);
    a.view_when(|view| view.len() == 1).await;
    b.view_when(|view| view.len() == 1).await;
    // They connect eagerly.
    world.sleep(Duration::from_millis(10)).await;
    assert!(nodes[0].sender().is_connected(&b.local()) && nodes[1].sender().is_connected(&a.local()));
    (nodes, [a, b], [heard_a, heard_b])
}

fn fault(result: Result<tribes_core::MessageId, SendError>) -> FaultKind {
    result.unwrap_err().faults()[0].kind.clone()
}

#[test]
fn each_acknowledgement_means_what_it_says() {
    simulate(1, async |world| {
        let (_, [a, b], [_, heard]) = pair(&world).await;
        heard.react(Reaction::Hold);
        let to = b.local();
        for options in [SendOptions::NONE, SendOptions::ACK] {
            a.send(&to, "x", options).await.unwrap();
        }
        let sync = a.send_with(&to, "x", SendOptions::SYNC_ACK).await.unwrap();
        heard.wait_holding(1).await;
        heard.react(Reaction::Take);
        heard.release();
        assert!(sync.await.is_complete());
        heard.react_next(Reaction::Fail("no"));
        assert_eq!(fault(a.send(&to, "x", SendOptions::SYNC_ACK).await), FaultKind::RemoteFailure(Some("no".into())));
        heard.react_next(Reaction::Fail("no"));
        a.send(&to, "x", SendOptions::ACK).await.unwrap();
        heard.react_next(Reaction::Decline);
        let outcome = a.send_with(&to, "x", SendOptions::SYNC_ACK).await.unwrap().await;
        assert_eq!((outcome.is_complete(), outcome.no_taker.len()), (true, 1));
        assert_eq!(outcome.no_taker[0], to);
    });
}

#[test]
fn order_is_kept_while_delays_vary() {
    simulate(2, async |world| {
        let (_, [a, b], [_, heard]) = pair(&world).await;
        let slow = LinkConfig::default().with_delay(Duration::from_millis(1), Duration::from_millis(50));
        world.net().set_links(slow);
        let mut checker = ExactlyOnceInOrder::new();
        let options = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK];
        for (number, options) in (0..300).zip(options.iter().cycle()) {
            checker.sent("a", "b", number);
            drop(a.send_with(&b.local(), number.to_string(), *options).await.unwrap());
        }
        for received in heard.wait_received(300).await {
            checker.received("a", "b", received.text().parse().unwrap());
        }
        assert_eq!(checker.finish().unwrap(), 300);
    });
}

#[test]
fn loss_duplicates_and_reordering_happen() {
    simulate(3, async |world| {
        let (nodes, [a, b], [_, heard]) = pair(&world).await;
        let wild =
            LinkConfig::default().with_loss(0.2).with_duplicate(0.2).with_reorder(0.3, Duration::from_millis(20));
        world.net().set_link(&nodes[0], &nodes[1], wild);
        for number in 0..200 {
            drop(a.send_with(&b.local(), number.to_string(), SendOptions::NONE).await.unwrap());
        }
        world.sleep(SECOND).await;
        let got: Vec<u64> = heard.texts().iter().map(|text| text.parse().unwrap()).collect();
        let mut unique = got.clone();
        unique.sort_unstable();
        unique.dedup();
        assert!(unique.len() < 190 && unique.len() > 120, "{} of 200 came", unique.len());
        assert!(got.len() > unique.len() + 10, "{} copies came", got.len() - unique.len());
        assert!(!got.is_sorted());
        assert!(world.net().stats().lost > 10 && world.net().stats().duplicated > 10);
    });
}

#[test]
fn loss_shows_as_a_missing_acknowledgement() {
    simulate(4, async |world| {
        let (nodes, [a, b], _) = pair(&world).await;
        world.net().set_link(&nodes[0], &nodes[1], LinkConfig::default().with_loss(1.0));
        let start = world.env().now();
        assert_eq!(fault(a.send(&b.local(), "x", SendOptions::ACK).await), FaultKind::AckTimeout(3 * SECOND));
        assert_eq!(world.env().now() - start, 3 * SECOND);
    });
}

#[test]
fn a_crash_closes_connections_and_refuses_new_ones() {
    simulate(5, async |world| {
        let (nodes, [a, b], [heard, _]) = pair(&world).await;
        let dead = b.local();
        // Something is on its way when it dies.
        let lost = a.send_with(&dead, "x", SendOptions::SYNC_ACK).await.unwrap();
        nodes[1].crash();
        assert!(matches!(lost.await.faults[0].kind, FaultKind::Connect(_) | FaultKind::Disconnected(_)));
        let events = heard.wait_events(2).await;
        assert_eq!(events[1], MemberEvent::Suspected(Arc::clone(&dead), Suspicion::ConnectionClosed));
        assert!(matches!(fault(a.send(&dead, "x", SendOptions::ACK).await), FaultKind::Connect(_)));
        assert_eq!(heard.wait_events(3).await[2], MemberEvent::Removed(dead, Departure::Expired));
    });
}

#[test]
fn a_dark_machine_is_silent() {
    simulate(6, async |world| {
        let (nodes, [a, b], [heard, _]) = pair(&world).await;
        nodes[1].power_off();
        assert!(matches!(fault(a.send(&b.local(), "x", SendOptions::ACK).await), FaultKind::AckTimeout(_)));
        assert_eq!(heard.wait_events(2).await[1], MemberEvent::Removed(b.local(), Departure::Expired));
    });
}

#[test]
fn a_restarted_process_does_not_get_its_predecessors_messages() {
    simulate(7, async |world| {
        let (nodes, [a, b], [heard, _]) = pair(&world).await;
        let old = b.local();
        nodes[1].crash();
        world.sleep(Duration::from_millis(10)).await;
        let (b, _) = start(&nodes[1]).await;
        let new = b.local();
        assert_ne!(old.id(), new.id());
        assert_eq!(fault(a.send(&old, "x", SendOptions::ACK).await), FaultKind::Replaced(new.id()));
        a.view_when(|view| view.contains(&new) && view.len() == 1).await;
        a.send(&new, "x", SendOptions::ACK).await.unwrap();
        let expected = [
            MemberEvent::Added(Arc::clone(&old)),
            MemberEvent::Suspected(Arc::clone(&old), Suspicion::ConnectionClosed),
            MemberEvent::Removed(old, Departure::Failed),
            MemberEvent::Added(new),
        ];
        assert_eq!(heard.wait_events(4).await, expected);
    });
}

#[test]
fn a_partition_heals() {
    simulate(8, async |world| {
        let nodes: Vec<_> = (0..5).map(|_| world.node()).collect();
        let mut channels = Vec::new();
        for node in &nodes {
            channels.push(start(node).await.0);
        }
        let converged =
            |sizes: &[usize]| channels.iter().zip(sizes).all(|(channel, size)| channel.view().len() == *size);
        assert!(world.until(5 * SECOND, || converged(&[4; 5])).await);
        world.net().partition(&[&[&nodes[0], &nodes[1]], &[&nodes[2], &nodes[3], &nodes[4]]]);
        assert!(world.until(5 * SECOND, || converged(&[1, 1, 2, 2, 2])).await);
        world.net().heal();
        assert!(world.until(5 * SECOND, || converged(&[4; 5])).await);
        let mut checker = ViewsConverge::new();
        channels.iter().for_each(|channel| checker.channel(channel));
        checker.finish().unwrap();
    });
}

#[test]
fn a_link_that_is_cut_one_way_carries_the_other() {
    simulate(14, async |world| {
        let (nodes, [a, b], [heard_a, heard_b]) = pair(&world).await;
        world.net().cut_one_way(&nodes[0], &nodes[1]);
        drop(b.send_with(&a.local(), "to a", SendOptions::NONE).await.unwrap());
        drop(a.send_with(&b.local(), "to b", SendOptions::NONE).await.unwrap());
        world.sleep(SECOND).await;
        assert_eq!((heard_a.texts(), heard_b.texts()), (vec!["to a".to_owned()], vec![]));
        world.net().mend_one_way(&nodes[0], &nodes[1]);
        drop(a.send_with(&b.local(), "now", SendOptions::NONE).await.unwrap());
        assert_eq!(heard_b.wait_received(1).await[0].text(), "now");
        // Healing mends these, too.
        world.net().cut_one_way(&nodes[1], &nodes[0]);
        world.net().heal();
        drop(b.send_with(&a.local(), "again", SendOptions::NONE).await.unwrap());
        assert_eq!(heard_a.wait_received(2).await[1].text(), "again");
    });
}

#[test]
fn leaving_is_heard_at_once_and_a_join_takes_milliseconds() {
    simulate(9, async |world| {
        let nodes = [world.node(), world.node()];
        let (a, heard) = start(&nodes[0]).await;
        world.sleep(10 * SECOND + Duration::from_millis(123)).await;
        let begin = world.env().now();
        let (b, _) = start(&nodes[1]).await;
        a.view_when(|view| view.len() == 1).await;
        b.view_when(|view| view.len() == 1).await;
        assert!(world.env().now() - begin < Duration::from_millis(20));
        let gone = b.local();
        b.stop().await;
        assert_eq!(heard.wait_events(2).await[1], MemberEvent::Removed(gone, Departure::Shutdown));
        assert!(world.env().now() - begin < Duration::from_millis(40));
        // The same channel again is another member.
        b.start().await.unwrap();
        a.view_when(|view| view.contains(&b.local())).await;
    });
}

#[test]
fn a_frozen_process_is_found_by_a_probe_only() {
    simulate(10, async |world| {
        let (nodes, [a, b], _) = pair(&world).await;
        let sender = nodes[0].sender();
        let probe = async |limit| sender.probe(&b.local(), None, world.env().now() + limit).await;
        assert_eq!(probe(SECOND).await, ProbeResult::Answered);
        nodes[1].freeze();
        assert!(sender.is_connected(&b.local()));
        assert_eq!(probe(SECOND).await, ProbeResult::TimedOut);
        let sent = a.send_with(&b.local(), "x", SendOptions::ACK).await.unwrap();
        nodes[1].thaw();
        assert!(sent.await.is_complete());
        assert_eq!(probe(SECOND).await, ProbeResult::Answered);
        nodes[1].crash();
        assert_eq!(probe(SECOND).await, ProbeResult::Refused);
        let (_b, _) = start(&nodes[1]).await;
        assert_eq!(probe(SECOND).await, ProbeResult::Replaced);
        assert_eq!(sender.probe(&crate::member(1), None, world.env().now() + SECOND).await, ProbeResult::Unreachable);
    });
}

#[test]
fn a_slow_listener_holds_up_its_sender_within_the_budget_and_nobody_else() {
    let config = NetConfig::default().with_window(1000).with_receiver_memory(1000);
    crate::Simulation::new(11).net(config).run(async |world| {
        let nodes = [world.node(), world.node(), world.node()];
        let budget = BudgetConfig::with_total(10_000).with_per_member(4000).with_policy(OverloadPolicy::Fail);
        let a = nodes[0].join(Channel::builder().budget(budget)).build().unwrap();
        a.start().await.unwrap();
        let ((b, heard_b), (c, heard_c)) = (start(&nodes[1]).await, start(&nodes[2]).await);
        a.view_when(|view| view.len() == 2).await;
        heard_b.react(Reaction::Hold);
        let mut full = 0;
        for _ in 0..20 {
            let pending = a.send_with(tribes_core::To::All, vec![0; 500], SendOptions::NONE).await.unwrap();
            world.sleep(Duration::from_millis(20)).await;
            pending.on_complete(|_| {});
            full += usize::from(a.stats().budget_used >= 3500);
        }
        assert!(full > 5, "the budget was full {full} times");
        assert_eq!(heard_c.count(), 20);
        assert!(a.stats().budget_peak <= 10_000);
        let got = heard_b.count();
        assert_eq!(got, 1, "one is being handled, the others wait");
        heard_b.react(Reaction::Take);
        heard_b.release();
        assert!(world.until(5 * SECOND, || heard_b.count() >= 10 && a.stats().budget_used == 0).await);
        drop((b, c));
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    async fn scenario(world: World) -> Vec<usize> {
        let nodes: Vec<_> = (0..4).map(|_| world.node()).collect();
        let mut channels = Vec::new();
        for node in &nodes {
            channels.push(start(node).await);
        }
        let wild =
            LinkConfig::default().with_loss(0.05).with_duplicate(0.05).with_reorder(0.1, Duration::from_millis(7));
        world.net().set_links(wild);
        world.sleep(SECOND).await;
        for number in 0..50 {
            for (channel, _) in &channels {
                match channel.send_with(tribes_core::To::All, vec![0; number], SendOptions::ACK).await {
                    Ok(sent) => sent.on_complete(|_| {}),
                    Err(error) => world.note(error),
                }
            }
            world.sleep(Duration::from_millis(10)).await;
            match number {
                20 => nodes[3].crash(),
                30 => world.net().partition(&[&[&nodes[0]], &[&nodes[1], &nodes[2]]]),
                40 => world.net().heal(),
                _ => {}
            }
        }
        world.sleep(10 * SECOND).await;
        channels.iter().map(|(_, heard)| heard.count()).collect()
    }
    let (first, second, other) = (simulate(12, scenario), simulate(12, scenario), simulate(13, scenario));
    assert!(first.trace.len() > 1000);
    assert_eq!((&first.value, first.took), (&second.value, second.took));
    assert_eq!(first.trace.join("\n"), second.trace.join("\n"));
    assert_ne!(first.trace, other.trace);
}
