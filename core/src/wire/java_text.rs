//! Java's own UTF-8, in which object streams hold strings: U+0000 takes two bytes, and a character beyond U+FFFF is written as
//! the two halves of a surrogate pair, three bytes each.

use std::borrow::Cow;

/// `text` in Java's form. Nearly every text is the same in both.
pub(super) fn encode(text: &str) -> Cow<'_, [u8]> {
    if text.bytes().all(|byte| byte != 0 && byte < 0xF0) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut units = [0; 2];
    for char in text.chars() {
        match char {
            '\0' => out.extend_from_slice(&[0xC0, 0x80]),
            '\u{10000}'.. => {
                for unit in char.encode_utf16(&mut units) {
                    let [high, low] = unit.to_be_bytes();
                    out.extend_from_slice(&[
                        0xE0 | (high >> 4),
                        0x80 | ((high & 0x0F) << 2) | (low >> 6),
                        0x80 | (low & 0x3F),
                    ]);
                }
            }
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// The text; `None` if it is not Java's form, or has half a pair.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let special = |byte: u8| byte == 0 || byte == 0xC0 || byte == 0xED || byte >= 0xF0;
    if !bytes.iter().any(|byte| special(*byte)) {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let more = |at: usize| tail.get(at).filter(|byte| **byte & 0xC0 == 0x80).map(|byte| u16::from(byte & 0x3F));
        let (unit, len) = match first {
            0x01..=0x7F => (u16::from(first), 0),
            0xC0..=0xDF => (u16::from(first & 0x1F) << 6 | more(0)?, 1),
            0xE0..=0xEF => (u16::from(first & 0x0F) << 12 | more(0)? << 6 | more(1)?, 2),
            _ => return None,
        };
        units.push(unit);
        rest = tail.get(len..)?;
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("question", b"question"),
            ("a\0b", b"a\xC0\x80b"),
            ("\u{e4}\u{20ac}\u{ffff}", b"\xC3\xA4\xE2\x82\xAC\xEF\xBF\xBF"),
            ("\u{1f600}", b"\xED\xA0\xBD\xED\xB8\x80"),
            ("\u{d7ff}x", b"\xED\x9F\xBFx"),
        ] {
            assert_eq!(encode(text).as_ref(), bytes, "{text:?}");
            assert_eq!(decode(bytes).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_not_javas_is_refused() {
        for bytes in [&b"\0"[..], b"\xF0\x9F\x98\x80", b"\xED\xA0\xBD", b"\xC3", b"\xE2\x82", b"\x80", b"\xC3x"] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
    }
}
