//! Answers to a Java sender, in the order of its frames: an acknowledgement carries no number, so it belongs to the first
//! frame that waits for one.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use tribes_core::wire::{ACK_FRAME, FAIL_ACK_FRAME};

/// One answer for each frame that asked for it, from the oldest not yet written on.
#[derive(Debug, Default)]
pub(super) struct AnswerQueue {
    slots: VecDeque<Answer>,
    /// The number of the first slot, counted from the start of the connection.
    first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Not known yet; what is behind it waits.
    Open,
    Positive,
    Negative,
}

impl Answer {
    const fn of(positive: bool) -> Self {
        if positive { Self::Positive } else { Self::Negative }
    }
}

impl AnswerQueue {
    /// A place for an answer that comes later, in [`resolve`](Self::resolve).
    pub(super) fn reserve(&mut self) -> u64 {
        self.slots.push_back(Answer::Open);
        self.first + self.slots.len() as u64 - 1
    }

    /// A positive answer.
    pub(super) fn accept(&mut self) {
        self.slots.push_back(Answer::Positive);
    }

    /// The answer of a reserved place. A place that is gone or answered already stays as it is.
    pub(super) fn resolve(&mut self, place: u64, positive: bool) {
        let at = place.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = at.and_then(|at| self.slots.get_mut(at)).filter(|slot| **slot == Answer::Open) {
            *slot = Answer::of(positive);
        }
    }

    /// Appends the answers that may go now to `out`.
    pub(super) fn drain(&mut self, out: &mut BytesMut) {
        while let Some(answer) = self.slots.front().filter(|answer| **answer != Answer::Open) {
            out.put_slice(if *answer == Answer::Positive { ACK_FRAME } else { FAIL_ACK_FRAME });
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Whether an answer may go now.
    pub(super) fn is_ready(&self) -> bool {
        self.slots.front().is_some_and(|answer| *answer != Answer::Open)
    }

    /// Answers not written, known or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(answers: &mut AnswerQueue) -> Vec<bool> {
        let mut out = BytesMut::new();
        answers.drain(&mut out);
        out.chunks(ACK_FRAME.len()).map(|frame| frame == ACK_FRAME).collect()
    }

    #[test]
    fn an_ack_behind_an_unfinished_sync_waits_for_it() {
        let mut answers = AnswerQueue::default();
        answers.accept();
        let first = answers.reserve();
        answers.accept();
        let second = answers.reserve();
        assert_eq!(drained(&mut answers), [true]);
        answers.resolve(second, true);
        assert!(!answers.is_ready());
        assert!(drained(&mut answers).is_empty());
        answers.resolve(first, false);
        assert_eq!(drained(&mut answers), [false, true, true]);
        assert_eq!(answers.len(), 0);
    }

    #[test]
    fn a_place_is_answered_once() {
        let mut answers = AnswerQueue::default();
        let place = answers.reserve();
        answers.resolve(place, false);
        answers.resolve(place, true);
        answers.resolve(place + 1, true);
        assert_eq!(drained(&mut answers), [false]);
        answers.resolve(place, true);
        assert!(drained(&mut answers).is_empty());
    }
}
