//! What can be set about the receiver.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tribes_core::settings::{address, duration, flag, number, optional, size};
use tribes_core::wire::Limits;

use crate::socket::SocketOptions;

/// The address to bind: loopback, so that nothing is open to the network which nobody asked for.
pub const DEFAULT_BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The first TCP port tried, as in Tribes.
pub const DEFAULT_PORT: u16 = 4000;
/// Consecutive ports tried, as in Tribes. At least 1.
pub const DEFAULT_AUTO_BIND: u16 = 100;
/// Received bytes of one connection that are not handled yet, 8 MiB: what a fast peer sends in some 10 ms, so that a short
/// pause of a listener costs no throughput. At this bound the connection is not read from. 4 KiB to 1 GiB.
pub const DEFAULT_PER_CONNECTION_BYTES: usize = 8 << 20;
/// As above for all connections together, 64 MiB: eight that are stalled at once. From 4 KiB.
pub const DEFAULT_TOTAL_BYTES: usize = 64 << 20;
/// Connections that are identified. Each costs a file descriptor and up to 64 KiB of buffer. From 1.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// Connections that are not identified yet, or not of a member; beyond it the oldest is closed. From 1.
pub const DEFAULT_MAX_UNIDENTIFIED: usize = 1024;
/// Time from the connection to its first whole frame. Peers send theirs at once; this is for slow networks. 10 ms to 1 h.
pub const DEFAULT_FIRST_FRAME: Duration = Duration::from_secs(5);
/// Time a connection that is not of a member may rest between frames. Java's first message may be faster than its first
/// heartbeat; a minute is twenty times the time that takes. 10 ms to 24 h.
pub const DEFAULT_UNIDENTIFIED_IDLE: Duration = Duration::from_secs(60);
/// Time for a frame that has begun, beside one second for each 64 KiB of it. 10 ms to 1 h.
pub const DEFAULT_HALF_FRAME: Duration = Duration::from_secs(10);
/// Time for the peer to make room for answers it has asked for. 10 ms to 1 h.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which the state of a link session outlasts its connection: longer than any sender tries to resume. 10 ms to
/// 24 h.
pub const DEFAULT_SESSION_KEEP: Duration = Duration::from_secs(60);
/// Link sessions kept that have no connection; beyond it the oldest is forgotten. From 1.
pub const DEFAULT_MAX_SESSIONS: usize = 256;

/// Configuration of a [`TcpReceiver`](super::TcpReceiver); checked by [`TcpReceiver::new`](super::TcpReceiver::new).
///
/// At most [`max_connections`](Self::max_connections) + [`max_unidentified`](Self::max_unidentified) connections are open at
/// a time, and at most [`total_bytes`](Self::total_bytes) of unhandled messages are in memory, beside a buffer and a reserve
/// of 64 KiB each for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverConfig {
    /// The address to bind (Tribes: `address`). Default [`DEFAULT_BIND`]. With an unspecified one (`0.0.0.0`) all addresses
    /// of the machine are bound, and the one that faces the network is announced.
    pub bind: IpAddr,
    /// The first TCP port tried; 0 for any free one. Default [`DEFAULT_PORT`].
    pub port: u16,
    /// How many consecutive ports are tried, for TCP and for UDP (Tribes: `autoBind`). Default [`DEFAULT_AUTO_BIND`].
    pub auto_bind: u16,
    /// The first UDP port tried; 0 for any free one, `None`, the default, for no UDP.
    pub udp_port: Option<u16>,
    /// What is accepted from the wire.
    pub limits: Limits,
    /// Default [`DEFAULT_PER_CONNECTION_BYTES`]. A message larger than it is admitted alone.
    pub per_connection_bytes: usize,
    /// Default [`DEFAULT_TOTAL_BYTES`]. A message larger than it is admitted alone. Connections that are not identified
    /// share a quarter of it.
    pub total_bytes: usize,
    /// Default [`DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// Default [`DEFAULT_MAX_UNIDENTIFIED`].
    pub max_unidentified: usize,
    /// Default [`DEFAULT_FIRST_FRAME`].
    pub first_frame: Duration,
    /// Default [`DEFAULT_UNIDENTIFIED_IDLE`].
    pub unidentified_idle: Duration,
    /// Default [`DEFAULT_HALF_FRAME`]. Time in which the receiver itself does not read is not counted.
    pub half_frame: Duration,
    /// Default [`DEFAULT_WRITE_TIMEOUT`]. A connection whose answers nobody takes is closed.
    pub write_timeout: Duration,
    /// Default [`DEFAULT_SESSION_KEEP`].
    pub session_keep: Duration,
    /// Default [`DEFAULT_MAX_SESSIONS`].
    pub max_sessions: usize,
    /// Options of each accepted connection.
    pub socket: SocketOptions,
    /// Whether something else protects the traffic (`Encrypt` in the stack, a private network), so that listening elsewhere
    /// than on loopback is no reason for a warning. Default false.
    pub protected: bool,
}

