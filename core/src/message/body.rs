//! A message's body: a short list of immutable segments, so that a layer adds or takes bytes at the end without a copy.

use bytes::{Bytes, BytesMut};

/// The body of a message: immutable segments of bytes that count as one sequence. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The first segment stands apart: nearly every body has just one, which then needs no list.
    first: Bytes,
    rest: Vec<Bytes>,
    /// It is a small part of a receiver's buffer.
    lent: bool,
}

impl Body {
    /// A body of one segment.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { first: bytes.into(), rest: Vec::new(), lent: false }
    }

    /// Declares the body a small part of a receiver's buffer: whoever keeps it is to [`detach`](Self::detach) it, lest a few
    /// bytes keep all of that buffer.
    pub const fn lend(&mut self) {
        self.lent = true;
    }

    /// Makes the body independent of the buffer that it is a part of: copies it if it was [lent](Self::lend).
    pub fn detach(&mut self) {
        if self.lent {
            let mut whole = BytesMut::with_capacity(self.len());
            self.segments().for_each(|segment| whole.extend_from_slice(segment));
            *self = Self::new(whole.freeze());
        }
    }

    pub(super) const fn is_lent(&self) -> bool {
        self.lent
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments().map(Bytes::len).sum()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments in order. Some may be empty.
    pub fn segments(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Appends `bytes`, without a copy of what is there.
    pub fn push_trailer(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = bytes;
        } else if !bytes.is_empty() {
            self.rest.push(bytes);
        }
    }

    /// Takes the last `len` bytes off; `None`, and nothing taken, if there are fewer. Copies only a trailer that spans
    /// segments.
    #[must_use]
    pub fn split_trailer(&mut self, len: usize) -> Option<Bytes> {
        let total = self.len();
        let keep = total.checked_sub(len)?;
        if let Some(last) = self.rest.last_mut().or(Some(&mut self.first)).filter(|last| last.len() >= len) {
            let trailer = last.split_off(last.len() - len);
            if last.is_empty() {
                self.rest.pop();
            }
            return Some(trailer);
        }
        let mut whole = self.to_bytes();
        let trailer = whole.split_off(keep);
        *self = Self { lent: self.lent, ..Self::new(whole) };
        Some(trailer)
    }

    /// The last `len` bytes, which stay where they are; `None` if there are fewer. Copies only if they span segments.
    #[must_use]
    pub fn tail(&self, len: usize) -> Option<Bytes> {
        let keep = self.len().checked_sub(len)?;
        let last = self.rest.last().unwrap_or(&self.first);
        match last.len().checked_sub(len) {
            Some(start) => Some(last.slice(start..)),
            None => Some(self.to_bytes().slice(keep..)),
        }
    }

    /// The body as one piece. Copies only if it has several segments.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.segments().for_each(|segment| whole.extend_from_slice(segment));
        whole.freeze()
    }

    /// As [`to_bytes`](Self::to_bytes), of a body that is no longer needed.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.to_bytes() }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::new(bytes)
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.segments().flatten().eq(other.segments().flatten())
    }
}

impl Eq for Body {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_come_off_as_they_went_on() {
        let mut body = Body::new("hello");
        body.push_trailer("ab");
        body.push_trailer("c");
        assert_eq!(body.split_trailer(1).unwrap(), "c");
        assert_eq!(body.len(), 7);
        // Spans two segments.
        assert_eq!(body.split_trailer(4).unwrap(), "loab");
        assert_eq!(body.split_trailer(4), None);
        assert_eq!(body.to_bytes(), "hel");
        assert_eq!(body.split_trailer(3).unwrap(), "hel");
        assert!(body.is_empty());
        assert_eq!(body.split_trailer(0).unwrap(), "");
    }

    #[test]
    fn a_tail_is_looked_at_and_stays() {
        let mut body = Body::new("hello");
        body.push_trailer("ab");
        for (len, tail) in [(0, ""), (1, "b"), (2, "ab"), (3, "oab"), (7, "helloab")] {
            assert_eq!(body.tail(len).unwrap(), tail);
        }
        assert_eq!(body.tail(8), None);
        assert_eq!(body.segments().count(), 2);
    }

    #[test]
    fn a_lent_body_is_copied_once() {
        let buffer = Bytes::from(vec![7; 100]);
        let mut body = Body::new(buffer.slice(10..20));
        body.lend();
        body.detach();
        assert_eq!(body.to_bytes(), [7; 10].as_slice());
        assert!(buffer.is_unique());
        let before = body.to_bytes().as_ptr();
        body.detach();
        assert_eq!(body.into_bytes().as_ptr(), before);
    }

    #[test]
    fn equality_is_of_the_bytes() {
        let mut parts = Body::new("he");
        parts.push_trailer("llo");
        assert_eq!(parts, Body::new("hello"));
        assert_ne!(parts, Body::new("hellO"));
    }
}
