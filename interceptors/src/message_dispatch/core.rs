//! The queue of one member, without I/O.

use std::collections::VecDeque;

/// Messages that wait for one member, oldest first, and whether one is being handed to the layer below.
///
/// Whoever hands over calls [`next`](Self::next) again and again; between two calls the message returned by the first is
/// in hand. The queue is *busy* as long as anything waits or is in hand: only then must a synchronous message queue up.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<Entry<T>>,
    bytes: usize,
    displaceable_bytes: usize,
    in_hand: bool,
    closed: bool,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    bytes: usize,
    displaceable: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, displaceable_bytes: 0, in_hand: false, closed: false }
    }
}

impl<T> Queue<T> {
    /// Whether anything waits or is in hand.
    pub(super) fn is_busy(&self) -> bool {
        self.in_hand || !self.waiting.is_empty()
    }

    /// Whether it takes no more.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many bytes could be had by displacing all that may be displaced.
    pub(super) const fn displaceable_bytes(&self) -> usize {
        self.displaceable_bytes
    }

    /// How many messages wait, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    /// Adds a message behind all others; gives it back when the queue is closed. `displaceable`: a newer one may take its
    /// place.
    #[must_use]
    pub(super) fn push(&mut self, item: T, bytes: usize, displaceable: bool) -> Option<T> {
        if self.closed {
            return Some(item);
        }
        self.bytes += bytes;
        self.displaceable_bytes += if displaceable { bytes } else { 0 };
        self.waiting.push_back(Entry { item, bytes, displaceable });
        None
    }

    /// The one in hand was handed over; the next one is now in hand, if there is one.
    pub(super) fn next(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        self.in_hand = next.is_some();
        next.map(|entry| self.release(entry))
    }

    /// Takes out the oldest message that may be displaced.
    pub(super) fn displace(&mut self) -> Option<T> {
        // Nearly always the first: only synchronous messages stay.
        let at = self.waiting.iter().position(|entry| entry.displaceable)?;
        let entry = self.waiting.remove(at)?;
        Some(self.release(entry))
    }

    /// Takes no more, and gives back all that wait. What is in hand stays there.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.closed = true;
        (self.bytes, self.displaceable_bytes) = (0, 0);
        self.waiting.drain(..).map(|entry| entry.item).collect()
    }

    /// As [`close`](Self::close), when nobody hands over any more.
    pub(super) fn abandon(&mut self) -> Vec<T> {
        self.in_hand = false;
        self.close()
    }

    /// Closes it if it is idle; whether it is closed now.
    pub(super) fn close_if_idle(&mut self) -> bool {
        self.closed |= !self.is_busy();
        self.closed
    }
    fn release(&mut self, entry: Entry<T>) -> T {
        self.bytes -= entry.bytes;
        self.displaceable_bytes -= if entry.displaceable { entry.bytes } else { 0 };
        entry.item
    }
}
