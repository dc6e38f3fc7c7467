//! How durations and bytes are written on the command line and in events.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A text that is not what it should be, with what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub(crate) struct Malformed {
    text: String,
    what: &'static str,
}

impl Malformed {
    pub(crate) fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.to_owned(), what }
    }
}

/// Reads a duration as configurations have it. A bare number is refused: nobody could tell its unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Malformed> {
    let what = "duration; write a whole number with its unit, such as 500ms, 3s, 2m or 1h";
    tribes::settings::parse_duration(text).ok_or_else(|| Malformed::new(text, what))
}

/// The text of `error` and of all that caused it.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Lower-case hexadecimal digits, two for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0F)]).collect()
}

/// Reads what [`hex`] wrote, in either case.
pub(crate) fn parse_hex(text: &str) -> Result<Vec<u8>, Malformed> {
    let malformed = || Malformed::new(text, "row of hexadecimal digits, two for each byte");
    if !text.len().is_multiple_of(2) {
        return Err(malformed());
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let value = pair.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?));
            value.and_then(|value| u8::try_from(value).ok()).ok_or_else(malformed)
        })
        .collect()
}

/// A duration for people: three digits or so, in the unit that fits. Honours the width of the format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_secs_f64() * 1e6;
        let text = match micros {
            ..0.9995 => format!("{} ns", self.0.as_nanos()),
            ..9.995 => format!("{micros:.2} µs"),
            ..99.95 => format!("{micros:.1} µs"),
            ..999.5 => format!("{micros:.0} µs"),
            ..9_995.0 => format!("{:.2} ms", micros / 1e3),
            ..99_950.0 => format!("{:.1} ms", micros / 1e3),
            ..999_500.0 => format!("{:.0} ms", micros / 1e3),
            _ => format!("{:.2} s", micros / 1e6),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        let text = parse_duration("3").unwrap_err().to_string();
        assert!(text.contains("\"3\"") && text.contains("500ms"), "{text}");
    }

    #[test]
    fn hex_both_ways() {
        assert_eq!(hex(&[0x00, 0xFF, 0x1A]), "00ff1a");
        assert_eq!(parse_hex("00fF1a"), Ok(vec![0x00, 0xFF, 0x1A]));
        assert_eq!(parse_hex(""), Ok(vec![]));
        for wrong in ["0", "0g", "zz", "+1", "ü", "0ü1"] {
            assert!(parse_hex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (12_340, "12.3 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (12_340_000, "12.3 ms"),
            (512_000_000, "512 ms"),
            (3_000_000_000, "3.00 s"),
        ] {
            assert_eq!(Short(Duration::from_nanos(nanos)).to_string(), text);
        }
        assert_eq!(format!("{:>9}|", Short(Duration::from_millis(7))), "  7.00 ms|");
    }
}
