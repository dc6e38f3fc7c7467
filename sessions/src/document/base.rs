//! What a request was given: travels inside the record that it loaded, and tells what it changed when it saves.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::field::{Part, written};
use super::set::{self, Form};
use super::{Document, Field, Name};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) id: SessionId,
    /// Tells one loading from another.
    pub(crate) nonce: u64,
    pub(super) fields: Arc<KnownFields>,
}

pub(super) type KnownFields = BTreeMap<Name, Arc<Known>>;

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
                fields.insert(Name::clone(name), Arc::new(known));
            }
            values.extend(value.map(|value| (name.to_string(), value)));
        }
        (values, Self { id, nonce, fields: Arc::new(fields) })
    }

    /// As a value of a record.
    pub(crate) fn to_value(&self) -> Option<Value> {
        Some(with_nonce(self.nonce, &self.to_text()?))
    }

    /// All but the nonce.
    fn to_text(&self) -> Option<String> {
        let mut bytes = Vec::with_capacity(32 + 64 * self.fields.len());
        rmp_serde::encode::write(&mut bytes, &(self.id, &*self.fields)).ok()?;
        Some(STANDARD_NO_PAD.encode(bytes))
    }

    /// `likely` is what was given last, which most come back with.
    pub(crate) fn from_value(value: &Value, likely: Option<&Loaded>) -> Option<Self> {
        let (nonce, text) = value.as_str()?.split_once('.')?;
        let nonce = u64::from_str_radix(nonce, 16).ok()?;
        if let Some(likely) = likely.filter(|likely| likely.text() == text) {
            return Some(Self { nonce, ..likely.base.clone() });
        }
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (id, fields) = rmp_serde::from_slice(&bytes).ok()?;
        Some(Self { id, nonce, fields: Arc::new(fields) })
    }
}

/// Neither of base64 nor of a number is there a dot.
fn with_nonce(nonce: u64, text: &str) -> Value {
    // Sixteen digits, and the dot.
    let mut whole = String::with_capacity(17 + text.len());
    for byte in nonce.to_be_bytes() {
        for half in [byte >> 4, byte & 15] {
            whole.push(char::from(half + if half < 10 { b'0' } else { b'a' - 10 }));
        }
    }
    whole.push('.');
    whole.push_str(text);
    Value::String(whole)
}

/// What requests are given of one state of a session, made once.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// And a place for the base.
    values: HashMap<String, Value>,
    base: Base,
    /// The base as a record carries it: made when a record does.
    text: OnceLock<Box<str>>,
    /// The fields that it was made of.
    of: BTreeMap<Name, Arc<Field>>,
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        (&self.values, &self.base) == (&other.values, &other.base)
    }
}

impl Loaded {
    pub(super) fn of(id: SessionId, document: &Document, policies: &Policies, hashes: Hashes) -> Self {
        let (values, base) = Base::of((id, 0), document, policies, hashes);
        let place = (BASE_KEY.to_owned(), Value::Null);
        let values = values.into_iter().chain([place]).collect();
        Self { values, base, text: OnceLock::new(), of: document.fields.clone() }
    }

    fn text(&self) -> &str {
        // It is made of what can always be written down.
        self.text.get_or_init(|| self.base.to_text().unwrap_or_default().into())
    }

    /// Makes of what requests were given of another state what they are given of this: the same as [`of`](Self::of) makes, and of the
    /// fields that the two share nothing is made anew.
    fn become_of(&mut self, document: &Document, policies: &Policies, hashes: Hashes) {
        self.text = OnceLock::new();
        let (values, fields) = (&mut self.values, Arc::make_mut(&mut self.base.fields));
        for (name, field) in &document.fields {
            if self.of.get(name).is_some_and(|held| Arc::ptr_eq(held, field)) {
                continue;
            }
            self.of.insert(Name::clone(name), Arc::clone(field));
            let value = field.value(policies.of(name));
            match known(field, value.as_ref(), hashes) {
                Some(known) => drop(fields.insert(Name::clone(name), Arc::new(known))),
                None => drop(fields.remove(name)),
            }
            match (value, values.get_mut(&**name)) {
                (Some(value), Some(held)) => *held = value,
                (Some(value), None) => drop(values.insert(name.to_string(), value)),
                (None, _) => drop(values.remove(&**name)),
            }
        }
        // It has all of the document's by now, and perhaps others.
        if self.of.len() > document.fields.len() {
            self.of.retain(|name, _| {
                let is_there = document.fields.contains_key(name);
                if !is_there {
                    fields.remove(name);
                    values.remove(&**name);
                }
                is_there
            });
        }
    }

