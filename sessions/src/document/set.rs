//! A field of which each element is written for itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::field::{read, written};
use super::floor::Floor;
use crate::stamp::Stamp;

/// So many removed elements are remembered.
const MAX_REMOVED: usize = 256;

/// An array without repetitions, or an object. Of each element the later of adding and removing counts; elements that
/// different requests add are all there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Set {
    /// The latest write of it.
    #[serde(rename = "s")]
    pub(super) stamp: Stamp,
    /// When it was last said whether there is one, and which of the two.
    #[serde(rename = "f")]
    form: (Stamp, Form),
    /// By element (of an array), or key (of an object), as JSON.
    #[serde(rename = "e")]
    elements: BTreeMap<Box<str>, Element>,
    /// Of elements that were removed and are forgotten.
    #[serde(rename = "g", default, skip_serializing_if = "Floor::is_empty")]
    floor: Floor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    #[serde(rename = "a")]
    Array,
    #[serde(rename = "o")]
    Object,
    /// It was removed, and was one of these before.
    #[serde(rename = "n")]
    NoArray,
    #[serde(rename = "m")]
    NoObject,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Element {
    #[serde(rename = "s")]
    stamp: Stamp,
    /// Of one that was removed: the write that had put it there.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    of: Option<Stamp>,
    /// Its place among those that were added by the same write.
    #[serde(rename = "i", default)]
    at: u32,
    /// JSON, empty in an array; none if it was removed.
    #[serde(rename = "v")]
    value: Option<Box<str>>,
}

impl Element {
    /// The write that put it there, also if it was removed since.
    fn put(&self) -> Stamp {
        self.of.unwrap_or(self.stamp)
    }
}

/// An element or key, and the value if it has one besides.
pub(crate) type Part = (Box<str>, Box<str>);

/// The parts of `value`; none if it is neither an array nor an object.
pub(crate) fn parts(value: &Value) -> Option<(Form, Vec<Part>)> {
    match value {
        Value::Array(elements) => {
            let parts = elements.iter().map(|element| (written(element).into(), Box::default()));
            Some((Form::Array, parts.collect()))
        }
        Value::Object(entries) => {
            let parts = entries.iter().map(|(key, value)| (key.as_str().into(), written(value).into()));
            Some((Form::Object, parts.collect()))
        }
        _ => None,
    }
}

impl Set {
    pub(super) fn new(stamp: Stamp, form: Form) -> Self {
        Self { stamp, form: (stamp, form), elements: BTreeMap::new(), floor: Floor::default() }
    }

    pub(super) const fn form(&self) -> Form {
        self.form.1
    }

    /// Changes elements. Its form is written only if it is another.
    pub(super) fn change(&mut self, stamp: Stamp, form: Form, added: &[Part], removed: &[Box<str>]) {
        self.stamp = self.stamp.max(stamp);
        if self.form.1 != form && stamp > self.form.0 {
            self.form = (stamp, form);
        }
        for (at, (key, value)) in added.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.set(key, Element { stamp, of: None, at, value: Some(value.clone()) });
        }
        for key in removed {
            let of = self.elements.get(key).map(Element::put);
            self.set(key, Element { stamp, of, at: 0, value: None });
        }
        self.forget_removals();
    }

    /// Removes it with all its elements.
    pub(super) fn remove(&mut self, stamp: Stamp) {
        let removed: Vec<Box<str>> = self.live().map(|(key, _)| key.clone()).collect();
        let form = match self.form.1 {
            Form::Array | Form::NoArray => Form::NoArray,
            Form::Object | Form::NoObject => Form::NoObject,
        };
        self.change(stamp, form, &[], &removed);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.stamp = self.stamp.max(other.stamp);
        if other.form.0 > self.form.0 {
            self.form = other.form;
        }
        self.elements.retain(|key, element| other.elements.contains_key(key) || !other.floor.covers(element.put()));
        for (key, element) in other.elements {
            if self.elements.contains_key(&key) || !self.floor.covers(element.put()) {
                self.set(&key, element);
            }
        }
        self.floor.merge(&other.floor);
        self.forget_removals();
    }

    pub(super) fn is_removed(&self) -> bool {
        matches!(self.form.1, Form::NoArray | Form::NoObject) && self.live().next().is_none()
    }

    pub(super) fn value(&self) -> Option<Value> {
        if self.is_removed() {
            return None;
        }
        let mut live: Vec<(&Box<str>, &Element, &str)> =
            self.live().filter_map(|(key, element)| Some((key, element, element.value.as_deref()?))).collect();
        live.sort_by_key(|(key, element, _)| (element.stamp, element.at, *key));
        Some(match self.form.1 {
            Form::Array | Form::NoArray => live.into_iter().filter_map(|(key, _, _)| read(key)).collect(),
            Form::Object | Form::NoObject => {
                let entries = live.into_iter().filter_map(|(key, _, value)| Some((key.to_string(), read(value)?)));
                Value::Object(entries.collect())
            }
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let elements = self.elements.iter();
        elements.map(|(key, element)| 24 + key.len() + element.value.as_ref().map_or(0, |value| value.len())).sum()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Box<str>> {
        self.live().map(|(key, _)| key)
    }

    /// The elements that are there and not among `parts`.
    pub(super) fn keys_besides(&self, parts: &[Part]) -> Vec<Box<str>> {
        self.keys().filter(|key| !parts.iter().any(|(part, _)| part == *key)).cloned().collect()
    }

    /// A set of those elements only that are not the same in `earlier`; none if that does not say what changed.
    pub(super) fn since(&self, earlier: &Self) -> Option<Self> {
        let is_gone = earlier.elements.keys().any(|key| !self.elements.contains_key(key));
        if is_gone || self.floor != earlier.floor {
            return None;
        }
        let changed = self.elements.iter().filter(|(key, element)| earlier.elements.get(*key) != Some(*element));
        let elements = changed.map(|(key, element)| (key.clone(), element.clone())).collect();
        Some(Self { stamp: self.stamp, form: self.form, elements, floor: self.floor.clone() })
    }

    /// Adds what [`since`](Self::since) gave.
    pub(super) fn overlay(&mut self, changed: Self) {
        (self.stamp, self.form) = (changed.stamp, changed.form);
        self.elements.extend(changed.elements);
    }

    fn live(&self) -> impl Iterator<Item = (&Box<str>, &Element)> {
        self.elements.iter().filter(|(_, element)| element.value.is_some())
    }

    fn set(&mut self, key: &str, element: Element) {
        match self.elements.get_mut(key) {
            // In one write an element is there or not; between two of equal stamps anything will do that is the same everywhere.
            Some(held) => {
                let put = held.put().max(element.put());
                if (element.stamp, &element.value, element.at) > (held.stamp, &held.value, held.at) {
                    *held = element;
                }
                held.of = Some(put).filter(|_| held.value.is_none());
            }
            None => drop(self.elements.insert(key.into(), element)),
        }
    }

    fn forget_removals(&mut self) {
        let mut times: Vec<u64> =
            self.elements.values().filter(|element| element.value.is_none()).map(|it| it.stamp.time()).collect();
        let excess = times.len().saturating_sub(MAX_REMOVED);
        times.sort_unstable();
        if let Some(upto) = excess.checked_sub(1).and_then(|last| times.get(last).copied()) {
            let is_old = |element: &Element| element.value.is_none() && element.stamp.time() <= upto;
            let forgotten: Vec<Stamp> = self.elements.values().filter(|it| is_old(it)).map(Element::put).collect();
            self.elements.retain(|_, element| !is_old(element));
            forgotten.into_iter().for_each(|put| self.floor.raise(put));
        }
    }
}
