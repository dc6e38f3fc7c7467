//! The sizes of messages, and bodies of such sizes.

use bytes::Bytes;

/// Bytes of a body, and how they are called.
pub(crate) type Size = (usize, &'static str);

pub(crate) const SMALL: Size = (100, "100 B");
pub(crate) const KIB: Size = (1 << 10, "1 KiB");
pub(crate) const KIB_64: Size = (64 << 10, "64 KiB");
pub(crate) const MIB: Size = (1 << 20, "1 MiB");

/// All of them.
pub(crate) const SIZES: [Size; 4] = [SMALL, KIB, KIB_64, MIB];

/// A body of this size.
pub(crate) fn body(size: Size) -> Bytes {
    Bytes::from(vec![7; size.0])
}
