//! Who writes. One at a time: the connection's task, or a caller that finds the connection idle and spares itself and the
//! task a wake-up. A caller that is one of many leaves it to the task, which then writes for all of them at once.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tribes_core::{SendOptions, Time};

use super::{Peer, State};
use crate::sender::core::{LinkCore, Resolved};
use crate::stream::ByteStream;

/// Pieces handed to one system call.
const PIECES: usize = 64;
/// A caller that is not the one before raises the crowd by this much, the same one lowers it by one; from this much on
/// nobody writes for himself.
const CROWD_STEP: u8 = 8;
const CROWD_MOST: u8 = 64;

/// The state of writing to one member.
#[derive(Debug, Default)]
pub(super) struct Writing {
    /// Counts connections; 0 before the first.
    connection: u64,
    is_open: bool,
    /// Somebody has a batch in hand.
    taken: bool,
    /// The task has been woken and has not looked since.
    signalled: bool,
    /// What a caller's write failed with; for the task.
    error: Option<io::Error>,
    last_caller: Option<tokio::task::Id>,
    crowd: u8,
    /// Buffers of whoever wrote last.
    pieces: Vec<Bytes>,
    resolved: Vec<Resolved>,
}

/// Bytes that are being written. Whoever holds it gives it to [`Peer::finish_write`].
pub(super) struct Batch {
    connection: u64,
    pieces: Vec<Bytes>,
    resolved: Vec<Resolved>,
}

/// How a write by the task went.
#[derive(Debug)]
pub(super) enum Wrote {
    /// There is nothing to write, or somebody is at it.
    Nothing,
    /// Some bytes; there may be more.
    Some,
    Failed(io::Error),
}

impl Writing {
    /// Whether the caller may write a message of these options itself. Asynchronous ones gather: whoever sends them does
    /// not wait.
    pub(super) fn may_write_here(&mut self, options: SendOptions) -> bool {
        if options.contains(SendOptions::ASYNCHRONOUS) {
            return false;
        }
        let caller = tokio::task::try_id();
        self.crowd = if caller == self.last_caller {
            self.crowd.saturating_sub(1)
        } else {
            (self.crowd + CROWD_STEP).min(CROWD_MOST)
        };
        self.last_caller = caller;
        self.is_open && !self.taken && !self.is_crowded()
    }

    /// Whether several callers send at the same time.
    pub(super) const fn is_crowded(&self) -> bool {
        self.crowd >= CROWD_STEP
    }

    /// Whether the task has to be woken.
    pub(super) const fn signal(&mut self) -> bool {
        !std::mem::replace(&mut self.signalled, true)
    }

    /// The task looks now.
    pub(super) const fn heard(&mut self) {
        self.signalled = false;
    }

    /// What a caller's write failed with.
    pub(super) const fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Nothing is written from now on; a batch that is still in hand is of the connection before.
    pub(super) const fn abandon(&mut self) {
        (self.is_open, self.taken) = (false, false);
        self.connection += 1;
    }

    /// Takes what may be written now in hand, unless somebody has some already.
    pub(super) fn begin(&mut self, core: &mut LinkCore, most: usize, now: Time) -> Option<Batch> {
        if self.taken || !self.is_open {
            return None;
        }
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.reserve(PIECES);
        if core.next_write(most, now, &mut pieces) == 0 {
            self.pieces = pieces;
            return None;
        }
        self.taken = true;
        Some(Batch { connection: self.connection, pieces, resolved: std::mem::take(&mut self.resolved) })
    }
}

impl Peer {
    /// A connection is there.
    pub(super) fn open(&self, stream: Box<dyn ByteStream>) {
        let connection = {
            let writing = &mut self.state().writing;
            writing.connection += 1;
            writing.error = None;
            writing.connection
        };
        *self.stream() = Some((connection, stream));
        self.state().writing.is_open = true;
    }

    /// The connection is gone.
    pub(super) fn shut(&self) {
        self.state().writing.abandon();
        *self.stream() = None;
    }

    pub(super) fn stream(&self) -> MutexGuard<'_, Option<(u64, Box<dyn ByteStream>)>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the connection takes here and now; the task does the rest.
    pub(super) fn write_here(&self, batch: Batch, now: Time) {
        // The task asks for itself when it is to go on: nobody is woken by this.
        let written = self.poll_batch(&batch, &mut Context::from_waker(Waker::noop()));
        let result = match written {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(0),
        };
        if self.finish_write(batch, result.map_err(Some), now) && self.state().writing.signal() {
            self.wake.notify_one();
        }
    }

    /// Writes once, for the task.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, now: Time) -> Poll<Wrote> {
        let batch = {
            let State { core, writing, .. } = &mut *self.state();
            writing.begin(core, self.shared.config.coalesce, now)
        };
        let Some(batch) = batch else { return Poll::Ready(Wrote::Nothing) };
        match self.poll_batch(&batch, cx) {
            Poll::Ready(Ok(count)) => {
                self.finish_write(batch, Ok(count), now);
                Poll::Ready(Wrote::Some)
            }
            Poll::Ready(Err(error)) => {
                self.finish_write(batch, Err(None), now);
                Poll::Ready(Wrote::Failed(error))
            }
            Poll::Pending => {
                self.finish_write(batch, Ok(0), now);
                Poll::Pending
            }
        }
    }

    fn poll_batch(&self, batch: &Batch, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut stream = self.stream();
        // Whoever was slow may find the stream of a later connection.
        let Some((_, stream)) = stream.as_mut().filter(|(connection, _)| *connection == batch.connection) else {
            return Poll::Pending;
        };
        let stream = Pin::new(&mut **stream);
        let written = if let [piece] = batch.pieces.as_slice() {
            ready!(stream.poll_write(cx, piece))?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            for (slice, piece) in slices.iter_mut().zip(&batch.pieces) {
                *slice = IoSlice::new(piece);
            }
            ready!(stream.poll_write_vectored(cx, slices.get(..batch.pieces.len()).unwrap_or_default()))?
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// So many bytes of the batch were written, or why not (`None`: the task knows). Whether there is more for the task.
    fn finish_write(&self, batch: Batch, result: Result<usize, Option<io::Error>>, now: Time) -> bool {
        let Batch { connection, mut pieces, mut resolved } = batch;
        pieces.clear();
        let more = {
            let State { core, writing, .. } = &mut *self.state();
            writing.pieces = pieces;
            if connection == writing.connection {
                writing.taken = false;
                match result {
                    Ok(0) => {}
                    Ok(bytes) => core.wrote(bytes, now, &mut resolved),
                    Err(error) => writing.error = error,
                }
                !core.is_flushed() || writing.error.is_some()
            } else {
                false
            }
        };
        // An empty one comes back, too: it has its memory.
        self.settle(&mut resolved);
        self.state().writing.resolved = resolved;
        more
    }
}

/// Reads once into `buffer`.
pub(super) fn poll_read(
    stream: &mut (dyn ByteStream + '_),
    cx: &mut Context<'_>,
    buffer: &mut bytes::BytesMut,
) -> Poll<io::Result<usize>> {
    let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(stream, buffer));
    read.poll(cx)
}
