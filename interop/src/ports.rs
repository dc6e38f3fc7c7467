use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Failure;

/// Ports are taken from below the range that Linux gives to outgoing connections, so none of those is in the way.
const FIRST: u32 = 10_240;
const COUNT: u32 = 22_000;

/// Counts the leases of this process.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port number that no other scenario on this machine uses while the lease lives.
///
/// The number is held by a socket of the *other* protocol: a TCP listener keeps a UDP number and the reverse. So the
/// number is free for the nodes to bind, while every other scenario that tries it meets the holder; and a lease ends with its process at the latest.
#[derive(Debug)]
pub struct Lease {
    port: u16,
    _holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Tcp { _socket: TcpListener },
    Udp { _socket: UdpSocket },
}

impl Lease {
    /// A number for UDP sockets: a multicast group's or a node's datagram port.
    ///
    /// # Errors
    /// When every number of the range is taken.
    pub fn udp() -> Result<Self, Failure> {
        Self::first(|port| {
            let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some(Holder::Tcp { _socket: holder })
        })
    }

    /// A number for a TCP listener.
    ///
    /// # Errors
    /// When every number of the range is taken.
    pub fn tcp() -> Result<Self, Failure> {
        Self::first(|port| {
            let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some(Holder::Udp { _socket: holder })
        })
    }

    /// The number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts at a place of this process's own, so that scenarios that begin together rarely meet.
    fn first(take: impl Fn(u16) -> Option<Holder>) -> Result<Self, Failure> {
        let start = process::id().wrapping_mul(61).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        (0..COUNT)
            .filter_map(|step| u16::try_from(FIRST + (start + step) % COUNT).ok())
            .find_map(|port| take(port).map(|holder| Self { port, _holder: holder }))
            .ok_or_else(|| Failure::new("no free port"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_leased_once_and_stays_bindable() -> Result<(), Failure> {
        let leases = [Lease::udp()?, Lease::udp()?, Lease::tcp()?, Lease::tcp()?];
        let mut ports: Vec<u16> = leases.iter().map(Lease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), leases.len());
        let [udp, _, tcp, _] = leases;
        assert!(UdpSocket::bind((Ipv4Addr::LOCALHOST, udp.port())).is_ok());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, tcp.port())).is_ok());
        Ok(())
    }
}
