//! Values that were read or written of late, as values: so that they are not made from their bytes each time.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

/// What a value takes as one, for each byte that it takes as bytes, about; and what each takes besides.
const SPREAD: u64 = 8;
const ENTRY: u64 = 256;

/// By the address of the bytes that a value was made from. It keeps those, too: so nothing else comes to lie there.
#[derive(Clone)]
struct Kept {
    bytes: Arc<[u8]>,
    value: Arc<dyn Any + Send + Sync>,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<usize, Kept> for Weigh {
    fn weight(&self, _: &usize, kept: &Kept) -> u64 {
        kept.bytes.len() as u64 * SPREAD + ENTRY
    }
}

/// Addresses are no input: nobody can choose those that meet.
#[derive(Clone, Copy, Default)]
struct Addresses(u64);

impl Hasher for Addresses {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        // All bits of it come to the upper half, and from there to the lower.
        let product = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Decoded(Option<Cache<usize, Kept, Weigh, BuildHasherDefault<Addresses>>>);

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded").field("is_on", &self.0.is_some()).finish()
    }
}

impl Decoded {
    /// For about so many bytes; none: nothing is kept.
    pub(crate) fn new(max_bytes: usize) -> Self {
        // Room for values of some hundred bytes; more or fewer may come.
        let items = (max_bytes / 2048).clamp(16, 1 << 20);
        let options = OptionsBuilder::new().estimated_items_capacity(items).weight_capacity(max_bytes as u64).build();
        Self(
            options
                .ok()
                .filter(|_| max_bytes > 0)
                .map(|options| Cache::with_options(options, Weigh, Default::default(), Default::default())),
        )
    }

    /// The value of these bytes: the one that was made from them before, or the one that `decode` makes now.
    pub(crate) fn get<V: Send + Sync + 'static>(
        &self,
        bytes: &Arc<[u8]>,
        decode: impl FnOnce(&[u8]) -> Option<V>,
    ) -> Option<Arc<V>> {
        let Some(cache) = &self.0 else { return decode(bytes).map(Arc::new) };
        if let Some(kept) = cache.get(&address(bytes))
            && let Ok(value) = kept.value.downcast()
        {
            return Some(value);
        }
        let value = Arc::new(decode(bytes)?);
        self.put(bytes, &value);
        Some(value)
    }

    /// These bytes are made of this value.
    pub(crate) fn put<V: Send + Sync + 'static>(&self, bytes: &Arc<[u8]>, value: &Arc<V>) {
        if let Some(cache) = &self.0 {
            let value: Arc<dyn Any + Send + Sync> = Arc::<V>::clone(value);
            cache.insert(address(bytes), Kept { bytes: Arc::clone(bytes), value });
        }
    }

    /// These bytes are no longer anybody's: what came of them is let go of, before it gets old here.
    pub(crate) fn forget(&self, bytes: &Arc<[u8]>) {
        if let Some(cache) = &self.0 {
            cache.remove(&address(bytes));
        }
    }
}

fn address(bytes: &Arc<[u8]>) -> usize {
    bytes.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn decode(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }

    #[test]
    fn a_value_is_made_once() {
        let decoded = Decoded::new(1 << 20);
        let one = bytes("one");
        let value = decoded.get(&one, decode).unwrap();
        let again = decoded.get(&one, |_| -> Option<String> { panic!("made again") }).unwrap();
        assert!(Arc::ptr_eq(&value, &again));
        // Equal bytes elsewhere are others.
        assert!(!Arc::ptr_eq(&value, &decoded.get(&bytes("one"), decode).unwrap()));
    }

    #[test]
    fn what_was_replaced_is_let_go_of() {
        let decoded = Decoded::new(1 << 20);
        let one = bytes("one");
        let value = decoded.get(&one, decode).unwrap();
        decoded.forget(&one);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(!Arc::ptr_eq(&value, &decoded.get(&one, decode).unwrap()));
    }

    #[test]
    fn without_room_it_is_made_each_time() {
        let decoded = Decoded::new(0);
        let one = bytes("one");
        assert!(!Arc::ptr_eq(&decoded.get(&one, decode).unwrap(), &decoded.get(&one, decode).unwrap()));
        assert_eq!(decoded.get(&bytes("\u{e9}"), |_| None::<String>), None);
    }

    #[test]
    fn it_is_bounded_and_never_mistakes_bytes_for_others() {
        let decoded = Decoded::new(64 << 10);
        let mut held = Vec::new();
        for number in 0..10_000 {
            // Let go of at once: its place is free as soon as it is forgotten here.
            let text = format!("{number:0100}");
            let one = bytes(&text);
            assert_eq!(*decoded.get(&one, decode).unwrap(), text);
            if number % 100 == 0 {
                held.push((one, text));
            }
        }
        assert!(decoded.0.as_ref().is_some_and(|cache| cache.weight() <= 64 << 10 && cache.len() > 10));
        for (one, text) in held {
            assert_eq!(*decoded.get(&one, decode).unwrap(), text);
        }
    }
}