    /// What a request was given that was given `base`, if that was this.
    pub(super) fn given_with(&self, base: &Base) -> Option<&HashMap<String, Value>> {
        Arc::ptr_eq(&self.base.fields, &base.fields).then_some(&self.values)
    }

    /// For one request that keeps its [base](Self::base) beside it; a mark tells whether it has let go of all that it was given.
    pub(crate) fn marked_data(&self) -> HashMap<String, Value> {
        self.values.clone()
    }

    pub(crate) fn base(&self) -> Base {
        self.base.clone()
    }

    /// For one request.
    pub(crate) fn data(&self, nonce: u64) -> HashMap<String, Value> {
        // A copy of the whole is made without a look at what the names are.
        let mut data = self.values.clone();
        if let Some(base) = data.get_mut(BASE_KEY) {
            *base = with_nonce(nonce, self.text());
        }
        data
    }
}

/// Made when it is wanted first, for as long as the document stays as it is: a copy, which is to be changed, has none.
#[derive(Debug, Default)]
pub(crate) struct Lazily {
    made: OnceLock<Arc<Loaded>>,
    /// What it is made of, if there is anything: what was made of an earlier state. By then nobody has that any more, mostly, and nothing
    /// of it is copied.
    earlier: Mutex<Option<Arc<Loaded>>>,
}

impl Lazily {
    pub(super) fn get(&self) -> Option<&Loaded> {
        self.made.get().map(|made| &**made)
    }

    /// For a later state.
    pub(super) fn later(&self) -> Self {
        let earlier = self.made.get().cloned().or_else(|| self.earlier().clone());
        Self { made: OnceLock::new(), earlier: Mutex::new(earlier) }
    }

    /// For this document of this session.
    pub(super) fn get_or_make(&self, id: SessionId, of: &Document, policies: &Policies, hashes: Hashes) -> &Loaded {
        self.made.get_or_init(|| {
            // Apart, so that the lock is not held while it is made.
            let earlier = self.earlier().take();
            Arc::new(match earlier.map(Arc::unwrap_or_clone) {
                Some(mut loaded) => {
                    loaded.become_of(of, policies, hashes);
                    loaded
                }
                None => Loaded::of(id, of, policies, hashes),
            })
        })
    }

    fn earlier(&self) -> MutexGuard<'_, Option<Arc<Loaded>>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Lazily {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Lazily {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lazily {}

fn known(field: &Field, value: Option<&Value>, hashes: Hashes) -> Option<Known> {
    Some(match (field.part()?, value) {
        // Written anew, as it will be when it is saved.
        (Part::Latest(latest), value) => {
            Known::Plain(value.map(|value| hashes.of(&written(value))), vec![latest.stamp])
        }
        (Part::Kept(kept), value) => Known::Plain(value.map(|value| hashes.of(&written(value))), kept.stamps()),
        (Part::Counter(_), Some(value)) => Known::Counter(value.as_i64()?),
        (Part::Set(_), Some(value)) => {
            let (form, parts) = set::parts(value)?;
            let hash = |(key, value): (Box<str>, Box<str>)| (hashes.of(&key), hashes.of(&value));
            Known::Set(form, parts.into_iter().map(hash).collect())
        }
        (Part::Counter(_) | Part::Set(_), None) => return None,
    })
}
