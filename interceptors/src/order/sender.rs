//! One sender: its stream, and the right to deliver what is ready of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tribes_core::{Inbound, Link, Next, ReceiveError};

use super::core::{Counts, Stream};
use crate::seen::Seen;

/// What is known of one sender.
#[derive(Debug, Default)]
pub(super) struct Sender {
    state: Mutex<State>,
    pub(super) held: Arc<AtomicUsize>,
    /// What it was told of messages whose outcome it waits for.
    pub(super) told: Arc<Seen>,
    pub(super) heard: AtomicU64,
    pub(super) in_group: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stream: Stream<Inbound>,
    /// Somebody delivers what is ready.
    delivering: bool,
}

/// The way up: of a hook, or of a task.
#[derive(Clone, Copy)]
pub(super) enum Up<'a> {
    Next(Next<'a>),
    Link(&'a Link),
}

impl Up<'_> {
    async fn receive(&self, msg: Inbound) -> Result<(), ReceiveError> {
        match self {
            Self::Next(next) => next.receive(msg).await,
            Self::Link(link) => link.receive(msg).await,
        }
    }
}

/// Room for a message that waits, given back when it has been handled.
pub(super) struct Room {
    pub(super) bytes: usize,
    pub(super) of_sender: Arc<AtomicUsize>,
    pub(super) of_all: Arc<AtomicUsize>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of_sender.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Sender {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of it waits or is being delivered.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        state.delivering || state.stream.waiting() > 0 || !state.stream.ready.is_empty()
    }
}

impl State {
    /// What is to be looked at outside the lock.
    pub(super) fn take(&mut self) -> (Counts, Vec<Inbound>) {
        (std::mem::take(&mut self.stream.counts), std::mem::take(&mut self.stream.expired))
    }

    /// The turn to deliver, if something is ready and nobody has it.
    pub(super) fn turn<'a>(&mut self, sender: &Arc<Sender>, link: Option<&'a Link>) -> Option<Turn<'a>> {
        if self.delivering || self.stream.ready.is_empty() {
            return None;
        }
        self.delivering = true;
        Some(Turn { sender: Arc::clone(sender), link, over: false })
    }
}

/// The right and duty to deliver what is ready of one sender. Dropped by a hook before that is done, as when a connection
/// ends, it goes on in a task of its own; those end with the channel, and what is ready then is lost.
pub(super) struct Turn<'a> {
    sender: Arc<Sender>,
    /// How it can go on later; a task has none.
    link: Option<&'a Link>,
    over: bool,
}

impl Turn<'_> {
    /// Delivers until nothing is ready. The first error of those above; each message has answered for itself.
    pub(super) async fn run(mut self, up: Up<'_>) -> Result<(), ReceiveError> {
        let mut result = Ok(());
        while let Some(msg) = self.next() {
            result = result.and(up.receive(msg).await);
        }
        result
    }

    /// The next message; without one the turn is over.
    fn next(&mut self) -> Option<Inbound> {
        let mut state = self.sender.lock();
        let next = state.stream.ready.pop_front();
        if next.is_none() {
            state.delivering = false;
            self.over = true;
        }
        next
    }

    pub(super) fn run_later(mut self) {
        let Some(link) = self.link else { return };
        self.over = true;
        let later = Turn { sender: Arc::clone(&self.sender), link: None, over: false };
        let up = link.clone();
        link.spawn(async move {
            let _ = later.run(Up::Link(&up)).await;
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.sender.lock();
        let goes_on = self.link.is_some() && !state.stream.ready.is_empty();
        state.delivering = goes_on;
        let left = if goes_on { VecDeque::new() } else { std::mem::take(&mut state.stream.ready) };
        drop(state);
        drop(left);
        if goes_on {
            Turn { sender: Arc::clone(&self.sender), link: self.link, over: false }.run_later();
        }
    }
}
