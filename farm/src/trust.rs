//! Whose word is taken.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::digest::FixedBytes;
use crate::manifest::Refused;

/// Whose artefacts are taken. There is no default: whoever may publish decides what runs on all members.
///
/// ```
/// use tribes_farm::{SigningKey, Trust};
/// let key = SigningKey::from_seed([7; 32]); // 32 random bytes, kept in a safe place
/// let receivers = Trust::ed25519([key.public()]);
/// let publisher = Trust::ed25519([key.public()]).signing_with(key);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// Whatever a member of the group publishes, signed or not.
    Cluster,
    /// What is signed with one of these keys. All that is published, removed or rolled back has to be, and every receiver checks it.
    Ed25519(Keys),
}

/// The keys of [`Trust::Ed25519`].
#[derive(Clone, Debug, Default)]
pub struct Keys {
    trusted: Vec<PublicKey>,
    own: Option<SigningKey>,
}

impl Trust {
    /// What is signed with one of these.
    #[must_use]
    pub fn ed25519(trusted: impl IntoIterator<Item = PublicKey>) -> Self {
        Self::Ed25519(Keys { trusted: trusted.into_iter().collect(), own: None })
    }

    /// Signs what is published here with `key`. Does nothing to [`Cluster`](Self::Cluster), where nothing is signed.
    #[must_use]
    pub fn signing_with(self, key: SigningKey) -> Self {
        match self {
            Self::Cluster => self,
            Self::Ed25519(keys) => Self::Ed25519(Keys { own: Some(key), ..keys }),
        }
    }

    pub(crate) fn check(&self, signed: Option<&Signed>, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), Refused> {
        let Self::Ed25519(keys) = self else { return Ok(()) };
        let signed = signed.ok_or(Refused::Unsigned)?;
        let key = keys.trusted.iter().find(|key| *key.0.as_bytes() == signed.by).ok_or(Refused::Signature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signed.signature);
        key.0.verify_strict(&bytes(), &signature).map_err(|_wrong| Refused::Signature)
    }

    /// The signature of what is published here; `Err` if there has to be one and there is no key.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Option<Signed>, NoKey> {
        match self {
            Self::Cluster => Ok(None),
            Self::Ed25519(keys) => keys.own.as_ref().map(|key| Some(key.sign(bytes))).ok_or(NoKey),
        }
    }

    pub(crate) fn trusts_somebody(&self) -> bool {
        !matches!(self, Self::Ed25519(keys) if keys.trusted.is_empty())
    }
}

/// There is no key to sign with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoKey;

/// A key by which signatures are checked; as text, 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// If they are no key, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_no_point| KeyError)?;
        if key.is_weak() { Err(KeyError) } else { Ok(Self(key)) }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(KeyError);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let digits =
                std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(KeyError)?;
        }
        Self::from_bytes(&bytes)
    }
}

/// Some bytes or a text are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key of Ed25519, which has 64 hexadecimal digits")]
pub struct KeyError;

/// A key that signs. It is never shown, and overwritten in memory when the last copy is dropped.
#[derive(Clone)]
pub struct SigningKey(std::sync::Arc<ed25519_dalek::SigningKey>);

impl SigningKey {
    /// The key that these 32 random bytes make. Whoever has them can sign.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(std::sync::Arc::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// What others check its signatures by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Signed {
        Signed { by: *self.public().as_bytes(), signature: self.0.sign(bytes).to_bytes() }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// A signature, and by which key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Signed {
    #[serde(serialize_with = "bytes", deserialize_with = "read_bytes")]
    by: [u8; 32],
    #[serde(serialize_with = "bytes", deserialize_with = "read_bytes")]
    signature: [u8; 64],
}

fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn read_bytes<'de, D: serde::Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    deserializer.deserialize_bytes(FixedBytes::<N>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_shown() {
        let key = SigningKey::from_seed([9; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "00", &"g".repeat(64), &"é".repeat(32), &"00".repeat(32), &"+1".repeat(32)] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signing_key_is_not_shown() {
        let shown = format!("{:?}", Trust::ed25519([]).signing_with(SigningKey::from_seed([0x5A; 32])));
        assert!(!shown.contains("5a5a") && !shown.contains("90, 90"), "{shown}");
    }

    #[test]
    fn who_has_no_key_cannot_publish_where_it_takes_one() {
        let key = SigningKey::from_seed([1; 32]);
        assert!(Trust::ed25519([key.public()]).sign(b"x").is_err());
        assert!(Trust::Cluster.sign(b"x").unwrap().is_none());
        assert!(Trust::ed25519([key.public()]).signing_with(key).sign(b"x").unwrap().is_some());
    }
}
