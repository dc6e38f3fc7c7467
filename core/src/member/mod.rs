//! Who is in the group: one member, the view of all, and what happened to them.

mod event;
mod id;
mod table;
mod view;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

pub use event::{Departure, MemberEvent, Suspicion};
pub use id::{MemberId, ParseMemberIdError, REVISION};
pub use table::{MemberTable, Snapshot};
pub use view::View;

/// The command of a member that leaves on purpose (Tribes: `Member.SHUTDOWN_PAYLOAD`), the text `BABY-ALEX`.
pub const SHUTDOWN_COMMAND: &[u8] = b"BABY-ALEX";

/// One channel of the group: where it listens and who it says it is. Immutable; shared as `Arc<Member>`.
///
/// Two members are the same when host, TCP port and id are equal; nothing else counts (Tribes: `MemberImpl.equals`).
/// They are ordered as Tribes' `AbsoluteOrder` has it: shorter host first, then host bytes, port, id. A restarted
/// process has a new id, hence is another member.
#[derive(Clone)]
pub struct Member {
    host: Bytes,
    port: i32,
    secure_port: i32,
    udp_port: i32,
    alive_ms: i64,
    id: MemberId,
    domain: Bytes,
    command: Bytes,
    payload: Bytes,
}

impl Member {
    /// A member that listens at `addr`. Ports for TLS and UDP are unset, all texts empty.
    #[must_use]
    pub fn new(id: MemberId, addr: SocketAddr) -> Self {
        let host = match addr.ip() {
            IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        };
        Self::from_parts(id, host, i32::from(addr.port()))
    }

    /// A member from a raw host as it stands on the wire: 4 bytes for IPv4, 16 for IPv6; other sizes are carried but
    /// cannot be connected to. A host is at most 127 bytes; what exceeds that is cut off.
    #[must_use]
    pub fn from_parts(id: MemberId, mut host: Bytes, port: i32) -> Self {
        host.truncate(127);
        Self {
            host,
            port,
            secure_port: -1,
            udp_port: -1,
            alive_ms: 0,
            id,
            domain: Bytes::new(),
            command: Bytes::new(),
            payload: Bytes::new(),
        }
    }

    /// With this UDP port; -1 for none.
    #[must_use]
    pub fn with_udp_port(mut self, port: i32) -> Self {
        self.udp_port = port;
        self
    }

    /// With this TLS port; -1 for none.
    #[must_use]
    pub fn with_secure_port(mut self, port: i32) -> Self {
        self.secure_port = port;
        self
    }

    /// With this alive time in milliseconds.
    #[must_use]
    pub fn with_alive_ms(mut self, alive_ms: i64) -> Self {
        self.alive_ms = alive_ms;
        self
    }

    /// With this domain.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Bytes>) -> Self {
        self.domain = domain.into();
        self
    }

    /// With this internal command; empty in normal operation, [`SHUTDOWN_COMMAND`] when the member leaves.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<Bytes>) -> Self {
        self.command = command.into();
        self
    }

    /// With this application payload, which travels in every heartbeat and every message to Java.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, id: MemberId) -> Self {
        self.id = id;
        self
    }

    /// The unique id of this incarnation.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The host as on the wire.
    #[must_use]
    pub fn host(&self) -> &Bytes {
        &self.host
    }

    /// The host as an address; `None` unless it has 4 or 16 bytes.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.host.as_ref();
        <[u8; 4]>::try_from(host)
            .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
            .or_else(|_| <[u8; 16]>::try_from(host).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))))
            .ok()
    }

    /// The TCP port as on the wire.
    #[must_use]
    pub fn port(&self) -> i32 {
        self.port
    }

    /// Where to connect to over TCP; `None` if host or port cannot be connected to.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        Self::socket_addr(self.ip(), self.port)
    }

    /// Where to send UDP datagrams; `None` if this member takes none.
    #[must_use]
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        Self::socket_addr(self.ip(), self.udp_port)
    }

    fn socket_addr(ip: Option<IpAddr>, port: i32) -> Option<SocketAddr> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        ip.map(|ip| SocketAddr::new(ip, port))
    }

    /// The TLS port, -1 when there is none.
    #[must_use]
    pub fn secure_port(&self) -> i32 {
        self.secure_port
    }

    /// The UDP port, -1 when there is none.
    #[must_use]
    pub fn udp_port(&self) -> i32 {
        self.udp_port
    }

    /// How long the member says it has been up, in milliseconds. Java puts the Unix clock here in several situations:
    /// show it, do not calculate with it.
    #[must_use]
    pub fn alive_ms(&self) -> i64 {
        self.alive_ms
    }

    /// The logical sub-cluster.
    #[must_use]
    pub fn domain(&self) -> &Bytes {
        &self.domain
    }

    /// The internal command.
    #[must_use]
    pub fn command(&self) -> &Bytes {
        &self.command
    }

    /// The application's payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Whether this record says that the member is leaving.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.command == SHUTDOWN_COMMAND
    }

    /// Whether everything but the alive time equals `other`: what an update event reports.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self == other
            && self.secure_port == other.secure_port
            && self.udp_port == other.udp_port
            && self.domain == other.domain
            && self.command == other.command
            && self.payload == other.payload
    }

    fn key(&self) -> (usize, &[u8], i32, &MemberId) {
        (self.host.len(), self.host.as_ref(), self.port, &self.id)
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        // What differs most comes first.
        self.id == other.id && self.port == other.port && self.host == other.host
    }
}

impl Eq for Member {}

impl PartialOrd for Member {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Member {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Member {
    /// `127.0.0.1:4000`, or the raw host bytes if they are no address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Some(ip) => write!(f, "{ip}:{}", self.port),
            None => write!(f, "{:?}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({self} {}", self.id)?;
        if !self.domain.is_empty() {
            write!(f, " domain={:?}", self.domain)?;
        }
        if !self.command.is_empty() {
            write!(f, " command={:?}", self.command)?;
        }
        if !self.payload.is_empty() {
            write!(f, " payload={}B", self.payload.len())?;
        }
        f.write_str(")")
    }
}
