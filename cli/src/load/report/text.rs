//! How figures, sizes and times are written.

use clap::ValueEnum;

/// The name that a value has on the command line.
pub(super) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A size in the unit that leaves a whole number.
pub(super) fn bytes(size: usize) -> String {
    match size {
        _ if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size >= 1 << 10 && size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// A figure with three digits or more; a dash for what is not known.
pub(super) fn figure(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => match value.abs() {
            ..0.0995 => format!("{value:.3}"),
            ..9.995 => format!("{value:.2}"),
            ..99.95 => format!("{value:.1}"),
            _ => grouped(&format!("{value:.0}")),
        },
        _ => "–".to_owned(),
    }
}

/// A figure as short as an axis wants it.
pub(super) fn short(value: f64) -> String {
    let scaled = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value.abs() {
        ..999.5 => scaled(value, ""),
        ..999_500.0 => scaled(value / 1e3, " k"),
        _ => scaled(value / 1e6, " M"),
    }
}

/// Puts commas between groups of three digits.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment, given in milliseconds since 1970, as date and time in UTC.
pub(super) fn utc(wall_ms: i64) -> String {
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March here, so that the leap day is the last of its year; an era is 400 of them.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

/// A command as a shell reads it back.
pub(super) fn shell(words: impl IntoIterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    let quoted = words.into_iter().map(|word| match word {
        word if !word.is_empty() && word.chars().all(plain) => word,
        word => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let sizes = [24, 100, 1000, 1024, 1500, 65_536, 1 << 20].map(bytes);
        assert_eq!(sizes, ["24 B", "100 B", "1000 B", "1 KiB", "1500 B", "64 KiB", "1 MiB"]);
    }

    #[test]
    fn figures() {
        for (value, text, axis) in [
            (0.0123, "0.012", "0.01"),
            (1.0, "1.00", "1"),
            (12.34, "12.3", "12.34"),
            (456.7, "457", "456.7"),
            (1_234_567.0, "1,234,567", "1.23 M"),
            (-20_000.0, "-20,000", "-20 k"),
        ] {
            assert_eq!((figure(Some(value)), short(value)), (text.to_owned(), axis.to_owned()));
        }
        assert_eq!((figure(None), figure(Some(f64::NAN))), ("–".to_owned(), "–".to_owned()));
    }

    #[test]
    fn dates() {
        for (wall_ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59 UTC"),
            (1_798_761_600_000, "2027-01-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(wall_ms), text);
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        let words = ["tribes", "--against", "raw=a b", "", "it's"].map(str::to_owned);
        assert_eq!(shell(words), r"tribes --against 'raw=a b' '' 'it'\''s'");
    }
}
