//! How good the keys of `encrypt` are, and who can read them.

use std::collections::BTreeSet;
use std::path::Path;

use tribes::config::Config;
use tribes::interceptors::EncryptConfig;
use tribes::settings::Settings as _;

use super::finding::Finding;
use super::machine::with_causes;

const WHAT: &str = "keys";

/// Nothing without `encrypt` in the stack.
pub(super) fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    if !config.interceptors().contains(&"encrypt") {
        return Vec::new();
    }
    let set = |key: &str| config.get("encrypt", key).filter(|value| !value.is_empty() && value != "none");
    // What the layer does at its start. Its errors show no key, nor what may be one in the wrong place.
    let mut layer = EncryptConfig::default();
    for key in ["key", "key_file", "key_env", "algorithm", "layout", "replay_window_time"] {
        if let Some(value) = set(key) {
            let _ = layer.set(key, &value);
        }
    }
    if let Err(error) = layer.load_keys() {
        let fix = "make a key by: openssl rand -hex 32, and give this user leave to read it";
        return vec![Finding::fault(WHAT, with_causes(&error), fix)];
    }
    let mut findings = Vec::new();
    if let Some(keys) = set("key") {
        findings.extend(several(&keys).map(strength));
        findings.extend(file.and_then(readable_by_others));
    }
    if let Some(keys) = set("key_env").and_then(|name| std::env::var(name).ok()) {
        findings.extend(several(&keys).map(strength));
    }
    if let Some(path) = set("key_file") {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let keys = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        findings.extend(keys.map(strength));
        findings.extend(readable_by_others(Path::new(&path)));
    }
    if set("legacy").as_deref() == Some("true") && !set("algorithm").is_some_and(|name| name.contains("/GCM/")) {
        let fix = "use AES/GCM/NoPadding where all members can";
        findings.push(Finding::warning(WHAT, "the algorithm does not notice changed messages", fix));
    }
    findings
}

/// Keys joined by `+` or by blanks.
fn several(keys: &str) -> impl Iterator<Item = &str> {
    keys.split(|c: char| c == '+' || c.is_ascii_whitespace()).filter(|key| !key.is_empty())
}

/// Judges a key by its digits, which are never shown.
fn strength(key: &str) -> Finding {
    let bytes: Vec<&str> = key.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
    let different = bytes.iter().collect::<BTreeSet<_>>().len();
    let counting = bytes.windows(2).filter(|pair| is_step(pair)).count() + 1 >= bytes.len();
    let fix = "make one by: openssl rand -hex 32";
    // Of 16 random bytes, fewer than ten are different in one of a hundred billion cases.
    if different < bytes.len().min(16) * 5 / 8 || counting {
        return Finding::warning(WHAT, format!("a key of {} bits that was not made by chance", key.len() * 4), fix);
    }
    Finding::fine(WHAT, format!("a key of {} bits", key.len() * 4))
}

/// Whether a byte is one more than the byte before.
fn is_step(pair: &[&str]) -> bool {
    let byte = |at: usize| pair.get(at).and_then(|text| u8::from_str_radix(text, 16).ok());
    matches!((byte(0), byte(1)), (Some(one), Some(next)) if one.wrapping_add(1) == next)
}

#[cfg(unix)]
fn readable_by_others(file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let seen = format!("{} has a key in it and other users can read it", file.display());
    (mode & 0o077 != 0).then(|| Finding::warning(WHAT, seen, format!("chmod 600 {}", file.display())))
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> Option<Finding> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn keys_made_by_hand_are_told_from_others() {
        for (key, level) in [
            ("cafebabedeadbeefcafebabedeadbeef", Level::Warning),
            ("00000000000000000000000000000000", Level::Warning),
            ("000102030405060708090a0b0c0d0e0f", Level::Warning),
            ("9f3c5a17e2804bd66c01f7a83e925db4", Level::Fine),
        ] {
            let finding = strength(key);
            assert_eq!(finding.level, level, "{key}");
            assert!(!finding.to_string().contains(key));
        }
    }
}
