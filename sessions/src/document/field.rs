//! One field of a session.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::counter::Counter;
use super::kept::Kept;
use super::set::{Form, Set};
use crate::conflict::Conflict;
use crate::stamp::Stamp;

/// A field, by the way in which writes that did not know of each other are settled. The way travels with it, so merging needs
/// no configuration. It has one part, unless nodes are configured differently, as in the middle of a deployment: then the part
/// that was written last is what counts; the others stay, since merging gives the same in any order only if each part is
/// merged by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Field {
    /// The latest write.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    latest: Option<Latest>,
    /// All writes that did not know of each other.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    kept: Option<Box<Kept>>,
    /// A number to which everybody adds.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    counter: Option<Box<Counter>>,
    /// An array or object of which each element is a register of its own.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    set: Option<Box<Set>>,
}

/// The part of a field that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    Latest(&'a Latest),
    Kept(&'a Kept),
    Counter(&'a Counter),
    Set(&'a Set),
}

/// The latest write of a field: of two, the greater one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Latest {
    #[serde(rename = "s")]
    pub(crate) stamp: Stamp,
    /// The time of the write that its author had seen. Zero: none.
    #[serde(rename = "o", default)]
    pub(crate) over: u64,
    /// JSON; none if it was removed.
    #[serde(rename = "v")]
    pub(crate) value: Option<Box<str>>,
}

impl Part<'_> {
    fn stamp(self) -> Stamp {
        match self {
            Self::Latest(latest) => latest.stamp,
            Self::Kept(kept) => kept.stamp(),
            Self::Counter(counter) => counter.stamp,
            Self::Set(set) => set.stamp,
        }
    }
}

