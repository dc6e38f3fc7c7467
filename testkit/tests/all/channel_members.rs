//! Views and membership events as the application sees them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by a panic"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tribes_core::member::{Departure, Suspicion};
use tribes_core::{
    BoxError, Channel, ChannelInterceptor, Cx, EventVerdict, Link, Member, MemberEvent, MembershipListener, Next,
    Outbound, SendOptions, Services, SyncInterceptor, Time, Verdict, View, async_trait,
};
use tribes_testkit::checkers::{NoResurrection, ViewsConverge};
use tribes_testkit::net::{LinkConfig, Node};
use tribes_testkit::{Call, Layered, Recorder, RecordingListener, World, member, simulate, stack};

use crate::common::{Log, Spy};

#[tokio::test(start_paused = true)]
async fn view_numbers_grow_by_one_with_each_change_and_only_then() {
    let stack = stack([]).await;
    assert_eq!((stack.channel.view().number(), stack.channel.view().len()), (3, 3));
    let changed = Arc::new(member(1).as_ref().clone().with_payload("p"));
    stack.below.add([&member(1)]); // Known already.
    stack.below.remove(&member(9), Departure::Failed); // Not known.
    stack.below.raise(MemberEvent::Suspected(member(2), Suspicion::Silent));
    stack.below.raise(MemberEvent::Suspected(member(9), Suspicion::Silent)); // Not known.
    stack.below.raise(MemberEvent::Updated(Arc::clone(&changed)));
    stack.below.remove(&member(3), Departure::Shutdown);
    let view = stack.channel.view_when(|view| view.len() == 2).await;
    assert_eq!(view.number(), 5);
    assert_eq!(view.find(&member(1)).unwrap().payload(), "p");
    let told = [
        MemberEvent::Suspected(member(2), Suspicion::Silent),
        MemberEvent::Updated(changed),
        MemberEvent::Removed(member(3), Departure::Shutdown),
    ];
    assert_eq!(stack.above.wait_events(6).await[3..], told);
    assert!(!view.contains(&stack.channel.local()), "the local member is not in its own view");
}

#[tokio::test(start_paused = true)]
async fn the_transport_is_told_before_the_application() {
    let stack = stack([]).await;
    let told =
        stack.below.calls().iter().filter(|call| matches!(call, Call::MemberEvent(MemberEvent::Added(_)))).count();
    assert_eq!(told, 3);
    stack.below.suspect(&stack.members[0], Suspicion::ConnectionClosed);
    stack.above.wait_events(4).await;
    assert!(stack.below.calls().contains(&Call::Suspected(member(1), Suspicion::ConnectionClosed)));
}

/// Raises an event in its start.
#[derive(Debug)]
struct Early;

impl SyncInterceptor for Early {
    fn name(&self) -> &'static str {
        "early"
    }
    fn start(&self, link: Link) -> Result<(), BoxError> {
        link.member_event(MemberEvent::Added(member(7)));
        Ok(())
    }
}

/// Takes its time to start; refuses to when it is told so. Lets no event pass that comes before it has started.
#[derive(Debug, Default)]
struct Slow {
    started: AtomicBool,
    refuses: Arc<AtomicBool>,
}

#[async_trait]
impl ChannelInterceptor for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        link.env().sleep(Duration::from_secs(1)).await;
        if self.refuses.load(Ordering::Relaxed) {
            return Err("not now".into());
        }
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }
    async fn stop(&self, _: Time) {
        self.started.store(false, Ordering::Relaxed);
    }
    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        if self.started.load(Ordering::Relaxed) {
            next.member_event(event).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_hears_of_no_member_before_its_start() {
    let slow = Slow::default();
    let refuses = Arc::clone(&slow.refuses);
    let stack = Layered::builder().layer(slow).layer(Early).members(0).start().await;
    let early =
        || tokio::time::timeout(Duration::from_secs(1), stack.channel.view_when(|view| view.contains(&member(7))));
    early().await.unwrap();
    stack.channel.stop().await;
    // A start that fails holds up nothing; the next one works as the first did.
    refuses.store(true, Ordering::Relaxed);
    let before = tokio::time::Instant::now();
    stack.channel.start().await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    assert!(stack.channel.view().is_empty());
    refuses.store(false, Ordering::Relaxed);
    stack.channel.start().await.unwrap();
    early().await.unwrap();
}

/// Suspects whom it gets a message for.
#[derive(Debug)]
struct Suspicious;

impl SyncInterceptor for Suspicious {
    fn name(&self) -> &'static str {
        "suspicious"
    }
    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Verdict<Outbound> {
        out.members().for_each(|member| cx.link().suspect(member, Suspicion::Silent));
        Verdict::Pass
    }
}

