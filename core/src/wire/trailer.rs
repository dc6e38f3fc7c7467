//! The extension trailer: what our own nodes add to a message beyond Tribes' protocol, such as the id of a trace.
//!
//! A body whose message has [`SendOptions::EXTENSION`](crate::SendOptions::EXTENSION) set may end with
//!
//! ```text
//! entries                      footer
//! ┌──────┬──────┬──────────┐   ┌────────┬───────┬──────────┬────────┐
//! │ kind │ len  │ len bytes│…  │ length │ flags │ revision │ "TRSX" │
//! │ u16  │ u16  │          │   │ u16    │ u8    │ u8 = 1   │        │
//! └──────┴──────┴──────────┘   └────────┴───────┴──────────┴────────┘
//! ```
//!
//! all integers big-endian, `length` that of all entries. It stands at the end so that it is added and taken off without
//! touching the body. Each layer adds and takes the entry of its own kind and leaves the others as they are; whoever takes
//! the last one takes the trailer off. What nobody took is skipped when the message is delivered.
//!
//! The option bit says that a trailer *may* be there; what is there must be whole to count as one. A layer in between may
//! have changed the body (compressed, encrypted, cut), with the trailer inside: then a layer below adds a trailer around it,
//! with the flag [`NESTED`]: the bit stays when that one goes. Anything that is not a whole trailer is body.
//!
//! Java members know nothing of this: trailers go to our own nodes only, of which the pipeline takes care for layers that
//! declare [`WireEffect::Ours`](crate::WireEffect::Ours).

use bytes::{BufMut, Bytes, BytesMut};

/// The footer's size in bytes.
pub const TRAILER_FOOTER: usize = 8;

/// The most bytes that all entries of a trailer may have, their heads included. Larger ones are not written, and not
/// recognised.
pub const MAX_TRAILER: usize = 16 << 10;

/// Flag of a trailer around a body that may have another one inside.
pub const NESTED: u8 = 1;

const MAGIC: [u8; 4] = *b"TRSX";
const REVISION: u8 = 1;
const ENTRY_HEAD: usize = 4;

/// What kind of thing an entry of a trailer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionKind(u16);

impl ExtensionKind {
    /// A W3C trace context: version 0, trace id (16 bytes), span id (8), flags (1).
    pub const TRACE: Self = Self(1);
    /// How a body was compressed: algorithm (1 byte: 1 LZ4, 2 Zstandard), unpacked length (4 bytes).
    pub const COMPRESS: Self = Self(2);
    /// A step of a two-phase commit: see the interceptor of that name.
    pub const TWO_PHASE_COMMIT: Self = Self(3);
    /// For whom a message is, beside the application: the name of an [endpoint](crate::channel::endpoint), 1 to 255 bytes of
    /// UTF-8.
    pub const ENDPOINT: Self = Self(4);
    /// The first kind that is free for users; those below are this project's.
    pub const FIRST_FREE: Self = Self(0x8000);

    /// The kind with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// An entry that does not fit into a trailer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an extension of {len} bytes does not fit into the trailer, which holds at most {MAX_TRAILER}")]
pub struct TrailerFull {
    /// Its size in bytes.
    pub len: usize,
}

/// The entries of a trailer, as they came or in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    entries: Vec<(ExtensionKind, Bytes)>,
    /// Size of the encoded entries.
    len: usize,
    nested: bool,
}

impl Trailer {
    /// One without entries; `nested` if the body beneath may have another one.
    #[must_use]
    pub const fn new(nested: bool) -> Self {
        Self { entries: Vec::new(), len: 0, nested }
    }

    /// The size of the trailer whose footer this is; `None` if it is no footer.
    #[must_use]
    pub fn size_of(footer: &[u8]) -> Option<usize> {
        let (len, rest) = footer.split_first_chunk::<2>()?;
        let [_flags, REVISION, magic @ ..] = rest else { return None };
        let len = usize::from(u16::from_be_bytes(*len));
        (*magic == MAGIC && len <= MAX_TRAILER).then_some(len + TRAILER_FOOTER)
    }

