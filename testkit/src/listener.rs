//! A listener that records.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tribes_core::member::{Departure, Suspicion};
use tribes_core::{BoxError, ChannelListener, Member, MemberEvent, MembershipListener, Message};

use crate::wait::Changes;

/// Listens for messages and members and records both; reacts to messages as told. Cheap to clone; all clones are the same.
///
/// Give a clone to [`Channel::listen`](tribes_core::Channel::listen), another to
/// [`Channel::listen_members`](tribes_core::Channel::listen_members).
#[derive(Clone, Default)]
pub struct RecordingListener(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changes: Changes,
    released: Notify,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    events: Vec<MemberEvent>,
    next: VecDeque<Reaction>,
    otherwise: Reaction,
    holding: usize,
}

/// A message that reached the listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its sender.
    pub from: Arc<Member>,
}

impl Received {
    /// Its body as text, for assertions; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.message.bytes()).into_owned()
    }
}

/// What a [`RecordingListener`] does with a message after it recorded it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reaction {
    /// Takes it. The default.
    #[default]
    Take,
    /// Does not accept it, and does not record it either.
    Decline,
    /// Fails with this text.
    Fail(&'static str),
    /// Panics with this text.
    Panic(&'static str),
    /// Takes it, but returns only after [`RecordingListener::release`].
    Hold,
}

impl RecordingListener {
    /// A listener that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on reacts like this.
    pub fn react(&self, reaction: Reaction) {
        self.lock().otherwise = reaction;
    }

    /// Reacts to the next message like this; calls queue up.
    pub fn react_next(&self, reaction: Reaction) {
        self.lock().next.push_back(reaction);
    }

    /// Lets all messages that are being held return.
    pub fn release(&self) {
        self.0.released.notify_waiters();
    }

    /// Waits until `count` messages are being held. Panics if they are not.
    pub async fn wait_holding(&self, count: usize) {
        let holding = || self.lock().holding;
        let look = || (holding() >= count).then_some(());
        self.0.changes.until(look, || format!("{count} messages to be held; there are {}", holding())).await;
    }

    /// All messages so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// Forgets all messages and events so far.
    pub fn forget(&self) {
        let mut state = self.lock();
        let past = (std::mem::take(&mut state.received), std::mem::take(&mut state.events));
        drop(state);
        // Without the lock: what it lets go of may be others' affair.
        drop(past);
    }

    /// How many messages there are so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().received.len()
    }

    /// The bodies of all messages so far, as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.lock().received.iter().map(Received::text).collect()
    }

    /// Waits until there are `count` messages, and returns all. Panics if they do not come.
    pub async fn wait_received(&self, count: usize) -> Vec<Received> {
        let look = || Some(self.received()).filter(|received| received.len() >= count);
        self.0.changes.until(look, || format!("{count} messages; there are {:?}", self.texts())).await
    }

    /// All membership events so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<MemberEvent> {
        self.lock().events.clone()
    }

    /// Waits until there are `count` membership events, and returns all. Panics if they do not come.
    pub async fn wait_events(&self, count: usize) -> Vec<MemberEvent> {
        let look = || Some(self.events()).filter(|events| events.len() >= count);
        self.0.changes.until(look, || format!("{count} membership events; there are {:?}", self.events())).await
    }

    fn event(&self, event: MemberEvent) {
        self.lock().events.push(event);
        self.0.changes.tell();
    }
}

#[async_trait]
impl ChannelListener for RecordingListener {
    fn accepts(&self, _: &Message, _: &Member) -> bool {
        let mut state = self.lock();
        let declines = *state.next.front().unwrap_or(&state.otherwise) == Reaction::Decline;
        if declines {
            state.next.pop_front();
        }
        !declines
    }

    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        let released = self.0.released.notified();
        tokio::pin!(released);
        let reaction = {
            let mut state = self.lock();
            state.received.push(Received { message, from: Arc::clone(from) });
            let reaction = state.next.pop_front().unwrap_or(state.otherwise);
            if reaction == Reaction::Hold {
                // Registered before anybody can know that it is held.
                released.as_mut().enable();
                state.holding += 1;
            }
            reaction
        };
        self.0.changes.tell();
        match reaction {
            Reaction::Take | Reaction::Decline => Ok(()),
            Reaction::Fail(text) => Err(text.into()),
            Reaction::Panic(text) => panic!("{text}"),
            Reaction::Hold => {
                released.await;
                self.lock().holding -= 1;
                Ok(())
            }
        }
    }
}

impl MembershipListener for RecordingListener {
    fn member_added(&self, member: &Arc<Member>) {
        self.event(MemberEvent::Added(Arc::clone(member)));
    }

    fn member_removed(&self, member: &Arc<Member>, why: Departure) {
        self.event(MemberEvent::Removed(Arc::clone(member), why));
    }

    fn member_updated(&self, member: &Arc<Member>) {
        self.event(MemberEvent::Updated(Arc::clone(member)));
    }

    fn member_suspected(&self, member: &Arc<Member>, why: Suspicion) {
        self.event(MemberEvent::Suspected(Arc::clone(member), why));
    }
}

impl fmt::Debug for RecordingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("RecordingListener")
            .field("received", &state.received.len())
            .field("events", &state.events.len())
            .finish_non_exhaustive()
    }
}
