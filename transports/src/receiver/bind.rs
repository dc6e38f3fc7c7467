//! Which port is taken, and which address is announced.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// No port of the range was free.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot bind {what} at {ip}, ports {first} to {last}: {source}; choose another `port`, or a larger `auto_bind`"
)]
pub(super) struct BindError {
    what: &'static str,
    ip: IpAddr,
    first: u16,
    last: u16,
    source: io::Error,
}

/// Binds the first free port of `count` ports from `first` on (Tribes: `autoBind`); 0 means any.
///
/// # Errors
/// If none is free, or for another reason than that, for instance that the address is not of this machine.
pub(super) fn first_free<S>(
    what: &'static str,
    ip: IpAddr,
    first: u16,
    count: u16,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<S, BindError> {
    let last = if first == 0 { 0 } else { first.saturating_add(count.saturating_sub(1)) };
    let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
    for port in first..=last {
        match bind(SocketAddr::new(ip, port)) {
            Ok(socket) => return Ok(socket),
            // A port below 1024 may be forbidden and a later one not.
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                failed = error;
            }
            Err(source) => return Err(BindError { what, ip, first, last, source }),
        }
    }
    Err(BindError { what, ip, first, last, source: failed })
}

/// The address that peers are told: `bind` itself, or for an unspecified one the address from which packets to elsewhere
/// leave (Tribes asks for the host name's address, which is often loopback: T36).
pub(super) fn announced(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    let (any, elsewhere, loopback): (IpAddr, IpAddr, IpAddr) = match bind {
        // Addresses set aside for documentation: nothing is sent, the routing table alone is asked.
        IpAddr::V4(_) => (bind, Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (bind, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    route_to(any, elsewhere).ok().filter(|ip| !ip.is_unspecified()).unwrap_or(loopback)
}

fn route_to(any: IpAddr, elsewhere: IpAddr) -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((elsewhere, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn in_use() -> io::Error {
        io::ErrorKind::AddrInUse.into()
    }

    #[test]
    fn the_first_free_port_is_taken() {
        let tried = RefCell::new(Vec::new());
        let port = first_free("TCP", IP, 4000, 100, |addr| {
            tried.borrow_mut().push(addr.port());
            if addr.port() < 4003 { Err(in_use()) } else { Ok(addr.port()) }
        });
        assert_eq!(port.unwrap(), 4003);
        assert_eq!(*tried.borrow(), [4000, 4001, 4002, 4003]);
    }

    #[test]
    fn the_range_ends_and_the_error_names_it() {
        let error = first_free::<()>("TCP", IP, 65_530, 100, |_| Err(in_use())).unwrap_err();
        assert!(error.to_string().contains("ports 65530 to 65535"), "{error}");
        let error = first_free::<()>("UDP", IP, 0, 100, |_| Err(in_use())).unwrap_err();
        assert!(error.to_string().contains("ports 0 to 0"), "{error}");
    }

    #[test]
    fn another_error_ends_the_search() {
        let tried = RefCell::new(0);
        let result = first_free::<()>("TCP", IP, 4000, 100, |_| {
            *tried.borrow_mut() += 1;
            Err(io::ErrorKind::AddrNotAvailable.into())
        });
        assert!(result.is_err());
        assert_eq!(*tried.borrow(), 1);
    }

    #[test]
    fn a_specified_address_is_announced_as_it_is() {
        assert_eq!(announced(IP), IP);
        assert!(!announced(Ipv4Addr::UNSPECIFIED.into()).is_unspecified());
        assert!(!announced(Ipv6Addr::UNSPECIFIED.into()).is_unspecified());
    }
}
