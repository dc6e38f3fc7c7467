//! What only the crate can see of a channel. Everything else is tested from outside, in `testkit/tests/channel_*.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::stream::{EventQueue, MemberEvents};
use crate::member::{Departure, Member, MemberEvent, MemberId, Suspicion, View};

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
