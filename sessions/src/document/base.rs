//! What a request was given: travels inside the record that it loaded, and tells what it changed when it saves.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::field::Part;
use super::set::{self, Form};
use super::{Document, Field};
use crate::SessionId;
use crate::conflict::Policies;
use crate::stamp::Stamp;

/// The key under which a record carries its base. No application has one that begins with a zero byte.
pub(crate) const BASE_KEY: &str = "\0tribes.base";

/// Hashes of values, keyed: nobody outside can find two values of one hash, of which the second would not be saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashes(u64);

impl Hashes {
    pub(crate) const fn new(key: u64) -> Self {
        Self(key)
    }

    pub(crate) fn of(self, json: &str) -> u128 {
        xxh3_128_with_seed(json.as_bytes(), self.0)
    }
}

/// What a request was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    #[serde(rename = "i")]
    pub(crate) id: SessionId,
    /// Tells one loading from another.
    #[serde(rename = "n")]
    pub(crate) nonce: u64,
    #[serde(rename = "f")]
    pub(super) fields: BTreeMap<Box<str>, Known>,
}

/// What it was given of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Known {
    /// The hash of its value, none if it was removed, and the writes that made it.
    #[serde(rename = "p")]
    Plain(Option<u128>, Vec<Stamp>),
    /// Its value.
    #[serde(rename = "c")]
    Counter(i64),
    /// The hashes of its elements or keys, and of their values.
    #[serde(rename = "s")]
    Set(Form, BTreeMap<u128, u128>),
}

impl Base {
    /// What a request is given of `document`: the values of its fields, and the base.
    pub(crate) fn of(
        (id, nonce): (SessionId, u64),
        document: &Document,
        policies: &Policies,
        hashes: Hashes,
    ) -> (Vec<(String, Value)>, Self) {
        let mut values = Vec::with_capacity(document.fields.len() + 1);
        let mut fields = BTreeMap::new();
        for (name, field) in &document.fields {
            let value = field.value(policies.of(name));
            if let Some(known) = known(field, value.as_ref(), hashes) {
                fields.insert(name.clone(), known);
            }
            values.extend(value.map(|value| (name.to_string(), value)));
        }
        (values, Self { id, nonce, fields })
    }

    /// As a value of a record.
    pub(crate) fn to_value(&self) -> Option<Value> {
        rmp_serde::to_vec(self).ok().map(|bytes| Value::String(STANDARD_NO_PAD.encode(bytes)))
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(value.as_str()?).ok()?;
        rmp_serde::from_slice(&bytes).ok()
    }
}

fn known(field: &Field, value: Option<&Value>, hashes: Hashes) -> Option<Known> {
    Some(match (field.part()?, value) {
        // Written anew, as it will be when it is saved.
        (Part::Latest(latest), value) => {
            Known::Plain(value.map(|value| hashes.of(&value.to_string())), vec![latest.stamp])
        }
        (Part::Kept(kept), value) => Known::Plain(value.map(|value| hashes.of(&value.to_string())), kept.stamps()),
        (Part::Counter(_), Some(value)) => Known::Counter(value.as_i64()?),
        (Part::Set(_), Some(value)) => {
            let (form, parts) = set::parts(value)?;
            let hash = |(key, value): (Box<str>, Box<str>)| (hashes.of(&key), hashes.of(&value));
            Known::Set(form, parts.into_iter().map(hash).collect())
        }
        (Part::Counter(_) | Part::Set(_), None) => return None,
    })
}
