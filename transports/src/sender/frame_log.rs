//! The bytes of a link, in the order of its frames: from the first that may have to be sent again to the last queued.
//!
//! A small frame is encoded straight into the log, into blocks that many of them share: no allocation of its own, one copy,
//! and a burst of them is one contiguous write. Of a large one only head and footer are, its body is kept by reference.
//! What a connection has taken stays until the peer says that it has it; a new connection begins at the front again.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tribes_core::ChannelMessage;
use tribes_core::wire::{self, FRAME_END};

/// Frames up to this size are copied: that costs less than another segment in each write.
const COPIED: usize = 16 << 10;
/// The smallest and the largest block. One grows with what waits, so that an idle link holds little (T46).
const BLOCK: (usize, usize) = (4 << 10, 64 << 10);

/// The bytes of one link.
#[derive(Debug, Default)]
pub(super) struct FrameLog {
    /// Oldest first. Those before `tail` are sealed: they are shared with whoever writes them.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    /// Where the connection goes on: so many bytes from the front …
    cursor: usize,
    /// … which is this piece, so far into it.
    piece: usize,
    offset: usize,
}

impl FrameLog {
    /// Bytes of all frames.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes from the front that the connection has.
    pub(super) const fn cursor(&self) -> usize {
        self.cursor
    }

    /// Appends the frame of `message`; `sender` is the encoded member of its sender, `len` the checked length of the frame.
    pub(super) fn push(&mut self, message: &ChannelMessage, sender: &[u8], len: usize) {
        if len <= COPIED {
            self.reserve(len);
            wire::encode_frame_head(message, sender, &mut self.tail);
            message.body.segments().for_each(|segment| self.tail.put_slice(segment));
        } else {
            self.reserve(len - message.body.len());
            wire::encode_frame_head(message, sender, &mut self.tail);
            self.seal();
            self.pieces.extend(message.body.segments().filter(|segment| !segment.is_empty()).cloned());
        }
        self.tail.put_slice(FRAME_END);
        self.len += len;
    }

