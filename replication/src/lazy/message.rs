//! What members say to each other about a lazy map.
//!
//! ```text
//! 1 byte   format, 1
//! 1        kind
//! …        its fields
//! ```
//! As in [`message`](crate::message). Notices go to the map's endpoint, questions and answers by RPC.

use bytes::Bytes;
use tribes_core::{MemberId, Time};

use super::placement::SHARDS;
use crate::context::Context;
use crate::durability::{CopyState, Durability};
use crate::message::codec::{Reader, Writer};
use crate::message::{Envelope, Malformed};
use crate::store::Sibling;
use crate::version::{Dot, Incarnation, Version};

const FORMAT: u8 = 1;

/// What is said without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The sender has the map; with `reply`, it wants to hear the same. If it is leaving it takes nothing over any more.
    Here { reply: bool, leaving: bool },
    /// The sender has the map no more.
    Bye,
    /// For the replica of a shard.
    Replica { shard: usize, envelope: Envelope },
    /// The sender has no replica of this shard.
    NotHeld { shard: usize },
    /// The sender is not to hold the shard any more, and wants to drop its replica, which has seen this.
    Release { shard: usize, asker: Incarnation, number: u64, seen: Context },
    /// The sender holds the shard, and all of what was seen.
    Granted { shard: usize, asker: Incarnation, number: u64 },
}

/// What a holder of a key is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get {
        key: Vec<u8>,
        /// Of the holder that writes go to.
        first: bool,
    },
    /// A removal if there is no value. With `over`, only if the key has just these writes.
    Write { key: Vec<u8>, value: Option<Vec<u8>>, over: Option<Vec<Dot>>, durability: Durability },
    /// For entries of a shard after a key.
    List { shard: usize, after: Option<Vec<u8>> },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// There is no replica here, or it is not ready; `at` has one that is.
    Elsewhere {
        at: Option<MemberId>,
    },
    /// It came after the time that it was good for, or without one: nothing was done.
    Late,
    Found(Vec<Sibling>),
    /// Whether what was waited for has happened, and how far the write had come to the other holders.
    Written {
        version: Version,
        met: bool,
        members: Vec<(MemberId, CopyState)>,
    },
    /// There is no such key to be removed.
    Nothing,
    /// The key has other writes.
    Changed,
    ValueTooLarge {
        bytes: u64,
        limit: u64,
    },
    Full {
        bytes: u64,
        limit: u64,
    },
    /// Entries, and whether there are more.
    Entries {
        entries: Vec<(Vec<u8>, Vec<Sibling>)>,
        more: bool,
    },
}

impl Notice {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![FORMAT]);
        match self {
            Self::Here { reply, leaving } => {
                out.u8(1);
                out.u8(u8::from(*reply) | u8::from(*leaving) << 1);
            }
            Self::Bye => out.u8(2),
            Self::Replica { shard, envelope } => {
                out.u8(3);
                out.number(*shard as u64);
                out.0.extend(envelope.encode());
            }
            Self::NotHeld { shard } => {
                out.u8(4);
                out.number(*shard as u64);
            }
            Self::Release { shard, asker, number, seen } => {
                out.u8(5);
                out.number(*shard as u64);
                out.u64(asker.get());
                out.u64(*number);
                out.context(seen);
            }
            Self::Granted { shard, asker, number } => {
                out.u8(6);
                out.number(*shard as u64);
                out.u64(asker.get());
                out.u64(*number);
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = opened(bytes)?;
        let notice = match input.u8()? {
            1 => {
                let flags = input.u8()?;
                Self::Here { reply: flags & 1 != 0, leaving: flags & 2 != 0 }
            }
            2 => Self::Bye,
            3 => {
                let shard = shard(&mut input)?;
                return Ok(Self::Replica { shard, envelope: Envelope::decode(input.0)? });
            }
            4 => Self::NotHeld { shard: shard(&mut input)? },
            5 => Self::Release {
                shard: shard(&mut input)?,
                asker: Incarnation::new(input.u64()?),
                number: input.u64()?,
                seen: input.context()?,
            },
            6 => {
                Self::Granted { shard: shard(&mut input)?, asker: Incarnation::new(input.u64()?), number: input.u64()? }
            }
            _ => return Err(Malformed::OutOfBounds("the kind of a notice")),
        };
        ended(&input, notice)
    }
}