/// Notes what it hears of members.
#[derive(Debug)]
struct Hears(Arc<Mutex<Vec<MemberEvent>>>);

impl SyncInterceptor for Hears {
    fn name(&self) -> &'static str {
        "hears"
    }
    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.0.lock().unwrap().push(event.clone());
        EventVerdict::Pass
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_of_a_layer_comes_from_the_bottom() {
    let heard = Arc::new(Mutex::default());
    let stack = Layered::builder().layer(Suspicious).layer(Hears(Arc::clone(&heard))).members(1).start().await;
    stack.channel.send(&member(1), "x", SendOptions::NONE).await.unwrap();
    let suspected = MemberEvent::Suspected(member(1), Suspicion::Silent);
    assert_eq!(stack.above.wait_events(2).await.last(), Some(&suspected));
    assert_eq!(heard.lock().unwrap()[1..], [suspected]);
    assert!(stack.below.calls().contains(&Call::Suspected(member(1), Suspicion::Silent)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_those_who_are_there() {
    let stack = stack([]).await;
    let mut events = stack.channel.member_events();
    for number in 1..=3 {
        assert_eq!(events.next().await.unwrap(), MemberEvent::Added(member(number)));
    }
    stack.below.remove(&member(2), Departure::Failed);
    assert_eq!(events.next().await.unwrap(), MemberEvent::Removed(member(2), Departure::Failed));
    stack.channel.stop().await;
    for number in [1, 3] {
        assert_eq!(events.next().await.unwrap(), MemberEvent::Removed(member(number), Departure::Stopped));
    }
    drop(stack);
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_behind_gets_the_difference() {
    let stack = stack([]).await;
    let mut events = stack.channel.member_events();
    for _ in 0..3 {
        events.next().await.unwrap();
    }
    let changed = Arc::new(member(1).as_ref().clone().with_payload("p"));
    stack.below.raise(MemberEvent::Updated(Arc::clone(&changed)));
    stack.below.remove(&member(2), Departure::Shutdown);
    for round in 0..600 {
        stack.below.add([&member(100 + round)]);
        stack.below.remove(&member(100 + round), Departure::Failed);
    }
    stack.below.add([&member(9)]);
    stack.channel.view_when(|view| view.contains(&member(9))).await;
    let mut seen = View::default();
    for member in &stack.members {
        seen = seen.apply(&MemberEvent::Added(Arc::clone(member))).unwrap();
    }
    let mut count = 0;
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), events.next()).await {
        count += 1;
        seen = seen.apply(&event.unwrap()).unwrap_or(seen);
    }
    assert!(count < 1100, "{count} events for more than 1200");
    let current = stack.channel.view();
    assert_eq!(seen.members(), current.members());
    assert_eq!(seen.find(&member(1)).unwrap().payload(), "p", "a changed payload is not lost either");
}

#[tokio::test(start_paused = true)]
async fn every_event_is_seen_once_by_streams_made_at_any_time() {
    let stack = Layered::builder().members(0).start().await;
    let mut streams = Vec::new();
    for number in 1..=50 {
        stack.below.add([&member(number)]);
        streams.push(stack.channel.member_events());
        tokio::task::yield_now().await;
    }
    stack.channel.view_when(|view| view.len() == 50).await;
    for mut stream in streams {
        let mut seen = BTreeSet::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, stream.next()).await {
            assert!(seen.insert(event.member().port()), "{event:?} came twice");
        }
        assert_eq!(seen.len(), 50);
    }
}

/// Blocks its thread on the first member, as it should not.
struct Careless(Mutex<Vec<i32>>);

impl MembershipListener for Careless {
    fn member_added(&self, member: &Arc<Member>) {
        assert_ne!(member.port(), 2, "careless");
        self.0.lock().unwrap().push(member.port());
    }
    fn member_removed(&self, _: &Arc<Member>, _: Departure) {}
}

#[tokio::test(start_paused = true)]
async fn a_panicking_membership_listener_harms_nobody() {
    let below = Recorder::new();
    let channel = below.install(Channel::builder()).build().unwrap();
    let (careless, careful) = (Arc::new(Careless(Mutex::default())), RecordingListener::new());
    struct Shared(Arc<Careless>);
    impl MembershipListener for Shared {
        fn member_added(&self, member: &Arc<Member>) {
            self.0.member_added(member);
        }
        fn member_removed(&self, member: &Arc<Member>, why: Departure) {
            self.0.member_removed(member, why);
        }
    }
    let handle = channel.listen_members(Shared(Arc::clone(&careless)));
    let _careful = channel.listen_members(careful.clone());
    channel.start().await.unwrap();
    below.add([&member(1), &member(2), &member(3)]);
    careful.wait_events(3).await;
    assert_eq!(*careless.0.lock().unwrap(), [1, 3]);
    assert_eq!(channel.stats().top.up.errors["membership listener panicked"], 1);
    drop(handle);
    below.add([&member(4)]);
    careful.wait_events(4).await;
    assert_eq!(careless.0.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn sends_to_all_follow_the_view() {
    let stack = stack([]).await;
    stack.below.remove(&member(2), Departure::Failed);
    stack.channel.view_when(|view| view.len() == 2).await;
    stack.channel.send(tribes_core::To::All, "m", SendOptions::ACK).await.unwrap();
    assert_eq!(stack.below.sent()[0].to, [member(1), member(3)]);
}

async fn start(node: &Node) -> Channel {
    let channel = node.join(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    channel
}

/// Several members that see each other as a seed has it, with crashes and a partition: in the end all agree.
#[test]
fn views_converge_after_crashes_loss_and_a_partition() {
    for seed in 100..110 {
        simulate(seed, async |world: World| {
            let nodes: Vec<_> = (0..6).map(|_| world.node()).collect();
            let mut resurrection = NoResurrection::new();
            let heard = Arc::new(Mutex::new(Vec::new()));
            let mut channels = Vec::new();
            for node in &nodes {
                channels.push(start(node).await);
                watch(&world, channels.last().unwrap(), &heard);
            }
            world.net().set_links(LinkConfig::default().with_loss(0.1).with_reorder(0.2, Duration::from_millis(30)));
            world.sleep(Duration::from_secs(2)).await;
            let dead = channels[5].local();
            nodes[5].crash();
            channels.pop();
            world.net().partition(&[&[&nodes[0], &nodes[1]], &[&nodes[2], &nodes[3], &nodes[4]]]);
            world.sleep(Duration::from_secs(5)).await;
            world.net().heal();
            world.net().set_links(LinkConfig::default());
            channels.push(start(&nodes[5]).await);
            world.sleep(Duration::from_secs(10)).await;
            let mut converge = ViewsConverge::new();
            channels.iter().for_each(|channel| converge.channel(channel));
            assert_eq!(converge.finish().unwrap(), 6);
            resurrection.crashed(&dead);
            heard
                .lock()
                .unwrap()
                .iter()
                .for_each(|(observer, event): &(String, _)| resurrection.event(observer, event));
            resurrection.finish().unwrap();
        });
    }
}

fn watch(world: &World, channel: &Channel, heard: &Arc<Mutex<Vec<(String, MemberEvent)>>>) {
    let (mut events, name, heard) = (channel.member_events(), channel.local().to_string(), Arc::clone(heard));
    world.env().spawn(async move {
        while let Some(event) = events.next().await {
            heard.lock().unwrap().push((name.clone(), event));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn layers_hear_that_membership_alone_stopped_and_keep_members_of_their_own() {
    // Of those: member 7.
    let log = Log::default();
    let spy = Spy::new("spy", &log);
    let stack = Layered::builder().layer(spy.sync()).layer(Early).members(2).expect_members(3).start().await;
    stack.channel.view_when(|view| view.len() == 3).await;
    for services in [Services::MEMBERSHIP, Services::MEMBERSHIP_RX] {
        log.take();
        stack.channel.stop_services(services).await;
        // At once, without waiting for anything.
        let view = stack.channel.view();
        assert_eq!(view.members().iter().map(|member| member.port()).collect::<Vec<_>>(), [7]);
        assert_eq!(log.take(), ["spy event 1", "spy event 2"], "each once");
        stack.channel.start().await.unwrap();
        stack.below.add(&stack.members);
        stack.channel.view_when(|view| view.len() == 3).await;
    }
    stack.channel.stop().await;
    assert!(stack.channel.view().is_empty());
}