    /// Room for `len` bytes in the tail, in a new block if need be: a frame lies in one.
    fn reserve(&mut self, len: usize) {
        if self.tail.capacity() - self.tail.len() >= len {
            return;
        }
        self.seal();
        // The block before is used again when all that was in it has left.
        if !self.tail.try_reclaim(len.max(BLOCK.0)) {
            self.tail = BytesMut::with_capacity(self.len.clamp(BLOCK.0, BLOCK.1).max(len));
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Adds the pieces from the cursor on to `into`, as many as make up `bytes` or fill `into` to its capacity. The bytes
    /// added.
    pub(super) fn next(&mut self, bytes: usize, into: &mut Vec<Bytes>) -> usize {
        if self.cursor + bytes > self.len - self.tail.len() {
            self.seal();
        }
        let mut added = 0;
        let mut offset = self.offset;
        for piece in self.pieces.range(self.piece.min(self.pieces.len())..) {
            let rest = piece.len() - offset;
            let take = rest.min(bytes - added);
            if take > 0 {
                into.push(piece.slice(offset..offset + take));
            }
            offset = 0;
            added += take;
            if added == bytes || into.len() == into.capacity() {
                break;
            }
        }
        added
    }

    /// The connection has taken `bytes` more.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.cursor += bytes;
        self.offset += bytes;
        while let Some(piece) = self.pieces.get(self.piece).filter(|piece| piece.len() <= self.offset) {
            self.offset -= piece.len();
            self.piece += 1;
        }
    }

    /// A new connection begins at the front.
    pub(super) const fn rewind(&mut self) {
        (self.cursor, self.piece, self.offset) = (0, 0, 0);
    }

    /// The first `bytes` are needed no more.
    pub(super) fn drop_front(&mut self, mut bytes: usize) {
        self.len -= bytes;
        self.cursor = self.cursor.saturating_sub(bytes);
        while bytes > 0 {
            let Some(front) = self.pieces.front_mut() else {
                self.tail.advance(bytes.min(self.tail.len()));
                break;
            };
            let step = bytes.min(front.len());
            front.advance(step);
            bytes -= step;
            if self.piece == 0 {
                self.offset = self.offset.saturating_sub(step);
            }
            if front.is_empty() {
                self.pieces.pop_front();
                self.piece = self.piece.saturating_sub(1);
            }
        }
    }

    /// Keeps only some of the frames: of each its length and whether it stays. Nothing before the cursor may go.
    pub(super) fn retain(&mut self, frames: impl Iterator<Item = (usize, bool)>) {
        self.seal();
        let mut old = std::mem::take(&mut self.pieces);
        self.len = 0;
        for (mut len, stays) in frames {
            self.len += if stays { len } else { 0 };
            while len > 0
                && let Some(front) = old.front_mut()
            {
                let part = front.split_to(len.min(front.len()));
                len -= part.len();
                if front.is_empty() {
                    old.pop_front();
                }
                if stays {
                    self.pieces.push_back(part);
                }
            }
        }
        let cursor = self.cursor;
        self.rewind();
        self.advance(cursor.min(self.len));
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the memory of an idle link back.
    pub(super) fn shrink(&mut self) {
        if self.len == 0 {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tribes_core::{Body, Member, MemberId, MessageId, SendOptions};

    use super::*;

    fn message(number: u8, len: usize) -> (ChannelMessage, Vec<u8>) {
        let message = ChannelMessage {
            options: SendOptions::NONE,
            timestamp_ms: 0,
            id: MessageId::from_array([number; 16]),
            sender: Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 4000).into())),
            body: Body::new(vec![number; len]),
        };
        let mut frame = BytesMut::new();
        wire::encode_frame(&message, &mut frame);
        (message, frame.to_vec())
    }

    fn push(log: &mut FrameLog, number: u8, len: usize) -> Vec<u8> {
        let (message, frame) = message(number, len);
        log.push(&message, &super::super::encoded(&message.sender), frame.len());
        frame
    }

    /// All from the cursor on, taken in steps of at most `step` bytes.
    fn take(log: &mut FrameLog, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while log.cursor() < log.len() {
            let mut pieces = Vec::with_capacity(3);
            let most = step.min(log.len() - log.cursor());
            let added = log.next(most, &mut pieces);
            assert!(added > 0 && added <= most && added == pieces.iter().map(Bytes::len).sum::<usize>());
            pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
            log.advance(added);
        }
        bytes
    }

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_taken() {
        for step in [1, 7, 100, 5_000, 1 << 20] {
            let mut log = FrameLog::default();
            let mut all = Vec::new();
            for (number, len) in [(1, 0), (2, 100), (3, 20_000), (4, 1), (5, 70_000), (6, 16_000), (7, 9)] {
                all.extend(push(&mut log, number, len));
            }
            assert_eq!(take(&mut log, step), all);
            // What was taken stays: the next connection begins anew.
            log.rewind();
            assert_eq!(take(&mut log, step), all);
        }
    }

    #[test]
    fn the_front_leaves_behind_and_before_the_cursor() {
        let mut log = FrameLog::default();
        let frames: Vec<_> = (0..50_u8).map(|number| push(&mut log, number, usize::from(number) * 997)).collect();
        let (first, second) = (frames[0].len(), frames[1].len());
        let mut pieces = Vec::with_capacity(64);
        let taken = log.next(first + second + 10, &mut pieces);
        log.advance(taken);
        log.drop_front(first);
        log.drop_front(second);
        assert_eq!(log.cursor(), 10);
        let rest = frames[2..].concat();
        assert_eq!(take(&mut log, 4096), rest[10..]);
        log.drop_front(rest.len());
        assert_eq!((log.len(), log.cursor()), (0, 0));
        let again = push(&mut log, 9, 300);
        assert_eq!(take(&mut log, 64), again);
    }

    #[test]
    fn frames_leave_from_the_midst() {
        let mut log = FrameLog::default();
        let frames: Vec<_> = (0..9_u8).map(|number| push(&mut log, number, 3_000 * usize::from(number))).collect();
        let mut pieces = Vec::with_capacity(64);
        let taken = log.next(frames[0].len() + 5, &mut pieces);
        log.advance(taken);
        log.retain(frames.iter().enumerate().map(|(at, frame)| (frame.len(), at < 2 || at % 3 == 0)));
        let expected = [0, 1, 3, 6].map(|at: usize| frames[at].clone()).concat();
        assert_eq!(take(&mut log, 1 << 20), expected[frames[0].len() + 5..]);
    }

    #[test]
    fn a_block_is_used_again() {
        let mut log = FrameLog::default();
        for number in 0..200 {
            let frame = push(&mut log, number, 1000);
            assert_eq!(take(&mut log, 1 << 20), frame);
            log.drop_front(frame.len());
        }
        assert!(log.tail.capacity() <= BLOCK.0, "{}", log.tail.capacity());
    }
}
