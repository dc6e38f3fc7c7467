//! [`PooledParallelSender`]: one connection per member, all members in parallel.
//!
//! | file | idea |
//! |---|---|
//! | `core` | what is queued for one member and what is in flight to it, without I/O |
//! | `peer` | the task of one member's connection; `peer/connect` makes it |
//! | `write_queue` | gathering small frames, passing large ones by reference |
//! | `probe` | asking whether a member is alive, and saying good-bye |
//! | `frame` | a frame encoded once for all its destinations |

mod config;
mod core;
#[cfg(test)]
mod core_tests;
mod counters;
mod frame;
mod peer;
mod probe;
mod write_queue;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tribes_core::error::Unsupported;
use tribes_core::wire::{self, WireError};
use tribes_core::{
    BoxError, ChannelMessage, ChannelSender, Destination, Env, FaultKind, Gauge, Link, Member, MemberEvent, Outbound,
    ProbeResult, SendError, SendOptions, Time,
};

pub use config::{
    Connect, DEFAULT_COALESCE, DEFAULT_CONNECT_TIMEOUT, DEFAULT_EAGER_LIMIT, DEFAULT_TIMEOUT, SenderConfig,
};

use self::core::Entry;
use self::counters::Counters;
use self::frame::EncodedFrame;
pub(crate) use self::frame::EncodedFrame as Datagram;
use self::peer::Peer;
use crate::stream::{Connector, TcpConnector};
use crate::udp::UdpSender;

/// Bytes that a queued message costs beside its body.
const OVERHEAD: usize = 256;
/// A member outside the group keeps its connection this long after the last message.
const IDLE_OUTSIDER: Duration = Duration::from_secs(60);

/// Sends over TCP, one connection per member, all members in parallel (Tribes: `ReplicationTransmitter` with
/// `PooledParallelSender`).
///
/// - Messages to one member go in order over one connection; a burst of small ones leaves in few system calls.
/// - Acknowledgements are pipelined. Towards Java, whose acknowledgements have no number, nothing acknowledged is sent while
///   a synchronized one is outstanding.
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
    started: RwLock<Option<Started>>,
    counters: Arc<Counters>,
}

/// What lives from start to stop.
#[derive(Clone)]
struct Started {
    shared: Arc<Shared>,
    peers: Arc<Mutex<Peers>>,
    udp: Arc<UdpSender>,
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

/// The members that are sent to.
#[derive(Default)]
struct Peers {
    by_member: BTreeMap<Arc<Member>, Arc<Peer>>,
    /// Those of them that are in the group.
    group: BTreeMap<Arc<Member>, ()>,
    /// The sender has been stopped: a message that waited for room until then makes no new peer.
    closed: bool,
}

impl Shared {
    const fn env(&self) -> &Env {
        self.link.env()
    }

    fn encode(&self, message: &ChannelMessage) -> Result<EncodedFrame, SendError> {
        let len = wire::check_frame_len(message, &self.config.limits).map_err(|error| too_large(message, &error))?;
        let local = self.local.load();
        if Arc::ptr_eq(&local.member, &message.sender) {
            return Ok(EncodedFrame::new(message, local.encoded.get_or_init(|| encoded(&local.member)), len));
        }
        Ok(EncodedFrame::new(message, &encoded(&message.sender), len))
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
        Self { config, connector, started: RwLock::default(), counters: Arc::default() }
    }