    /// Reads a whole trailer, footer included. `None` if it is not exactly one. Copies nothing.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (_, footer) = bytes.split_last_chunk::<TRAILER_FOOTER>()?;
        if Self::size_of(footer)? != bytes.len() {
            return None;
        }
        let mut trailer = Self::new(footer.get(2)? & NESTED != 0);
        let mut rest = bytes.slice(..bytes.len() - TRAILER_FOOTER);
        trailer.len = rest.len();
        while !rest.is_empty() {
            let [kind_high, kind_low, len_high, len_low] = *rest.first_chunk::<ENTRY_HEAD>()?;
            let end = ENTRY_HEAD + usize::from(u16::from_be_bytes([len_high, len_low]));
            if rest.len() < end {
                return None;
            }
            let value = rest.split_to(end).slice(ENTRY_HEAD..);
            trailer.entries.push((ExtensionKind(u16::from_be_bytes([kind_high, kind_low])), value));
        }
        Some(trailer)
    }

    /// The trailer's bytes, footer included.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len + TRAILER_FOOTER);
        for (kind, value) in &self.entries {
            bytes.put_u16(kind.0);
            // Checked when it was added.
            bytes.put_u16(u16::try_from(value.len()).unwrap_or_default());
            bytes.put_slice(value);
        }
        bytes.put_u16(u16::try_from(self.len).unwrap_or_default());
        bytes.put_u8(if self.nested { NESTED } else { 0 });
        bytes.put_u8(REVISION);
        bytes.put_slice(&MAGIC);
        bytes.freeze()
    }

    /// Adds an entry behind the others.
    ///
    /// # Errors
    /// If it does not fit; the trailer is then unchanged.
    pub fn add(&mut self, kind: ExtensionKind, value: Bytes) -> Result<(), TrailerFull> {
        let len = value.len().saturating_add(ENTRY_HEAD);
        match self.len.checked_add(len).filter(|sum| *sum <= MAX_TRAILER) {
            Some(sum) => {
                self.len = sum;
                self.entries.push((kind, value));
                Ok(())
            }
            None => Err(TrailerFull { len: value.len() }),
        }
    }

    /// Takes the entry of this kind out; of several the last one.
    pub fn take(&mut self, kind: ExtensionKind) -> Option<Bytes> {
        let at = self.entries.iter().rposition(|(other, _)| *other == kind)?;
        let (_, value) = self.entries.remove(at);
        self.len -= value.len() + ENTRY_HEAD;
        Some(value)
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the body beneath may have another one.
    #[must_use]
    pub const fn is_nested(&self) -> bool {
        self.nested
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = (ExtensionKind, &Bytes)> {
        self.entries.iter().map(|(kind, value)| (*kind, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trailer(entries: &[(u16, &'static [u8])], nested: bool) -> Trailer {
        let mut trailer = Trailer::new(nested);
        for (kind, value) in entries {
            trailer.add(ExtensionKind(*kind), Bytes::from_static(value)).unwrap();
        }
        trailer
    }

    #[test]
    fn its_bytes() {
        let bytes = trailer(&[(1, b"ab"), (0x8001, b"")], true).encode();
        assert_eq!(bytes.as_ref(), b"\x00\x01\x00\x02ab\x80\x01\x00\x00\x00\x0A\x01\x01TRSX");
        assert_eq!(Trailer::size_of(&bytes[bytes.len() - TRAILER_FOOTER..]), Some(bytes.len()));
    }

    #[test]
    fn entries_are_taken_by_kind_and_the_others_stay() {
        let mut trailer = trailer(&[(1, b"one"), (7, b"unknown"), (1, b"later"), (2, b"two")], false);
        assert_eq!(trailer.take(ExtensionKind(3)), None);
        assert_eq!(trailer.take(ExtensionKind(1)).unwrap(), "later");
        assert_eq!(trailer.take(ExtensionKind(1)).unwrap(), "one");
        assert_eq!(trailer.take(ExtensionKind(1)), None);
        let again = Trailer::decode(&trailer.encode()).unwrap();
        assert_eq!(again, self::trailer(&[(7, b"unknown"), (2, b"two")], false));
        assert_eq!(again.entries().map(|(kind, _)| kind.number()).collect::<Vec<_>>(), [7, 2]);
    }

    #[test]
    fn it_is_bounded() {
        let mut trailer = Trailer::default();
        trailer.add(ExtensionKind(1), vec![0; MAX_TRAILER - ENTRY_HEAD].into()).unwrap();
        let before = trailer.clone();
        assert_eq!(trailer.add(ExtensionKind(2), Bytes::new()), Err(TrailerFull { len: 0 }));
        assert_eq!(trailer, before);
        assert_eq!(Trailer::decode(&trailer.encode()).unwrap(), trailer);
        assert!(Trailer::default().add(ExtensionKind(1), vec![0; MAX_TRAILER].into()).is_err());
        // A longer one is none.
        let mut bytes = vec![0; MAX_TRAILER + ENTRY_HEAD];
        bytes.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        bytes.extend(*b"\0\x01TRSX");
        assert_eq!(Trailer::decode(&bytes.into()), None);
    }

    #[test]
    fn what_is_not_whole_is_none() {
        let whole = trailer(&[(1, b"abc"), (2, b"de")], false).encode();
        for len in 0..whole.len() {
            assert_eq!(Trailer::decode(&whole.slice(..len)), None);
            assert_eq!(Trailer::decode(&whole.slice(whole.len() - len..)), None, "{len}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = value;
            Trailer::decode(&bytes.into())
        };
        // The length of an entry, that of all, the revision, the magic.
        for (at, value) in [(3, 2), (3, 4), (3, 255), (2, 1), (whole.len() - 7, 12), (whole.len() - 8, 1)] {
            assert_eq!(with(at, value), None, "{at}");
        }
        for at in whole.len() - 5..whole.len() {
            assert_eq!(with(at, 0x7F), None, "{at}");
        }
        assert!(Trailer::decode(&Trailer::default().encode()).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn it_reads_what_it_wrote(
            entries in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            nested: bool,
        ) {
            let mut trailer = Trailer::new(nested);
            for (kind, value) in entries {
                trailer.add(ExtensionKind(kind), value.into()).unwrap();
            }
            prop_assert_eq!(Trailer::decode(&trailer.encode()).unwrap(), trailer);
        }

        #[test]
        fn garbage_is_read_without_harm(mut bytes: Vec<u8>, len: u16, magic: bool) {
            bytes.extend(len.to_be_bytes());
            if magic {
                let len = u16::try_from(bytes.len() - 2).unwrap();
                let at = bytes.len() - 2;
                bytes[at..].copy_from_slice(&len.to_be_bytes());
                bytes.extend(*b"\0\x01TRSX");
            }
            let bytes = Bytes::from(bytes);
            if let Some(trailer) = Trailer::decode(&bytes) {
                prop_assert_eq!(trailer.encode(), bytes);
            }
        }
    }
}
