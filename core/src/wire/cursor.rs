//! Reads fields off a slice; every step is checked against what is left.

use super::{Field, Marker, WireError};

/// What is left of one unit of the protocol. All integers are big-endian (wire section 1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// The unit, for errors.
    unit: Field,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], unit: Field) -> Self {
        Self { rest: bytes, unit }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::Truncated { field: self.unit, needed: N, available: self.rest.len() });
        };
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    /// The length of `field`, checked for its sign only.
    pub(super) fn length(&mut self, field: Field) -> Result<usize, WireError> {
        let found = self.i32()?;
        usize::try_from(found).map_err(|_negative| WireError::NegativeLength { field, found })
    }

    /// The next `len` bytes, which are `field`.
    pub(super) fn take(&mut self, len: usize, field: Field) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(WireError::BeyondEnclosing { field, found: len, available: self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// `field` with its int32 length in front, at most `limit` bytes long.
    pub(super) fn block(&mut self, field: Field, limit: usize) -> Result<&'a [u8], WireError> {
        let found = self.length(field)?;
        if found > limit {
            return Err(WireError::BeyondLimit { field, found, limit });
        }
        self.take(found, field)
    }

    /// Exactly `marker`, which stands at offset `base` of its unit.
    pub(super) fn marker(&mut self, expected: &[u8], marker: Marker, base: usize) -> Result<(), WireError> {
        check_marker(self.rest, expected, marker, base)?;
        match self.rest.split_at_checked(expected.len()) {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(WireError::Truncated { field: self.unit, needed: expected.len(), available: self.rest.len() }),
        }
    }

    /// Nothing may be left.
    pub(super) const fn end(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::TrailingBytes { field: self.unit, extra }),
        }
    }
}

/// Compares as many bytes of a marker as there are, so that the first wrong one is noticed when it comes.
pub(super) fn check_marker(bytes: &[u8], expected: &[u8], marker: Marker, base: usize) -> Result<(), WireError> {
    if bytes.starts_with(expected) {
        return Ok(());
    }
    match bytes.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(at) => {
            let found = bytes.get(at).copied().unwrap_or_default();
            Err(WireError::BadMarker { marker, found, at: base.saturating_add(at) })
        }
    }
}

/// A length as it goes on the wire. What is sent has been checked against [`Limits`](super::Limits) before; a length
/// that no frame can have becomes the largest one, which every reader refuses.
pub(super) fn wire_len(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
