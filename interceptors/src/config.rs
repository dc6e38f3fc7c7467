//! What the configurations of all interceptors share: the error, and how values are written.

use crate::NAMES;

/// A name, key or value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No interceptor of this build has that name.
    #[error("there is no interceptor {name:?} in this build; known: {}", if NAMES.is_empty() { "none".to_owned() } else { NAMES.join(", ") })]
    UnknownInterceptor {
        /// What was asked for.
        name: String,
    },
    /// The interceptor has no such option.
    #[error("{interceptor} has no option {key:?}; known: {}", known.join(", "))]
    UnknownKey {
        /// The interceptor.
        interceptor: &'static str,
        /// What was asked for.
        key: String,
        /// The options that there are.
        known: &'static [&'static str],
    },
    /// The value is out of bounds, or is no value of this option.
    #[error("{key} of {interceptor} is {value:?}, but must be {expected}")]
    InvalidValue {
        /// The interceptor.
        interceptor: &'static str,
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// How durations are written, for error texts.
#[cfg(feature = "_any")]
#[allow(dead_code, reason = "not every layer has one")]
pub(crate) const DURATION: &str = "a duration above zero such as 250ms, 1s or 5m";

/// Reads a duration above zero: a whole number with one of the units `us`, `ms`, `s`, `m`, `h`.
#[cfg(feature = "_any")]
#[allow(dead_code, reason = "not every layer has one")]
pub(crate) fn duration(text: &str) -> Option<std::time::Duration> {
    use std::time::Duration;
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    let value = match unit.trim_start() {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (!value.is_zero()).then_some(value)
}

/// Reads a size in bytes: a whole number, alone or with one of the units `B`, `KiB`, `MiB`, `GiB`, `TiB`.
#[cfg(feature = "_any")]
#[allow(dead_code, reason = "not every layer has one")]
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "" | "B" => Some(number),
        "KiB" => number.checked_mul(1 << 10),
        "MiB" => number.checked_mul(1 << 20),
        "GiB" => number.checked_mul(1 << 30),
        "TiB" => number.checked_mul(1 << 40),
        _ => None,
    }
}

#[cfg(test)]
#[cfg(feature = "_any")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration(" 5 m "), Some(Duration::from_secs(300)));
        assert_eq!(duration("7us"), Some(Duration::from_micros(7)));
        for wrong in ["", "5", "0s", "ms", "-1s", "1.5s", "1 day", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("1024", 1024), (" 64KiB ", 65_536), ("4 MiB", 4 << 20), ("7B", 7), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "KiB", "-1", "1.5MiB", "64kb", "1 PiB", "99999999999999999999", "99999999999GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
