//! A configuration as TOML.

use std::fmt::Write as _;

use super::{ChannelConfig, Config, Entry, Part};
use crate::registry::{PartKind, Registry};
use crate::settings::{SettingInfo, Settings as _, Shape};

pub(super) fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    if !config.channel.is_empty() {
        out.push_str("[channel]\n");
        entries(&mut out, &config.channel, &ChannelConfig::describe());
    }
    for part in [&config.receiver, &config.membership, &config.sender] {
        section(&mut out, &format!("[{}]", part.kind.section()), part);
    }
    for part in &config.interceptors {
        section(&mut out, "[[interceptor]]", part);
    }
    if config.interceptors.is_empty() && !config.channel.iter().any(|entry| entry.key == "default_interceptors") {
        let line = "default_interceptors = false\n";
        if config.channel.is_empty() {
            out.insert_str(0, &format!("[channel]\n{line}"));
        } else {
            out.insert_str("[channel]\n".len(), line);
        }
    }
    out
}

fn section(out: &mut String, heading: &str, part: &Part) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{heading}\ntype = {}", quoted(&part.name));
    let infos = Registry::find(part.kind, &part.name).map(|part| part.settings()).unwrap_or_default();
    debug_assert!(part.kind != PartKind::Interceptor || heading.starts_with("[["), "interceptors are a list");
    entries(out, &part.entries, &infos);
}

fn entries(out: &mut String, entries: &[Entry], infos: &[SettingInfo]) {
    for entry in entries {
        let info = infos.iter().find(|info| info.key == entry.key);
        let _ = match info {
            Some(info) if info.secret => writeln!(out, "# {} = \"(hidden)\"", entry.key),
            Some(info) => writeln!(out, "{} = {}", entry.key, value(&entry.value, &info.shape)),
            None => writeln!(out, "{} = {}", entry.key, quoted(&entry.value)),
        };
    }
}

/// A value as TOML writes it.
fn value(text: &str, shape: &Shape) -> String {
    let trimmed = text.trim();
    match shape {
        Shape::Flag if matches!(trimmed, "true" | "false") => trimmed.to_owned(),
        // As TOML has numbers: without zeros in front, with a digit on either side of the point.
        Shape::Number { .. } if let Ok(number) = trimmed.parse::<i64>() => number.to_string(),
        Shape::Fraction { .. }
            if let Ok(number) = trimmed.parse::<f64>()
                && number.is_finite() =>
        {
            format!("{number:?}")
        }
        Shape::Size { .. } | Shape::Options if let Ok(number) = trimmed.parse::<u32>() => number.to_string(),
        Shape::List(_) if trimmed.is_empty() => "[]".to_owned(),
        Shape::List(inner) => {
            let items: Vec<_> = trimmed.split('+').map(|item| value(item, inner)).collect();
            format!("[{}]", items.join(", "))
        }
        Shape::Or(word, inner) if trimmed != *word => value(text, inner),
        _ => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
