//! How our own nodes write requests and answers, in messages of the endpoint `tribes.rpc`:
//!
//! ```text
//! kind u8 │ call 16 bytes │ id length u8 │ id │ request: form u8, flags u8, microseconds left u64, payload
//!                                              │ reply:   form u8, payload
//!                                              │ failed:  text
//! ```
//!
//! Integers are big-endian. All time left set to ones: no deadline. Unknown kinds are left to later revisions: whoever does
//! not know one drops it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{CallId, Payload};
use crate::message::Body;

/// The longest id of an RPC channel in bytes.
pub(super) const MAX_ID: usize = 255;
/// Of an error's text no more than this is sent, or read.
const MAX_TEXT: usize = 16 << 10;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const FAILED: u8 = 3;
const NO_HANDLER: u8 = 4;
const OVERLOADED: u8 = 5;
const NO_REPLY: u8 = 6;
const CANCEL: u8 = 7;

/// Flag of a request to which nobody wants an answer.
const UNANSWERED: u8 = 1;

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) call: CallId,
    /// The RPC channel.
    pub(super) id: Bytes,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Request {
        payload: Payload,
        left: Option<Duration>,
        answered: bool,
    },
    Answer(Word),
    /// The caller gave the call up.
    Cancel,
}

/// What a member says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Reply(Payload),
    Failed(String),
    NoHandler,
    Overloaded,
    NoReply,
}

impl Frame {
    /// The bytes; the payload's are not copied.
    pub(super) fn encode(&self) -> Body {
        let mut head = BytesMut::with_capacity(28 + self.id.len());
        let (kind, payload) = match &self.what {
            What::Request { payload, .. } => (REQUEST, Some(payload)),
            What::Answer(Word::Reply(payload)) => (REPLY, Some(payload)),
            What::Answer(Word::Failed(_)) => (FAILED, None),
            What::Answer(Word::NoHandler) => (NO_HANDLER, None),
            What::Answer(Word::Overloaded) => (OVERLOADED, None),
            What::Answer(Word::NoReply) => (NO_REPLY, None),
            What::Cancel => (CANCEL, None),
        };
        head.put_u8(kind);
        head.put_slice(self.call.as_bytes());
        // Checked when the channel was opened, or when it came.
        head.put_u8(u8::try_from(self.id.len()).unwrap_or_default());
        head.put_slice(&self.id);
        if let Some(payload) = payload {
            head.put_u8(payload.form().code());
        }
        match &self.what {
            What::Request { left, answered, .. } => {
                head.put_u8(if *answered { 0 } else { UNANSWERED });
                head.put_u64(left.map_or(u64::MAX, |left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX - 1)));
            }
            What::Answer(Word::Failed(text)) => {
                head.put_slice(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text).as_bytes());
            }
            What::Answer(_) | What::Cancel => {}
        }
        let mut body = Body::new(head.freeze());
        if let Some(payload) = payload {
            body.push_trailer(payload.bytes().clone());
        }
        body
    }

    /// Reads one; `None` for what is none. Copies nothing but an error's text.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut rest = Rest(bytes.clone());
        let kind = rest.u8()?;
        let call = CallId::new(rest.take(16)?.as_ref().try_into().ok()?);
        let len = usize::from(rest.u8()?);
        let id = rest.take(len)?;
        let what = match kind {
            REQUEST => {
                let (form, flags) = (rest.u8()?, rest.u8()?);
                let micros = u64::from_be_bytes(rest.take(8)?.as_ref().try_into().ok()?);
                let left = (micros != u64::MAX).then(|| Duration::from_micros(micros));
                let payload = Payload::from_parts(form, rest.0)?;
                return Some(Self {
                    call,
                    id,
                    what: What::Request { payload, left, answered: flags & UNANSWERED == 0 },
                });
            }
            REPLY => {
                let form = rest.u8()?;
                What::Answer(Word::Reply(Payload::from_parts(form, rest.0)?))
            }
            FAILED => What::Answer(Word::Failed(text(&rest.0))),
            NO_HANDLER => What::Answer(Word::NoHandler),
            OVERLOADED => What::Answer(Word::Overloaded),
            NO_REPLY => What::Answer(Word::NoReply),
            CANCEL => What::Cancel,
            _ => return None,
        };
        Some(Self { call, id, what })
    }
}

