use std::time::Duration;

use tribes_core::{Channel, SendOptions};
use tribes_testkit::checkers::ExactlyOnceInOrder;
use tribes_testkit::net::LinkConfig;
use tribes_testkit::{RecordingListener, World, simulate};

use crate::order::Order;

const SECOND: Duration = Duration::from_secs(1);

/// Three members send to all others over such links; how many messages each of the others got, at least.
async fn exchange(world: &World, links: LinkConfig, count: u64) -> usize {
    let nodes: Vec<_> = (0..3).map(|_| world.node()).collect();
    let join = |node: &tribes_testkit::net::Node| node.join(Channel::builder()).interceptor(Order::default()).build();
    let channels: Vec<_> = nodes.iter().map(|node| join(node).unwrap()).collect();
    let heard: Vec<_> = channels.iter().map(|_| RecordingListener::new()).collect();
    for (channel, heard) in channels.iter().zip(&heard) {
        channel.listen(heard.clone()).forever();
        channel.start().await.unwrap();
    }
    assert!(world.until(SECOND, || channels.iter().all(|channel| channel.view().len() == 2)).await);
    let pairs: Vec<_> = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to))).collect();
    for (from, to) in pairs.iter().filter(|(from, to)| from.addr() != to.addr()) {
        world.net().set_link(from, to, links);
    }
    let mut checker = ExactlyOnceInOrder::new();
    for number in 0..count {
        for (from, channel) in channels.iter().enumerate() {
            let to: Vec<_> = channels.iter().map(Channel::local).filter(|member| *member != channel.local()).collect();
            for at in (0..channels.len()).filter(|at| *at != from) {
                checker.sent(from, at, number);
                if links.loss > 0.0 {
                    // Without an acknowledgement its loss goes unseen.
                    checker.failed(from, at, number);
                }
            }
            // Not awaited: many are on the way at once.
            let pending = channel.send_with(to, format!("{from} {number}"), SendOptions::NONE).await.unwrap();
            pending.on_complete(drop);
        }
        world.sleep(Duration::from_millis(1)).await;
    }
    world.sleep(10 * SECOND).await;
    for (to, heard) in heard.iter().enumerate() {
        for text in heard.texts() {
            let (from, number) = text.split_once(' ').unwrap();
            checker.received(from.parse().unwrap(), to, number.parse().unwrap());
        }
    }
    checker.finish().unwrap();
    heard.iter().map(RecordingListener::count).min().unwrap()
}

#[test]
fn what_a_network_doubles_and_reorders_arrives_once_and_in_order() {
    for seed in 0..20 {
        let links = LinkConfig::default().with_duplicate(0.2).with_reorder(0.5, Duration::from_millis(500));
        let run = simulate(seed, async |world| exchange(&world, links, 200).await);
        assert_eq!(run.value, 400);
    }
}

#[test]
fn what_a_network_loses_keeps_no_other_message_from_arriving_in_order() {
    for seed in 0..20 {
        let links =
            LinkConfig::default().with_loss(0.05).with_duplicate(0.1).with_reorder(0.3, Duration::from_millis(100));
        let run = simulate(seed, async |world| exchange(&world, links, 200).await);
        assert!(run.value > 330, "seed {seed}: {}", run.value);
    }
}

#[test]
fn a_seed_replays() {
    let links = LinkConfig::default().with_loss(0.05).with_reorder(0.3, Duration::from_millis(100));
    let run = || simulate(7, async |world| exchange(&world, links, 50).await);
    let (one, other) = (run(), run());
    assert_eq!((one.value, one.trace), (other.value, other.trace));
}
