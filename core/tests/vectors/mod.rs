//! Reads the golden vectors; see README.md beside this file.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The whole file `name`.json.
pub(crate) fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The elements of an array.
pub(crate) fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

pub(crate) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not an integer: {value}"))
}

pub(crate) fn int32(value: &Value) -> i32 {
    i32::try_from(int(value)).unwrap()
}

pub(crate) fn size(value: &Value) -> usize {
    usize::try_from(int(value)).unwrap()
}

/// Bytes of lower-case hexadecimal digits; `None` for any other text.
pub(crate) fn try_hex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<_>>>()
        .map(Bytes::from)
}

pub(crate) fn hex(value: &Value) -> Bytes {
    try_hex(text(value)).unwrap_or_else(|| panic!("not hexadecimal: {value}"))
}

/// Synthetic payloads: byte i is (31 * i + 7) mod 256.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((31 * i + 7) % 256).unwrap()).collect()
}

/// A blob, a plain string of digits, or, if only its hash is given, the pattern of its length.
pub(crate) fn bytes(value: &Value) -> Bytes {
    let bytes = match value {
        Value::String(_) => return hex(value),
        blob if blob.get("hex").is_some() => hex(&blob["hex"]),
        blob => pattern(size(&blob["len"])),
    };
    assert_blob(&bytes, value, "blob");
    bytes
}

/// Compares `found` with a blob, by its hash if it is a large one.
pub(crate) fn assert_blob(found: &[u8], blob: &Value, what: &str) {
    assert_eq!(found.len(), size(&blob["len"]), "{what}: length");
    if blob.get("hex").is_some() {
        assert_eq!(Bytes::copy_from_slice(found), hex(&blob["hex"]), "{what}");
    } else {
        let hash: String = Sha256::digest(found).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, text(&blob["sha256"]), "{what}: hash");
        assert_eq!(found[..64], hex(&blob["head64"]), "{what}: head");
        assert_eq!(found[found.len() - 64..], hex(&blob["tail64"]), "{what}: tail");
    }
}

/// All strings of hexadecimal digits in `value` that start with `start`, each with its path.
pub(crate) fn captured(value: &Value, start: &[u8]) -> Vec<(String, Bytes)> {
    fn walk(value: &Value, path: &str, start: &[u8], found: &mut Vec<(String, Bytes)>) {
        match value {
            Value::String(text) => {
                found.extend(
                    try_hex(text).filter(|bytes| bytes.starts_with(start)).map(|bytes| (path.to_owned(), bytes)),
                );
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| walk(item, &format!("{path}/{i}"), start, found));
            }
            Value::Object(items) => {
                items.iter().for_each(|(key, item)| walk(item, &format!("{path}/{key}"), start, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", start, &mut found);
    found
}
