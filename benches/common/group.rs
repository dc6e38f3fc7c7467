//! A group that nobody else is in.

use std::net::{Ipv4Addr, UdpSocket};

/// A multicast group of one's own, on a port that is free now.
pub(crate) fn free() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    format!("228.0.0.4:{}", socket.local_addr().expect("it is bound").port())
}
