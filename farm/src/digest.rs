//! Hashes of contents.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// How contents are hashed. All members must know it; what is hashed by another one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, which processors have instructions for. The default.
    #[default]
    Sha256,
    /// BLAKE3, faster where they have none; with the feature `blake3`.
    Blake3,
}

impl Algorithm {
    /// Whether this build can compute it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Sha256) || cfg!(feature = "blake3")
    }

    pub(crate) fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// The hash of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedBytes::<32>).map(Self)
    }
}

/// Reads exactly so many bytes.
pub(crate) struct FixedBytes<const N: usize>;

impl<const N: usize> Visitor<'_> for FixedBytes<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_wrong_length| E::invalid_length(bytes.len(), &self))
    }
}

/// Hashes bytes as they come.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of an algorithm that is not [known](Algorithm::is_known) it is SHA-256, whose digests nothing of that algorithm has.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            #[cfg(feature = "blake3")]
            Algorithm::Blake3 => Self::Blake3(Box::default()),
            _ => Self::Sha256(sha2::Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            #[cfg(feature = "blake3")]
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(match self {
            Self::Sha256(hasher) => hasher.finalize().into(),
            #[cfg(feature = "blake3")]
            Self::Blake3(hasher) => *hasher.finalize().as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_everybody() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Algorithm::Sha256.digest(b"").to_string(), empty);
        #[cfg(feature = "blake3")]
        {
            let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
            assert_eq!(Algorithm::Blake3.digest(b"").to_string(), empty);
        }
    }

    #[test]
    fn a_digest_has_32_bytes() {
        let digest = Algorithm::Sha256.digest(b"x");
        let bytes = rmp_serde::to_vec_named(&digest).unwrap();
        assert_eq!(bytes.len(), 34);
        assert_eq!(rmp_serde::from_slice::<Digest>(&bytes).unwrap(), digest);
        let short = rmp_serde::to_vec_named(&FixedLen(31)).unwrap();
        assert!(rmp_serde::from_slice::<Digest>(&short).is_err());
    }

    struct FixedLen(usize);

    impl Serialize for FixedLen {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&vec![0; self.0])
        }
    }
}
