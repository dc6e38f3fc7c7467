//! [`PooledParallelSender`]: one connection per member, all members in parallel.
//!
//! | file | idea |
//! |---|---|
//! | `core` | what is queued for one member and what is in flight to it, without I/O |
//! | `frame_log` | the bytes of one member's messages, in order, until the member has them |
//! | `peer` | one member's connection: made, written, read, renewed |
//! | `probe` | asking whether a member is alive, and saying good-bye |

mod config;
mod core;
#[cfg(test)]
mod core_tests;
mod counters;
mod frame_log;
mod peer;
mod probe;
#[cfg(test)]
mod shell_tests;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tribes_core::error::Unsupported;
use tribes_core::member::MemberTable;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::{self, WireError};
use tribes_core::{
    BoxError, ChannelMessage, ChannelSender, Destination, Env, FaultKind, Gauge, Link, Member, MemberEvent, Outbound,
    ProbeResult, SendError, SendOptions, Time,
};

pub use config::{
    Connect, DEFAULT_COALESCE, DEFAULT_CONNECT_TIMEOUT, DEFAULT_EAGER_LIMIT, DEFAULT_TIMEOUT, SenderConfig,
};

use self::counters::Counters;
use self::peer::{NotQueued, Peer};
use crate::stream::{Connector, TcpConnector};
use crate::udp::UdpSender;

/// Bytes that a queued message costs beside its frame.
const OVERHEAD: usize = 128;
/// A member outside the group keeps its connection this long after the last message.
const IDLE_OUTSIDER: Duration = Duration::from_secs(60);

/// Sends over TCP, one connection per member, all members in parallel (Tribes: `ReplicationTransmitter` with
/// `PooledParallelSender`).
///
/// - Messages to one member go in order over one connection; a burst of small ones leaves in few system calls.
/// - Acknowledgements are pipelined. Towards Java, whose acknowledgements have no number, nothing acknowledged is sent while
///   a synchronized one is outstanding. Towards a member of ours 4,096 synchronized ones are under way at most, and what comes
///   behind them waits.
/// - A broken connection to a member of ours is resumed: nothing twice, nothing lost, order kept. Towards Java what was in
///   flight is sent once more. A negative acknowledgement is never retried.
/// - A restarted process at a member's address does not get its predecessor's messages: they fail with
///   [`FaultKind::Replaced`].
/// - Deadlines are exact. Each member has its own result; nothing is ever blamed on a member that did nothing (T26-T29).
/// - Messages with the `udp` option go as one datagram, outside this order.
///
/// Not yet: TLS; more than one connection per member.
pub struct PooledParallelSender {
    config: SenderConfig,
    connector: Arc<dyn Connector>,
    started: ArcSwapOption<Started>,
    counters: Arc<Counters>,
}

/// What lives from start to stop.
struct Started {
    shared: Arc<Shared>,
    peers: MemberTable<Arc<Peer>>,
    /// The members of the group.
    group: Mutex<BTreeSet<Arc<Member>>>,
    /// The sender has been stopped: a message that waited for room until then makes no new peer.
    closed: AtomicBool,
    udp: UdpSender,
}

/// A message as it goes to the log of each of its members.
struct Frame<'a> {
    message: &'a ChannelMessage,
    /// The encoded member of its sender.
    sender: &'a [u8],
    /// The checked length of the whole frame.
    len: usize,
    /// What it takes of the channel's budget for each member.
    cost: usize,
}

/// What all peers of a started sender share.
struct Shared {
    config: SenderConfig,
    link: Link,
    connector: Arc<dyn Connector>,
    local: ArcSwap<Local>,
    counters: Arc<Counters>,
}

/// The local member with its encoding.
struct Local {
    member: Arc<Member>,
    encoded: OnceLock<Bytes>,
}

impl Shared {
    const fn env(&self) -> &Env {
        self.link.env()
    }

    /// Calls `with` with the frame of `message`, if that may be sent.
    fn frame<T>(&self, message: &ChannelMessage, with: impl FnOnce(&Frame<'_>) -> T) -> Result<T, SendError> {
        let len = wire::check_frame_len(message, &self.config.limits).map_err(|error| too_large(message, &error))?;
        let cost = len + OVERHEAD;
        let local = self.local.load();
        if Arc::ptr_eq(&local.member, &message.sender) {
            let sender = local.encoded.get_or_init(|| encoded(&local.member));
            return Ok(with(&Frame { message, sender, len, cost }));
        }
        Ok(with(&Frame { message, sender: &encoded(&message.sender), len, cost }))
    }

    /// The whole frame of `message` as one piece, if that may be sent.
    fn encode(&self, message: &ChannelMessage) -> Result<Bytes, SendError> {
        self.frame(message, |frame| {
            let mut bytes = BytesMut::with_capacity(frame.len);
            wire::encode_frame(message, &mut bytes);
            bytes.freeze()
        })
    }
}

fn encoded(member: &Member) -> Bytes {
    let mut bytes = BytesMut::with_capacity(wire::member_len(member));
    wire::encode_member(member, &mut bytes);
    bytes.freeze()
}

fn too_large(message: &ChannelMessage, error: &WireError) -> SendError {
    match error {
        WireError::BeyondLimit { limit, .. } => {
            SendError::Unsupported(Unsupported::FrameSize { size: wire::frame_len(message), max: *limit })
        }
        _ => SendError::Unsupported(Unsupported::Other("the message cannot be encoded: its id or sender is too long")),
    }
}

impl PooledParallelSender {
    /// A sender over plain TCP.
    #[must_use]
    pub fn new(config: SenderConfig) -> Self {
        Self::with_connector(config, Arc::new(TcpConnector::default()))
    }

