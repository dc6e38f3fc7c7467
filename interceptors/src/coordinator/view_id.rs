//! The sixteen bytes that name a view, and the term in them.

use std::fmt;

use tribes_core::Member;

/// What names a view, 16 bytes (Tribes: `viewId`).
///
/// Java draws them at random and otherwise only passes them on and compares them. Those of our own elections carry the term,
/// so that it also survives a way through Java members:
///
/// ```text
/// 0         6    7         8        9       12        13      16
/// │ term …  │ 81 │ … term  │ 10… …  │ "TRV" │ … term  │ any   │
/// ```
///
/// a UUID of version 8 and variant `10`, marked as a member id of ours is. `any` depends on who runs the election.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ViewId([u8; 16]);

const MARK: [u8; 3] = *b"TRV";
const VERSION: u8 = 0x81;
/// The low bits of a term depend on who runs the election, so that two members do not use the same.
pub(super) const SALT_BITS: u32 = 16;
/// Terms beyond are none: so nobody can be talked into one that has no successor. Those of a wall clock in milliseconds come
/// here in some four thousand years.
const TERM_LIMIT: u64 = 1 << 63;

/// The lowest term above `term` under which `source` may seek agreement.
pub(super) fn next_term(term: u64, source: &Member) -> u64 {
    let salt = fingerprint(source) & ((1 << SALT_BITS) - 1);
    let count = term >> SALT_BITS;
    let same = count << SALT_BITS | salt;
    if same > term { same } else { (count + 1) << SALT_BITS | salt }
}

impl ViewId {
    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id of the view that `source` seeks agreement on in this term.
    pub(super) fn new(term: u64, source: &Member) -> Self {
        let [.., a, b, c, d, _, _] = fingerprint(source).to_be_bytes();
        let [m0, m1, m2] = MARK;
        Self([0, 0, 0, 0, 0, 0, VERSION, 0, 0x80 | (a & 0x3F), m0, m1, m2, 0, b, c, d]).with_term(term)
    }

    /// The same in another term; one of Java's stays as it is.
    pub(super) fn with_term(mut self, term: u64) -> Self {
        if self.is_ours() {
            let [bytes @ .., last, least] = term.to_be_bytes();
            self.0[..6].copy_from_slice(&bytes);
            (self.0[7], self.0[12]) = (last, least);
        }
        self
    }

    /// The term; `None` if the view is not of ours.
    pub(super) fn term(&self) -> Option<u64> {
        let [a, b, c, d, e, f, _, last, _, _, _, _, least, ..] = self.0;
        let term = u64::from_be_bytes([a, b, c, d, e, f, last, least]);
        (self.is_ours() && term < TERM_LIMIT).then_some(term)
    }

    fn is_ours(&self) -> bool {
        self.0[6] == VERSION && self.0[8] >> 6 == 0b10 && self.0[9..12] == MARK
    }
}

/// FNV-1a: it need not resist anybody, only differ from one member to the next.
fn fingerprint(member: &Member) -> u64 {
    let (port, id) = (member.port().to_be_bytes(), member.id());
    let bytes = member.host().iter().chain(&port).chain(id.as_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::member_of_ours;

    #[test]
    fn terms_go_in_and_come_out() {
        let id = ViewId::new(7, &member_of_ours(1));
        assert_eq!(id.term(), Some(7));
        assert_eq!(id.with_term(TERM_LIMIT - 1).term(), Some(TERM_LIMIT - 1));
        assert_eq!(id.with_term(TERM_LIMIT).term(), None);
        assert_eq!(id.with_term(8).with_term(7), id);
        assert_ne!(id, ViewId::new(7, &member_of_ours(2)));
    }

    #[test]
    fn everybody_has_terms_of_its_own() {
        let (one, two) = (member_of_ours(1), member_of_ours(2));
        let mut term = 0;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10 {
            for member in [&one, &two, &one] {
                let next = next_term(term, member);
                assert!(next > term && next <= term + (1 << SALT_BITS) && seen.insert(next));
                assert_eq!(next_term(next - 1, member), next);
                term = next;
            }
        }
        assert_ne!(next_term(term, &one), next_term(term, &two));
    }

    #[test]
    fn ids_of_java_have_no_term() {
        // Version 4, with our mark even.
        let java = ViewId::from_bytes(*b"\0\0\0\0\0\x07\x41.\x80TRV....");
        assert_eq!((java.term(), java.with_term(9)), (None, java));
    }
}
