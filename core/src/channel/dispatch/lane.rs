//! One sender's messages: a FIFO, and one future, the *handler*, that gives what is in it to the listeners one after
//! another.
//!
//! The handler rests while the FIFO is empty. Whoever then brings messages runs it on the spot, if it may: no other task is
//! woken, and nothing is copied. When a listener waits, or takes long, the handler goes to a task of its own, which
//! returns it when the FIFO is empty again. As there is one handler, order holds, whoever runs it and however many
//! connections the sender has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Tally;
use super::application::Application;
use crate::channel::Inner;
use crate::delivery::Inbound;
use crate::env::BoxFuture;
use crate::{Env, Member, Time};

/// A listener that takes so long without waiting is to have a task of its own, if it does so several times in a row; once
/// may be the operating system's doing.
const LONG: Duration = Duration::from_micros(200);
/// Long in a row before that.
const STRIKES: u8 = 3;
/// That once is enough.
const VERY_LONG: Duration = Duration::from_millis(20);
/// For how long it then has one.
const AWAY: Duration = Duration::from_millis(100);
/// The clock is read after the first, the second and the fourth message, and then once in this many.
const CHECK_EVERY: u32 = 8;
/// A FIFO that once was longer than this gives its memory back when it is empty.
const KEPT: usize = 256;

/// One sender's way to the listeners.
pub(super) struct Lane {
    from: Arc<Member>,
    application: Arc<Application>,
    tally: Arc<Tally>,
    state: Mutex<State>,
}

struct State {
    messages: VecDeque<Inbound>,
    handler: Handler,
    /// The handler stopped because there is no message, not because a listener waits.
    empty: bool,
    /// The present turn of whoever brought messages and runs the handler.
    turn: Option<Turn>,
    /// Turns, or parts of them, in a row that took long.
    strikes: u8,
    /// Until then the handler runs on its own task only.
    away_until: Time,
    task: Task,
    closed: bool,
    last_used: Time,
}

/// Where the handler is.
enum Handler {
    Resting(BoxFuture),
    /// For the task to take up.
    Handed(BoxFuture),
    /// With whoever runs it.
    Running,
    Gone,
}

/// The task that runs the handler when a listener waits.
enum Task {
    /// Not needed so far.
    None,
    Running,
    /// Waits to be handed the handler.
    Waiting(Waker),
}

/// How long a turn has been, looked at now and then.
struct Turn {
    looked: Time,
    handled: u32,
    look_at: u32,
}

impl Lane {
    pub(super) fn open(from: Arc<Member>, application: &Arc<Application>, tally: &Arc<Tally>, now: Time) -> Arc<Self> {
        let lane = Arc::new(Self {
            from,
            application: Arc::clone(application),
            tally: Arc::clone(tally),
            state: Mutex::new(State {
                messages: VecDeque::new(),
                handler: Handler::Gone,
                empty: false,
                turn: None,
                strikes: 0,
                away_until: Time::ZERO,
                task: Task::None,
                closed: false,
                last_used: now,
            }),
        });
        // A cycle until the lane is closed.
        let handler = Arc::clone(&lane).handle();
        lane.lock().handler = Handler::Resting(Box::pin(handler));
        lane
    }

