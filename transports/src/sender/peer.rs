//! One member to send to: a queue, and a task that connects when there is something to send (or at once, when eager) and
//! keeps the connection until it is not wanted or gone.
//!
//! | file | idea |
//! |---|---|
//! | `connect` | making the connection, hello included |
//! | `drive` | an open connection: writing what is queued, reading the answers, deadlines |
//! | `write` | who writes: the task, or the caller that finds the connection idle |

mod connect;
mod drive;
mod write;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tribes_core::member::Suspicion;
use tribes_core::{Destination, FaultKind, Member, MemberId, Time};

use self::connect::NoConnection;
pub(super) use self::connect::greet;
use self::write::Writing;
use super::core::{LinkCore, Resolved};
use super::{Frame, Shared};
use crate::stream::ByteStream;

/// One part in this many of a member's room is taken ahead, 16 KiB by default.
const AHEAD: usize = 512;
/// Pauses before connecting again: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// After so many connections that broke at once, what waits is failed.
const MAX_BROKEN: u32 = 3;
/// The longest of them while messages wait: they have seconds.
const BACKOFF_AT_WORK: Duration = Duration::from_millis(500);

/// One member to send to.
pub(super) struct Peer {
    pub(super) member: Arc<Member>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// The open connection. Locked for one system call, with `state` unlocked.
    stream: Mutex<Option<(u64, Box<dyn ByteStream>)>>,
    wake: Notify,
    /// Told whenever nothing waits any more, if anybody waits for that.
    idle: Notify,
    drainers: AtomicUsize,
    connected: AtomicBool,
    eager: AtomicBool,
    /// Whether it was said since the last connection that none can be made.
    unreachable: AtomicBool,
    /// Changed with the state locked: nothing is queued behind the end.
    closing: AtomicBool,
}

/// Why a message was not queued.
pub(super) enum NotQueued {
    NoRoom(Destination),
    Closed(Destination),
}

/// What is queued, and who writes it.
struct State {
    core: LinkCore,
    writing: Writing,
    last_used: Time,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer, or the network.
    Lost(String),
    /// The owner wants it.
    Ordered,
    /// Another process is there.
    Replaced(MemberId),
    /// So many messages or so long were enough, or answers can no longer be told apart.
    Renew,
}

impl Peer {
    pub(super) fn new(member: Arc<Member>, shared: Arc<Shared>, eager: bool) -> Arc<Self> {
        let room = shared.link.budget().reserve_none(&member);
        let ahead = shared.link.budget().config().per_member / AHEAD;
        let core = LinkCore::new(&member, room, ahead, shared.config.timeout, shared.env().random());
        let peer = Arc::new(Self {
            member,
            state: Mutex::new(State { core, writing: Writing::default(), last_used: shared.env().now() }),
            stream: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
            drainers: AtomicUsize::new(0),
            connected: AtomicBool::new(false),
            eager: AtomicBool::new(eager),
            unreachable: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            shared,
        });
        peer.shared.link.spawn(Arc::clone(&peer).run());
        peer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for the task that was woken: whatever comes from now on wakes it again.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.writing.heard();
        state
    }

    /// Queues a message for this member; written here and now if nobody else is at it.
    ///
    /// # Errors
    /// The destination comes back if there is no room, or if the peer is closed: then it is for the one that followed.
    pub(super) fn push(&self, destination: Destination, frame: &Frame<'_>, now: Time) -> Result<(), NotQueued> {
        let (batch, wake) = {
            let mut state = self.state();
            if self.is_closing() {
                return Err(NotQueued::Closed(destination));
            }
            let State { core, writing, last_used } = &mut *state;
            *last_used = now.max(*last_used);
            let was_flushed = core.is_flushed();
            let unwatched = core
                .push(frame.message, frame.sender, frame.len, destination, frame.cost, now)
                .map_err(NotQueued::NoRoom)?;
            let batch = (writing.may_write_here(frame.message.options) && was_flushed)
                .then(|| writing.begin(core, self.shared.config.coalesce, now))
                .flatten();
            // The task is needed to write, or to look after the deadline.
            let wake = (batch.is_none() || unwatched) && writing.signal();
            (batch, wake)
        };
        if wake {
            self.wake.notify_one();
        }
        if let Some(batch) = batch {
            self.write_here(batch, now);
        }
        Ok(())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.state().core.queued_bytes()
    }

    /// Gives memory back that an idle link does not need.
    pub(super) fn shrink(&self) {
        self.state().core.shrink();
    }

    pub(super) fn set_eager(&self, eager: bool) {
        self.eager.store(eager, Ordering::Release);
        self.wake.notify_one();
    }

    /// Has the task look whether its connection is old enough to be closed.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends the task; what waits fails with `kind`, here and now: the task may be aborted before its next turn.
    pub(super) fn close(&self, kind: &FaultKind) {
        let mut resolved = Vec::new();
        {
            let mut state = self.state();
            self.closing.store(true, Ordering::Release);
            state.writing.abandon();
            state.core.fail_all(kind, self.shared.env().random(), &mut resolved);
        }
        self.wake.notify_one();
        self.settle(&mut resolved);
    }

    /// Whether nobody has waited for anything here since `since`.
    pub(super) fn unused_since(&self, since: Time) -> bool {
        let state = self.state();
        !state.core.is_awaited() && state.last_used < since
    }