    /// A sender over another kind of stream.
    #[must_use]
    pub fn with_connector(config: SenderConfig, connector: Arc<dyn Connector>) -> Self {
        Self { config, connector, started: ArcSwapOption::empty(), counters: Arc::default() }
    }

    fn started(&self) -> Option<Arc<Started>> {
        self.started.load_full()
    }
}

impl Default for PooledParallelSender {
    fn default() -> Self {
        Self::new(SenderConfig::default())
    }
}

impl Started {
    fn group(&self) -> MutexGuard<'_, BTreeSet<Arc<Member>>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer of `member`, made if it is new; `None` after the stop.
    fn peer(&self, member: &Arc<Member>) -> Option<Arc<Peer>> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let mut made = false;
        let peer = self.peers.get_or_insert_with(member, || {
            made = true;
            Peer::new(Arc::clone(member), Arc::clone(&self.shared), false)
        });
        if made && self.closed.load(Ordering::Acquire) {
            // Made behind the back of the stop, perhaps.
            self.peers.remove(member);
            peer.close(&FaultKind::Stopped);
            return None;
        }
        Some(peer)
    }

    /// Queues a message for a destination; it comes back if there is no room.
    fn enqueue(&self, mut destination: Destination, frame: &Frame<'_>, now: Time) -> Option<Destination> {
        // A peer that is closed just now has left the table before: the next look finds another or makes one.
        while let Some(peer) = self.peer(destination.member()) {
            match peer.push(destination, frame, now) {
                Ok(()) => {
                    self.shared.counters.accepted();
                    return None;
                }
                Err(NotQueued::NoRoom(back)) => return Some(back),
                Err(NotQueued::Closed(back)) => destination = back,
            }
        }
        self.shared.counters.failed(&FaultKind::Stopped);
        destination.completion.fail(FaultKind::Stopped);
        None
    }

    /// Queues a message for those of `to` that have room, or find some; the others come back.
    fn enqueue_all(&self, to: Vec<Destination>, frame: &Frame<'_>, now: Time) -> Vec<Destination> {
        let peers = self.peers.load();
        let mut without_room = Vec::new();
        for destination in to {
            let queued = match peers.get(destination.member()) {
                Some(peer) => peer.push(destination, frame, now),
                None => Err(NotQueued::Closed(destination)),
            };
            match queued {
                Ok(()) => self.shared.counters.accepted(),
                Err(NotQueued::NoRoom(back)) => without_room.push(back),
                Err(NotQueued::Closed(back)) => without_room.extend(self.enqueue(back, frame, now)),
            }
        }
        without_room
    }

    /// Room for a destination that has none yet, waiting as the channel's policy says, then into its queue.
    async fn admit(&self, mut destination: Destination, message: &ChannelMessage) {
        let cost = wire::frame_len(message) + OVERHEAD;
        match self.shared.link.budget().admit(destination.member(), cost).await {
            Some(room) => {
                destination.reservation = Some(room);
                let now = self.shared.env().now();
                // Its length was checked when it came; it has its room.
                let _ = self.shared.frame(message, |frame| self.enqueue(destination, frame, now));
            }
            None => destination.completion.fail(FaultKind::QueueFull),
        }
    }
}