impl Field {
    /// The part that was written last. A field that was never written has none.
    pub(crate) fn part(&self) -> Option<Part<'_>> {
        let latest = self.latest.as_ref().map(Part::Latest);
        let kept = self.kept.as_deref().map(Part::Kept);
        let counter = self.counter.as_deref().map(Part::Counter);
        let set = self.set.as_deref().map(Part::Set);
        [latest, kept, counter, set].into_iter().flatten().max_by_key(|part| part.stamp())
    }

    /// Its latest write, if it is nothing else.
    pub(super) fn only_latest(&self) -> Option<&Latest> {
        match self {
            Self { latest: Some(latest), kept: None, counter: None, set: None } => Some(latest),
            _ => None,
        }
    }

    /// The latest write of it.
    pub(crate) fn stamp(&self) -> Stamp {
        self.part().map(Part::stamp).unwrap_or_default()
    }

    /// The writes that whoever reads it now has seen.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        match self.part() {
            Some(Part::Kept(kept)) => kept.stamps(),
            part => part.into_iter().map(Part::stamp).collect(),
        }
    }

    /// Its value; none if it was removed.
    pub(crate) fn value(&self, conflict: &Conflict) -> Option<Value> {
        match self.part()? {
            Part::Latest(latest) => read(latest.value.as_deref()?),
            Part::Kept(kept) => kept.value(conflict),
            Part::Counter(counter) => counter.value().map(Value::from),
            Part::Set(set) => set.value(),
        }
    }

    pub(crate) fn is_removed(&self) -> bool {
        match self.part() {
            None => true,
            Some(Part::Latest(latest)) => latest.value.is_none(),
            Some(Part::Kept(kept)) => kept.is_removed(),
            Some(Part::Counter(counter)) => counter.value().is_none(),
            Some(Part::Set(set)) => set.is_removed(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let latest = self.latest.as_ref().and_then(|latest| latest.value.as_ref()).map_or(0, |value| value.len());
        let kept = self.kept.as_ref().map_or(0, |kept| kept.bytes());
        let counter = self.counter.as_ref().map_or(0, |counter| counter.bytes());
        latest + kept + counter + self.set.as_ref().map_or(0, |set| set.bytes())
    }

    /// Writes `value` (none: removes it), by one that had seen `over`.
    pub(super) fn put(&mut self, stamp: Stamp, over: &[Stamp], value: Option<Box<str>>, keep: bool) {
        if keep {
            self.kept.get_or_insert_default().write(stamp, over, value);
            return;
        }
        self.merge(Latest { stamp, over: latest_time(over), value }.into());
    }

    pub(super) fn add(&mut self, stamp: Stamp, change: i64) {
        self.counter.get_or_insert_default().add(stamp, change);
    }

    /// The set to write to, a new one if there was none.
    pub(super) fn set_mut(&mut self, stamp: Stamp, form: Form) -> &mut Set {
        self.set.get_or_insert_with(|| Box::new(Set::new(stamp, form)))
    }

    pub(super) fn remove(&mut self, stamp: Stamp, over: &[Stamp]) {
        match self.part() {
            None | Some(Part::Latest(_)) => self.put(stamp, over, None, false),
            Some(Part::Kept(_)) => self.put(stamp, over, None, true),
            Some(Part::Counter(_)) => self.counter.get_or_insert_default().remove(stamp),
            Some(Part::Set(set)) => {
                let form = set.form();
                self.set_mut(stamp, form).remove(stamp);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        match (&mut self.latest, other.latest) {
            (Some(ours), Some(theirs)) => {
                if theirs > *ours {
                    *ours = theirs;
                }
            }
            (ours @ None, theirs) => *ours = theirs,
            (Some(_), None) => {}
        }
        merge_part(&mut self.kept, other.kept, Kept::merge);
        merge_part(&mut self.counter, other.counter, Counter::merge);
        merge_part(&mut self.set, other.set, Set::merge);
    }

    /// Whether the authors of the two fields' writes did not know of each other, and one of them counts alone.
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        let (earlier, later) = if self.stamp() < other.stamp() { (self, other) } else { (other, self) };
        match (earlier.part(), later.part()) {
            (Some(Part::Latest(earlier)), Some(Part::Latest(later))) => {
                later.stamp != earlier.stamp && later.over < earlier.stamp.time() && later.value != earlier.value
            }
            (Some(Part::Kept(earlier)), Some(Part::Kept(later))) => earlier.conflicts_with(later),
            _ => false,
        }
    }

    /// A field of what is not the same in `earlier`, if that is less than the field; else none.
    pub(super) fn since(&self, earlier: &Self) -> Option<Self> {
        let set = Box::new(self.set.as_ref()?.since(earlier.set.as_ref()?)?);
        let is_same = (&self.latest, &self.kept, &self.counter) == (&earlier.latest, &earlier.kept, &earlier.counter);
        is_same.then(|| Self { set: Some(set), ..Self::default() })
    }

    /// Adds what [`since`](Self::since) gave.
    pub(super) fn overlay(&mut self, changed: Self) -> Option<()> {
        self.set.as_mut()?.overlay(*changed.set?);
        Some(())
    }
}

impl From<Latest> for Field {
    fn from(latest: Latest) -> Self {
        Self { latest: Some(latest), ..Self::default() }
    }
}

/// The time of the latest of these writes. Zero: there are none.
pub(super) fn latest_time(writes: &[Stamp]) -> u64 {
    writes.iter().map(|write| write.time()).max().unwrap_or_default()
}

fn merge_part<P>(ours: &mut Option<Box<P>>, theirs: Option<Box<P>>, merge: impl FnOnce(&mut P, P)) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => merge(ours, *theirs),
        (ours @ None, theirs) => *ours = theirs,
        (Some(_), None) => {}
    }
}

/// A value as it is written down.
pub(super) fn written(value: &Value) -> String {
    // There is none that cannot be.
    serde_json::to_string(value).unwrap_or_default()
}

/// What was written as JSON by a store. Something else in its place, by a fault or a foreign hand, is no value.
pub(super) fn read(json: &str) -> Option<Value> {
    serde_json::from_str(json)
        .inspect_err(|error| tracing::warn!(%error, "a session's field holds no JSON: left out"))
        .ok()
}