/// An error's text, cut as whoever writes it cuts it. What is not UTF-8 is replaced, which may make it longer.
fn text(bytes: &[u8]) -> String {
    // With all of a character that begins before the end.
    let bytes = bytes.get(..MAX_TEXT + 3).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.shrink_to_fit();
    text
}

struct Rest(Bytes);

impl Rest {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (self.0.len() >= len).then(|| self.0.split_to(len))
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(what: What) -> Frame {
        Frame { call: CallId::new([7; 16]), id: Bytes::from("stock"), what }
    }

    #[test]
    fn every_kind_comes_back() {
        let payload = Payload::from("how many?");
        let request = |left, answered| What::Request { payload: payload.clone(), left, answered };
        for what in [
            request(None, true),
            request(Some(Duration::from_micros(1_500_000)), false),
            What::Answer(Word::Reply(Payload::null())),
            What::Answer(Word::Reply(Payload::byte_message(vec![1, 2, 3]))),
            What::Answer(Word::Failed("broken".to_owned())),
            What::Answer(Word::NoHandler),
            What::Answer(Word::Overloaded),
            What::Answer(Word::NoReply),
            What::Cancel,
        ] {
            let frame = frame(what);
            let bytes = frame.encode().to_bytes();
            assert_eq!(Frame::decode(&bytes), Some(frame));
            let head = 1 + 16 + 1 + 5;
            assert!((0..head).all(|len| Frame::decode(&bytes.slice(..len)).is_none()));
        }
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        let text = "\u{20ac}".repeat(10_000);
        let bytes = frame(What::Answer(Word::Failed(text))).encode().to_bytes();
        let Some(Frame { what: What::Answer(Word::Failed(text)), .. }) = Frame::decode(&bytes) else { panic!() };
        assert_eq!(text.len(), MAX_TEXT / 3 * 3);
        assert!(text.chars().all(|char| char == '\u{20ac}'));
    }

    /// Whoever sends it may not have cut it.
    #[test]
    fn a_long_error_is_cut_when_it_is_read() {
        let head = frame(What::Answer(Word::Failed(String::new()))).encode().to_bytes();
        for unit in
            [&b"x"[..], "\u{e4}".as_bytes(), "\u{20ac}".as_bytes(), "\u{1f600}".as_bytes(), b"\xFF", b"\xE2\x82"]
        {
            for shift in 0..4 {
                let bytes = [&head, &b"abc"[..shift], &unit.repeat(100_000)].concat();
                let Some(Frame { what: What::Answer(Word::Failed(text)), .. }) = Frame::decode(&bytes.into()) else {
                    panic!("a frame")
                };
                assert!((MAX_TEXT - 3..=MAX_TEXT).contains(&text.len()), "{} of {unit:?}", text.len());
                assert!(text.capacity() <= MAX_TEXT);
                let whole = std::str::from_utf8(unit).is_ok();
                assert_eq!(text.contains(char::REPLACEMENT_CHARACTER), !whole, "no character is cut in two");
            }
        }
    }

    #[test]
    fn text_that_is_none_and_unknown_kinds_and_forms_are_refused() {
        let mut bytes = frame(What::Answer(Word::Reply(Payload::from("x")))).encode().to_bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[last] = 0xFF;
        assert_eq!(Frame::decode(&bytes.clone().into()), None);
        bytes[last - 1] = 9;
        assert_eq!(Frame::decode(&bytes.clone().into()), None);
        bytes[0] = 200;
        assert_eq!(Frame::decode(&bytes.into()), None);
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::decode(&bytes.into());
        }
    }
}