impl Configure for PooledParallelSender {
    const NAME: &'static str = "pooled-parallel";
    const HELP: &'static str = "sends over one TCP connection to each member, to all members in parallel";
    type Config = SenderConfig;
    fn configure(config: SenderConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_sender!(PooledParallelSender);

#[async_trait]
impl ChannelSender for PooledParallelSender {
    async fn start(&self, local: Arc<Member>, up: Link) -> Result<(), BoxError> {
        self.config.validate()?;
        let shared = Arc::new(Shared {
            config: self.config,
            link: up.clone(),
            connector: Arc::clone(&self.connector),
            local: ArcSwap::from_pointee(Local { member: Arc::clone(&local), encoded: OnceLock::new() }),
            counters: Arc::clone(&self.counters),
        });
        let udp = UdpSender::new(up, self.config.timeout);
        let (peers, group, closed) = Default::default();
        self.started.store(Some(Arc::new(Started { shared, peers, group, closed, udp })));
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        let Some(started) = self.started.swap(None) else { return };
        started.closed.store(true, Ordering::Release);
        let group: Vec<_> = std::mem::take(&mut *started.group()).into_iter().collect();
        let peers: Vec<_> = started.peers.take().into_iter().map(|(_, peer)| peer).collect();
        let env = started.shared.env();
        for peer in &peers {
            let _ = env.until(deadline, peer.drained()).await;
        }
        let _ = env.until(deadline, started.udp.drained()).await;
        probe::say_goodbye(&started.shared, &group).await;
        for peer in peers {
            peer.close(&FaultKind::Stopped);
        }
    }

    fn is_prompt(&self) -> bool {
        true
    }

    fn send_now(&self, mut out: Outbound) -> Result<Option<Outbound>, SendError> {
        let started = self.started.load();
        let Some(started) = &*started else { return Err(SendError::Stopped) };
        if out.message.options.contains(SendOptions::UDP) {
            return Ok(Some(out));
        }
        let now = if out.at == Time::ZERO { started.shared.env().now() } else { out.at };
        let to = std::mem::take(&mut out.to);
        out.to = started.shared.frame(&out.message, |frame| started.enqueue_all(to, frame, now))?;
        Ok((!out.to.is_empty()).then_some(out))
    }

    async fn send(&self, mut out: Outbound) -> Result<(), SendError> {
        let started = self.started().ok_or(SendError::Stopped)?;
        if out.message.options.contains(SendOptions::UDP) {
            let datagram = started.shared.encode(&out.message)?;
            return started.udp.send(&out.message, &datagram, out.to, out.may_wait).await;
        }
        if !out.to.is_empty() && out.to.iter().all(|destination| destination.reservation.is_some()) {
            // Whoever calls this first: what needs no waiting.
            return self.send_now(out).map(drop);
        }
        let message = &out.message;
        if !out.may_wait {
            out.to.into_iter().for_each(|destination| destination.completion.fail(FaultKind::QueueFull));
            return Ok(());
        }
        // Those with room are on their way; the others wait beside each other.
        if out.to.len() == 1
            && let Some(destination) = out.to.pop()
        {
            started.admit(destination, message).await;
        } else {
            join_all(out.to.into_iter().map(|destination| started.admit(destination, message))).await;
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        let Some(started) = self.started() else { return ProbeResult::Unreachable };
        self.counters.probed();
        probe::probe(&started.shared, member, frame, deadline).await
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.started().is_some_and(|started| started.peers.load().find(member).is_some_and(|peer| peer.is_connected()))
    }

    fn member_event(&self, event: &MemberEvent) {
        let Some(started) = self.started() else { return };
        match event {
            MemberEvent::Added(member) => {
                let eager = {
                    let mut group = started.group();
                    group.insert(Arc::clone(member));
                    matches!(self.config.connect, Connect::Eager(limit) if group.len() <= limit)
                        && self.config.keep_alive_count.is_none()
                        && self.config.keep_alive_time.is_none()
                };
                if eager && let Some(peer) = started.peer(member) {
                    peer.set_eager(true);
                }
            }
            MemberEvent::Removed(member, _) => {
                started.group().remove(member);
                if let Some(peer) = started.peers.remove(member) {
                    peer.close(&FaultKind::Left);
                }
            }
            _ => {}
        }
    }

    fn update_local(&self, local: Arc<Member>) {
        if let Some(started) = self.started() {
            started.shared.local.store(Arc::new(Local { member: local, encoded: OnceLock::new() }));
        }
    }

    async fn heartbeat(&self, now: Time) {
        let Some(started) = self.started() else { return };
        let since = Time::from_nanos(
            now.as_nanos().saturating_sub(u64::try_from(IDLE_OUTSIDER.as_nanos()).unwrap_or(u64::MAX)),
        );
        let idle: Vec<_> = {
            let group = started.group();
            let peers = started.peers.load();
            let outsiders = peers.iter().filter(|(member, _)| !group.contains(*member));
            outsiders.filter(|(_, peer)| peer.unused_since(since)).map(|(member, _)| Arc::clone(member)).collect()
        };
        let idle: Vec<_> = idle.iter().filter_map(|member| started.peers.remove(member)).collect();
        for peer in idle {
            peer.close(&FaultKind::Left);
        }
        for (_, peer) in started.peers.load().iter() {
            peer.shrink();
            if self.config.keep_alive_time.is_some() {
                peer.wake();
            }
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let mut gauges = self.counters.gauges();
        if let Some(started) = self.started() {
            let peers = started.peers.load();
            let connected = peers.iter().filter(|(_, peer)| peer.is_connected()).count();
            gauges.push(Gauge::new("connections", connected as u64));
            gauges.push(Gauge::new("queued_bytes", peers.iter().map(|(_, peer)| peer.queued_bytes() as u64).sum()));
        }
        gauges
    }
}

/// Runs all of `futures` beside each other in this task.
async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut open: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        open.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if open.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl fmt::Debug for PooledParallelSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledParallelSender").field("config", &self.config).finish_non_exhaustive()
    }
}
