//! What a connection has to write.
//!
//! Answers gather here while messages are handled, or a write is under way, and leave together. The reader stops when too
//! much has gathered, so a peer that reads no answers is not read from either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tribes_core::wire::{Control, HandledCode};
use tribes_core::{Handled, ReceiptSink};

use super::answers::AnswerQueue;
use super::signal::Bell;

/// Bytes of control frames beyond which the reader waits.
const FULL_BYTES: usize = 64 << 10;
/// Answers to Java, known or not, beyond which the reader waits.
const FULL_ANSWERS: usize = 16 << 10;

/// What one connection has to write.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Rung when there is something to write, or to end.
    bell: Arc<Bell>,
}

/// What [`Outbox::drain`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    Some,
    Nothing,
    /// Nothing, and there never will be.
    Over,
}

#[derive(Debug, Default)]
struct State {
    answers: AnswerQueue,
    control: BytesMut,
    /// Frames taken, to be told with the next write, and whether that is due.
    taken: Option<u64>,
    tell: bool,
    /// Results of our own link that are still to come.
    outstanding: usize,
    end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// It is over when what is known has been written.
    Known,
    /// It is over when all answers have come and been written.
    All,
}

impl State {
    fn has_room(&self) -> bool {
        self.control.len() < FULL_BYTES && self.answers.len() < FULL_ANSWERS
    }

    fn is_ready(&self) -> bool {
        self.tell || !self.control.is_empty() || self.answers.is_ready()
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

    /// An outbox for the connection that `bell` wakes.
    pub(super) fn new(bell: &Arc<Bell>) -> Self {
        Self { state: Mutex::default(), bell: Arc::clone(bell) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let rings = {
            let mut state = self.state();
            change(&mut state);
            state.is_ready() || state.is_over()
        };
        if rings {
            self.bell.ring();
        }
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

    /// Ours: so many frames have been taken in all, and so many results more are to come. The count leaves with what is
    /// written next, or after [`tell`](Self::tell).
    pub(super) fn taken(&self, count: u64, results: usize) {
        let mut state = self.state();
        state.taken = Some(count);
        state.outstanding += results;
    }

    /// Ours: the count of frames taken is to be told. Whether there is one.
    pub(super) fn tell(&self) -> bool {
        let mut state = self.state();
        state.tell = state.taken.is_some();
        state.tell
    }

    /// Ours: whether there is a count that has not been told and is not due.
    pub(super) fn keeps_count(&self) -> bool {
        let state = self.state();
        state.taken.is_some() && !state.tell
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

    /// Nothing more will be asked: it is over after what is known, or with `all` after what is still to come.
    pub(super) fn finish(&self, all: bool) {
        self.change(|state| {
            state.tell = state.taken.is_some();
            state.end = if all { End::All } else { End::Known };
        });
    }

    /// Whether the peer has taken enough answers for more questions.
    pub(super) fn has_room(&self) -> bool {
        self.state().has_room()
    }

    /// Moves what is to be written into `batch`, which is empty.
    pub(super) fn drain(&self, batch: &mut BytesMut) -> Drained {
        let mut state = self.state();
        if !state.is_ready() {
            return if state.is_over() { Drained::Over } else { Drained::Nothing };
        }
        // What a member is told first may be of use for what comes next: results go before the count.
        std::mem::swap(batch, &mut state.control);
        state.answers.drain(batch);
        if let Some(count) = state.taken.take() {
            Control::Taken { count }.encode(batch);
        }
        state.tell = false;
        Drained::Some
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

    fn drained(outbox: &Outbox) -> BytesMut {
        let mut batch = BytesMut::new();
        assert_eq!(outbox.drain(&mut batch), Drained::Some);
        batch
    }

    fn end(outbox: &Outbox) -> Drained {
        outbox.drain(&mut BytesMut::new())
    }

    #[test]
    fn many_counts_leave_as_one() {
        let outbox = Outbox::default();
        outbox.push(&Control::Pong { nonce: 1 });
        (1..=500).for_each(|count| outbox.taken(count, 0));
        assert_eq!(controls(&drained(&outbox)), [Control::Pong { nonce: 1 }, Control::Taken { count: 500 }]);
        assert_eq!(end(&outbox), Drained::Nothing);
        outbox.taken(501, 0);
        assert_eq!((end(&outbox), outbox.keeps_count()), (Drained::Nothing, true));
        assert!(outbox.tell());
        assert_eq!(controls(&drained(&outbox)), [Control::Taken { count: 501 }]);
        outbox.taken(502, 0);
        outbox.finish(false);
        assert_eq!(controls(&drained(&outbox)), [Control::Taken { count: 502 }]);
        assert_eq!(end(&outbox), Drained::Over);
    }

    #[test]
    fn the_end_waits_for_answers_to_come() {
        let outbox = Outbox::default();
        let place = outbox.reserve();
        outbox.accept();
        outbox.finish(true);
        assert_eq!(end(&outbox), Drained::Nothing);
        outbox.resolve(place, false);
        assert_eq!(drained(&outbox), [FAIL_ACK_FRAME.as_slice(), ACK_FRAME].concat());
        assert_eq!(end(&outbox), Drained::Over);
    }

    #[test]
    fn it_is_full_until_it_is_written() {
        let outbox = Outbox::default();
        for _ in 0..FULL_ANSWERS {
            assert!(outbox.has_room());
            outbox.accept();
        }
        assert!(!outbox.has_room());
        drained(&outbox);
        assert!(outbox.has_room());
        while outbox.has_room() {
            outbox.push(&Control::Pong { nonce: 1 });
        }
        assert!(drained(&outbox).len() < 2 * FULL_BYTES);
        assert!(outbox.has_room());
    }

    #[test]
    fn it_rings_when_there_is_something_to_do() {
        use std::task::Wake;

        #[derive(Default)]
        struct Counter(std::sync::atomic::AtomicUsize);
        impl Wake for Counter {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let (bell, counter) = (Arc::new(Bell::default()), Arc::new(Counter::default()));
        let outbox = Outbox::new(&bell);
        let rung = || counter.0.swap(0, std::sync::atomic::Ordering::Relaxed);
        bell.arm(&Arc::clone(&counter).into());
        let place = outbox.reserve();
        assert_eq!(rung(), 0);
        outbox.resolve(place, true);
        assert_eq!(rung(), 1);
        // Once for each time it is armed.
        outbox.accept();
        assert_eq!(rung(), 0);
        bell.arm(&Arc::clone(&counter).into());
        bell.disarm();
        outbox.accept();
        assert_eq!(rung(), 0);
    }
}
