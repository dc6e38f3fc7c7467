//! Where a part is to live.

use std::net::SocketAddr;

use crate::net::Node;

/// Where a part is to live: what its factory may need.
#[derive(Clone, Debug)]
pub struct Site {
    pub(super) node: Node,
    pub(super) number: usize,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) shared_port: u16,
}

impl Site {
    /// Its node in a simulated network, for parts that live in one.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Which member of the group it is, from 0 on.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// The address that its receiver is to have, for groups that have to know it beforehand: in real time one at 127.0.0.1
    /// that was free a moment ago.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addresses.get(self.number).copied().unwrap_or_else(|| self.node.addr())
    }

    /// The addresses of the others.
    #[must_use]
    pub fn others(&self) -> Vec<SocketAddr> {
        self.addresses.iter().copied().filter(|addr| *addr != self.addr()).collect()
    }

    /// A port for all of the group, that no other group has, as a multicast address needs one.
    #[must_use]
    pub const fn shared_port(&self) -> u16 {
        self.shared_port
    }
}