    /// Takes the first `count` messages of `batch`, and handles them if it may and can; false if the lane is closed.
    pub(super) fn push(
        self: &Arc<Self>,
        channel: &Inner,
        batch: &mut Vec<Inbound>,
        count: usize,
        inline: bool,
        now: Time,
    ) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        self.tally.add(count);
        state.last_used = now;
        let resting = matches!(state.handler, Handler::Resting(_));
        let inline = inline && resting && now >= state.away_until;
        let messages = batch.drain(..count);
        if inline {
            state.messages.extend(messages);
        } else {
            state.messages.extend(messages.map(detached));
        }
        if !resting {
            // Whoever runs the handler comes to them.
            return true;
        }
        let Handler::Resting(handler) = std::mem::replace(&mut state.handler, Handler::Running) else { return true };
        state.empty = false;
        if inline {
            state.turn = Some(Turn::begin(now));
            drop(state);
            self.run(channel, handler, now);
        } else {
            self.hand_over(channel, state, handler);
        }
        true
    }

    /// Runs the handler until there is no message, or a listener waits.
    fn run(self: &Arc<Self>, channel: &Inner, mut handler: BoxFuture, since: Time) {
        // If it waits, the task polls it again at once: nobody is to be woken before that. And what a listener does is not
        // counted against whoever runs it here.
        let mut cx = Context::from_waker(Waker::noop());
        let ended = {
            let turn = tokio::task::coop::unconstrained(handler.as_mut());
            tokio::pin!(turn);
            turn.poll(&mut cx).is_ready()
        };
        let took = self.env().now() - since;
        let mut state = self.lock();
        if state.turn.take().is_some_and(|turn| turn.handled <= 1) {
            // Longer turns have been looked at on the way.
            state.judge(took, since + took);
        }
        if ended {
            return;
        }
        if state.empty && state.messages.is_empty() && !state.closed {
            state.rest(handler);
        } else if state.closed {
            // The channel has stopped meanwhile, and waits for nobody any more.
            drop(state);
            drop(handler);
            self.abandon();
        } else {
            state.messages.iter_mut().for_each(Inbound::detach);
            self.hand_over(channel, state, handler);
        }
    }

    fn hand_over(self: &Arc<Self>, channel: &Inner, mut state: MutexGuard<'_, State>, handler: BoxFuture) {
        state.handler = Handler::Handed(handler);
        let task = std::mem::replace(&mut state.task, Task::Running);
        drop(state);
        match task {
            Task::None => channel.stack.spawn(Arc::clone(self).task()),
            Task::Running => {}
            Task::Waiting(waker) => waker.wake(),
        }
    }

    /// The task: runs the handler whenever it is handed over.
    async fn task(self: Arc<Self>) {
        // Declared first, dropped last: the handler's own message is counted off before the others.
        let _abandoned = Abandoned(&self);
        loop {
            let taken = std::future::poll_fn(|cx| self.poll_handed(cx)).await;
            let Some(handler) = taken else { return };
            let mut handler = Some(handler);
            std::future::poll_fn(|cx| self.poll_handler(&mut handler, cx)).await;
        }
    }

    fn poll_handed(&self, cx: &Context<'_>) -> Poll<Option<BoxFuture>> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.handler, Handler::Running) {
            Handler::Handed(handler) => {
                state.task = Task::Running;
                Poll::Ready(Some(handler))
            }
            handler => {
                state.handler = handler;
                if state.closed {
                    return Poll::Ready(None);
                }
                state.task = Task::Waiting(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Runs the handler until it rests again, or has ended.
    fn poll_handler(&self, handler: &mut Option<BoxFuture>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(running) = handler else { return Poll::Ready(()) };
            if running.as_mut().poll(cx).is_ready() {
                *handler = None;
                return Poll::Ready(());
            }
            let mut state = self.lock();
            if !std::mem::take(&mut state.empty) {
                return Poll::Pending;
            }
            if state.messages.is_empty() && !state.closed {
                if let Some(handler) = handler.take() {
                    state.rest(handler);
                }
                return Poll::Ready(());
            }
        }
    }

    /// The handler: gives messages to the listeners until the lane is closed and empty.
    async fn handle(self: Arc<Self>) {
        let handling = async {
            while let Some(msg) = std::future::poll_fn(|_| self.poll_next()).await {
                self.application.handle(msg, &self).await;
                tokio::task::coop::consume_budget().await;
            }
        };
        Application::handling(&self.application, &self.from, handling).await;
    }

    /// The next message. Whoever polls the handler finds out by `empty` that there is none; nobody is woken.
    fn poll_next(&self) -> Poll<Option<Inbound>> {
        let mut state = self.lock();
        if state.messages.is_empty() {
            if state.closed {
                return Poll::Ready(None);
            }
            state.empty = true;
            return Poll::Pending;
        }
        if state.turn.as_mut().is_some_and(Turn::is_due) && state.look(self.env()) {
            // Not empty: the handler goes to its task.
            state.turn = None;
            return Poll::Pending;
        }
        Poll::Ready(state.messages.pop_front())
    }

    /// Up to `most` messages that are there beside the one in hand.
    pub(super) fn more(&self, most: usize) -> Vec<Inbound> {
        let mut state = self.lock();
        let count = state.messages.len().min(most);
        if let Some(turn) = &mut state.turn {
            turn.handled = turn.handled.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
        state.messages.drain(..count).collect()
    }

    /// A guard that counts `count` messages as handled when dropped, also when the task is aborted meanwhile.
    pub(super) fn counted(&self, count: usize) -> Counted<'_> {
        Counted(&self.tally, count)
    }

    /// Closes the lane if nothing has been in it since before `since`; whether it is closed.
    pub(super) fn close_if_idle(&self, since: Time) -> bool {
        let idle = {
            let state = self.lock();
            state.closed || (matches!(state.handler, Handler::Resting(_)) && state.last_used <= since)
        };
        if idle {
            self.close();
        }
        idle
    }

    /// Takes no more messages; those that are in are still handled.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let resting = match std::mem::replace(&mut state.handler, Handler::Gone) {
            Handler::Resting(handler) => Some(handler),
            handler => {
                state.handler = handler;
                None
            }
        };
        let task = match &mut state.task {
            Task::Waiting(waker) => Some(waker.clone()),
            _ => None,
        };
        drop(state);
        drop(resting);
        task.inspect(Waker::wake_by_ref);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// What is left waits no more: its receipts answer negatively.
    fn abandon(&self) {
        let (left, _handler) = {
            let mut state = self.lock();
            state.closed = true;
            (std::mem::take(&mut state.messages), std::mem::replace(&mut state.handler, Handler::Gone))
        };
        let count = left.len();
        drop(left);
        self.tally.remove(count);
    }

    fn env(&self) -> &Env {
        self.application.env()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rest(&mut self, handler: BoxFuture) {
        self.handler = Handler::Resting(handler);
        if self.messages.capacity() > KEPT {
            self.messages = VecDeque::new();
        }
    }

    /// Looks at the clock; whether the turn has to end.
    fn look(&mut self, env: &Env) -> bool {
        let now = env.now();
        let Some(took) = self.turn.as_mut().map(|turn| turn.look(now)) else { return false };
        self.judge(took, now)
    }

    /// A turn or a part of one took so long; whether the handler is to go to its task.
    fn judge(&mut self, took: Duration, now: Time) -> bool {
        if took < LONG {
            self.strikes = 0;
            return false;
        }
        self.strikes += 1;
        let away = self.strikes >= STRIKES || took >= VERY_LONG;
        if away {
            // One strike more, and it is away again.
            self.strikes = STRIKES - 1;
            self.away_until = now + AWAY;
        }
        away
    }
}

impl Turn {
    const fn begin(now: Time) -> Self {
        Self { looked: now, handled: 0, look_at: 1 }
    }

    /// Counts the next message; whether to look at the clock before it.
    const fn is_due(&mut self) -> bool {
        self.handled = self.handled.saturating_add(1);
        self.handled > self.look_at
    }

    /// The time since the last look.
    fn look(&mut self, now: Time) -> Duration {
        let took = now - self.looked;
        self.looked = now;
        // What took long is looked at again after the next message.
        let step = if took >= LONG { 1 } else { self.handled.min(CHECK_EVERY) };
        self.look_at = self.handled.saturating_add(step).saturating_sub(1);
        took
    }
}

/// See [`Lane::counted`].
pub(super) struct Counted<'a>(&'a Tally, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

/// Abandons the lane when its task ends before its time.
struct Abandoned<'a>(&'a Lane);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A message that has to wait is made independent of the buffer it came in.
fn detached(mut msg: Inbound) -> Inbound {
    msg.detach();
    msg
}
