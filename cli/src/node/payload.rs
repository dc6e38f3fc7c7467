//! The bodies of one `send` command: `hex:…`, `text:…`, `file:PATH` or `size:N[:SEED]`.

use std::fs;

use bytes::Bytes;

use crate::units::{Malformed, parse_hex};

/// More than any frame may hold; a typing error should not ask for all memory.
const MAX_SIZE: usize = 1 << 30;

/// What is wrong with a payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("unknown payload {0:?}; write hex:…, text:…, size:N[:SEED] or file:PATH")]
    UnknownKind(String),
    #[error("a body of {0} bytes is more than the {MAX_SIZE} that this command makes")]
    TooLarge(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// What a `send` command sends, message after message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// The same body each time.
    Constant(Bytes),
    /// Made up from a seed, each body another; see [`pattern`].
    Pattern { len: usize, seed: u64 },
}

impl Payload {
    /// Reads the text form; `file:` reads the file here and now.
    pub(crate) fn parse(text: &str) -> Result<Self, PayloadError> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "hex" => Ok(Self::Constant(parse_hex(value)?.into())),
            "text" => Ok(Self::Constant(value.to_owned().into())),
            "size" => Self::parse_pattern(value),
            "file" => match fs::read(value) {
                Ok(body) => Ok(Self::Constant(body.into())),
                Err(source) => Err(PayloadError::File { path: value.to_owned(), source }),
            },
            _ => Err(PayloadError::UnknownKind(text.to_owned())),
        }
    }

    fn parse_pattern(value: &str) -> Result<Self, PayloadError> {
        let (len, seed) = value.split_once(':').unwrap_or((value, "1"));
        let number = |text: &str| text.parse::<u64>().map_err(|_not_a_number| Malformed::new(text, "whole number"));
        let len = usize::try_from(number(len)?).unwrap_or(usize::MAX);
        if len > MAX_SIZE {
            return Err(PayloadError::TooLarge(len));
        }
        Ok(Self::Pattern { len, seed: number(seed)? })
    }

    /// The body of message `number` of a command that sends several (`numbered`) or one.
    pub(crate) fn body(&self, number: u64, numbered: bool) -> Bytes {
        match self {
            Self::Constant(body) => body.clone(),
            Self::Pattern { len, seed } => pattern(*len, *seed, number, numbered).into(),
        }
    }
}

/// The body of message `number`: bytes are the top ones of xorshift64, whose state starts at
/// `(seed + number) * 0x9E3779B97F4A7C15 + 1`. When the command sends several messages (`numbered`) and there is room, the
/// first eight bytes are the number, big-endian. The Java peer makes the same ones.
fn pattern(len: usize, seed: u64, number: u64, numbered: bool) -> Vec<u8> {
    let mut x = seed.wrapping_add(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut body: Vec<u8> = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let [top, ..] = x.to_be_bytes();
        top
    })
    .take(len)
    .collect();
    if numbered && let Some(front) = body.first_chunk_mut() {
        *front = number.to_be_bytes();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::hex;

    #[test]
    fn the_pattern_is_the_agreed_one() {
        // The Java peer and the interop driver hold the same bytes.
        assert_eq!(hex(&pattern(16, 1, 0, false)), "dc54d6bf052e91a78e285630208de8d3");
        assert_eq!(pattern(16, 1, 7, false), pattern(16, 8, 0, false));
        assert_eq!(pattern(3, u64::MAX, 1, false), pattern(3, 0, 0, false));
    }

    #[test]
    fn numbers_stand_in_front_where_there_is_room() {
        assert_eq!(hex(&pattern(10, 1, 0x0102, true))[..16], *"0000000000000102");
        assert_eq!(pattern(10, 1, 2, true)[8..], pattern(10, 1, 2, false)[8..]);
        assert_eq!(pattern(7, 1, 2, true), pattern(7, 1, 2, false));
        assert!(pattern(0, 1, 0, true).is_empty());
    }

    #[test]
    fn text_forms() {
        assert_eq!(Payload::parse("hex:00ff").unwrap(), Payload::Constant(Bytes::from_static(&[0, 255])));
        assert_eq!(Payload::parse("text:a:b").unwrap(), Payload::Constant("a:b".into()));
        assert_eq!(Payload::parse("text:").unwrap().body(5, true), "");
        assert_eq!(Payload::parse("size:300").unwrap(), Payload::Pattern { len: 300, seed: 1 });
        assert_eq!(Payload::parse("size:0:18446744073709551615").unwrap(), Payload::Pattern { len: 0, seed: u64::MAX });
        for wrong in
            ["", "hex:0", "size:", "size:-1", "size:1:x", "size:99999999999", "bytes:00", "file:/does/not/exist"]
        {
            assert!(Payload::parse(wrong).is_err(), "{wrong}");
        }
    }
}
