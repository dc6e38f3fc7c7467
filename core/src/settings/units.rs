//! How durations and sizes are written: a whole number and a unit.

use std::time::Duration;

/// Reads a duration: a whole number with one of the units `us`, `ms`, `s`, `m`, `h`, as in `250ms`. Zero is `0s`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// Writes a duration in the largest unit that loses nothing; what is below a microsecond is lost.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        return "0s".to_owned();
    }
    let units = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)];
    let (unit, size) = units.into_iter().find(|(_, size)| micros.is_multiple_of(*size)).unwrap_or(("us", 1));
    format!("{}{unit}", micros / size)
}

/// Reads a size in bytes: a whole number, alone or with one of the units `B`, `KiB`, `MiB`, `GiB`, `TiB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    let size = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(size)
}

/// Writes a size in the largest unit that loses nothing.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, micros) in
            [("200ms", 200_000), ("5m", 300_000_000), ("7us", 7), ("0s", 0), ("1h", 3_600_000_000), ("61s", 61_000_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_micros(micros)), "{text}");
            assert_eq!(format_duration(Duration::from_micros(micros)), text);
        }
        assert_eq!(parse_duration(" 5 m "), Some(Duration::from_secs(300)));
        assert_eq!(format_duration(Duration::from_millis(60_000)), "1m");
        for wrong in ["", "5", "ms", "-1s", "1.5s", "1 day", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("64KiB", 65_536), ("4MiB", 4 << 20), ("7", 7), ("1GiB", 1 << 30), ("3TiB", 3 << 40)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size(" 7 B "), Some(7));
        for wrong in ["", "KiB", "-1", "1.5MiB", "64kb", "1 PiB", "99999999999999999999", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