impl Request {
    /// Whether doing it twice is as good as once.
    pub(crate) const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Write { over: Some(_), .. })
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer(vec![FORMAT]);
        match self {
            Self::Get { key, first } => {
                out.u8(1);
                out.bytes(key);
                out.u8(u8::from(*first));
            }
            Self::Write { key, value, over, durability } => {
                out.u8(2);
                out.bytes(key);
                out.option(value.as_deref());
                out.u8(u8::from(over.is_some()));
                out.list(over.as_deref().unwrap_or_default(), |out, dot| out.dot(*dot));
                let (kind, copies, within) = durability.parts();
                out.u8(kind);
                out.number(copies as u64);
                out.number(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
            }
            Self::List { shard, after } => {
                out.u8(3);
                out.number(*shard as u64);
                out.option(after.as_deref());
            }
        }
        out.0.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = opened(bytes)?;
        let request = match input.u8()? {
            1 => Self::Get { key: input.bytes()?.to_vec(), first: input.u8()? != 0 },
            2 => {
                let (key, value) = (input.bytes()?.to_vec(), input.option()?.map(<[u8]>::to_vec));
                let conditional = input.u8()? != 0;
                let over = Some(input.list(Reader::dot)?).filter(|_| conditional);
                let (kind, copies, within) = (input.u8()?, input.number()?, input.number()?);
                let durability = Durability::from_parts(kind, copies, within);
                let durability = durability.ok_or(Malformed::OutOfBounds("a durability"))?;
                Self::Write { key, value, over, durability }
            }
            3 => Self::List { shard: shard(&mut input)?, after: input.option()?.map(<[u8]>::to_vec) },
            _ => return Err(Malformed::OutOfBounds("the kind of a request")),
        };
        ended(&input, request)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer(vec![FORMAT]);
        match self {
            Self::Elsewhere { at } => {
                out.u8(1);
                out.option(at.as_ref().map(|id| &id.as_bytes()[..]));
            }
            Self::Found(siblings) => {
                out.u8(2);
                out.list(siblings, Writer::sibling);
            }
            Self::Written { version, met, members } => {
                out.u8(3);
                out.version(*version);
                out.u8(u8::from(*met));
                out.list(members, |out, (id, state)| {
                    out.0.extend(id.as_bytes());
                    out.u8(state.code());
                });
            }
            Self::Nothing => out.u8(4),
            Self::Changed => out.u8(5),
            Self::ValueTooLarge { bytes, limit } => {
                out.u8(6);
                out.number(*bytes);
                out.number(*limit);
            }
            Self::Full { bytes, limit } => {
                out.u8(7);
                out.number(*bytes);
                out.number(*limit);
            }
            Self::Late => out.u8(9),
            Self::Entries { entries, more } => {
                out.u8(8);
                out.list(entries, |out, (key, siblings)| {
                    out.bytes(key);
                    out.list(siblings, Writer::sibling);
                });
                out.u8(u8::from(*more));
            }
        }
        out.0.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = opened(bytes)?;
        let reply = match input.u8()? {
            1 => {
                let id = input
                    .option()?
                    .map(|id| <[u8; 16]>::try_from(id).map_err(|_wrong| Malformed::OutOfBounds("an id")));
                Self::Elsewhere { at: id.transpose()?.map(MemberId::from_bytes) }
            }
            2 => Self::Found(input.list(Reader::sibling)?),
            3 => {
                let (version, met) = (input.version()?, input.u8()? != 0);
                let members = input.list(|input| {
                    let (id, rest) = input.0.split_first_chunk().ok_or(Malformed::Truncated)?;
                    input.0 = rest;
                    let state = CopyState::from_code(input.u8()?).ok_or(Malformed::OutOfBounds("a state"))?;
                    Ok((MemberId::from_bytes(*id), state))
                })?;
                Self::Written { version, met, members }
            }
            4 => Self::Nothing,
            5 => Self::Changed,
            6 => Self::ValueTooLarge { bytes: input.number()?, limit: input.number()? },
            7 => Self::Full { bytes: input.number()?, limit: input.number()? },
            8 => {
                let entries = input.list(|input| Ok((input.bytes()?.to_vec(), input.list(Reader::sibling)?)))?;
                Self::Entries { entries, more: input.u8()? != 0 }
            }
            9 => Self::Late,
            _ => return Err(Malformed::OutOfBounds("the kind of a reply")),
        };
        ended(&input, reply)
    }
}

/// What travels as a question: by when it is to be answered, by the clock of whoever is asked, if that is known; and the
/// question.
pub(crate) fn question(until: Option<Time>, request: &Request) -> Bytes {
    stamped(until.unwrap_or(Time::ZERO), &request.encode())
}

/// What travels as the answer: the time there, and the reply.
pub(crate) fn answer(now: Time, reply: &Reply) -> Bytes {
    stamped(now, &reply.encode())
}

fn stamped(time: Time, bytes: &[u8]) -> Bytes {
    [&time.as_nanos().to_be_bytes(), bytes].concat().into()
}

pub(crate) fn read_question(bytes: &[u8]) -> Result<(Option<Time>, Request), Malformed> {
    let (stamp, bytes) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    let until = Some(u64::from_be_bytes(*stamp)).filter(|nanos| *nanos != 0).map(Time::from_nanos);
    Ok((until, Request::decode(bytes)?))
}

