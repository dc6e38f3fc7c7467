//! What a request changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::base::Known;
use super::field::{Latest, latest_time, written};
use super::set::{self, Form, Part};
use super::{BASE_KEY, Base, Document, Hashes, Lifetime, Loaded, Name, NodeId};
use crate::conflict::{Conflict, Policies};
use crate::stamp::Stamp;

/// How large a session may become, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) field: usize,
    pub(crate) session: usize,
}

/// How deep values may be nested in each other: what is deeper than 127 is not read by serde_json, and so would be gone.
const MAX_DEPTH: usize = 120;

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    FieldTooLarge { field: String, bytes: usize, limit: usize },
    SessionTooLarge { bytes: usize, limit: usize },
    TooDeep { field: String },
}

/// What a request changed of what it was given.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    fields: BTreeMap<Name, Step>,
    /// It had let go of all that it was given: what the replica holds and the request does not is to go.
    cleared: bool,
    /// A field that could not be read back.
    too_deep: Option<String>,
    lifetime: Lifetime,
    owner: NodeId,
}

/// What happens to a field.
#[derive(Clone, Debug)]
enum Step {
    Put { json: Box<str>, over: Vec<Stamp>, keep: bool },
    Remove { over: Vec<Stamp> },
    Add(i64),
    Parts { form: Form, added: Vec<Part>, removed: BTreeSet<u128> },
}

impl Change {
    /// What a request that has `data` in the end changed of what it was given: `base`, likely with `given`.
    pub(crate) fn between(
        (base, given): (Option<&Base>, Option<&Loaded>),
        data: &HashMap<String, Value>,
        (lifetime, owner): (Lifetime, NodeId),
        policies: &Policies,
        hashes: Hashes,
    ) -> Self {
        let (mut fields, mut too_deep) = (BTreeMap::new(), None);
        let given = given.zip(base).and_then(|(given, base)| given.given_with(base));
        for (name, value) in data.iter().filter(|(name, _)| *name != BASE_KEY) {
            if given.and_then(|given| given.get(name)).is_some_and(|given| is_same(given, value)) {
                continue;
            }
            let known = base.and_then(|base| base.fields.get(name.as_str())).map(|known| &**known);
            if let Some(step) = step(known, value, policies.of(name), hashes) {
                fields.insert(name.as_str().into(), step);
                if is_deeper(value, MAX_DEPTH) {
                    too_deep = Some(name.clone());
                }
            }
        }
        for (name, known) in base.iter().flat_map(|base| &*base.fields) {
            if !data.contains_key(&**name) {
                match &**known {
                    Known::Plain(None, _) => {}
                    Known::Plain(Some(_), over) => {
                        fields.insert(name.clone(), Step::Remove { over: over.clone() });
                    }
                    Known::Counter(_) | Known::Set(..) => {
                        fields.insert(name.clone(), Step::Remove { over: Vec::new() });
                    }
                }
            }
        }
        Self { fields, cleared: base.is_none(), too_deep, lifetime, owner }
    }

