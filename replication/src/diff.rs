//! Sending only what changed of a value.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::Diffs;

/// A value of which a change can be sent instead of the whole (Tribes: `ReplicatedMapEntry`). Turn it on with
/// [`MapBuilder::diffs`](crate::MapBuilder::diffs).
///
/// A diff is applied only to the very version that it was made from; a member that has another gets the whole value (Tribes
/// applies it to whatever is there, and a lost diff stays lost: T56).
pub trait Diffable: Sized {
    /// What turns `earlier` into `self`; `None` to send the whole value. What is not shorter than the value is not used.
    fn diff(&self, earlier: &Self) -> Option<Vec<u8>>;

    /// Applies what [`diff`](Self::diff) made to a value that is equal to `earlier`. Called where messages arrive, with the
    /// map locked: it must not use the map. `None` (or a panic) if that cannot be: then the whole value is fetched.
    fn apply(self, diff: &[u8]) -> Option<Self>;
}

/// Diffs of values of this type, encoded.
pub(crate) struct DiffsOf<V>(pub(crate) PhantomData<fn() -> V>);

impl<V: Diffable + Serialize + DeserializeOwned> Diffs for DiffsOf<V> {
    fn apply(&self, base: &[u8], diff: &[u8]) -> Option<Vec<u8>> {
        let earlier: V = rmp_serde::from_slice(base).ok()?;
        let later = catch_unwind(AssertUnwindSafe(|| earlier.apply(diff))).ok().flatten()?;
        rmp_serde::to_vec_named(&later).ok()
    }
}
