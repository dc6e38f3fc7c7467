//! Messages and membership as streams.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures_core::Stream;
use tokio::sync::mpsc;

use super::listener::{ChannelListener, ListenerHandle};
use crate::error::BoxError;
use crate::member::{MemberEvent, View};
use crate::{Departure, Member, Message};

/// The messages of a channel as a stream of (message, sender); ends when the channel is gone. Dropping it unsubscribes.
///
/// Holds up to 256 messages; when it is full, the senders are held up as by a slow listener. A synchronized
/// acknowledgement is given when the message has entered the stream.
#[derive(Debug)]
pub struct Messages {
    receiver: mpsc::Receiver<(Message, Arc<Member>)>,
    _handle: ListenerHandle,
}

impl Messages {
    /// How many messages a stream holds.
    pub const CAPACITY: usize = 256;

    pub(super) fn new(receiver: mpsc::Receiver<(Message, Arc<Member>)>, handle: ListenerHandle) -> Self {
        Self { receiver, _handle: handle }
    }

    /// The next message and its sender; `None` once the channel is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<(Message, Arc<Member>)> {
        self.receiver.recv().await
    }
}

impl Stream for Messages {
    type Item = (Message, Arc<Member>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// The listener behind [`Messages`].
pub(super) struct StreamListener(pub(super) mpsc::Sender<(Message, Arc<Member>)>);

#[async_trait]
impl ChannelListener for StreamListener {
    fn accepts(&self, _: &Message, _: &Member) -> bool {
        !self.0.is_closed()
    }

    async fn message_received(&self, mut message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        // It stays in the stream for as long as the reader likes.
        message.detach();
        self.0.send((message, Arc::clone(from))).await.map_err(|_closed| "the message stream was dropped".into())
    }
}

/// What happens to members, as a stream of [`MemberEvent`]; ends when the channel is gone.
///
/// Holds up to 1,024 events. A reader that falls behind further loses single events, yet not the result: it then gets the
/// difference between the last group it knew and the present one; how members left is lost then, and told as
/// [`Departure::Failed`].
pub struct MemberEvents(Arc<EventQueue>);

/// The queue between the channel and one [`MemberEvents`].
pub(super) struct EventQueue(Mutex<EventState>);

struct EventState {
    /// The group as the reader knows it.
    seen: Arc<View>,
    /// The group as the channel has it.
    current: Arc<View>,
    events: VecDeque<MemberEvent>,
    closed: bool,
    waker: Option<Waker>,
}

const EVENT_CAPACITY: usize = 1024;

impl EventQueue {
    /// A queue that begins with the members who are there as added.
    pub(super) fn new(current: Arc<View>) -> Arc<Self> {
        let events = current.members().iter().map(|member| MemberEvent::Added(Arc::clone(member))).collect();
        Arc::new(Self(Mutex::new(EventState { seen: Arc::default(), current, events, closed: false, waker: None })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, EventState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: MemberEvent, current: Arc<View>) {
        let mut state = self.lock();
        if current.number() == state.current.number() && !matches!(event, MemberEvent::Suspected(..)) {
            // The queue was made after the view had changed: it began with this event's result.
            return;
        }
        state.current = current;
        state.events.push_back(event);
        if state.events.len() > EVENT_CAPACITY {
            state.events = difference(&state.seen, &state.current);
        }
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

/// The events that lead from one view to another.
fn difference(from: &View, to: &View) -> VecDeque<MemberEvent> {
    let gone = from.members().iter().filter(|member| !to.contains(member));
    let come = to.members().iter().filter_map(|member| match from.find(member) {
        None => Some(MemberEvent::Added(Arc::clone(member))),
        Some(known) => (!known.same_content(member)).then(|| MemberEvent::Updated(Arc::clone(member))),
    });
    gone.map(|member| MemberEvent::Removed(Arc::clone(member), Departure::Failed)).chain(come).collect()
}

impl MemberEvents {
    pub(super) const fn new(queue: Arc<EventQueue>) -> Self {
        Self(queue)
    }

    /// The next event; `None` once the channel is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<MemberEvent> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<MemberEvent>> {
        let mut state = self.0.lock();
        if let Some(event) = state.events.pop_front() {
            if let Some(view) = state.seen.apply(&event) {
                state.seen = Arc::new(view);
            }
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for MemberEvents {
    type Item = MemberEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MemberEvent>> {
        self.poll(cx)
    }
}

impl fmt::Debug for MemberEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberEvents").field("queued", &self.0.lock().events.len()).finish()
    }
}
