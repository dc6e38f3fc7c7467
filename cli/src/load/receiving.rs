//! What a member counts of the messages that reach its listener.

use super::clock;
use super::histogram::Histogram;
use super::payload::{Header, Kind};

/// The count of the measured messages of all senders.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Senders that will announce an end.
    senders: usize,
    payload: usize,
    sources: Vec<Source>,
    pub(super) messages: u64,
    /// Of another length than agreed, or without a header.
    pub(super) bad: u64,
    /// Behind a later one of the same sender.
    pub(super) reordered: u64,
    /// From the stamp to the listener.
    pub(super) oneway: Histogram,
    first_ns: u64,
    last_ns: u64,
    cpu_at_first: f64,
    cpu_when_complete: Option<f64>,
}

/// One sender, by its index.
#[derive(Clone, Debug, Default)]
struct Source {
    received: u64,
    /// The number that is due next, if the order is kept.
    due: u64,
    announced: Option<u64>,
}

impl Receiving {
    /// Of `senders`, each of which sends payloads of this length.
    pub(super) fn new(senders: usize, payload: usize) -> Self {
        Self {
            senders,
            payload,
            sources: vec![Source::default(); usize::from(u8::MAX) + 1],
            messages: 0,
            bad: 0,
            reordered: 0,
            oneway: Histogram::default(),
            first_ns: 0,
            last_ns: 0,
            cpu_at_first: 0.0,
            cpu_when_complete: None,
        }
    }

    /// Counts a message of `len` bytes, [`Kind::Data`] or [`Kind::End`]; others are not counted. Returns true once: when all
    /// senders have announced how many there are, and these are there.
    pub(super) fn count(&mut self, header: Header, len: usize) -> bool {
        match header.kind {
            Kind::Data => self.time(header.sent_ns, len),
            Kind::End => {}
            Kind::WarmUp | Kind::Ping | Kind::Pong => return false,
        }
        let Some(source) = self.sources.get_mut(usize::from(header.index)) else { return false };
        if header.kind == Kind::End {
            // It may overtake data: what counts is whether all are there.
            source.announced = Some(header.number);
        } else {
            source.received += 1;
            if header.number < source.due {
                self.reordered += 1;
            } else {
                source.due = header.number.saturating_add(1);
            }
        }
        let has_ended = source.announced.is_some();
        // Looking at all of them is for the end only.
        if !has_ended || self.is_complete() || !self.has_all() {
            return false;
        }
        self.cpu_when_complete = Some(clock::cpu_seconds());
        true
    }

    /// Counts a message that is none of this program's.
    pub(super) const fn count_foreign(&mut self) {
        self.bad += 1;
    }

    fn time(&mut self, sent_ns: u64, len: usize) {
        let now = clock::monotonic_ns();
        if self.messages == 0 {
            self.first_ns = now;
            self.cpu_at_first = clock::cpu_seconds();
        }
        self.messages += 1;
        self.last_ns = now;
        self.oneway.add(now.saturating_sub(sent_ns));
        self.bad += u64::from(len != self.payload);
    }

    fn has_all(&self) -> bool {
        let announced = self.sources.iter().filter(|source| source.announced.is_some()).count();
        announced >= self.senders
            && self.sources.iter().all(|source| source.announced.is_none_or(|n| source.received >= n))
    }

    /// Whether all that was announced has come.
    pub(super) const fn is_complete(&self) -> bool {
        self.cpu_when_complete.is_some()
    }

    /// Messages announced but not received. Negative if more came than were announced.
    pub(super) fn lost(&self) -> i64 {
        let announced: u64 = self.sources.iter().filter_map(|source| source.announced).sum();
        announced.cast_signed() - self.messages.cast_signed()
    }

    /// From the first to the last measured message.
    pub(super) fn seconds(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }

    /// Processor time of the process in these [`seconds`](Self::seconds).
    pub(super) fn cpu_seconds(&self) -> f64 {
        if self.messages == 0 {
            return 0.0;
        }
        self.cpu_when_complete.unwrap_or_else(clock::cpu_seconds) - self.cpu_at_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 100;

    fn header(index: u8, kind: Kind, number: u64) -> Header {
        Header { number, sent_ns: clock::monotonic_ns(), kind, index }
    }

    #[test]
    fn complete_once_everything_announced_has_come() {
        let mut receiving = Receiving::new(2, LEN);
        assert!(!receiving.count(header(1, Kind::WarmUp, 0), LEN));
        for number in 0..3 {
            assert!(!receiving.count(header(1, Kind::Data, number), LEN));
        }
        assert!(!receiving.count(header(1, Kind::End, 3), LEN));
        // The end of the other one overtakes its data.
        assert!(!receiving.count(header(0, Kind::End, 1), LEN));
        assert_eq!((receiving.lost(), receiving.is_complete()), (1, false));
        assert!(receiving.count(header(0, Kind::Data, 0), LEN));
        assert!(!receiving.count(header(0, Kind::Data, 1), LEN), "told once");
        assert_eq!((receiving.messages, receiving.lost()), (5, -1));
        assert_eq!((receiving.bad, receiving.reordered, receiving.oneway.count()), (0, 0, 5));
        assert!(receiving.seconds() > 0.0 && receiving.cpu_seconds() >= 0.0);
    }

    #[test]
    fn ping_pong_is_complete_with_the_ends() {
        let mut receiving = Receiving::new(1, LEN);
        assert!(!receiving.count(header(0, Kind::Ping, 1), LEN));
        assert!(receiving.count(header(0, Kind::End, 0), LEN));
        assert_eq!((receiving.messages, receiving.lost()), (0, 0));
        assert_eq!((receiving.seconds(), receiving.cpu_seconds()), (0.0, 0.0));
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let mut receiving = Receiving::new(1, LEN);
        // Each sender has its own order.
        for (index, number) in [(0, 0), (0, 2), (0, 1), (1, 0), (0, 3), (0, 3)] {
            receiving.count(header(index, Kind::Data, number), LEN);
        }
        assert_eq!(receiving.reordered, 2);
        receiving.count(header(0, Kind::Data, 4), LEN - 1);
        receiving.count_foreign();
        assert_eq!(receiving.bad, 2);
    }
}
