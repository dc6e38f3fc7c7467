//! The name of a logical message.

use std::fmt;

use bytes::Bytes;

use crate::Env;

/// A message's id: 16 random bytes from all senders known (UUID version 4); other sizes are carried as they are.
///
/// It names the logical message, not a frame: all pieces, destinations and retries of a message share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Uuid([u8; 16]),
    Other(Bytes),
}

impl MessageId {
    /// A fresh random id.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        let mut bytes = env.message_id();
        bytes[6] = 0x40 | (bytes[6] & 0x0F);
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        Self(Repr::Uuid(bytes))
    }

    /// The usual id of 16 bytes.
    #[must_use]
    pub const fn from_array(bytes: [u8; 16]) -> Self {
        Self(Repr::Uuid(bytes))
    }

    /// An id of any size.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        match <[u8; 16]>::try_from(bytes.as_ref()) {
            Ok(array) => Self(Repr::Uuid(array)),
            Err(_) => Self(Repr::Other(bytes)),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Uuid(bytes) => bytes,
            Repr::Other(bytes) => bytes,
        }
    }
}

impl fmt::Display for MessageId {
    /// Lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}
