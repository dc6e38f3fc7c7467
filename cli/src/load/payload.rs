//! What a message of the load program carries: a header of 24 bytes, then a fixed pattern up to the length asked for.
//!
//! | bytes | field, little-endian |
//! |---|---|
//! | 0-7 | number, counted over the measured messages of one sender; in [`Kind::End`]: how many these were |
//! | 8-15 | [monotonic](super::clock::monotonic_ns) time right before the send |
//! | 16 | [`Kind`] |
//! | 17 | index of the sender |
//! | 18-23 | zero |

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::clock;

/// Bytes of the header, the shortest payload.
pub(super) const HEADER: usize = 24;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Not counted: before the measurement.
    WarmUp = 0,
    /// Counted.
    Data = 1,
    /// To be answered with the same bytes as [`Pong`](Self::Pong).
    Ping = 2,
    Pong = 3,
    /// The last message of a sender: tells how many it announced.
    End = 4,
}

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::WarmUp,
            1 => Self::Data,
            2 => Self::Ping,
            3 => Self::Pong,
            4 => Self::End,
            _ => return None,
        })
    }
}

/// The first bytes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) sent_ns: u64,
    pub(super) kind: Kind,
    pub(super) index: u8,
}

impl Header {
    /// Reads the header of `payload`; `None` if there is none.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let (sent_ns, rest) = rest.split_first_chunk()?;
        let [kind, index, ..] = *rest.first_chunk::<{ HEADER - 16 }>()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            sent_ns: u64::from_le_bytes(*sent_ns),
            kind: Kind::of(kind)?,
            index,
        })
    }

    fn write(self, payload: &mut [u8]) {
        let Some(header) = payload.first_chunk_mut::<HEADER>() else { return };
        let [n0, n1, n2, n3, n4, n5, n6, n7] = self.number.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.sent_ns.to_le_bytes();
        let (kind, index) = (self.kind as u8, self.index);
        *header = [n0, n1, n2, n3, n4, n5, n6, n7, t0, t1, t2, t3, t4, t5, t6, t7, kind, index, 0, 0, 0, 0, 0, 0];
    }
}

/// Makes the payloads of one caller.
#[derive(Debug)]
pub(super) struct Maker {
    index: u8,
    pattern: Vec<u8>,
    /// Large payloads that were sent, the one sent longest ago first: when nobody holds it any more it is stamped anew.
    sent: VecDeque<Bytes>,
}

/// From this length on a payload is used again: the system's allocator gives so much back to the operating system each time,
/// which costs more than the message.
const LARGE: usize = 32 << 10;
/// So many bytes of them are kept: what is on its way at a time.
const KEPT_BYTES: usize = 8 << 20;

impl Maker {
    /// Payloads of `len` bytes, at least those of the header.
    pub(super) fn new(index: u8, len: usize) -> Self {
        Self { index, pattern: (0..=u8::MAX).cycle().take(len.max(HEADER)).collect(), sent: VecDeque::new() }
    }

    /// A payload of its own, stamped with the time of now, and that time. The stamp is the last thing that is done.
    pub(super) fn make(&mut self, kind: Kind, number: u64) -> (Bytes, u64) {
        if self.pattern.len() < LARGE {
            let mut payload = self.pattern.clone();
            let sent_ns = self.stamp(&mut payload, kind, number);
            return (payload.into(), sent_ns);
        }
        let mut payload = self.used().unwrap_or_else(|| BytesMut::from(self.pattern.as_slice()));
        let sent_ns = self.stamp(&mut payload, kind, number);
        let payload = payload.freeze();
        if self.sent.len() < (KEPT_BYTES / self.pattern.len()).max(2) {
            self.sent.push_back(payload.clone());
        }
        (payload, sent_ns)
    }

    fn stamp(&self, payload: &mut [u8], kind: Kind, number: u64) -> u64 {
        let sent_ns = clock::monotonic_ns();
        Header { number, sent_ns, kind, index: self.index }.write(payload);
        sent_ns
    }

    /// A payload that has arrived.
    fn used(&mut self) -> Option<BytesMut> {
        let oldest = self.sent.pop_front()?;
        match oldest.try_into_mut() {
            Ok(payload) => Some(payload),
            Err(on_its_way) => {
                self.sent.push_front(on_its_way);
                None
            }
        }
    }
}

/// The answer to the ping `payload`, whose header is given: the same bytes, but for the kind.
pub(super) fn pong(payload: &[u8], header: Header) -> Vec<u8> {
    let mut answer = payload.to_vec();
    Header { kind: Kind::Pong, ..header }.write(&mut answer);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_payloads_use_memory_again_when_it_is_free() {
        let mut maker = Maker::new(1, LARGE);
        let (first, _) = maker.make(Kind::Data, 1);
        let place = first.as_ptr();
        let (second, _) = maker.make(Kind::Data, 2);
        assert_ne!(second.as_ptr(), place);
        assert_eq!((Header::of(&first).unwrap().number, Header::of(&second).unwrap().number), (1, 2));
        drop(first);
        let places: Vec<_> = (3..6).map(|number| maker.make(Kind::Data, number).0.as_ptr()).collect();
        assert!(places.contains(&place));
        let (again, _) = maker.make(Kind::Data, 7);
        assert!(again[HEADER..].iter().eq(&maker.pattern[HEADER..]));
    }

    #[test]
    fn headers_come_back() {
        for kind in [Kind::WarmUp, Kind::Data, Kind::Ping, Kind::Pong, Kind::End] {
            let before = clock::monotonic_ns();
            let (payload, stamp) = Maker::new(7, 100).make(kind, 0x0102_0304_0506_0708);
            let header = Header::of(&payload).unwrap();
            assert_eq!(header, Header { number: 0x0102_0304_0506_0708, sent_ns: stamp, kind, index: 7 });
            assert!((before..=clock::monotonic_ns()).contains(&stamp));
            assert_eq!(payload.len(), 100);
            // As every program that keeps the contract reads it.
            assert_eq!(payload[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
            assert_eq!((payload[16], payload[17], &payload[18..25]), (kind as u8, 7, &[0, 0, 0, 0, 0, 0, 24][..]));
        }
        assert_eq!(Maker::new(0, 1).make(Kind::Data, 0).0.len(), HEADER);
    }

    #[test]
    fn what_has_no_header_is_told() {
        let mut payload = Maker::new(7, HEADER).make(Kind::Data, 1).0.to_vec();
        assert_eq!(Header::of(&payload[..HEADER - 1]), None);
        payload[16] = 5;
        assert_eq!(Header::of(&payload), None);
    }

    #[test]
    fn a_pong_is_its_ping_but_for_the_kind() {
        let (ping, _) = Maker::new(3, 50).make(Kind::Ping, 9);
        let mut answer = pong(&ping, Header::of(&ping).unwrap());
        assert_eq!(Header::of(&answer).unwrap().kind, Kind::Pong);
        answer[16] = ping[16];
        assert_eq!(answer, ping);
    }
}
