//! A connection's stream, both directions, in the hands of its one task.
//!
//! Whatever the task waits for, it waits for it here: answers are written meanwhile, and orders are heard. Nothing is armed
//! for that unless the task really has to wait.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tribes_core::{BoxFuture, Env, Time};

use super::connection::{Connection, End};
use super::outbox::{Drained, Outbox};
use super::patience::Late;
use super::signal::Order;
use crate::stream::ByteStream;

/// A batch of answers that was larger gives its memory back.
const KEPT: usize = 64 << 10;
/// Bytes read and dropped behind the last answer, so that closing does not reset the connection before it has arrived.
const LINGER_BYTES: usize = 256 << 10;

/// A count of messages taken for which nobody waits is told within this time: a write for each read would cost as much as
/// the messages. The peer only frees memory by it.
const TELL_WITHIN: Duration = Duration::from_millis(1);

/// The stream of one connection.
pub(super) struct Line<'a> {
    pub(super) connection: &'a Connection,
    pub(super) outbox: Arc<Outbox>,
    stream: Box<dyn ByteStream>,
    writing: Writing,
    /// When a count that is kept back is to be told.
    tell_at: Option<Time>,
    timer: Option<(Time, BoxFuture)>,
}

/// The batch of answers that is being written.
#[derive(Default)]
struct Writing {
    batch: BytesMut,
    written: usize,
    unflushed: bool,
    /// Since when the operating system takes nothing.
    stalled: Option<Time>,
    /// Nothing can be written any more.
    failed: Option<io::Error>,
    /// There will be nothing more to write.
    over: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(connection: &'a Connection, stream: Box<dyn ByteStream>) -> Self {
        Self {
            connection,
            outbox: Arc::new(Outbox::new(connection.signal.bell())),
            stream,
            writing: Writing::default(),
            tell_at: None,
            timer: None,
        }
    }

    /// Reads once, at most `most` bytes. `limit` is asked when nothing is there: until when to wait. Cancel safe.
    pub(super) async fn read(
        &mut self,
        buffer: &mut BytesMut,
        most: usize,
        limit: impl Fn() -> Option<(Time, Late)>,
    ) -> Result<usize, End> {
        let read = poll_fn(|cx| {
            let mut buffer = (&mut *buffer).limit(most);
            let reading = pin!(self.stream.read_buf(&mut buffer)).poll(cx);
            match reading {
                Poll::Ready(read) => Poll::Ready(read.map_err(End::Broken)),
                Poll::Pending => self.poll_interrupted(cx, limit()).map(Err),
            }
        });
        let read = read.await;
        self.connection.signal.bell().disarm();
        read
    }

    /// Reads once, at most `most` bytes, if any are there.
    pub(super) async fn try_read(&mut self, buffer: &mut BytesMut, most: usize) -> Result<Option<usize>, End> {
        poll_fn(|cx| {
            let mut buffer = (&mut *buffer).limit(most);
            let reading = pin!(self.stream.read_buf(&mut buffer)).poll(cx);
            Poll::Ready(match reading {
                Poll::Ready(read) => read.map(Some).map_err(End::Broken),
                Poll::Pending => Ok(None),
            })
        })
        .await
    }

