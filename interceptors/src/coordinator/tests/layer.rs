//! The layer in a channel.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, Departure, Handled, Inbound, Lease, Member, MemberEvent, MessageId, Receipt, Route, SendOptions,
};

use super::super::election::{Election, Kind};
use super::super::{Coordinator, CoordinatorConfig};
use crate::testing::{World, member, settle};
use crate::vectors::{hex, list, load};

use MemberEvent::{Added, Removed};

async fn world() -> (World, Arc<Coordinator>) {
    let layer = Arc::new(Coordinator::default());
    let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
    settle().await;
    (world, layer)
}

/// What the sender of this body is told.
async fn receive(world: &World, from: &Arc<Member>, body: impl Into<Body>) -> Handled {
    let (answer, answered) = oneshot::channel();
    let message = ChannelMessage {
        options: SendOptions::USE_ACK,
        timestamp_ms: 0,
        id: MessageId::from_array([1; 16]),
        sender: Arc::clone(from),
        body: body.into(),
    };
    let receipt = Receipt::new(move |handled| drop(answer.send(handled)));
    let _ = world.below.link().receive(Inbound::new(message, receipt, Lease::none(), Route::Stream)).await;
    settle().await;
    answered.await.unwrap()
}

fn sent(world: &World, to: i32) -> Election {
    let taken = world.wire.taken.lock().unwrap();
    let taken = taken.iter().rfind(|taken| taken.port == to).unwrap();
    assert_eq!(taken.options, SendOptions::USE_ACK);
    Election::decode(&Body::new(taken.body.clone())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn elections_pass_below_the_application() {
    let (world, layer) = world().await;
    let mut changes = layer.changes();
    let (local, java) = (world.channel.local(), member(65_000));
    assert!(layer.is_coordinator() && layer.coordinator() == Some(Arc::clone(&local)));
    assert!(java < local);
    // Java leads, for it is the first.
    world.below.raise(Added(Arc::clone(&java)));
    settle().await;
    let view = [Arc::clone(&java), local].to_vec();
    let id = super::super::view_id::ViewId::from_bytes([4; 16]);
    let (leader, source) = (Arc::clone(&java), Arc::clone(&java));
    let mut election = Election { kind: Kind::Request, id, leader, source, members: view };
    assert_eq!(receive(&world, &java, election.encode()).await, Handled::Accepted);
    assert_eq!(sent(&world, java.port()), election, "the token comes back as it was");
    election.kind = Kind::Confirmation;
    assert_eq!(receive(&world, &java, election.encode()).await, Handled::Accepted);
    let told = changes.next().await.unwrap();
    assert_eq!((told.coordinator.as_ref(), told.is_local, told.term), (Some(&java), false, None));
    assert_eq!((layer.view().len(), world.gauge("messages_received")), (2, 2));
    let stats = world.channel.stats();
    assert_eq!(stats.layers[0].up.drops.get("election"), Some(&2));
    // Then it goes.
    world.below.raise(Removed(java, Departure::Shutdown));
    let told = changes.wait_for(|leadership| leadership.is_local).await.unwrap();
    assert!(told.term.is_some() && world.gauge("term") == told.term.unwrap());
}

#[tokio::test(start_paused = true)]
async fn malformed_messages_are_refused_and_others_pass() {
    let (world, layer) = world().await;
    let mut heard = world.channel.messages();
    let vectors = load("coordinator");
    let mut refused = 0;
    for case in list(&vectors["malformed"]) {
        let handled = receive(&world, &member(1), hex(&case["body"])).await;
        let throws = case["outcome"]["result"] == "throws";
        assert_eq!(matches!(handled, Handled::Failed(_)), throws, "{case}");
        refused += u64::from(throws);
    }
    assert_eq!(world.channel.stats().layers[0].up.errors.get("refused"), Some(&refused));
    assert!(layer.is_coordinator());
    let whole = hex(&list(&vectors["messages"])[0]["body"]);
    assert_eq!(receive(&world, &member(1), whole.slice(..15)).await, Handled::Accepted);
    assert_eq!(heard.next().await.unwrap().0.bytes(), &whole[..15]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_holds_up_nobody_else() {
    let (world, _layer) = world().await;
    world.wire.block(2);
    for port in [1, 2, 3] {
        // Behind the local member: its host is longer.
        let member = Member::new(member(port).id(), (std::net::Ipv6Addr::LOCALHOST, port).into());
        world.below.raise(Added(Arc::new(member)));
    }
    // The token never comes back, so all are told without; the second of them takes nothing.
    tokio::time::sleep(5 * CoordinatorConfig::TIMEOUT + Duration::from_secs(1)).await;
    for port in [1, 3] {
        let election = sent(&world, port);
        assert_eq!((election.kind, election.members.len()), (Kind::Confirmation, 4), "{port}: {election:?}");
    }
    assert_eq!(world.wire.bodies(2).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_channel_starts_again() {
    let (world, layer) = world().await;
    let before = layer.leadership().term.unwrap();
    world.channel.stop().await;
    assert_eq!(layer.leadership(), crate::Leadership::default());
    world.channel.start().await.unwrap();
    assert!(layer.leadership().term.unwrap() > before);
}

#[test]
fn options_are_checked() {
    let mut config = CoordinatorConfig::default();
    for (key, value) in [("timeout", "500ms"), ("patience", "1s"), ("quorum", "3")] {
        config.set(key, value).unwrap();
    }
    let expected = CoordinatorConfig::default().with_timeout(Duration::from_millis(500));
    assert_eq!(config, expected.with_patience(Duration::from_secs(1)).with_quorum(3));
    for (key, value) in [("timeout", "9ms"), ("patience", "11m"), ("quorum", "-1"), ("quorum", "4097"), ("colour", "1")]
    {
        assert!(config.set(key, value).is_err(), "{key}={value}");
    }
    assert_eq!(config, expected.with_patience(Duration::from_secs(1)).with_quorum(3));
    for wrong in [config.with_timeout(Duration::ZERO), config.with_quorum(5000), config.with_patience(Duration::MAX)] {
        assert!(wrong.validate().is_err());
    }
}
