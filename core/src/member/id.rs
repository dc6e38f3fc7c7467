//! Sixteen bytes that tell one incarnation of a member from all others.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::Env;

/// Revision of our additions to Tribes' protocol, carried in the low nibble of byte 6 of our ids.
pub const REVISION: u8 = 1;
const MARK: [u8; 3] = *b"TRS";

/// A member's unique id (Tribes: `uniqueId`), 16 bytes.
///
/// Members of this project make ids of their own kind: UUID version 8, variant `10`, bytes 9-11 = `TRS`, and in the low
/// nibble of byte 6 the revision of what we add to the protocol. Such an id tells a peer that it may use our additions
/// ([`MemberId::revision`]); to Java it is just an id. Configured ids without the mark are treated as Java's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId([u8; 16]);

impl MemberId {
    /// Sixteen zero bytes: what a static Java member has when nothing was configured.
    pub const ZERO: Self = Self([0; 16]);

    /// A fresh id with our mark.
    ///
    /// # Errors
    /// The environment has no random bytes.
    pub fn generate(env: &Env) -> io::Result<Self> {
        let mut bytes = env.unique()?;
        bytes[6] = 0x80 | (REVISION & 0x0F);
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        bytes[9..12].copy_from_slice(&MARK);
        Ok(Self(bytes))
    }

    /// An id from its bytes, with or without our mark.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The revision of our additions that this member speaks; `None` if it is not one of ours.
    #[must_use]
    pub fn revision(&self) -> Option<u8> {
        let revision = self.0[6] & 0x0F;
        let marked = self.0[6] >> 4 == 8 && self.0[8] >> 6 == 0b10 && self.0[9..12] == MARK && revision > 0;
        marked.then_some(revision)
    }

    /// Whether this is one of our own nodes.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.revision().is_some()
    }
}

impl fmt::Display for MemberId {
    /// Thirty-two lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member id is 32 hexadecimal digits (16 bytes)")]
pub struct ParseMemberIdError;

impl FromStr for MemberId {
    type Err = ParseMemberIdError;

    /// Reads 32 hexadecimal digits; hyphens as in a UUID are allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut bytes = [0; 16];
        if digits.len() != 32 {
            return Err(ParseMemberIdError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(ParseMemberIdError) };
            *byte = u8::try_from(high << 4 | low).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_ids_carry_the_mark_and_others_do_not() {
        let env = Env::real();
        let id = MemberId::generate(&env).unwrap();
        assert_eq!(id.revision(), Some(REVISION));
        assert_ne!(id, MemberId::generate(&env).unwrap());
        assert!(!MemberId::ZERO.is_ours());
        // A random Java id: version 4.
        assert!(!"890bd46604854b5795959953aba30231".parse::<MemberId>().unwrap().is_ours());
    }

    #[test]
    fn text_form() {
        let id: MemberId = "0102030405060708090a0b0c0d0e0f10".parse().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("01020304-0506-0708-090a-0b0c0d0e0f10".parse(), Ok(id));
        assert!("0102".parse::<MemberId>().is_err());
        assert!("zz02030405060708090a0b0c0d0e0f10".parse::<MemberId>().is_err());
    }
}
