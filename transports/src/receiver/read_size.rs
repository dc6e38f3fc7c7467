//! How much to read at once, without I/O: little from a quiet connection, much from a busy one, and of a large frame only
//! as much as has room already.

use bytes::BytesMut;

/// The most that is read at once while frames are small: a busy connection hands up some hundred of them a system call.
pub(super) const CHUNK: usize = 64 << 10;
/// What a new or quiet connection reads at once.
pub(super) const LEAST: usize = 4 << 10;
/// Reads in a row that fill less than a quarter before the size is halved.
const SPARE_READS: u8 = 8;

/// Adapts the size of reads to what comes.
#[derive(Debug)]
pub(super) struct ReadSize {
    now: usize,
    spare: u8,
    shrunk: bool,
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { now: LEAST, spare: 0, shrunk: false }
    }
}

impl ReadSize {
    /// How many bytes to read next, with `pending` bytes of a frame of `needed` bytes there. `trusted`: room for the frame is
    /// taken, and its sender is known.
    ///
    /// Of a large frame no more than its rest is read, so that its buffer holds nothing else; and from a stranger at first
    /// no more than there is already: it has to send half of what it makes us allocate.
    pub(super) fn next(&self, pending: usize, needed: Option<usize>, trusted: bool) -> usize {
        match needed {
            Some(needed) if needed > CHUNK => {
                let most = if trusted { needed } else { pending.max(CHUNK) };
                needed.saturating_sub(pending).clamp(1, most)
            }
            // What is there already is in the same buffer.
            Some(needed) => self.now.max(needed).saturating_sub(pending),
            None => self.now.saturating_sub(pending).max(1),
        }
    }

    /// Makes room for `most` bytes in `buffer`.
    #[allow(clippy::unused_self, reason = "the counterpart of `next`")]
    pub(super) fn reserve(&self, buffer: &mut BytesMut, most: usize) {
        // In place, if nobody holds a slice of it.
        buffer.reserve(most);
    }

    /// A read of at most `most` bytes gave `count`.
    pub(super) fn filled(&mut self, count: usize, most: usize) {
        if count >= most {
            self.now = (self.now * 4).min(CHUNK);
            self.spare = 0;
        } else if count < self.now / 4 {
            self.spare += 1;
            if self.spare >= SPARE_READS {
                self.shrunk |= self.now > LEAST;
                self.now = (self.now / 2).max(LEAST);
                self.spare = 0;
            }
        } else {
            self.spare = 0;
        }
    }

    /// Whether the size has shrunk since this was asked last: a smaller buffer will do.
    pub(super) const fn take_shrunk(&mut self) -> bool {
        std::mem::replace(&mut self.shrunk, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_traffic_and_shrinks_without() {
        let mut size = ReadSize::default();
        for _ in 0..3 {
            let most = size.next(0, None, true);
            size.filled(most, most);
        }
        assert_eq!(size.next(0, None, true), CHUNK);
        for _ in 0..100 {
            size.filled(100, CHUNK);
        }
        assert_eq!(size.next(0, None, true), LEAST);
        assert!(size.take_shrunk());
        assert!(!size.take_shrunk());
    }

    #[test]
    fn a_large_frame_is_read_as_it_comes_and_to_its_end_exactly() {
        let size = ReadSize::default();
        let needed = 1 << 20;
        let (mut pending, mut reads) = (100, 0);
        while pending < needed {
            let next = size.next(pending, Some(needed), false);
            assert!(next <= pending.max(CHUNK));
            pending += next;
            reads += 1;
        }
        assert_eq!(pending, needed);
        assert!(reads < 10, "{reads}");
        assert_eq!(size.next(100, Some(needed), true), needed - 100);
    }
}