    fn started(&self) -> Option<Started> {
        self.started.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for PooledParallelSender {
    fn default() -> Self {
        Self::new(SenderConfig::default())
    }
}

impl Started {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer of `member`, made if it is new; `None` after the stop.
    fn peer(&self, member: &Arc<Member>) -> Option<Arc<Peer>> {
        let mut peers = self.peers();
        if peers.closed {
            return None;
        }
        if let Some(peer) = peers.by_member.get(member) {
            return Some(Arc::clone(peer));
        }
        let peer = Peer::new(Arc::clone(member), Arc::clone(&self.shared), false);
        peers.by_member.insert(Arc::clone(member), Arc::clone(&peer));
        Some(peer)
    }

    fn enqueue(&self, destination: Destination, frame: &EncodedFrame, message: &ChannelMessage) {
        let Destination { completion, reservation, .. } = destination;
        let member = Arc::clone(completion.member());
        let now = self.shared.env().now();
        let mut entry = Entry::new(frame.clone(), message.options.ack_mode(), completion, reservation, now);
        // A peer that is closed just now has left the map before: the next look finds another or makes one.
        while let Some(peer) = self.peer(&member) {
            match peer.push(entry) {
                Some(back) => entry = back,
                None => return self.shared.counters.accepted(),
            }
        }
        self.shared.counters.failed(&FaultKind::Stopped);
        entry.refuse(FaultKind::Stopped);
    }

    /// Room for a destination that has none yet, waiting as the channel's policy says, then into its queue.
    async fn admit(&self, mut destination: Destination, frame: &EncodedFrame, message: &ChannelMessage) {
        match self.shared.link.budget().admit(destination.member(), message.body.len() + OVERHEAD).await {
            Some(room) => {
                destination.reservation = Some(room);
                self.enqueue(destination, frame, message);
            }
            None => destination.completion.fail(FaultKind::QueueFull),
        }
    }
}

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
        let udp = Arc::new(UdpSender::new(up, self.config.timeout));
        let started = Started { shared, peers: Arc::default(), udp };
        *self.started.write().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        let started = self.started.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(started) = started else { return };
        let (peers, group) = {
            let mut peers = started.peers();
            peers.closed = true;
            let group: Vec<_> = std::mem::take(&mut peers.group).into_keys().collect();
            (std::mem::take(&mut peers.by_member), group)
        };
        let env = started.shared.env();
        for peer in peers.values() {
            let _ = env.until(deadline, peer.drained()).await;
        }
        let _ = env.until(deadline, started.udp.drained()).await;
        probe::say_goodbye(&started.shared, &group).await;
        for peer in peers.into_values() {
            peer.close(&FaultKind::Stopped);
        }
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let started = self.started().ok_or(SendError::Stopped)?;
        let Outbound { message, to, may_wait, .. } = out;
        let frame = started.shared.encode(&message)?;
        if message.options.contains(SendOptions::UDP) {
            return started.udp.send(&message, &frame, to, may_wait).await;
        }
        let bytes = message.body.len() + OVERHEAD;
        let mut without_room = Vec::new();
        for mut destination in to {
            if destination.reservation.is_none() {
                destination.reservation = started.shared.link.budget().try_admit(destination.member(), bytes);
            }
            if destination.reservation.is_some() {
                started.enqueue(destination, &frame, &message);
            } else if may_wait {
                without_room.push(destination);
            } else {
                destination.completion.fail(FaultKind::QueueFull);
            }
        }
        // Those with room are on their way; the others wait beside each other.
        match without_room.len() {
            0 => {}
            1 => {
                for destination in without_room {
                    started.admit(destination, &frame, &message).await;
                }
            }
            _ => {
                join_all(without_room.into_iter().map(|destination| started.admit(destination, &frame, &message))).await
            }
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        let Some(started) = self.started() else { return ProbeResult::Unreachable };
        self.counters.probed();
        probe::probe(&started.shared, member, frame, deadline).await
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.started()
            .is_some_and(|started| started.peers().by_member.get(member).is_some_and(|peer| peer.is_connected()))
    }

    fn member_event(&self, event: &MemberEvent) {
        let Some(started) = self.started() else { return };
        match event {
            MemberEvent::Added(member) => {
                let eager = {
                    let mut peers = started.peers();
                    peers.group.insert(Arc::clone(member), ());
                    matches!(self.config.connect, Connect::Eager(limit) if peers.group.len() <= limit)
                        && self.config.keep_alive_count.is_none()
                        && self.config.keep_alive_time.is_none()
                };
                if eager && let Some(peer) = started.peer(member) {
                    peer.set_eager(true);
                }
            }
            MemberEvent::Removed(member, _) => {
                let gone = {
                    let mut peers = started.peers();
                    peers.group.remove(member);
                    peers.by_member.remove(member)
                };
                if let Some(peer) = gone {
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
            let mut peers = started.peers();
            let Peers { by_member, group, .. } = &mut *peers;
            let idle: Vec<_> = by_member
                .iter()
                .filter(|(member, peer)| !group.contains_key(*member) && peer.unused_since(since))
                .map(|(member, _)| Arc::clone(member))
                .collect();
            idle.iter().filter_map(|member| by_member.remove(member)).collect()
        };
        for peer in idle {
            peer.close(&FaultKind::Left);
        }
        if self.config.keep_alive_time.is_some() {
            let all: Vec<_> = started.peers().by_member.values().cloned().collect();
            all.iter().for_each(|peer| peer.wake());
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let mut gauges = self.counters.gauges();
        if let Some(started) = self.started() {
            let peers: Vec<_> = started.peers().by_member.values().cloned().collect();
            gauges.push(Gauge::new("connections", peers.iter().filter(|peer| peer.is_connected()).count() as u64));
            gauges.push(Gauge::new("queued_bytes", peers.iter().map(|peer| peer.queued_bytes() as u64).sum()));
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
