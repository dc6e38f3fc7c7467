//! Members that exist on paper only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tribes_core::member::REVISION;
use tribes_core::{Member, MemberId};

/// The member number `number`: always the same one, with an id that marks it as one of our own nodes. Its port is
/// `number`; nothing listens there.
#[must_use]
pub fn member(number: u16) -> Arc<Member> {
    let [high, low] = number.to_be_bytes();
    Arc::new(made(number, [0, 0, 0, 0, high, low, 0x80 | REVISION, 0, 0x80, b'T', b'R', b'S', 0, 0, high, low]))
}

/// As [`member`], with an id as a Java node makes it (UUID version 4), so that it counts as one.
#[must_use]
pub fn java_member(number: u16) -> Arc<Member> {
    let [high, low] = number.to_be_bytes();
    Arc::new(made(number, [0, 0, 0, 0, high, low, 0x40, 0, 0x80, 0, 0, 0, 0, 0, high, low]))
}

fn made(port: u16, id: [u8; 16]) -> Member {
    Member::new(MemberId::from_bytes(id), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_tells_them_apart() {
        assert!(member(1).id().is_ours());
        assert!(!java_member(1).id().is_ours());
        assert_eq!(member(300), member(300));
        assert_ne!(member(1), java_member(1));
    }
}
