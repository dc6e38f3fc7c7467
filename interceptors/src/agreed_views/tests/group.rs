//! Small groups of whole channels on the simulated network.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::Channel;
use tribes_testkit::net::Node;
use tribes_testkit::{World, simulate};

use crate::agreed_views::{AgreedViews, AgreedViewsConfig, Quorum, ViewEvent, ViewEvents};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);

struct Peer {
    node: Node,
    channel: Channel,
    views: Arc<AgreedViews>,
    events: ViewEvents,
}

impl Peer {
    fn told(&mut self) -> Vec<ViewEvent> {
        std::iter::from_fn(|| self.events.try_next()).collect()
    }
}

async fn join(world: &World, config: AgreedViewsConfig) -> Peer {
    let node = world.node();
    let views = Arc::new(AgreedViews::new(config));
    let events = views.events();
    let channel = node.join(Channel::builder()).interceptor(Arc::clone(&views)).build().unwrap();
    channel.start().await.unwrap();
    Peer { node, channel, views, events }
}

async fn group(world: &World, count: usize, config: &AgreedViewsConfig) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(join(world, config.clone()).await);
    }
    expect(world, "joined", &peers.iter().collect::<Vec<_>>()).await;
    peers.sort_by_key(|peer| peer.channel.local());
    peers
}

/// Whether all of these, and nobody else, are in one view.
fn agree(peers: &[&Peer]) -> bool {
    let mut members: Vec<_> = peers.iter().map(|peer| peer.channel.local()).collect();
    members.sort();
    let first = peers[0].views.view();
    first.is_some_and(|first| {
        *first.members == *members
            && first.leader == members[0]
            && peers.iter().all(|peer| peer.views.view().as_ref() == Some(&first))
    })
}

async fn expect(world: &World, what: &str, peers: &[&Peer]) {
    let agreed = world.until(LIMIT, || agree(peers)).await;
    let told: Vec<_> = peers.iter().map(|peer| peer.views.standing()).collect();
    assert!(agreed, "{what}: {told:#?}");
}

async fn writes(world: &World, peers: &[&Peer], wanted: bool) {
    let all = world.until(LIMIT, || peers.iter().all(|peer| peer.views.may_write().is_some() == wanted)).await;
    let told: Vec<_> = peers.iter().map(|peer| peer.views.standing()).collect();
    assert!(all, "{wanted}: {told:#?}");
}

fn nodes(peers: &[Peer]) -> Vec<&Node> {
    peers.iter().map(|peer| &peer.node).collect()
}

#[test]
fn three_agree_and_the_next_one_leads_when_the_first_is_gone() {
    for seed in 1..=5 {
        simulate(seed, async |world| {
            let mut peers = group(&world, 3, &AgreedViewsConfig::default()).await;
            writes(&world, &peers.iter().collect::<Vec<_>>(), true).await;
            let mut token = peers[0].views.leads().unwrap();
            for (how, step) in ["left", "crashed"].into_iter().enumerate() {
                peers.iter_mut().for_each(|peer| drop(peer.told()));
                let gone = peers.remove(0);
                let lost = gone.channel.local();
                if how == 0 {
                    gone.channel.stop().await
                } else {
                    gone.node.crash()
                }
                expect(&world, step, &peers.iter().collect::<Vec<_>>()).await;
                let next = peers[0].views.leads().unwrap();
                assert!(next > token, "{step}");
                token = next;
                let told = peers[0].told();
                let suspected = told.iter().any(|event| matches!(event, ViewEvent::PartitionSuspected { .. }));
                assert_eq!(suspected, how == 1, "{step}: {told:?}");
                let departed = told.iter().find_map(|event| match event {
                    ViewEvent::ViewInstalled { left, missing, .. } => Some(if how == 0 { left } else { missing }),
                    _ => None,
                });
                assert_eq!(departed, Some(&vec![lost]), "{step}: {told:?}");
            }
        });
    }
}

#[test]
fn only_the_larger_side_of_a_split_writes_and_they_merge() {
    for seed in 1..=5 {
        simulate(seed, async |world| {
            let config = AgreedViewsConfig::default().with_quorum(Quorum::Static, 5);
            let mut peers = group(&world, 5, &config).await;
            let token = {
                let all: Vec<_> = peers.iter().collect();
                writes(&world, &all, true).await;
                all[0].views.leads().unwrap()
            };
            peers.iter_mut().for_each(|peer| drop(peer.told()));
            let (left, right) = peers.split_at(2);
            let cut = world.env().now();
            world.net().partition(&[&nodes(left), &nodes(right)]);
            let (left, right): (Vec<_>, Vec<_>) = (left.iter().collect(), right.iter().collect());
            writes(&world, &left, false).await;
            assert!(world.env().now() - cut <= config.silence + Duration::from_millis(2), "it stops in time");
            // The others have a quorum of the old view and go on, until they have one of their own.
            assert!(right.iter().all(|peer| peer.views.may_write() == Some(token)));
            assert!(world.until(LIMIT, || right[0].views.leads().is_some()).await);
            assert!(world.env().now() - cut <= 6 * SECOND, "{:?}", world.env().now() - cut);
            assert!(right[0].views.leads().unwrap() > token);
            expect(&world, "left", &left).await;
            expect(&world, "right", &right).await;
            assert!(left.iter().all(|peer| peer.views.may_write().is_none()));
            let token = right[0].views.may_write().unwrap();
            world.net().heal();
            let all: Vec<_> = peers.iter().collect();
            expect(&world, "merged", &all).await;
            writes(&world, &all, true).await;
            assert!(all[0].views.leads().unwrap() > token);
            for peer in &mut peers {
                let told = peer.told();
                let sides = told.iter().find_map(|event| match event {
                    ViewEvent::Merged { sides, .. } => Some(sides.iter().map(|side| side.members.len()).sum::<usize>()),
                    _ => None,
                });
                assert_eq!(sides, Some(5), "{told:#?}");
            }
        });
    }
}

#[test]
fn nobody_stops_writing_when_somebody_joins_or_leaves_behind_the_leader() {
    simulate(1, async |world| {
        let config = AgreedViewsConfig::default().with_quorum(Quorum::Dynamic, 3);
        let mut peers = group(&world, 3, &config).await;
        writes(&world, &peers.iter().collect::<Vec<_>>(), true).await;
        let token = peers[0].views.leads().unwrap();
        peers.iter_mut().for_each(|peer| drop(peer.told()));
        // Nodes of the simulated network come in order.
        peers.push(join(&world, config.clone()).await);
        expect(&world, "joined", &peers.iter().collect::<Vec<_>>()).await;
        peers.pop().unwrap().channel.stop().await;
        expect(&world, "left", &peers.iter().collect::<Vec<_>>()).await;
        world.sleep(10 * SECOND).await;
        for peer in &mut peers {
            let told = peer.told();
            assert_eq!(told.len(), 2, "two views and nothing else: {told:#?}");
            assert_eq!(peer.views.may_write(), Some(token));
        }
        // Down to the last.
        while peers.len() > 1 {
            peers.remove(0).channel.stop().await;
            expect(&world, "left", &peers.iter().collect::<Vec<_>>()).await;
            writes(&world, &peers.iter().collect::<Vec<_>>(), true).await;
        }
    });
}