    /// Whether the request gave this field a value.
    pub(crate) fn writes(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|step| !matches!(step, Step::Remove { .. }))
    }

    /// Checks what can be checked before it is applied.
    pub(crate) fn check(&self, limits: Limits) -> Result<(), Unfit> {
        if let Some(field) = &self.too_deep {
            return Err(Unfit::TooDeep { field: field.clone() });
        }
        for (name, step) in &self.fields {
            let bytes = match step {
                Step::Put { json, .. } => json.len(),
                Step::Parts { added, .. } => added.iter().map(|(key, value)| key.len() + value.len()).sum(),
                Step::Remove { .. } | Step::Add(_) => 0,
            };
            if bytes > limits.field {
                return Err(Unfit::FieldTooLarge { field: name.to_string(), bytes, limit: limits.field });
            }
        }
        Ok(())
    }

    /// What the request was given, and has written now: for when it saves again.
    pub(crate) fn base_after(
        &self,
        base: Option<Base>,
        id: crate::SessionId,
        nonce: u64,
        stamp: Stamp,
        hashes: Hashes,
    ) -> Base {
        let mut fields = base.map(|base| base.fields).unwrap_or_default();
        let changed = Arc::make_mut(&mut fields);
        for (name, step) in &self.fields {
            let earlier = changed.remove(name).map(Arc::unwrap_or_clone);
            let known = match (step, earlier) {
                (Step::Put { json, .. }, _) => Some(Known::Plain(Some(hashes.of(json)), vec![stamp])),
                (Step::Remove { .. }, Some(Known::Plain(..))) => Some(Known::Plain(None, vec![stamp])),
                (Step::Remove { .. }, _) => None,
                (Step::Add(change), Some(Known::Counter(value))) => Some(Known::Counter(value.saturating_add(*change))),
                (Step::Add(value), _) => Some(Known::Counter(*value)),
                (Step::Parts { form, added, removed }, earlier) => {
                    let mut parts = match earlier {
                        Some(Known::Set(_, parts)) => parts,
                        _ => BTreeMap::new(),
                    };
                    parts.retain(|key, _| !removed.contains(key));
                    parts.extend(added.iter().map(|(key, value)| (hashes.of(key), hashes.of(value))));
                    Some(Known::Set(*form, parts))
                }
            };
            changed.extend(known.map(|known| (Name::clone(name), Arc::new(known))));
        }
        Base { id, nonce, fields }
    }

    /// A document of a session that nobody knows.
    pub(crate) fn new_document(&self, stamp: Stamp, hashes: Hashes) -> Document {
        let mut document = Document::new(stamp, self.lifetime, self.owner);
        self.apply(&mut document, stamp, hashes);
        document
    }

    /// Applies it as the write `stamp`; whether that changed anything. Again, it does not.
    pub(crate) fn apply(&self, document: &mut Document, stamp: Stamp, hashes: Hashes) -> bool {
        let mut changed = false;
        if document.lifetime.1 != self.lifetime && stamp > document.lifetime.0 {
            document.lifetime = (stamp, self.lifetime);
            changed = true;
        }
        if document.owner.1 != self.owner && stamp > document.owner.0 {
            document.owner = (stamp, self.owner);
            changed = true;
        }
        if self.cleared {
            let left: Vec<Name> = document
                .fields
                .iter()
                .filter(|(name, field)| !self.fields.contains_key(*name) && !field.is_removed())
                .map(|(name, _)| name.clone())
                .collect();
            for name in left {
                if let Some(field) = document.fields.get_mut(&name) {
                    let over = field.stamps();
                    Arc::make_mut(field).remove(stamp, &over);
                    changed = true;
                }
            }
        }
        for (name, step) in &self.fields {
            changed |= self.apply_step(document, name, step, stamp, hashes);
        }
        if changed {
            document.note(stamp);
            document.forget_removals();
        }
        changed
    }

    fn apply_step(&self, document: &mut Document, name: &Name, step: &Step, stamp: Stamp, hashes: Hashes) -> bool {
        if let (Step::Put { json, over, keep: false }, Some(field)) = (step, document.fields.get_mut(name))
            && let Some(held) = field.only_latest()
        {
            // The usual write: what it replaces is not copied for it.
            let seen = if self.cleared { held.stamp.time() } else { latest_time(over) };
            let write = Latest { stamp, over: seen, value: Some(json.clone()) };
            let is_later = write > *held;
            if is_later {
                *field = Arc::new(write.into());
            }
            return is_later;
        }
        let before = document.fields.get(name).cloned();
        let mut field = before.as_deref().cloned().unwrap_or_default();
        // Whoever let go of all that he was given replaces what there is.
        let seen = |over: &[Stamp]| if self.cleared { field.stamps() } else { over.to_vec() };
        match step {
            Step::Remove { over } => {
                let over = seen(over);
                if before.is_some() {
                    field.remove(stamp, &over);
                }
            }
            Step::Put { json, over, keep } => {
                let over = seen(over);
                field.put(stamp, &over, Some(json.clone()), *keep);
            }
            Step::Add(change) => {
                if self.cleared && before.is_some() {
                    field.remove(stamp, &[]);
                }
                field.add(stamp, *change);
            }
            Step::Parts { form, added, removed } => {
                let set = field.set_mut(stamp, *form);
                let keys = if self.cleared {
                    set.keys_besides(added)
                } else {
                    set.keys().filter(|key| removed.contains(&hashes.of(key))).cloned().collect()
                };
                set.change(stamp, *form, added, &keys);
            }
        }
        if before.map_or_else(|| field.part().is_none(), |before| *before == field) {
            return false;
        }
        document.fields.insert(Name::clone(name), Arc::new(field));
        true
    }
}