impl ReceiverConfig {
    /// Bound to this address.
    #[must_use]
    pub const fn with_bind(mut self, bind: IpAddr) -> Self {
        self.bind = bind;
        self
    }

    /// With this first TCP port; 0 for any.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With so many ports tried.
    #[must_use]
    pub const fn with_auto_bind(mut self, ports: u16) -> Self {
        self.auto_bind = ports;
        self
    }

    /// With this first UDP port; 0 for any.
    #[must_use]
    pub const fn with_udp_port(mut self, port: Option<u16>) -> Self {
        self.udp_port = port;
        self
    }

    /// With these wire limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With this bound on unhandled bytes of one connection.
    #[must_use]
    pub const fn with_per_connection_bytes(mut self, bytes: usize) -> Self {
        self.per_connection_bytes = bytes;
        self
    }

    /// With this bound on all unhandled bytes.
    #[must_use]
    pub const fn with_total_bytes(mut self, bytes: usize) -> Self {
        self.total_bytes = bytes;
        self
    }

    /// With this bound on identified connections.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// With this bound on unidentified connections.
    #[must_use]
    pub const fn with_max_unidentified(mut self, connections: usize) -> Self {
        self.max_unidentified = connections;
        self
    }

    /// With this time to the first frame.
    #[must_use]
    pub const fn with_first_frame(mut self, time: Duration) -> Self {
        self.first_frame = time;
        self
    }

    /// With this idle time for unidentified connections.
    #[must_use]
    pub const fn with_unidentified_idle(mut self, time: Duration) -> Self {
        self.unidentified_idle = time;
        self
    }

    /// With this time for a frame that has begun.
    #[must_use]
    pub const fn with_half_frame(mut self, time: Duration) -> Self {
        self.half_frame = time;
        self
    }

    /// With this time for a peer to take its answers.
    #[must_use]
    pub const fn with_write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// With sessions kept for this time.
    #[must_use]
    pub const fn with_session_keep(mut self, time: Duration) -> Self {
        self.session_keep = time;
        self
    }

    /// With at most so many sessions kept.
    #[must_use]
    pub const fn with_max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// With these socket options.
    #[must_use]
    pub const fn with_socket(mut self, socket: SocketOptions) -> Self {
        self.socket = socket;
        self
    }

    /// With the traffic protected by something else.
    #[must_use]
    pub const fn with_protected(mut self, protected: bool) -> Self {
        self.protected = protected;
        self
    }
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            bind: DEFAULT_BIND,
            port: DEFAULT_PORT,
            auto_bind: DEFAULT_AUTO_BIND,
            udp_port: None,
            limits: Limits::default(),
            per_connection_bytes: DEFAULT_PER_CONNECTION_BYTES,
            total_bytes: DEFAULT_TOTAL_BYTES,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_unidentified: DEFAULT_MAX_UNIDENTIFIED,
            first_frame: DEFAULT_FIRST_FRAME,
            unidentified_idle: DEFAULT_UNIDENTIFIED_IDLE,
            half_frame: DEFAULT_HALF_FRAME,
            write_timeout: DEFAULT_WRITE_TIMEOUT,
            session_keep: DEFAULT_SESSION_KEEP,
            max_sessions: DEFAULT_MAX_SESSIONS,
            socket: SocketOptions::default(),
            protected: false,
        }
    }
}

