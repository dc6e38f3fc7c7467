//! Socket options, for both halves.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// Silence after which the operating system asks whether the other host is still there, and the time between its
/// questions: a connection to a host that vanished ends after about two minutes. Longer keeps dead connections, shorter
/// costs packets on idle ones. At least 1 s.
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(60);
/// Unanswered questions after which the connection is given up.
const KEEPALIVE_RETRIES: u32 = 4;
/// Connections that the operating system completes ahead of `accept`. A burst beyond it is answered a second later, when
/// the peer's operating system tries again. The system's own bound (`somaxconn`) applies, too.
const BACKLOG: i32 = 1024;

/// Options of a TCP connection.
///
/// `SO_LINGER`, which Tribes sets to 3 s, is left alone: closing such a socket would block a thread of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Whether small writes leave at once (`TCP_NODELAY`). Default true: writes are gathered here already.
    pub nodelay: bool,
    /// Keep-alive after this silence; `None` for none. Default [`DEFAULT_KEEPALIVE`].
    pub keepalive: Option<Duration>,
    /// The receive buffer in bytes; `None`, the default, lets the operating system adapt it, which a fixed size ends.
    pub recv_buffer: Option<usize>,
    /// The send buffer in bytes; `None`, the default, lets the operating system adapt it.
    pub send_buffer: Option<usize>,
    /// The traffic class of IPv4 packets; Tribes has 0x1C. Default `None`, the system's.
    pub traffic_class: Option<u32>,
}

impl SocketOptions {
    /// With small writes leaving at once, or not.
    #[must_use]
    pub const fn with_nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// With keep-alive after this silence.
    #[must_use]
    pub const fn with_keepalive(mut self, silence: Option<Duration>) -> Self {
        self.keepalive = silence;
        self
    }

    /// With a receive buffer of this size.
    #[must_use]
    pub const fn with_recv_buffer(mut self, bytes: Option<usize>) -> Self {
        self.recv_buffer = bytes;
        self
    }

    /// With a send buffer of this size.
    #[must_use]
    pub const fn with_send_buffer(mut self, bytes: Option<usize>) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// With this traffic class.
    #[must_use]
    pub const fn with_traffic_class(mut self, class: Option<u32>) -> Self {
        self.traffic_class = class;
        self
    }

    /// Connects to `addr` with these options.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.apply(&SockRef::from(&socket), addr.is_ipv4())?;
        socket.connect(addr).await
    }

    /// Sets these options on an accepted connection.
    ///
    /// # Errors
    /// What the operating system says, for instance that the peer has gone already.
    pub(crate) fn apply_to(&self, stream: &TcpStream) -> io::Result<()> {
        self.apply(&SockRef::from(stream), stream.peer_addr()?.is_ipv4())
    }

    fn apply(&self, socket: &Socket, ipv4: bool) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(silence) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(silence);
            #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows", target_os = "freebsd"))]
            let keepalive = keepalive.with_interval((silence / KEEPALIVE_RETRIES).max(Duration::from_secs(1)));
            #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
            let keepalive = keepalive.with_retries(KEEPALIVE_RETRIES);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        if let Some(bytes) = self.recv_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(class) = self.traffic_class.filter(|_| ipv4) {
            socket.set_tos_v4(class)?;
        }
        Ok(())
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(DEFAULT_KEEPALIVE),
            recv_buffer: None,
            send_buffer: None,
            traffic_class: None,
        }
    }
}

/// A TCP socket that listens at `addr`.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AddrInUse`] if another socket listens there.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Unix this means that connections of an earlier process that linger in the kernel do not keep the port from us;
    // elsewhere it would let two processes listen at one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A UDP socket bound to `addr`, shared with nobody.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AddrInUse`] if another socket is bound there.
pub(crate) fn bind_udp(addr: SocketAddr, recv_buffer: Option<usize>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = recv_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}