/// Whether two values are written down alike. Equal ones need not be: a zero may have a sign.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => {
            let sign = |value: &Value| value.as_f64().map(f64::is_sign_negative);
            one == other && sign(one) == sign(other)
        }
        (Value::Array(ones), Value::Array(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(ones), Value::Object(others)) => {
            let is_same_entry = |((name, one), (also, other)): ((&String, &Value), (&String, &Value))| {
                name == also && is_same(one, other)
            };
            ones.len() == others.len() && ones.iter().zip(others).all(is_same_entry)
        }
        _ => one == other,
    }
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth == 0 || values.iter().any(|value| is_deeper(value, depth - 1)),
        Value::Object(entries) => depth == 0 || entries.values().any(|value| is_deeper(value, depth - 1)),
        _ => false,
    }
}

/// What turns the value that was known into `value`; none if it is the same.
fn step(known: Option<&Known>, value: &Value, conflict: &Conflict, hashes: Hashes) -> Option<Step> {
    match (conflict, known) {
        (Conflict::Counter, Some(Known::Counter(earlier))) => {
            if let Some(later) = value.as_i64() {
                let change = later.saturating_sub(*earlier);
                return (change != 0).then_some(Step::Add(change));
            }
        }
        (Conflict::Counter, None) => {
            if let Some(later) = value.as_i64() {
                return Some(Step::Add(later));
            }
        }
        (Conflict::Union, Some(Known::Set(form, earlier))) => {
            if let Some((later_form, parts)) = set::parts(value) {
                let mut left = earlier.clone();
                let mut added = Vec::new();
                for (key, value) in parts {
                    let known = left.remove(&hashes.of(&key));
                    if known != Some(hashes.of(&value)) {
                        added.push((key, value));
                    }
                }
                let same = later_form == *form && added.is_empty() && left.is_empty();
                return (!same).then(|| Step::Parts { form: later_form, added, removed: left.into_keys().collect() });
            }
        }
        (Conflict::Union, None) => {
            if let Some((form, added)) = set::parts(value) {
                return Some(Step::Parts { form, added, removed: BTreeSet::new() });
            }
        }
        _ => {}
    }
    let json: Box<str> = written(value).into();
    let over = match known {
        Some(Known::Plain(Some(hash), _)) if *hash == hashes.of(&json) => return None,
        Some(Known::Plain(_, stamps)) => stamps.clone(),
        Some(Known::Counter(earlier)) if value.as_i64() == Some(*earlier) => return None,
        Some(Known::Set(..)) if is_same_set(known, value, hashes) => return None,
        Some(Known::Counter(_) | Known::Set(..)) | None => Vec::new(),
    };
    let keep = matches!(conflict, Conflict::Max | Conflict::Min | Conflict::KeepAll | Conflict::Merge(_));
    Some(Step::Put { json, over, keep })
}

fn is_same_set(known: Option<&Known>, value: &Value, hashes: Hashes) -> bool {
    let (Some(Known::Set(form, earlier)), Some((later, parts))) = (known, set::parts(value)) else { return false };
    let later_parts: BTreeMap<u128, u128> =
        parts.into_iter().map(|(key, value)| (hashes.of(&key), hashes.of(&value))).collect();
    *form == later && *earlier == later_parts
}
