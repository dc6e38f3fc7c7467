//! [`TcpReceiver`]: takes messages in over TCP and UDP.
//!
//! | file | idea | I/O |
//! |---|---|---|
//! | `bind` | which port, which address | sockets |
//! | `accept` | takes connections, never ends | sockets |
//! | `connection` | one connection: how it is opened, and how it ends | - |
//! | `line` | its stream, both directions, and everything its task waits for | stream |
//! | `reader` | bytes to frames, frames to messages, messages upwards | stream |
//! | `ours` | the conversation with a node of ours after its hello | stream |
//! | `outbox` | what a connection has to write | - |
//! | `sessions` | results find the connection that continues their session | - |
//! | `session` | sequences of frames and who owns them | - |
//! | `answers` | answers to Java, in the order of its frames | - |
//! | `census` | which connections are of members | - |
//! | `patience` | how long a connection may take for what | - |
//! | `read_size` | how much to read at once | - |
//! | `room` | memory for messages not handled yet | - |
//! | `violation`, `counters` | what is counted and logged | - |
//! | `signal`, `running` | how the parts hear of each other | - |
//!
//! A message goes: `reader` (frames) → `wire::decode_message_at` → `room` (lease) → `sessions` or `answers` (receipt) →
//! with all others that were read at once `Link::receive_batch`. Its answer comes back: receipt → `sessions` → `outbox` →
//! `line`.

mod accept;
mod answers;
mod bind;
mod census;
mod config;
mod connection;
mod counters;
mod line;
mod ours;
mod outbox;
mod patience;
mod read_size;
mod reader;
mod room;
mod running;
mod session;
mod sessions;
mod signal;
#[cfg(test)]
mod tests;
mod violation;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tribes_core::registry::Configure;
use tribes_core::settings::{SettingFault, Settings as _};
use tribes_core::{BoxError, ChannelReceiver, Endpoint, Gauge, Link, Member, MemberEvent, MemberId, Time};

pub use config::{
    DEFAULT_AUTO_BIND, DEFAULT_BIND, DEFAULT_FIRST_FRAME, DEFAULT_HALF_FRAME, DEFAULT_MAX_CONNECTIONS,
    DEFAULT_MAX_SESSIONS, DEFAULT_MAX_UNIDENTIFIED, DEFAULT_PER_CONNECTION_BYTES, DEFAULT_PORT, DEFAULT_SESSION_KEEP,
    DEFAULT_TOTAL_BYTES, DEFAULT_UNIDENTIFIED_IDLE, DEFAULT_WRITE_TIMEOUT, ReceiverConfig,
};
pub(crate) use counters::Counters;
pub(crate) use violation::LogLimit;

use self::running::{Running, Shared};
use crate::socket;
use crate::stream::{Acceptor, TcpAcceptor};
use crate::udp::receiver::UdpReceiver;

/// Time beyond the deadline of a stop for tasks to notice that they are due.
const GRACE: Duration = Duration::from_secs(1);

/// Takes messages in over TCP and, if configured, UDP (Tribes: `NioReceiver`).
///
/// - Frames of a connection are handled strictly in order (T2), each connection on its own task: a slow one delays no other
///   (T8).
/// - `ack` is answered on receipt, `sync` when the listener has returned, negatively if it failed. Towards Java answers leave
///   in the order of the frames; between our own nodes they carry numbers, and one frame tells of many messages received.
/// - A node of ours that reconnects continues where it was: nothing lost, nothing twice, order kept (T3).
/// - Memory, connections, times and lengths are bounded (T9, T46, T58); when too much of a connection is not handled yet, it
///   is not read from, and that peer alone notices.
/// - The first byte that breaks the protocol closes its connection, and is counted; a datagram that does is ignored (T18).
///
/// Connections wait until the channel has made its local member known.
pub struct TcpReceiver {
    shared: Arc<Shared>,
    running: Mutex<Option<Arc<Running>>>,
    /// Whose sessions are kept.
    session_owner: Mutex<Option<MemberId>>,
    warned: AtomicBool,
}

impl TcpReceiver {
    /// A receiver over plain TCP.
    ///
    /// # Errors
    /// If a value is out of its bounds.
    pub fn new(config: ReceiverConfig) -> Result<Self, SettingFault> {
        Self::with_acceptor(config, Arc::new(TcpAcceptor))
    }

