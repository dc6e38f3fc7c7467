//! Sending only what changed of a value.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::Diffs;
use crate::map::Decoded;

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
    fn apply(&self, base: &Arc<[u8]>, diff: &[u8]) -> Option<Arc<[u8]>> {
        // All three are the user's: how a value is read, changed and written.
        let later = || {
            let earlier: V = rmp_serde::from_slice(base).ok()?;
            Some(encode(&earlier.apply(diff)?, base.len() + diff.len()).ok()?.into())
        };
        catch_unwind(AssertUnwindSafe(later)).ok().flatten()
    }
}

/// The same for values that are kept as they are, besides their bytes: neither the earlier need be made anew nor the later.
pub(crate) struct KeptDiffsOf<V> {
    decoded: Arc<Decoded>,
    values: PhantomData<fn() -> V>,
}

impl<V> KeptDiffsOf<V> {
    pub(crate) const fn new(decoded: Arc<Decoded>) -> Self {
        Self { decoded, values: PhantomData }
    }
}

impl<V: Diffable + Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Diffs for KeptDiffsOf<V> {
    fn apply(&self, base: &Arc<[u8]>, diff: &[u8]) -> Option<Arc<[u8]>> {
        let later = || {
            let earlier: Arc<V> = self.decoded.get(base, |bytes| rmp_serde::from_slice(bytes).ok())?;
            let later = Arc::new(earlier.as_ref().clone().apply(diff)?);
            let bytes: Arc<[u8]> = encode(&*later, base.len() + diff.len()).ok()?.into();
            self.decoded.put(&bytes, &later);
            Some(bytes)
        };
        catch_unwind(AssertUnwindSafe(later)).ok().flatten()
    }
}

/// A value that takes about so many bytes.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, about: usize) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = Vec::with_capacity(about);
    rmp_serde::encode::write_named(&mut bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;

    /// Panics in what it says.
    #[derive(Clone)]
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
        let kept = |bytes| KeptDiffsOf::<Panics>::new(Arc::new(Decoded::new(bytes)));
        let base = |text: &str| -> Arc<[u8]> { rmp_serde::to_vec_named(text).unwrap().into() };
        for diffs in [&DiffsOf::<Panics>(PhantomData) as &dyn Diffs, &kept(0), &kept(1 << 20)] {
            assert_eq!(diffs.apply(&base("read"), b"later"), None);
            assert_eq!(diffs.apply(&base("earlier"), b"apply"), None);
            assert_eq!(diffs.apply(&base("earlier"), b"write"), None);
            assert_eq!(diffs.apply(&base("earlier"), b"later"), Some(base("later")));
        }
    }

    #[test]
    fn what_is_kept_is_neither_read_nor_lost() {
        let decoded = Arc::new(Decoded::new(1 << 20));
        let diffs = KeptDiffsOf::<Panics>::new(Arc::clone(&decoded));
        // Not what it was made of: so it can be told.
        let base: Arc<[u8]> = rmp_serde::to_vec_named("read").unwrap().into();
        decoded.put(&base, &Arc::new(Panics("earlier".into())));
        let later = diffs.apply(&base, b"later").unwrap();
        let kept = decoded.get(&later, |_| -> Option<Panics> { panic!("it is there") }).unwrap();
        assert_eq!(kept.0, "later");
    }
}
