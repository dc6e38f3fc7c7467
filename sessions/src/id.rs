//! The names of sessions.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many characters an id has in a cookie.
const TEXT: usize = 22;

/// The name of a session: 128 random bits, never used again. As text 22 characters of base64url, as tower-sessions has them.
///
/// Whoever knows it *is* the user: keep it out of logs. [`Debug`](fmt::Debug) therefore shows its first six characters only;
/// [`Display`](fmt::Display) shows all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// The id with these bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sixteen bytes are so many characters.
        let mut text = [0; 22];
        let length = URL_SAFE_NO_PAD.encode_slice(self.0.to_le_bytes(), &mut text).map_err(|_too_short| fmt::Error)?;
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        f.write_str(text.ok_or(fmt::Error)?)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "{}…", text.get(..6).unwrap_or_default())
    }
}

/// The text is no session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session's id is {TEXT} characters of base64url")]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        // A little more than is in it: the decoder reckons by the block.
        let mut bytes = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_no_base64| NoSessionId)?;
        let bytes = bytes.get(..length).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes.map(|bytes| Self(u128::from_le_bytes(bytes))).ok_or(NoSessionId)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_le_bytes())
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = [u8; 16];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 16 bytes of a session's id")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
                bytes.try_into().map_err(|_wrong_length| E::invalid_length(bytes.len(), &self))
            }
        }
        let bytes = deserializer.deserialize_bytes(Bytes).map_err(D::Error::custom)?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }
}

/// Of ids, which are chance: nobody chooses those that are kept, so their bits serve as they are.
#[derive(Clone, Copy, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, bits: u128) {
        let bytes = bits.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        let half = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        // Ids of tests are not chance: small numbers are to differ in the upper bits, too.
        self.0 = (half(low) ^ half(high)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_id_is_written_as_tower_sessions_writes_it() {
        let id = SessionId::from_bits(0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210);
        #[cfg(feature = "tower-sessions")]
        assert_eq!(
            id.to_string(),
            tower_sessions_core::session::Id(0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210).to_string()
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), TEXT);
        assert_eq!("short".parse::<SessionId>(), Err(NoSessionId));
        assert_eq!(format!("{}.nodeA", id).parse::<SessionId>(), Err(NoSessionId));
    }

    #[test]
    fn it_travels_as_sixteen_bytes_and_is_not_shown_whole() {
        let id = SessionId::from_bits(7);
        let bytes = rmp_serde::to_vec_named(&id).unwrap();
        assert_eq!(bytes.len(), 18);
        assert_eq!(rmp_serde::from_slice::<SessionId>(&bytes).unwrap(), id);
        assert!(rmp_serde::from_slice::<SessionId>(&bytes[..17]).is_err());
        assert!(format!("{id:?}").len() < 12);
    }
}