pub(crate) fn read_answer(bytes: &[u8]) -> Result<(Time, Reply), Malformed> {
    let (stamp, bytes) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    Ok((Time::from_nanos(u64::from_be_bytes(*stamp)), Reply::decode(bytes)?))
}

fn opened(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut input = Reader(bytes);
    match input.u8()? {
        FORMAT => Ok(input),
        other => Err(Malformed::Format(other)),
    }
}

fn ended<T>(input: &Reader<'_>, read: T) -> Result<T, Malformed> {
    if input.0.is_empty() { Ok(read) } else { Err(Malformed::Leftover) }
}

fn shard(input: &mut Reader<'_>) -> Result<usize, Malformed> {
    let shard = usize::try_from(input.number()?).ok().filter(|shard| *shard < SHARDS);
    shard.ok_or(Malformed::OutOfBounds("a shard"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Message;

    const DOT: Dot = Dot { node: Incarnation::new(7), counter: 300 };
    const VERSION: Version = Version { time: 1 << 40, dot: DOT };

    fn seen() -> Context {
        let mut seen = Context::default();
        seen.add(DOT);
        seen
    }

    fn sibling() -> Sibling {
        Sibling { version: VERSION, past: [DOT].into(), value: Some(b"value".as_slice().into()) }
    }

    fn notices() -> Vec<Notice> {
        let envelope = Envelope { from: DOT.node, to: None, message: Message::Bye };
        vec![
            Notice::Here { reply: true, leaving: false },
            Notice::Here { reply: false, leaving: true },
            Notice::Bye,
            Notice::Replica { shard: 63, envelope },
            Notice::NotHeld { shard: 5 },
            Notice::Release { shard: 6, asker: DOT.node, number: 1 << 60, seen: seen() },
            Notice::Granted { shard: 0, asker: DOT.node, number: 3 },
        ]
    }

    fn requests() -> Vec<Request> {
        let write = |value: Option<&[u8]>, over, durability| Request::Write {
            key: b"key".to_vec(),
            value: value.map(<[u8]>::to_vec),
            over,
            durability,
        };
        vec![
            Request::Get { key: b"key".to_vec(), first: true },
            write(Some(b"value"), None, Durability::all(Duration::from_secs(5))),
            write(None, Some(vec![DOT]), Durability::copies(3, Duration::from_millis(7))),
            write(None, Some(Vec::new()), Durability::Local),
            write(Some(b""), None, Durability::majority(Duration::MAX)),
            Request::List { shard: 9, after: None },
            Request::List { shard: 9, after: Some(b"key".to_vec()) },
        ]
    }

    fn replies() -> Vec<Reply> {
        let id = MemberId::from_bytes([9; 16]);
        vec![
            Reply::Elsewhere { at: None },
            Reply::Elsewhere { at: Some(id) },
            Reply::Found(vec![sibling()]),
            Reply::Written {
                version: VERSION,
                met: true,
                members: vec![
                    (id, CopyState::Has),
                    (id, CopyState::Sent),
                    (id, CopyState::Behind),
                    (id, CopyState::Left),
                ],
            },
            Reply::Nothing,
            Reply::Changed,
            Reply::Late,
            Reply::ValueTooLarge { bytes: 1, limit: u64::MAX },
            Reply::Full { bytes: 300, limit: 2 },
            Reply::Entries { entries: vec![(b"key".to_vec(), vec![sibling()])], more: true },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for notice in notices() {
            assert_eq!(Notice::decode(&notice.encode()), Ok(notice));
        }
        for request in requests() {
            let read = Request::decode(&request.encode()).unwrap();
            if let Request::Write { durability: Durability::Majority { within: Duration::MAX }, .. } = request {
                // Bounded to what the field holds.
                assert!(matches!(read, Request::Write { durability: Durability::Majority { .. }, .. }));
            } else {
                assert_eq!(read, request);
            }
        }
        for reply in replies() {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        fn check<T: std::fmt::Debug>(bytes: &[u8], decode: fn(&[u8]) -> Result<T, Malformed>) {
            assert!(decode(&[bytes, &[0]].concat()).is_err(), "{bytes:?} with more");
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "{:?} of {bytes:?}", &bytes[..len]);
            }
        }
        notices().iter().for_each(|notice| check(&notice.encode(), Notice::decode));
        requests().iter().for_each(|request| check(&request.encode(), Request::decode));
        replies().iter().for_each(|reply| check(&reply.encode(), Reply::decode));
        let shard = [FORMAT, 4, 64];
        assert_eq!(Notice::decode(&shard), Err(Malformed::OutOfBounds("a shard")));
        assert_eq!(Notice::decode(&[2, 1, 0]), Err(Malformed::Format(2)));
    }
}