    /// Waits until there is nothing here that may still arrive. Cancel safe.
    pub(super) async fn drained(&self) {
        let _waiting = Draining::new(&self.drainers);
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.state().core.is_drained() {
                return;
            }
            idle.await;
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Resolves completions, with no lock held.
    fn settle(&self, resolved: &mut Vec<Resolved>) {
        for (completion, result) in resolved.drain(..) {
            if let Err(kind) = &result {
                self.shared.counters.failed(kind);
            }
            completion.resolve(result);
        }
        if self.drainers.load(Ordering::SeqCst) > 0 && self.state().core.is_drained() {
            self.idle.notify_waiters();
        }
    }

    fn fail_all(&self, kind: &FaultKind) {
        let mut resolved = Vec::new();
        self.state().core.fail_all(kind, self.shared.env().random(), &mut resolved);
        self.settle(&mut resolved);
    }

    async fn run(self: Arc<Self>) {
        let mut pause = BACKOFF.0;
        // Connections in a row that broke at once and brought nothing. After the first of them the next is made at once.
        let mut broken = 0u32;
        let mut taken = 0;
        loop {
            self.until_needed().await;
            if self.is_closing() {
                break;
            }
            match self.connect().await {
                Ok((stream, decoder)) => {
                    let (opened, brought) = (self.shared.env().now(), self.state().core.taken_so_far());
                    if brought != taken {
                        // What the connection before had brought is often told by the next only.
                        (taken, broken) = (brought, 0);
                    }
                    self.open(stream);
                    let end = self.drive(decoder, opened).await;
                    self.connected.store(false, Ordering::Release);
                    self.shut();
                    let held = self.shared.env().now() - opened > Duration::from_secs(1);
                    let failed = matches!(end, End::Lost(_)) && !held;
                    self.ended(end);
                    broken = if failed { broken + 1 } else { 0 };
                    if broken > 1 {
                        self.pause(pause.min(BACKOFF_AT_WORK), false).await;
                        pause = (pause * 2).min(BACKOFF.1);
                    } else {
                        pause = BACKOFF.0;
                    }
                }
                Err(NoConnection::Ordered) => {}
                Err(NoConnection::Replaced(by)) => {
                    self.replaced(by);
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(NoConnection::Broken(why)) if broken < MAX_BROKEN => {
                    tracing::debug!(member = %self.member, why, "connecting again, for the hello was not answered");
                    broken += 1;
                    self.pause(pause.min(BACKOFF_AT_WORK), false).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(NoConnection::Failed(why) | NoConnection::Broken(why)) => {
                    self.shared.counters.connect_failed();
                    // A member that died before there was a connection has none that could close: this is the sign of it.
                    if self.eager.load(Ordering::Acquire) && !self.unreachable.swap(true, Ordering::AcqRel) {
                        self.shared.link.suspect(&self.member, Suspicion::ConnectionClosed);
                    }
                    let resumes = self.state().core.may_resume();
                    if resumes {
                        tracing::debug!(member = %self.member, why, "connecting again to resume");
                        self.pause(pause.min(BACKOFF_AT_WORK), false).await;
                    } else {
                        self.fail_all(&FaultKind::Connect(why));
                        // Something new to send does not wait for a pause that was made for nothing to send.
                        self.pause(pause, true).await;
                    }
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Waits until a connection is wanted, or the end is.
    async fn until_needed(&self) {
        loop {
            if self.look().core.has_work() || self.is_closing() || self.eager.load(Ordering::Acquire) {
                return;
            }
            self.wake.notified().await;
        }
    }

    /// Waits before connecting again, failing what is due meanwhile. With `until_work` it ends when there is something to send.
    async fn pause(&self, pause: Duration, until_work: bool) {
        let until = self.shared.env().now() + pause;
        loop {
            let due = self.look().core.deadline().unwrap_or(Time::NEVER);
            if self.shared.env().until(until.min(due), self.wake.notified()).await.is_some() {
                if self.is_closing() || (until_work && self.state().core.has_work()) {
                    return;
                }
                continue;
            }
            self.expire();
            if self.shared.env().now() >= until {
                return;
            }
        }
    }

    fn expire(&self) -> bool {
        let mut resolved = Vec::new();
        let misaligned = {
            let mut state = self.state();
            let misaligned = state.core.expire(self.shared.env().now(), &mut resolved);
            if misaligned {
                state.writing.abandon();
            }
            misaligned
        };
        self.settle(&mut resolved);
        misaligned
    }

    fn replaced(&self, by: MemberId) {
        let mut resolved = Vec::new();
        self.state().core.replaced(by, self.shared.env().random(), &mut resolved);
        self.settle(&mut resolved);
        self.eager.store(false, Ordering::Release);
        self.shared.link.suspect(&self.member, Suspicion::ConnectionClosed);
    }

    fn ended(&self, end: End) {
        let why = match end {
            End::Lost(why) => why,
            End::Ordered | End::Renew => "it was closed here".to_owned(),
            End::Replaced(by) => return self.replaced(by),
        };
        let mut resolved = Vec::new();
        self.state().core.disconnected(&why, &mut resolved);
        self.settle(&mut resolved);
    }
}

/// One more who waits for the link to drain, until dropped.
struct Draining<'a>(&'a AtomicUsize);

impl<'a> Draining<'a> {
    fn new(drainers: &'a AtomicUsize) -> Self {
        drainers.fetch_add(1, Ordering::SeqCst);
        Self(drainers)
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("member", &self.member)
            .field("connected", &self.is_connected())
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
