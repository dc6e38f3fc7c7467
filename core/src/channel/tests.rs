//! What only the crate can see of a channel. Everything else is tested from outside, in `testkit/tests/all/channel_*.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Channel;
use super::stream::{EventQueue, MemberEvents};
use crate::member::{Departure, Member, MemberEvent, MemberId, Suspicion, View};
use crate::message::ChannelMessage;
use crate::{
    BoxError, BoxFuture, ChannelReceiver, ChannelSender, Endpoint, Env, EnvProvider, Link, MembershipContext,
    MembershipService, Outbound, ProbeResult, SendError, Services, StartError, TaskHandle, Time,
};

fn member(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::from_bytes([1; 16]), ([127, 0, 0, 1], port).into()))
}

fn with(view: &Arc<View>, event: &MemberEvent) -> Arc<View> {
    view.apply(event).map_or_else(|| Arc::clone(view), Arc::new)
}

async fn drain(events: &mut MemberEvents) -> Vec<MemberEvent> {
    let mut all = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        all.push(event);
    }
    all
}

/// The view changes before the streams are told. A stream made in between begins with the new view.
#[tokio::test(start_paused = true)]
async fn a_stream_made_while_an_event_is_told_sees_it_once() {
    let added = MemberEvent::Added(member(1));
    let view = with(&Arc::default(), &added);
    let queue = EventQueue::new(Arc::clone(&view));
    let mut events = MemberEvents::new(Arc::clone(&queue));
    queue.push(added.clone(), Arc::clone(&view));
    let suspected = MemberEvent::Suspected(member(1), Suspicion::Silent);
    queue.push(suspected.clone(), Arc::clone(&view));
    let removed = MemberEvent::Removed(member(1), Departure::Failed);
    queue.push(removed.clone(), with(&view, &removed));
    assert_eq!(drain(&mut events).await, [added, suspected, removed]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_behind_gets_from_what_it_knew_to_what_is() {
    let mut view: Arc<View> = Arc::default();
    let queue = EventQueue::new(Arc::clone(&view));
    let mut events = MemberEvents::new(Arc::clone(&queue));
    let mut tell = |event: MemberEvent| {
        view = with(&view, &event);
        queue.push(event, Arc::clone(&view));
    };
    tell(MemberEvent::Added(member(1)));
    tell(MemberEvent::Added(member(2)));
    assert_eq!(drain(&mut events).await.len(), 2);
    let changed = Arc::new(member(1).as_ref().clone().with_payload("new"));
    tell(MemberEvent::Updated(Arc::clone(&changed)));
    tell(MemberEvent::Removed(member(2), Departure::Shutdown));
    for _ in 0..600 {
        tell(MemberEvent::Added(member(3)));
        tell(MemberEvent::Removed(member(3), Departure::Failed));
    }
    tell(MemberEvent::Added(member(4)));
    let events = drain(&mut events).await;
    assert!(events.len() < 1024);
    let updated = events.iter().filter_map(|event| match event {
        MemberEvent::Updated(member) => Some(member.payload().clone()),
        _ => None,
    });
    assert_eq!(updated.collect::<Vec<_>>(), ["new"]);
    let seen = [MemberEvent::Added(member(1)), MemberEvent::Added(member(2))];
    let seen = seen.iter().chain(&events).fold(Arc::default(), |view, event| with(&view, event));
    assert_eq!(seen.members().iter().map(|member| member.port()).collect::<Vec<_>>(), [1, 4]);
}

/// The real world without random bytes.
struct NoChance(Env);

impl EnvProvider for NoChance {
    fn now(&self) -> Time {
        self.0.now()
    }
    fn wall_ms(&self) -> i64 {
        self.0.wall_ms()
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
    fn fill_unique(&self, _: &mut [u8; 16]) -> io::Result<()> {
        Err(io::Error::other("none today"))
    }
    fn spawn(&self, task: BoxFuture) -> TaskHandle {
        self.0.spawn(task)
    }
    fn sleep_until(&self, deadline: Time) -> BoxFuture {
        let env = self.0.clone();
        Box::pin(async move { env.sleep_until(deadline).await })
    }
}

/// Parts that start, and do nothing.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl ChannelSender for Idle {
    async fn start(&self, _: Arc<Member>, _: Link) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Time) {}
    async fn send(&self, _: Outbound) -> Result<(), SendError> {
        Ok(())
    }
    async fn probe(&self, _: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Unreachable
    }
}

#[async_trait]
impl ChannelReceiver for Idle {
    async fn start(&self, _: Link) -> Result<Endpoint, BoxError> {
        Ok(Endpoint::new([127, 0, 0, 1].into(), 1))
    }
    async fn stop(&self, _: Time) {}
}

#[async_trait]
impl MembershipService for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }
    async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Services) {}
}

/// Weak ids could be those of others, and whoever seals with weak bytes gives keys away: better nothing.
#[tokio::test(start_paused = true)]
async fn without_random_bytes_no_member_gets_an_id() {
    let build = |id: Option<MemberId>| {
        let builder =
            Channel::builder().sender(Idle).receiver(Idle).membership(Idle).env(Env::new(NoChance(Env::real())));
        id.into_iter().fold(builder, super::ChannelBuilder::id).build().unwrap()
    };
    let channel = build(None);
    for _ in 0..2 {
        let error = channel.start().await.unwrap_err();
        assert!(matches!(error, StartError::NoRandomness(_)), "{error}");
        assert!(channel.services().await.is_empty());
    }
    // One that needs none is fine.
    let channel = build(Some(MemberId::ZERO));
    channel.start().await.unwrap();
    channel.stop().await;
}
