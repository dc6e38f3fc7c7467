//! One member's connection: a task that connects when there is something to send (or at once, when eager), writes what is
//! queued in as few system calls as possible, reads the answers, and says when the connection is gone.

mod connect;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::ReadBuf;
use tokio::sync::Notify;
use tribes_core::member::Suspicion;
use tribes_core::wire::{Control, Frame, FrameDecoder, RefuseReason};
use tribes_core::{FaultKind, Member, MemberId, Time};

use self::connect::NoConnection;
pub(super) use self::connect::greet;
use super::Shared;
use super::core::{Entry, LinkCore, Resolved};
use super::write_queue::WriteQueue;
use crate::stream::ByteStream;

/// Bytes read at once: answers are small.
const READ_CHUNK: usize = 8 << 10;
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
    core: Mutex<LinkCore>,
    wake: Notify,
    /// Told whenever nothing waits any more.
    idle: Notify,
    connected: AtomicBool,
    eager: AtomicBool,
    /// Whether it was said since the last connection that none can be made.
    unreachable: AtomicBool,
    /// Changed with the core locked: nothing is queued behind the end.
    closing: AtomicBool,
    last_used: Mutex<Time>,
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
        let core = LinkCore::new(&member, shared.config.timeout, shared.env().random());
        let peer = Arc::new(Self {
            member,
            core: Mutex::new(core),
            wake: Notify::new(),
            idle: Notify::new(),
            connected: AtomicBool::new(false),
            eager: AtomicBool::new(eager),
            unreachable: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            last_used: Mutex::new(shared.env().now()),
            shared,
        });
        peer.shared.link.spawn(Arc::clone(&peer).run());
        peer
    }

    fn core(&self) -> MutexGuard<'_, LinkCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an entry. Once the peer is closed the entry comes back: it is for the one that followed.
    #[must_use]
    pub(super) fn push(&self, entry: Entry) -> Option<Entry> {
        {
            let mut core = self.core();
            if self.is_closing() {
                return Some(entry);
            }
            core.push(entry);
        }
        self.wake.notify_one();
        None
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.core().queued_bytes()
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
            let mut core = self.core();
            self.closing.store(true, Ordering::Release);
            core.fail_all(kind, self.shared.env().random(), &mut resolved);
        }
        self.wake.notify_one();
        self.settle(&mut resolved);
    }

    /// Whether nobody has waited for anything here since `since`.
    pub(super) fn unused_since(&self, since: Time) -> bool {
        !self.core().is_awaited() && *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) < since
    }

    /// Waits until there is nothing here that may still arrive. Cancel safe.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.core().is_drained() {
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
        if self.core().is_drained() {
            self.idle.notify_waiters();
        }
    }

    fn fail_all(&self, kind: &FaultKind) {
        let mut resolved = Vec::new();
        self.core().fail_all(kind, self.shared.env().random(), &mut resolved);
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
                    let (opened, brought) = (self.shared.env().now(), self.core().taken_so_far());
                    if brought != taken {
                        // What the connection before had brought is often told by the next only.
                        (taken, broken) = (brought, 0);
                    }
                    let end = self.drive(stream, decoder, opened).await;
                    self.connected.store(false, Ordering::Release);
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
                    let resumes = self.core().may_resume();
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
            if self.is_closing() || self.eager.load(Ordering::Acquire) || self.core().has_work() {
                return;
            }
            self.wake.notified().await;
        }
    }

    /// Waits before connecting again, failing what is due meanwhile. With `until_work` it ends when there is something to send.
    async fn pause(&self, pause: Duration, until_work: bool) {
        let until = self.shared.env().now() + pause;
        loop {
            let due = self.core().deadline().unwrap_or(Time::NEVER);
            if self.shared.env().until(until.min(due), self.wake.notified()).await.is_some() {
                if self.is_closing() || (until_work && self.core().has_work()) {
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
        let misaligned = self.core().expire(self.shared.env().now(), &mut resolved);
        self.settle(&mut resolved);
        misaligned
    }

    fn replaced(&self, by: MemberId) {
        let mut resolved = Vec::new();
        self.core().replaced(by, self.shared.env().random(), &mut resolved);
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
        self.core().disconnected(&why, &mut resolved);
        self.settle(&mut resolved);
    }

    /// Writes and reads until the connection ends.
    async fn drive(&self, mut stream: Box<dyn ByteStream>, mut decoder: FrameDecoder, opened: Time) -> End {
        let env = self.shared.env();
        let mut out = WriteQueue::default();
        let mut resolved: Vec<Resolved> = Vec::new();
        let mut timer: Option<Timer<'_>> = None;
        // What came with the answer to the hello.
        if let Err(end) = self.read_frames(&mut decoder, &mut resolved) {
            self.settle(&mut resolved);
            return end;
        }
        loop {
            let now = env.now();
            let due = self.fill(&mut out, now, opened);
            self.settle(&mut resolved);
            let due = match due {
                Ok(due) => due,
                Err(end) => return end,
            };
            match due {
                Some(due) if timer.as_ref().is_none_or(|(at, _)| *at != due) => {
                    timer = Some((due, Box::pin(env.sleep_until(due))));
                }
                None => timer = None,
                Some(_) => {}
            }
            let notified = self.wake.notified();
            tokio::pin!(notified);
            let step = poll_fn(|cx| {
                let mut step = Step::default();
                if !out.is_empty()
                    && let Poll::Ready(written) = out.poll_write(Pin::new(&mut *stream), cx)
                {
                    step.wrote = Some(written);
                }
                if let Poll::Ready(read) = poll_read(Pin::new(&mut *stream), cx, decoder.buffer_mut()) {
                    step.read = Some(read);
                }
                step.woken = notified.as_mut().poll(cx).is_ready();
                step.due = timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
                if step.is_something() { Poll::Ready(step) } else { Poll::Pending }
            })
            .await;
            if step.due {
                timer = None;
                if self.expire() {
                    return End::Renew;
                }
            }
            let now = env.now();
            match step.wrote {
                Some(Ok(_)) => self.core().flushed(out.unflushed(), now, &mut resolved),
                Some(Err(error)) => return self.lost(&mut resolved, error.to_string()),
                None => {}
            }
            match step.read {
                Some(Ok(0)) => return self.lost(&mut resolved, "it closed the connection".to_owned()),
                Some(Ok(_)) => {
                    if let Err(end) = self.read_frames(&mut decoder, &mut resolved) {
                        self.settle(&mut resolved);
                        return end;
                    }
                }
                Some(Err(error)) => return self.lost(&mut resolved, error.to_string()),
                None => {}
            }
        }
    }

    /// Moves what may be written into `out`; when to look at deadlines next, or why the connection ends here.
    fn fill(&self, out: &mut WriteQueue, now: Time, opened: Time) -> Result<Option<Time>, End> {
        let mut core = self.core();
        let config = &self.shared.config;
        if self.is_closing() {
            return Err(End::Ordered);
        }
        let worn = config.keep_alive_count.is_some_and(|count| core.sent_on_connection() > count)
            || config.keep_alive_time.is_some_and(|time| now - opened >= time);
        if worn && core.is_idle() && out.is_empty() && core.sent_on_connection() > 0 {
            return Err(End::Renew);
        }
        while out.len() < config.coalesce {
            let Some(frame) = core.next_frame(now) else { break };
            out.push(&frame);
        }
        if core.has_work() {
            *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        Ok(core.deadline())
    }

    fn read_frames(&self, decoder: &mut FrameDecoder, resolved: &mut Vec<Resolved>) -> Result<(), End> {
        let now = self.shared.env().now();
        let ours = self.member.id().is_ours();
        loop {
            let frame = decoder.next().map_err(|error| End::Lost(format!("it sent what is no frame: {error}")))?;
            match frame {
                None => return Ok(()),
                Some(Frame::Ack) if !ours => self.core().acknowledged(true, now, resolved),
                Some(Frame::FailAck) if !ours => self.core().acknowledged(false, now, resolved),
                Some(Frame::Control(contents)) if ours => {
                    match Control::decode(&contents, &self.shared.config.limits) {
                        Ok(Control::Taken { count }) => self.core().taken(count, now, resolved),
                        Ok(Control::Handled { seq, result }) => self.core().handled(seq, result, now, resolved),
                        Ok(Control::Goodbye { .. }) => self.shared.link.departed(&self.member),
                        Ok(Control::Refused { reason: RefuseReason::WrongMember { own } }) => {
                            return Err(End::Replaced(own));
                        }
                        Ok(_) => {}
                        Err(error) => return Err(End::Lost(format!("it sent a damaged control frame: {error}"))),
                    }
                }
                // As Java does: whatever else comes on a sender's connection is skipped.
                Some(_) => {}
            }
        }
    }

    fn lost(&self, resolved: &mut Vec<Resolved>, why: String) -> End {
        self.settle(resolved);
        if self.is_closing() {
            return End::Ordered;
        }
        self.shared.counters.lost();
        self.shared.link.suspect(&self.member, Suspicion::ConnectionClosed);
        End::Lost(why)
    }
}

/// When a deadline is, and the future that waits for it.
type Timer<'a> = (Time, Pin<Box<dyn Future<Output = ()> + Send + 'a>>);

/// What happened in one round of a connection.
#[derive(Default)]
struct Step {
    wrote: Option<io::Result<usize>>,
    read: Option<io::Result<usize>>,
    woken: bool,
    due: bool,
}

impl Step {
    const fn is_something(&self) -> bool {
        self.wrote.is_some() || self.read.is_some() || self.woken || self.due
    }
}

fn poll_read(
    stream: Pin<&mut (dyn ByteStream + '_)>,
    cx: &mut std::task::Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut chunk = [0; READ_CHUNK];
    let mut buffer = ReadBuf::new(&mut chunk);
    let read = stream.poll_read(cx, &mut buffer);
    read.map_ok(|()| {
        into.put_slice(buffer.filled());
        buffer.filled().len()
    })
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
