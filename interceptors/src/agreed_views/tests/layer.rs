//! The layer in a channel.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, Channel, Departure, Handled, Inbound, Lease, Member, MemberEvent, MemberId, MessageId, Receipt, Route,
    SendOptions,
};

use crate::agreed_views::wire::{Beat, Kind, Message};
use crate::agreed_views::{AgreedViews, AgreedViewsConfig, Quorum};
use crate::testing::{World, member, member_of_ours, settle};

async fn world() -> (World, Arc<AgreedViews>) {
    let layer = Arc::new(AgreedViews::default());
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

#[tokio::test(start_paused = true)]
async fn java_members_are_passed_by_and_counted() {
    let (world, layer) = world().await;
    world.below.raise(MemberEvent::Added(member(7)));
    world.below.raise(MemberEvent::Added(member_of_ours(8)));
    let view = layer.standing_changes().wait_for(|standing| standing.view.is_some()).await.unwrap().view.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(*view.members, [world.channel.local()]);
    assert_eq!((world.gauge("members_passed_by"), world.wire.bodies(7).len()), (1, 0));
    assert!(world.wire.bodies(8).len() > 10);
    world.below.raise(MemberEvent::Removed(member(7), Departure::Failed));
    settle().await;
    assert_eq!((world.gauge("members_passed_by"), world.gauge("view_members")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_marked_as_ours_is_in_no_view() {
    let layer = Arc::new(AgreedViews::default());
    let id = MemberId::from_bytes([1; 16]);
    let world = World::start(|builder| builder.id(id).interceptor(Arc::clone(&layer))).await;
    world.below.raise(MemberEvent::Added(member_of_ours(8)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((layer.view(), world.wire.bodies(8).len()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn its_messages_pass_below_the_application_and_malformed_ones_are_refused() {
    let (world, _layer) = world().await;
    let mut heard = world.channel.messages();
    let other = member_of_ours(8);
    world.below.raise(MemberEvent::Added(Arc::clone(&other)));
    settle().await;
    let body = Message { incarnation: 1, kind: Kind::Beat(Beat::default()) }.encode();
    assert_eq!(receive(&world, &other, body.clone()).await, Handled::Accepted);
    assert_eq!(world.gauge("messages_received"), 1);
    for len in 16..body.len() {
        assert!(matches!(receive(&world, &other, body.slice(..len)).await, Handled::Failed(_)), "{len}");
    }
    assert_eq!(receive(&world, &other, body.slice(..15)).await, Handled::Accepted);
    assert_eq!(heard.next().await.unwrap().0.bytes(), &body[..15]);
    // From somebody whom membership does not know.
    assert_eq!(receive(&world, &member_of_ours(9), body).await, Handled::Accepted);
    assert_eq!(world.gauge("messages_stray"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_holds_up_nobody_else() {
    let (world, _layer) = world().await;
    world.wire.block(2);
    for number in [1, 2, 3] {
        world.below.raise(MemberEvent::Added(member_of_ours(number)));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for port in [1, 3] {
        assert!(world.wire.bodies(port).len() >= 20, "{port}");
    }
    assert_eq!(world.wire.bodies(2).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_channel_starts_again_in_a_later_view() {
    let (world, layer) = world().await;
    let first = layer.standing_changes().wait_for(|standing| standing.is_leader).await.unwrap();
    world.channel.stop().await;
    assert_eq!((layer.standing(), layer.may_write()), (crate::agreed_views::Standing::default(), None));
    world.channel.start().await.unwrap();
    let second = layer.standing_changes().wait_for(|standing| standing.is_leader).await.unwrap();
    assert!(second.view.unwrap().id > first.view.unwrap().id && second.token > first.token);
}

#[test]
fn options_are_checked() {
    let mut config = AgreedViewsConfig::default();
    let set = [
        ("heartbeat", "100ms"),
        ("silence", "1s"),
        ("timeout", "500ms"),
        ("settle", "0ms"),
        ("quorum", "weighted"),
        ("members", "5"),
        ("weights", "domain:a=2+payload"),
    ];
    for (key, value) in set {
        config.set(key, value).unwrap();
    }
    let millis = Duration::from_millis;
    let mut expected = AgreedViewsConfig::default()
        .with_heartbeat(millis(100), millis(1000))
        .with_timeout(millis(500))
        .with_settle(Duration::ZERO)
        .with_quorum(Quorum::Weighted, 5);
    expected = expected.with_weights(["domain:a=2".parse().unwrap(), "payload".parse().unwrap()]);
    assert_eq!(config, expected);
    for (key, value) in
        [("heartbeat", "9ms"), ("silence", "49ms"), ("quorum", "most"), ("members", "1000001"), ("weights", "x")]
    {
        assert!(config.set(key, value).is_err(), "{key}={value}");
    }
    let refused = |config| {
        let recorder = tribes_testkit::Recorder::new();
        recorder.install(Channel::builder()).interceptor(AgreedViews::new(config)).build().is_err()
    };
    assert!(!refused(expected));
    let default = AgreedViewsConfig::default;
    assert!(refused(default().with_heartbeat(millis(500), millis(1499))));
    assert!(refused(default().with_quorum(Quorum::Static, 0)));
    assert!(refused(default().with_timeout(Duration::ZERO)));
}
