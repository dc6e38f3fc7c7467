//! Bytes on their way into a connection: small frames gathered into one buffer, large ones by reference.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::frame::EncodedFrame;

/// Segments handed to one system call.
const SLICES: usize = 64;
/// A gathering buffer that grew beyond this gives its memory back once it is empty (T46).
const SHRINK: usize = 1 << 20;

/// The bytes of one connection that the operating system has not taken.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    /// Before `tail`.
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    /// For each frame not yet taken whole, where it ends in the bytes of this connection.
    ends: VecDeque<u64>,
    pushed: u64,
    taken: u64,
}

impl WriteQueue {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frames that have not been taken whole.
    pub(super) fn unflushed(&self) -> usize {
        self.ends.len()
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, frame: &EncodedFrame) {
        match frame.parts() {
            [whole] => self.tail.put_slice(whole),
            parts => {
                if !self.tail.is_empty() {
                    self.parts.push_back(self.tail.split().freeze());
                }
                self.parts.extend(parts.iter().filter(|part| !part.is_empty()).cloned());
            }
        }
        self.count(frame.len());
        self.ends.push_back(self.pushed);
    }

    fn count(&mut self, bytes: usize) {
        self.len += bytes;
        self.pushed += bytes as u64;
    }

    /// Writes what the connection takes now, in one call; the number of bytes.
    pub(super) fn poll_write(
        &mut self,
        stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = if self.parts.is_empty() {
            ready!(stream.poll_write(cx, &self.tail))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            let pieces = self.parts.iter().map(AsRef::as_ref).chain(std::iter::once(self.tail.as_ref()));
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            ready!(stream.poll_write_vectored(cx, slices.get(..used).unwrap_or_default()))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut bytes: usize) {
        self.len -= bytes;
        self.taken += bytes as u64;
        while let Some(front) = self.parts.front_mut().filter(|_| bytes > 0) {
            let step = bytes.min(front.len());
            front.advance(step);
            bytes -= step;
            if front.is_empty() {
                self.parts.pop_front();
            }
        }
        self.tail.advance(bytes);
        if self.tail.is_empty() && self.tail.capacity() > SHRINK {
            self.tail = BytesMut::new();
        }
        while self.ends.front().is_some_and(|end| *end <= self.taken) {
            self.ends.pop_front();
        }
    }
}
