//! Sessions by the value of a field.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::SessionId;
use crate::conflict::Policies;
use crate::document::Session;

/// For some fields, which sessions have which value. Every node builds it from the sessions that it holds.
#[derive(Debug)]
pub(super) struct Index {
    fields: Vec<String>,
    /// By field (its number) and value as JSON.
    ids: HashMap<(usize, String), BTreeSet<SessionId>>,
}

impl Index {
    pub(super) fn new(fields: Vec<String>) -> Self {
        Self { fields, ids: HashMap::new() }
    }

    /// A session was as `old` and is as `new`.
    pub(super) fn changed(&mut self, id: SessionId, old: Option<&Session>, new: Option<&Session>, policies: &Policies) {
        for (number, field) in self.fields.iter().enumerate() {
            let held = |session: Option<&Session>| session?.live()?.fields.get(field.as_str()).cloned();
            if held(old) == held(new) {
                continue;
            }
            let value = |session: Option<&Session>| {
                let value = session?.live()?.fields.get(field.as_str())?.value(policies.of(field))?;
                Some((number, value.to_string()))
            };
            let (old, new) = (value(old), value(new));
            if old == new {
                continue;
            }
            if let Some(old) = old
                && let Some(ids) = self.ids.get_mut(&old)
            {
                ids.remove(&id);
                if ids.is_empty() {
                    self.ids.remove(&old);
                }
            }
            if let Some(new) = new {
                self.ids.entry(new).or_default().insert(id);
            }
        }
    }

    /// The sessions that have this value; `None` if the field is not indexed.
    pub(super) fn find(&self, field: &str, value: &Value) -> Option<Vec<SessionId>> {
        let number = self.fields.iter().position(|indexed| indexed == field)?;
        let ids = self.ids.get(&(number, value.to_string()));
        Some(ids.into_iter().flatten().copied().collect())
    }
}
