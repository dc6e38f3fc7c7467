//! What travels when a session changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use tribes_replication::Diffable;

use super::{Document, Field, Lifetime, Name, NodeId, Session};
use crate::stamp::Stamp;

/// What turns one state of a session into a later one, as it is read.
#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "e", default)]
    lifetime: Option<(Stamp, Lifetime)>,
    #[serde(rename = "o", default)]
    owner: Option<(Stamp, NodeId)>,
    #[serde(rename = "w", default)]
    writers: BTreeMap<u64, u64>,
    #[serde(rename = "x", default)]
    writers_gone: Vec<u64>,
    #[serde(rename = "f", default)]
    fields: BTreeMap<Name, Arc<Field>>,
    /// Of these only what changed.
    #[serde(rename = "s", default)]
    parts: BTreeMap<Name, Field>,
    #[serde(rename = "d", default)]
    gone: Vec<Name>,
    #[serde(rename = "g", default)]
    floor: u64,
}

/// The same as it is written: nothing of the two states is copied for it.
#[derive(Serialize)]
struct Between<'a> {
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    lifetime: Option<(Stamp, Lifetime)>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    owner: Option<(Stamp, NodeId)>,
    #[serde(rename = "w", serialize_with = "as_map")]
    writers: Vec<(u64, u64)>,
    #[serde(rename = "x", skip_serializing_if = "Vec::is_empty")]
    writers_gone: Vec<u64>,
    #[serde(rename = "f", serialize_with = "as_map")]
    fields: Vec<(&'a str, &'a Field)>,
    #[serde(rename = "s", skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    parts: Vec<(&'a str, Field)>,
    #[serde(rename = "d", skip_serializing_if = "Vec::is_empty")]
    gone: Vec<&'a str>,
    #[serde(rename = "g")]
    floor: u64,
}

fn as_map<K: Serialize, V: Serialize, S: Serializer>(pairs: &[(K, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

impl<'a> Between<'a> {
    fn of(earlier: &'a Document, later: &'a Document) -> Option<Self> {
        if (earlier.born, earlier.previous) != (later.born, later.previous) {
            return None;
        }
        let (mut fields, mut parts) = (Vec::new(), Vec::new());
        for (name, field) in &later.fields {
            let held = earlier.fields.get(name);
            if held == Some(field) {
                continue;
            }
            match held.and_then(|held| field.since(held)) {
                Some(changed) => parts.push((&**name, changed)),
                None => fields.push((&**name, &**field)),
            }
        }
        let gone = earlier.fields.keys().filter(|name| !later.fields.contains_key(*name)).map(|name| &**name).collect();
        let changed = |(node, time): &(&u64, &u64)| earlier.writers.get(*node) != Some(*time);
        Some(Self {
            lifetime: Some(later.lifetime).filter(|lifetime| *lifetime != earlier.lifetime),
            owner: Some(later.owner).filter(|owner| *owner != earlier.owner),
            writers: later.writers.iter().filter(changed).map(|(node, time)| (*node, *time)).collect(),
            writers_gone: earlier.writers.keys().filter(|node| !later.writers.contains_key(node)).copied().collect(),
            fields,
            parts,
            gone,
            floor: later.floor,
        })
    }
}

impl Delta {
    fn apply(self, mut document: Document) -> Option<Document> {
        document.lifetime = self.lifetime.unwrap_or(document.lifetime);
        document.owner = self.owner.unwrap_or(document.owner);
        document.writers.extend(self.writers);
        for node in self.writers_gone {
            document.writers.remove(&node);
        }
        document.fields.extend(self.fields);
        for (name, changed) in self.parts {
            Arc::make_mut(document.fields.get_mut(&name)?).overlay(changed)?;
        }
        for name in self.gone {
            document.fields.remove(&name);
        }
        document.floor = self.floor;
        Some(document)
    }
}

impl Diffable for Session {
    fn diff(&self, earlier: &Self) -> Option<Vec<u8>> {
        // Mostly of one field, which is small.
        let mut bytes = Vec::with_capacity(256);
        rmp_serde::encode::write_named(&mut bytes, &Between::of(earlier.live()?, self.live()?)?).ok()?;
        Some(bytes)
    }

    fn apply(self, diff: &[u8]) -> Option<Self> {
        let Self::Live(document) = self else { return None };
        let delta: Delta = rmp_serde::from_slice(diff).ok()?;
        Some(Self::Live(Box::new(delta.apply(*document)?)))
    }
}
