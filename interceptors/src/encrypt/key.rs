//! Keys: where they come from, and how they are kept from view.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize as _, Zeroizing};

/// How many keys a layer holds at most: the one that seals, and those that only open.
pub const MAX_KEYS: usize = 8;

/// A key file is no longer than this.
const MAX_FILE: u64 = 64 << 10;

/// An AES key of 128, 192 or 256 bits. Overwritten when dropped; never shown, neither by `Debug` nor in errors.
#[derive(Clone)]
pub struct Key(Octets);

#[derive(Clone)]
pub(super) enum Octets {
    Aes128([u8; 16]),
    Aes192([u8; 24]),
    Aes256([u8; 32]),
}

impl Key {
    /// A key of these bytes. The caller's copy is the caller's to overwrite.
    ///
    /// # Errors
    /// If there are not 16, 24 or 32 of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let octets = if let Ok(octets) = bytes.try_into() {
            Octets::Aes128(octets)
        } else if let Ok(octets) = bytes.try_into() {
            Octets::Aes192(octets)
        } else if let Ok(octets) = bytes.try_into() {
            Octets::Aes256(octets)
        } else {
            return Err(KeyError::Length { bits: bytes.len().saturating_mul(8) });
        };
        Ok(Self(octets))
    }

    /// A key written as Tribes has it (`encryptionKey`): hexadecimal digits of either case, two for each byte; blanks around
    /// them do not count.
    ///
    /// # Errors
    /// If it is not that, or of no length that AES has.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().as_bytes();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(KeyError::NotHex);
        }
        // Room for all of it at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        let (pairs, _) = digits.as_chunks::<2>();
        for pair in pairs {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            let value = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            bytes.push(value.ok_or(KeyError::NotHex)?);
        }
        Self::from_bytes(&bytes)
    }

    /// Several keys, joined by `+` or by blanks.
    pub(super) fn several_from_hex(text: &str) -> Result<Vec<Self>, KeyError> {
        let texts = text.split(|c: char| c == '+' || c.is_ascii_whitespace()).filter(|text| !text.is_empty());
        let keys: Vec<_> = texts.map(Self::from_hex).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::NotHex) } else { Ok(keys) }
    }

    pub(super) const fn octets(&self) -> &Octets {
        &self.0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Octets::Aes128(octets) => octets,
            Octets::Aes192(octets) => octets,
            Octets::Aes256(octets) => octets,
        }
    }
}

impl Drop for Octets {
    fn drop(&mut self) {
        match self {
            Self::Aes128(octets) => octets.zeroize(),
            Self::Aes192(octets) => octets.zeroize(),
            Self::Aes256(octets) => octets.zeroize(),
        }
    }
}

impl fmt::Debug for Key {
    /// Its size only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bits, hidden)", self.bytes().len() * 8)
    }
}

/// Where keys come from. Those of a file or a variable are read when the layer starts, and by
/// [`Encrypt::reload`](super::Encrypt::reload).
#[derive(Clone)]
#[non_exhaustive]
pub enum KeySource {
    /// Here they are.
    Inline(Vec<Key>),
    /// A file with one key a line in hexadecimal digits; empty lines and those that begin with `#` do not count. At most
    /// 64 KiB.
    File(PathBuf),
    /// An environment variable with one key in hexadecimal digits, or several joined by `+` or blanks.
    Env(String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(keys) => f.debug_tuple("Inline").field(keys).finish(),
            Self::File(path) => f.debug_tuple("File").field(&shown(&path.display().to_string())).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(&shown(name)).finish(),
        }
    }
}

/// `text` as it may be shown: a key may have come into the wrong place, such as that of a file name. The shortest has 32 digits.
pub(super) fn shown(text: &str) -> String {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
    let longest = text.as_bytes().split(|byte| !is_digit(byte)).map(<[u8]>::len).max();
    if longest.is_some_and(|digits| digits >= 16) { "(hidden)".to_owned() } else { text.to_owned() }
}

impl KeySource {
    pub(super) fn load(&self) -> Result<Vec<Key>, KeyError> {
        match self {
            Self::Inline(keys) => Ok(keys.clone()),
            Self::File(path) => read_file(path),
            Self::Env(name) => {
                let text = std::env::var(name).map(Zeroizing::new).map_err(|error| match error {
                    std::env::VarError::NotPresent => KeyError::NoVariable { name: shown(name) },
                    // The error holds the value.
                    std::env::VarError::NotUnicode(_) => KeyError::At {
                        place: format!("the variable {}", shown(name)),
                        source: Box::new(KeyError::NotHex),
                    },
                })?;
                Key::several_from_hex(&text).map_err(|source| KeyError::At {
                    place: format!("the variable {}", shown(name)),
                    source: Box::new(source),
                })
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<Key>, KeyError> {
    let shown = shown(&path.display().to_string());
    let unreadable = |source| KeyError::File { path: shown.clone().into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 64 KiB")));
    }
    let at = |place, source| KeyError::At { place, source: Box::new(source) };
    let text = std::str::from_utf8(&bytes).map_err(|_not_text| at(shown.clone(), KeyError::NotHex))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<_> = lines
        .map(|(number, line)| Key::from_hex(line).map_err(|source| at(format!("{shown}, line {}", number + 1), source)))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(at(shown.clone(), KeyError::NotHex)) } else { Ok(keys) }
}

/// Why there is no usable key. Says where, never what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Something else than hexadecimal digits, or an odd number of them.
    #[error("a key is written in hexadecimal digits, two for each of its bytes")]
    NotHex,
    /// A size that AES does not have.
    #[error("a key has 128, 192 or 256 bits, not {bits}")]
    Length {
        /// What it has.
        bits: usize,
    },
    /// None at all.
    #[error("there is no key; set key, key_file or key_env")]
    None,
    /// Too many.
    #[error("at most {MAX_KEYS} keys can be held, not {count}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// More than one key where it cannot be told which one fits.
    #[error(
        "{algorithm} cannot tell which of several keys fits without the time inside; keep layout and replay_window_time, use one key, or use AES/GCM/NoPadding"
    )]
    Ambiguous {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the key file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name}, which is to hold the key, is not set")]
    NoVariable {
        /// The variable.
        name: String,
    },
    /// A key in a file or variable is wrong.
    #[error("{place}: {source}")]
    At {
        /// Where it is.
        place: String,
        /// What is wrong.
        source: Box<Self>,
    },
}
