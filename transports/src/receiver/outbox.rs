//! What a connection has to write, and the writer that does.
//!
//! Answers gather here while a write is under way and leave together with the next one. The reader stops when too much has
//! gathered, so a peer that reads no answers is not read from either; and a write that makes no progress ends the connection.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tribes_core::wire::{Control, HandledCode};
use tribes_core::{Env, Handled, ReceiptSink};

use super::answers::AnswerQueue;

/// Bytes of control frames beyond which the reader waits.
const FULL_BYTES: usize = 64 << 10;
/// Answers to Java, known or not, beyond which the reader waits.
const FULL_ANSWERS: usize = 16 << 10;

/// What one connection has to write.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// For the writer: there is something to write, or to end.
    filled: Notify,
    /// For the reader: there is room again.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    answers: AnswerQueue,
    control: BytesMut,
    /// Frames taken, to be told with the next write.
    taken: Option<u64>,
    /// Results of our own link that are still to come.
    outstanding: usize,
    end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The writer ends when what is known has been written.
    Known,
    /// The writer ends when all answers have come and been written.
    All,
}

impl State {
    fn has_room(&self) -> bool {
        self.control.len() < FULL_BYTES && self.answers.len() < FULL_ANSWERS
    }

    fn is_ready(&self) -> bool {
        self.taken.is_some() || !self.control.is_empty() || self.answers.is_ready()
    }

    fn is_over(&self) -> bool {
        match self.end {
            End::Open => false,
            End::Known => true,
            End::All => self.outstanding == 0 && self.answers.len() == 0,
        }
    }
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.filled.notify_one();
    }

    /// Java: the next answer, positive.
    pub(super) fn accept(&self) {
        self.change(|state| state.answers.accept());
    }

    /// Java: a place for the next answer.
    pub(super) fn reserve(&self) -> u64 {
        self.state().answers.reserve()
    }

    /// Java: the answer at a reserved place.
    pub(super) fn resolve(&self, place: u64, positive: bool) {
        self.change(|state| state.answers.resolve(place, positive));
    }

    /// Writes a control frame.
    pub(super) fn push(&self, control: &Control) {
        self.change(|state| control.encode(&mut state.control));
    }

    /// So many frames have been taken. Told with whatever is written next, or after [`flush`](Self::flush).
    pub(super) fn taken(&self, count: u64) {
        self.state().taken = Some(count);
    }

    /// Has the writer look.
    pub(super) fn flush(&self) {
        if self.state().is_ready() {
            self.filled.notify_one();
        }
    }

    /// Ours: so many results are still to come.
    pub(super) fn expect(&self, results: usize) {
        self.state().outstanding += results;
    }

    /// Ours: a result that was expected.
    pub(super) fn result(&self, seq: u64, result: HandledCode) {
        self.change(|state| {
            state.outstanding = state.outstanding.saturating_sub(1);
            Control::Handled { seq, result }.encode(&mut state.control);
        });
    }

    /// Nothing more will be asked: the writer ends after what is known, or with `all` after what is still to come.
    pub(super) fn finish(&self, all: bool) {
        self.change(|state| state.end = if all { End::All } else { End::Known });
    }

    /// Waits until the peer has taken enough answers. Cancel safe.
    pub(super) async fn room(&self) {
        while !self.state().has_room() {
            self.emptied.notified().await;
        }
    }

    /// Moves what is to be written into `batch`; false when there is nothing and never will be. Cancel safe.
    async fn next_batch(&self, batch: &mut BytesMut) -> bool {
        loop {
            {
                let mut state = self.state();
                if state.is_ready() {
                    // What a member is told first may be of use for what comes next: results go before the count.
                    std::mem::swap(batch, &mut state.control);
                    state.answers.drain(batch);
                    if let Some(count) = state.taken.take() {
                        Control::Taken { count }.encode(batch);
                    }
                    return true;
                }
                if state.is_over() {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Writes until [`finish`](Self::finish), then ends the sending direction.
    ///
    /// # Errors
    /// If the connection breaks, or takes nothing for `timeout`.
    pub(super) async fn write(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        env: &Env,
        timeout: Duration,
    ) -> io::Result<()> {
        let mut batch = BytesMut::new();
        while self.next_batch(&mut batch).await {
            let mut rest = batch.as_ref();
            while !rest.is_empty() {
                let wrote = env.until(env.now() + timeout, stream.write(rest)).await;
                let count = wrote.ok_or(io::ErrorKind::TimedOut)??;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = rest.get(count..).unwrap_or_default();
            }
            env.until(env.now() + timeout, stream.flush()).await.ok_or(io::ErrorKind::TimedOut)??;
            if batch.capacity() > FULL_BYTES {
                batch = BytesMut::new();
            }
            batch.clear();
            self.emptied.notify_one();
        }
        env.until(env.now() + timeout, stream.shutdown()).await.ok_or(io::ErrorKind::TimedOut)?
    }
}

impl ReceiptSink for Outbox {
    /// Java: the answer at a reserved place.
    fn handled(&self, place: u64, handled: Handled) {
        self.resolve(place, !matches!(handled, Handled::Failed(_)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tribes_core::wire::{ACK_FRAME, FAIL_ACK_FRAME, Frame, FrameDecoder, Limits};

    use super::*;

    fn controls(bytes: &[u8]) -> Vec<Control> {
        let mut decoder = FrameDecoder::new(Limits::default());
        decoder.extend(bytes);
        std::iter::from_fn(|| decoder.next().unwrap())
            .map(|frame| match frame {
                Frame::Control(contents) => Control::decode(&contents, &Limits::default()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    async fn written(outbox: &Outbox) -> Vec<u8> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        outbox.write(ours, &Env::real(), Duration::from_secs(1)).await.unwrap();
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn many_counts_leave_as_one() {
        let outbox = Outbox::default();
        outbox.push(&Control::Pong { nonce: 1 });
        (1..=500).for_each(|count| outbox.taken(count));
        outbox.finish(false);
        assert_eq!(controls(&written(&outbox).await), [Control::Pong { nonce: 1 }, Control::Taken { count: 500 }]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_answers_to_come() {
        let outbox = Arc::new(Outbox::default());
        let place = outbox.reserve();
        outbox.accept();
        outbox.finish(true);
        let writer = crate::testing::spawn({
            let outbox = Arc::clone(&outbox);
            async move { written(&outbox).await }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        outbox.resolve(place, false);
        assert_eq!(writer.await.unwrap(), [FAIL_ACK_FRAME.as_slice(), ACK_FRAME].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_no_answers_stops_the_reader_and_ends_the_connection() {
        let outbox = Outbox::default();
        let (ours, _theirs) = tokio::io::duplex(100);
        for _ in 0..FULL_ANSWERS {
            outbox.accept();
        }
        let full = tokio::time::timeout(Duration::from_secs(1), outbox.room()).await;
        assert!(full.is_err());
        let error = outbox.write(ours, &Env::real(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn room_comes_back() {
        let outbox = Outbox::default();
        for nonce in 0..4000 {
            outbox.push(&Control::Pong { nonce });
        }
        outbox.finish(false);
        let (room, bytes) = tokio::join!(outbox.room(), written(&outbox));
        let () = room;
        assert_eq!(controls(&bytes).len(), 4000);
    }
}