tribes_core::settings! { ReceiverConfig {
    bind: address(), "The address to listen at; 0.0.0.0 is all addresses of the machine.";
    port: number(0..=65_535), "The first TCP port tried; 0 is any free one.";
    auto_bind: number(1..=65_535), "How many consecutive ports are tried, for TCP and for UDP.";
    udp_port: optional("none", number(0..=65_535)), "The first UDP port tried; 0 is any free one, none takes no datagrams.";
    per_connection_bytes: size(4 << 10..=1 << 30),
        "Received bytes of one connection that may wait to be handled; beyond it that connection is not read from.";
    total_bytes: size(4 << 10..=1 << 40), "Received bytes of all connections that may wait to be handled.";
    max_connections: number(1..=1 << 24), "The most connections of members.";
    max_unidentified: number(1..=1 << 24),
        "The most connections of others, or not identified yet; beyond it the oldest is closed.";
    first_frame: duration(MS_10..=HOUR), "Time from a connection to its first whole frame.";
    unidentified_idle: duration(MS_10..=DAY), "Time that a connection that is not of a member may rest between frames.";
    half_frame: duration(MS_10..=HOUR), "Time for a frame that has begun, beside one second for each 64 KiB of it.";
    write_timeout: duration(MS_10..=HOUR), "Time for a peer to take the answers it has asked for.";
    session_keep: duration(MS_10..=DAY), "How long the state of a link session outlasts its connection.";
    max_sessions: number(1..=1 << 24), "The most link sessions kept without a connection; beyond it the oldest is forgotten.";
    protected: flag(), "Whether something else protects the traffic, so that listening to the network needs no warning.";
    limits.max_frame key "max_frame": size(1024..=1 << 40), "The longest frame that is accepted, in bytes.";
    limits.max_member key "max_member": size(128..=1 << 40), "The longest encoding of a member that is accepted, in bytes.";
    limits.max_message_id key "max_message_id": size(16..=1 << 40), "The longest message id that is accepted, in bytes.";
    socket.nodelay key "nodelay": flag(), "Whether small writes leave at once (TCP_NODELAY).";
    socket.keepalive key "keepalive": optional("off", duration(Duration::from_secs(1)..=DAY)),
        "Keep-alive of TCP after this silence.";
    socket.recv_buffer key "recv_buffer": optional("system", size(1..=1 << 30)),
        "The receive buffer of a socket in bytes; system lets the operating system adapt it.";
    socket.send_buffer key "send_buffer": optional("system", size(1..=1 << 30)),
        "The send buffer of a socket in bytes; system lets the operating system adapt it.";
    socket.traffic_class key "traffic_class": optional("system", number(0..=255)),
        "The traffic class of IPv4 packets; Tribes has 28.";
} }

const MS_10: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use tribes_core::settings::Settings as _;

    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        ReceiverConfig::default().validate().unwrap();
    }

    #[test]
    fn a_bad_value_is_named() {
        let config = ReceiverConfig::default().with_first_frame(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().key, "first_frame");
        let error = ReceiverConfig::default().with_auto_bind(0).validate().unwrap_err();
        assert_eq!(error.to_string(), r#"auto_bind is "0", but must be a whole number from 1 to 65535"#);
        assert!(ReceiverConfig::default().with_per_connection_bytes(2 << 30).validate().is_err());
    }

    #[test]
    fn settings_from_text() {
        let pairs = [("bind", "::1"), ("udp_port", "0"), ("max_frame", "1MiB"), ("keepalive", "off"), ("port", "1")];
        let config = ReceiverConfig::from_pairs(pairs).unwrap();
        let expected = ReceiverConfig::default().with_bind("::1".parse().unwrap()).with_udp_port(Some(0)).with_port(1);
        let expected = expected.with_limits(Limits::default().with_max_frame(1 << 20));
        assert_eq!(config, expected.with_socket(SocketOptions::default().with_keepalive(None)));
        let wrong = [("bind", "auto"), ("max_frame", "1"), ("keepalive", "1ms"), ("traffic_class", "256")];
        assert_eq!(ReceiverConfig::from_pairs(wrong).unwrap_err().len(), 4);
    }
}
