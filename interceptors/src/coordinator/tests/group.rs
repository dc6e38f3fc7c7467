//! Simulated groups of whole channels.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::Channel;
use tribes_testkit::net::Node;
use tribes_testkit::{World, simulate};

use super::super::Coordinator;

const LIMIT: Duration = Duration::from_secs(60);

struct Peer {
    node: Node,
    channel: Channel,
    layer: Arc<Coordinator>,
}

async fn join(world: &World) -> Peer {
    let node = world.node();
    let layer = Arc::new(Coordinator::default());
    let channel = node.join(Channel::builder()).interceptor(Arc::clone(&layer)).build().unwrap();
    channel.start().await.unwrap();
    Peer { node, channel, layer }
}

/// Whether all of these, and nobody else, agree on the first of them.
fn agree(peers: &[&Peer]) -> bool {
    let mut members: Vec<_> = peers.iter().map(|peer| peer.channel.local()).collect();
    members.sort();
    let first = peers[0].layer.leadership();
    peers.iter().all(|peer| {
        let leadership = peer.layer.leadership();
        let leads = Some(&peer.channel.local()) == members.first();
        leadership.coordinator.as_ref() == members.first()
            && *leadership.view == *members
            && leadership.is_local == leads
            && leadership.term == first.term
            && leadership.term.is_some()
    })
}

async fn expect(world: &World, what: &str, peers: &[&Peer]) {
    let agreed = world.until(LIMIT, || agree(peers)).await;
    let told: Vec<_> = peers.iter().map(|peer| peer.layer.leadership()).collect();
    assert!(agreed, "{what}: {told:#?}");
}

#[test]
fn the_next_one_leads_when_the_first_is_gone() {
    for seed in 1..=5 {
        simulate(seed, async |world| {
            let mut peers = Vec::new();
            for _ in 0..5 {
                peers.push(join(&world).await);
            }
            expect(&world, "joined", &peers.iter().collect::<Vec<_>>()).await;
            peers.sort_by_key(|peer| peer.channel.local());
            let mut term = peers[0].layer.leadership().term;
            // It leaves, it dies, its machine dies.
            for (how, step) in ["left", "crashed", "went dark"].into_iter().enumerate() {
                let gone = peers.remove(0);
                match how {
                    0 => gone.channel.stop().await,
                    1 => gone.node.crash(),
                    _ => gone.node.power_off(),
                }
                expect(&world, step, &peers.iter().collect::<Vec<_>>()).await;
                let next = peers[0].layer.leadership().term;
                assert!(next > term, "{step}: {next:?} after {term:?}");
                term = next;
            }
        });
    }
}

#[test]
fn each_side_of_a_split_leads_itself_and_they_merge() {
    for seed in 1..=5 {
        simulate(seed, async |world| {
            let mut peers = Vec::new();
            for _ in 0..5 {
                peers.push(join(&world).await);
            }
            let all: Vec<_> = peers.iter().collect();
            expect(&world, "joined", &all).await;
            let (left, right) = all.split_at(2);
            let nodes = |side: &[&Peer]| side.iter().map(|peer| peer.node.clone()).collect::<Vec<_>>();
            let (left_nodes, right_nodes) = (nodes(left), nodes(right));
            world.net().partition(&[&left_nodes.iter().collect::<Vec<_>>(), &right_nodes.iter().collect::<Vec<_>>()]);
            expect(&world, "left", left).await;
            expect(&world, "right", right).await;
            let terms = [left, right].map(|side| side[0].layer.leadership().term);
            assert_ne!(terms[0], terms[1]);
            world.net().heal();
            expect(&world, "merged", &all).await;
            let merged = all[0].layer.leadership().term;
            assert!(terms.iter().all(|term| *term < merged), "{merged:?} after {terms:?}");
            // Nothing more is sent when all is settled.
            let count = |peer: &&Peer| {
                let stats = peer.channel.stats();
                stats.layers[0].gauges.iter().find(|gauge| gauge.name == "messages_received").unwrap().value
            };
            world.sleep(Duration::from_secs(10)).await;
            let before: u64 = all.iter().map(count).sum();
            world.sleep(Duration::from_secs(300)).await;
            assert_eq!(all.iter().map(count).sum::<u64>(), before);
        });
    }
}
