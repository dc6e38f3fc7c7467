//! The two sockets of multicast membership.
//!
//! They work on 127.0.0.1 without any route or other set-up: the interface is named by its address in both directions.
//! Several processes of one machine share the group's port, Java's among them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::McastConfig;

/// Room for what arrives while the driver is busy; the system may grant less.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket that hears the group.
pub(super) fn listen(config: &McastConfig) -> io::Result<UdpSocket> {
    let interface = config.bind.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let socket = match config.bind {
        // As Java: the group's own address keeps other groups' datagrams out; where that cannot be bound, all addresses.
        Some(_) => {
            bound(config.group, config.port).or_else(|_not_bindable| bound(Ipv4Addr::UNSPECIFIED, config.port))?
        }
        None => bound(Ipv4Addr::UNSPECIFIED, config.port)?,
    };
    socket.join_multicast_v4(&config.group, &interface)?;
    UdpSocket::from_std(socket.into())
}

fn bound(addr: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    // Linux delivers what any process of the machine joined, unless told not to.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&SockAddr::from(SocketAddrV4::new(addr, port)))?;
    Ok(socket)
}

/// A socket that sends to the group, by [`target`].
pub(super) fn speak(config: &McastConfig) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let interface = config.bind.unwrap_or(Ipv4Addr::UNSPECIFIED);
    socket.bind(&SockAddr::from(SocketAddrV4::new(interface, 0)))?;
    if config.bind.is_some() {
        socket.set_multicast_if_v4(&interface)?;
    }
    if let Some(ttl) = config.ttl {
        socket.set_multicast_ttl_v4(u32::from(ttl))?;
    }
    socket.set_multicast_loop_v4(config.loopback)?;
    UdpSocket::from_std(socket.into())
}

/// Where the group is.
pub(super) const fn target(config: &McastConfig) -> SocketAddrV4 {
    SocketAddrV4::new(config.group, config.port)
}
