//! The names of Tribes' algorithms, and what they stand for.

use std::fmt;

/// How bodies are encrypted towards Java, by Tribes' names (`encryptionAlgorithm`). All are AES, with the key size of the key.
///
/// All but [`Gcm`](Self::Gcm) are *legacy*: without authentication, so that whoever can change bytes on the way can change
/// messages, and in CBC give old ones a new time. They need `legacy = true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// `AES/GCM/NoPadding`, the default here and in Tribes since 9.0.121, 10.1.58 and 11.0.25. A random nonce for each message:
    /// have another key before 2^32 messages were sealed with one.
    #[default]
    Gcm,
    /// `AES/CBC/PKCS5Padding`, Tribes' default before that. Legacy.
    Cbc,
    /// `AES/CBC/ISO10126Padding`. Legacy.
    CbcIso10126,
    /// `AES/CFB/PKCS5Padding`: full blocks, padded like CBC. Legacy.
    Cfb,
    /// `AES/OFB/PKCS5Padding`: full blocks, padded like CBC. Legacy.
    Ofb,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Gcm, Self::Cbc, Self::CbcIso10126, Self::Cfb, Self::Ofb];

    /// What [`Algorithm::from_name`] knows.
    pub(super) const EXPECTED: &'static str = "AES/GCM/NoPadding; or, with legacy = true, AES/CBC/PKCS5Padding, \
        AES/CBC/ISO10126Padding, AES/CFB/PKCS5Padding or AES/OFB/PKCS5Padding";

    /// Tribes' name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gcm => "AES/GCM/NoPadding",
            Self::Cbc => "AES/CBC/PKCS5Padding",
            Self::CbcIso10126 => "AES/CBC/ISO10126Padding",
            Self::Cfb => "AES/CFB/PKCS5Padding",
            Self::Ofb => "AES/OFB/PKCS5Padding",
        }
    }

    /// The algorithm of this name, in either case; `None` for what Tribes refuses, too, and for its DES, DESede and Blowfish,
    /// whose blocks are too small to be used at all.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Whether nothing vouches for what it encrypts.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        !matches!(self, Self::Gcm)
    }

    /// Bytes before the ciphertext.
    pub(super) const fn iv_len(self) -> usize {
        if self.is_legacy() { 16 } else { 12 }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