    /// A receiver over another kind of stream.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_acceptor(config: ReceiverConfig, acceptor: Arc<dyn Acceptor>) -> Result<Self, SettingFault> {
        config.validate()?;
        Ok(Self {
            shared: Arc::new(Shared::new(config, acceptor)),
            running: Mutex::default(),
            session_owner: Mutex::default(),
            warned: AtomicBool::new(false),
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn_once(&self, announced: IpAddr) {
        let config = &self.shared.config;
        let exposed = !config.bind.is_loopback() && !config.protected && !self.shared.acceptor.is_protected();
        let unreachable = config.bind.is_unspecified() && announced.is_loopback();
        if !(exposed || unreachable) || self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        if exposed {
            tracing::warn!(
                bind = %config.bind,
                "whoever reaches this address can send messages to the channel: bind 127.0.0.1, add Encrypt or use TLS"
            );
        }
        if unreachable {
            tracing::warn!(
                %announced,
                "no address of this machine faces a network: peers on others cannot connect; set the receiver's `bind`"
            );
        }
    }
}

impl Configure for TcpReceiver {
    const NAME: &'static str = "tcp";
    const HELP: &'static str = "takes messages in over TCP and, if configured, UDP";
    type Config = ReceiverConfig;
    fn configure(config: ReceiverConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config)?)
    }
}

tribes_core::register_receiver!(TcpReceiver);

#[async_trait]
impl ChannelReceiver for TcpReceiver {
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError> {
        if self.running().is_some() {
            return Err("the receiver is running already; stop it first".into());
        }
        let config = &self.shared.config;
        let listener = bind::first_free("TCP", config.bind, config.port, config.auto_bind, socket::listen)?;
        let udp = match config.udp_port {
            Some(first) => {
                let bind = |addr| socket::bind_udp(addr, config.socket.recv_buffer);
                Some(bind::first_free("UDP", config.bind, first, config.auto_bind, bind)?)
            }
            None => None,
        };
        let host = bind::announced(config.bind);
        let udp_port = udp.as_ref().map(|socket| socket.local_addr()).transpose()?.map(|addr| addr.port());
        let endpoint = Endpoint::new(host, listener.local_addr()?.port()).with_udp_port(udp_port);
        self.warn_once(host);
        let (running, alive) = Running::new(Arc::clone(&self.shared), up.clone());
        if let Some(socket) = udp {
            let counters = Arc::clone(&self.shared.counters);
            let log_limit = Arc::clone(&self.shared.log_limit);
            let udp =
                UdpReceiver::new(socket, up.clone(), config.limits, config.per_connection_bytes, counters, log_limit);
            let (running, alive) = (Arc::clone(&running), alive.clone());
            up.spawn(async move {
                if running.opened().await {
                    udp.run(running.stopped()).await;
                    udp.finish(running.stop_deadline()).await;
                }
                drop(alive);
            });
        }
        up.spawn(accept::accept(Arc::clone(&running), listener, alive));
        *self.running() = Some(running);
        Ok(endpoint)
    }

    async fn stop(&self, deadline: Time) {
        let running = self.running().take();
        let Some(running) = running else { return };
        running.stop(deadline);
        if running.env().until(deadline + GRACE, running.ended()).await.is_none() {
            tracing::warn!("connections did not end in time");
        }
    }

    fn update_local(&self, local: Arc<Member>) {
        let running = self.running().clone();
        // Before the start the channel's record has no address yet.
        let Some(running) = running else { return };
        let id = local.id();
        let before = self.session_owner.lock().unwrap_or_else(PoisonError::into_inner).replace(id);
        if before.is_some_and(|before| before != id) {
            // They were those of an earlier incarnation; nobody resumes them.
            self.shared.sessions.forget_orphans();
        }
        running.update_local(local);
    }

    fn member_event(&self, event: &MemberEvent) {
        match event {
            MemberEvent::Added(member) => self.shared.member_added(member),
            MemberEvent::Removed(member, _) => self.shared.member_removed(member),
            _ => {}
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (open, identified) = {
            let census = self.shared.census();
            (census.len(), census.identified_len())
        };
        let leased = self.running().as_ref().map_or(0, |running| running.total.used());
        let mut gauges = vec![
            Gauge::new("connections_open", open as u64),
            Gauge::new("connections_identified", identified as u64),
            Gauge::new("leased_bytes", leased as u64),
            Gauge::new("sessions", self.shared.sessions.len() as u64),
        ];
        gauges.extend(self.shared.counters.gauges());
        gauges
    }
}

impl fmt::Debug for TcpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpReceiver").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
