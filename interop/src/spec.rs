use std::time::Duration;

use crate::hex;

/// Which implementation a member runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impl {
    /// Apache Tribes, through `java/Peer.java`.
    Java,
    /// Ours: `tribes node`.
    Rust,
}

/// How a node is to be started. Both implementations take the same options; it listens on 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) implementation: Impl,
    pub(crate) args: Vec<String>,
}

impl Spec {
    /// A node on a port of its own choice, with Tomcat's interceptors.
    pub fn new(implementation: Impl) -> Self {
        Self { implementation, args: Vec::new() }.with("--bind", "127.0.0.1:0")
    }

    /// A node of a fixed list: it listens on `port`, calls itself `id`, and knows `peers`, each `(port, id)`.
    pub fn fixed<'a>(
        implementation: Impl,
        (port, id): (u16, &str),
        peers: impl IntoIterator<Item = (u16, &'a str)>,
    ) -> Self {
        let local = Self { implementation, args: Vec::new() }
            .with("--bind", &format!("127.0.0.1:{port}"))
            .with("--auto-bind", "1")
            .with("--id", id);
        peers.into_iter().fold(local, |spec, (port, id)| spec.with("--peer", &format!("127.0.0.1:{port}@{id}")))
    }

    /// Adds `name value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds `name`, an option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.args.push(name.to_owned());
        self
    }

    /// Multicast membership in `group`, an address and a port.
    #[must_use]
    pub fn multicast(self, group: &str) -> Self {
        self.with("--mcast", group)
    }

    /// How often the node announces itself.
    #[must_use]
    pub fn frequency(self, interval: Duration) -> Self {
        self.with("--mcast-frequency", &format!("{}ms", interval.as_millis()))
    }

    /// How long the node may hear nothing of a member before it suspects it.
    #[must_use]
    pub fn drop_time(self, time: Duration) -> Self {
        self.with("--mcast-drop", &format!("{}ms", time.as_millis()))
    }
}

/// An id for a member of a fixed list. One of ours carries the mark by which our nodes know each other.
pub fn member_id(implementation: Impl, number: u8) -> String {
    hex(&match implementation {
        Impl::Java => [number, b'J', b'a', b'v', b'a', 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, number],
        Impl::Rust => [number, b'R', b'u', b's', b't', 0, 0x81, 0, 0x80, b'T', b'R', b'S', 0, 0, 0, number],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_sixteen_bytes_and_only_ours_are_marked() {
        let (java, rust) = (member_id(Impl::Java, 7), member_id(Impl::Rust, 7));
        assert_eq!((java.len(), rust.len()), (32, 32));
        // UUID version 8 with revision 1, variant 10, and "TRS" in bytes 9 to 11.
        assert_eq!(rust.get(12..24), Some("810080545253"));
        assert_ne!(java.get(12..24), Some("810080545253"));
    }
}