    /// Waits for `future`, unless this connection is told to end.
    pub(super) async fn until_told<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        let mut future = pin!(future);
        let done = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_interrupted(cx, None).map(Err),
        });
        let done = done.await;
        self.connection.signal.bell().disarm();
        done
    }

    /// Waits for `future` even if this connection is told to end, until the receiver's stop is due.
    pub(super) async fn regardless<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        let mut future = pin!(future);
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.connection.signal.bell().arm(cx.waker());
            self.poll_telling(cx);
            // If it fails, that is told when the future is done.
            let _ = self.poll_writing(cx);
            self.poll_time(cx, self.due()).map(|()| Err(End::Told(Order::Stop)))
        });
        let done = done.await;
        self.connection.signal.bell().disarm();
        done
    }

    /// Waits until the peer has taken enough answers, if too many have gathered. Cancel safe.
    pub(super) async fn room_for_answers(&mut self) -> Result<(), End> {
        if self.outbox.has_room() {
            return Ok(());
        }
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_interrupted(cx, None) {
                return Poll::Ready(Err(end));
            }
            if self.outbox.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Writes what may go, as far as that needs no waiting.
    pub(super) async fn flush(&mut self) {
        poll_fn(|cx| {
            // What is left, or went wrong, is seen to when the task waits.
            let _ = self.poll_writing(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Writes until the outbox is over, then ends the sending direction; by `limit`. Whether all of that was done.
    pub(super) async fn finish(&mut self, limit: Time) -> bool {
        poll_fn(|cx| {
            self.connection.signal.bell().arm(cx.waker());
            if self.connection.signal.order() >= Order::Evicted {
                return Poll::Ready(false);
            }
            let stalled = self.poll_writing(cx);
            if self.writing.failed.is_some() {
                return Poll::Ready(false);
            }
            if stalled.is_none()
                && self.writing.over
                && let Poll::Ready(shut) = Pin::new(&mut self.stream).poll_shutdown(cx)
            {
                return Poll::Ready(shut.is_ok());
            }
            let limit = limit.min(self.due()).min(stalled.unwrap_or(Time::NEVER));
            self.poll_time(cx, limit).map(|()| false)
        })
        .await
    }

    /// Reads on for a moment after the last answer was written, until `limit`.
    pub(super) async fn linger(&mut self, limit: Time) {
        let mut buffer = BytesMut::with_capacity(4096);
        let mut dropped = 0;
        poll_fn(|cx| {
            while dropped < LINGER_BYTES {
                buffer.clear();
                match pin!(self.stream.read_buf(&mut buffer)).poll(cx) {
                    Poll::Ready(Ok(count)) if count > 0 => dropped += count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => {
                        self.connection.signal.bell().arm(cx.waker());
                        if self.connection.signal.order() >= Order::Evicted {
                            return Poll::Ready(());
                        }
                        return self.poll_time(cx, limit.min(self.due()));
                    }
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Sees to everything else while the task waits; ready when it must not wait any longer.
    fn poll_interrupted(&mut self, cx: &mut Context<'_>, limit: Option<(Time, Late)>) -> Poll<End> {
        self.connection.signal.bell().arm(cx.waker());
        let order = self.connection.signal.order();
        if order >= Order::Stop {
            return Poll::Ready(End::Told(order));
        }
        self.poll_telling(cx);
        let stalled = self.poll_writing(cx);
        if let Some(error) = self.writing.failed.take() {
            return Poll::Ready(End::Unwritable(error));
        }
        if let Some(at) = stalled.filter(|at| limit.is_none_or(|(limit, _)| *at <= limit)) {
            return self.poll_time(cx, at).map(|()| End::Unwritable(io::ErrorKind::TimedOut.into()));
        }
        match limit {
            Some((at, late)) => self.poll_time(cx, at).map(|()| End::Late(late)),
            None => Poll::Pending,
        }
    }

    /// Has a count that was kept back told when it is time for that.
    fn poll_telling(&mut self, cx: &mut Context<'_>) {
        if !self.outbox.keeps_count() {
            self.tell_at = None;
            return;
        }
        let running = &self.connection.running;
        let at = *self.tell_at.get_or_insert_with(|| running.env().now() + TELL_WITHIN);
        if self.poll_time(cx, at).is_ready() {
            self.tell_at = None;
            self.outbox.tell();
        }
    }

    /// Writes what may go. If the operating system takes no more for now: until when it has to.
    fn poll_writing(&mut self, cx: &mut Context<'_>) -> Option<Time> {
        let writing = &mut self.writing;
        let mut stream = Pin::new(&mut self.stream);
        while writing.failed.is_none() {
            let rest = writing.batch.get(writing.written..).unwrap_or_default();
            let polled = if !rest.is_empty() {
                stream.as_mut().poll_write(cx, rest)
            } else if writing.unflushed {
                stream.as_mut().poll_flush(cx).map_ok(|()| 0)
            } else {
                writing.recycle();
                match self.outbox.drain(&mut writing.batch) {
                    Drained::Some => {
                        writing.unflushed = true;
                        continue;
                    }
                    Drained::Nothing => return None,
                    Drained::Over => {
                        writing.over = true;
                        return None;
                    }
                }
            };
            match polled {
                Poll::Ready(Ok(0)) if !rest.is_empty() => writing.failed = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    writing.unflushed = !rest.is_empty();
                    writing.written += count;
                    writing.stalled = None;
                }
                Poll::Ready(Err(error)) => writing.failed = Some(error),
                Poll::Pending => {
                    let running = &self.connection.running;
                    let since = *writing.stalled.get_or_insert_with(|| running.env().now());
                    return Some(since + running.shared.config.write_timeout);
                }
            }
        }
        None
    }

    /// Ready at `at`. The timer is set only if none is that rings before; then it is looked at again.
    fn poll_time(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        if at == Time::NEVER {
            return Poll::Pending;
        }
        loop {
            let (_, timer) = match &mut self.timer {
                Some(timer) if timer.0 <= at => timer,
                timer => timer.insert((at, ring_at(self.connection.running.env().clone(), at))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if self.connection.running.env().now() >= at {
                return Poll::Ready(());
            }
        }
    }

    /// When everything ends at the latest, once the receiver stops.
    fn due(&self) -> Time {
        if self.connection.signal.order() >= Order::Stop {
            self.connection.running.stop_deadline()
        } else {
            Time::NEVER
        }
    }
}

impl Writing {
    fn recycle(&mut self) {
        self.written = 0;
        if self.batch.capacity() > KEPT {
            self.batch = BytesMut::new();
        }
        self.batch.clear();
    }
}

fn ring_at(env: Env, at: Time) -> BoxFuture {
    Box::pin(async move { env.sleep_until(at).await })
}
