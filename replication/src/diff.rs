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
    /// map locked: it must not use the map. `None` (or a panic, here or in reading or writing the value) if that cannot be: then the whole value is fetched.
    fn apply(self, diff: &[u8]) -> Option<Self>;
}

/// Diffs of values of this type, encoded.
pub(crate) struct DiffsOf<V>(pub(crate) PhantomData<fn() -> V>);

impl<V: Diffable + Serialize + DeserializeOwned> Diffs for DiffsOf<V> {
    fn apply(&self, base: &[u8], diff: &[u8]) -> Option<Vec<u8>> {
        // All three are the user's: how a value is read, changed and written.
        let later = || {
            let earlier: V = rmp_serde::from_slice(base).ok()?;
            rmp_serde::to_vec_named(&earlier.apply(diff)?).ok()
        };
        catch_unwind(AssertUnwindSafe(later)).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;

    /// Panics in what its first letter says.
    struct Panics(String);

    impl Diffable for Panics {
        fn diff(&self, _: &Self) -> Option<Vec<u8>> {
            None
        }

        fn apply(self, diff: &[u8]) -> Option<Self> {
            assert_ne!(diff, b"apply");
            Some(Self(String::from_utf8(diff.to_vec()).unwrap()))
        }
    }

    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert_ne!(self.0, "write");
            self.0.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            assert_ne!(text, "read");
            Ok(Self(text))
        }
    }

    #[test]
    fn whatever_panics_gives_no_value() {
        let diffs = DiffsOf::<Panics>(PhantomData);
        let base = |text: &str| rmp_serde::to_vec_named(text).unwrap();
        assert_eq!(diffs.apply(&base("read"), b"later"), None);
        assert_eq!(diffs.apply(&base("earlier"), b"apply"), None);
        assert_eq!(diffs.apply(&base("earlier"), b"write"), None);
        assert_eq!(diffs.apply(&base("earlier"), b"later"), Some(base("later")));
    }
}
