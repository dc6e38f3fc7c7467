//! What people are called, and what they read.

use std::fmt::Display;
use std::io::{self, Write};

use tribes::Member;

/// The longest name.
const MAX_NAME: usize = 32;

/// Reads a name: one word.
pub(crate) fn parse_name(name: &str) -> Result<String, String> {
    let plain =
        !name.is_empty() && name.len() <= MAX_NAME && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain { Ok(name.to_owned()) } else { Err(format!("a name is one word of at most {MAX_NAME} bytes")) }
}

/// The name that was given, or the user's, or one made up.
pub(crate) fn own_name(given: Option<String>) -> String {
    let user = || std::env::var("USER").ok().and_then(|user| parse_name(&user).ok());
    given.or_else(user).unwrap_or_else(|| format!("user{}", std::process::id()))
}

/// A member's name: its payload, or its address if that is none.
pub(crate) fn name_of(member: &Member) -> String {
    let name = std::str::from_utf8(member.payload()).ok().and_then(|name| parse_name(name).ok());
    name.unwrap_or_else(|| member.to_string())
}

/// What others say cannot steer this terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Writes a line to standard output.
pub(crate) fn print(line: impl Display) {
    let mut out = io::stdout().lock();
    // Nobody reads: the end of input will follow.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use tribes::MemberId;

    use super::*;

    #[test]
    fn names_are_one_word() {
        assert_eq!(parse_name("käthe"), Ok("käthe".to_owned()));
        for wrong in ["", "a b", "a\n", "\x1b[2J", &"x".repeat(MAX_NAME + 1)] {
            assert!(parse_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_strange_payload_is_no_name() {
        let member = Member::new(MemberId::ZERO, ([127, 0, 0, 1], 4000).into());
        for payload in [&b""[..], b"\xFF", b"\x1b[2J"] {
            assert_eq!(name_of(&member.clone().with_payload(payload.to_vec())), "127.0.0.1:4000");
        }
        assert_eq!(name_of(&member.with_payload("anna")), "anna");
    }

    #[test]
    fn control_characters_are_taken_out() {
        assert_eq!(plain("a\x1b[31mb\r"), "a\u{FFFD}[31mb\u{FFFD}");
    }
}
