//! Bytes of messages, and back. Nothing is allocated for a length that the bytes do not bear out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Envelope, Hello, Message, Payload, Write};
use crate::context::{Context, MAX_NODES, Seen};
use crate::store::{Chunk, Have, Keeping, Sibling};
use crate::version::{Dot, Incarnation, Version};

const FORMAT: u8 = 1;

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is of format {0}, and this version of the library reads {FORMAT}: upgrade the older side")]
    Format(u8),
    #[error("it ends too early")]
    Truncated,
    #[error("it has bytes left over")]
    Leftover,
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
}

pub(super) fn encode(envelope: &Envelope) -> Vec<u8> {
    let room = match &envelope.message {
        Message::Write { writes, .. } => writes.iter().map(Write::size).sum(),
        _ => 0,
    };
    let mut out = Writer(Vec::with_capacity(64 + room));
    out.u8(FORMAT);
    out.u64(envelope.from.get());
    out.u64(envelope.to.map_or(0, Incarnation::get));
    match &envelope.message {
        Message::Hello(hello) => {
            let concurrent = hello.keeping == Keeping::Concurrent;
            out.u8(1);
            out.u8(u8::from(hello.ready) | u8::from(hello.reply) << 1 | u8::from(concurrent) << 2);
            out.number(hello.written);
            out.u64(hello.time);
            out.list(&hello.away, |out, (addr, left)| {
                out.addr(*addr);
                out.number(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            });
        }
        Message::Bye => out.u8(2),
        Message::Write { writes, ack } => {
            out.u8(3);
            out.u8(u8::from(*ack));
            out.list(writes, |out, write| {
                out.bytes(&write.key);
                out.version(write.version);
                out.list(&write.past, |out, dot| out.dot(*dot));
                match &write.payload {
                    Payload::Removed => out.u8(0),
                    Payload::Value(value) => {
                        out.u8(1);
                        out.bytes(value);
                    }
                    Payload::Diff { base, diff } => {
                        out.u8(2);
                        out.dot(*base);
                        out.bytes(diff);
                    }
                }
            });
        }
        Message::Ack { seen } => {
            out.u8(4);
            out.seen(seen);
        }
        Message::Offer { written, compare } => {
            out.u8(5);
            out.number(*written);
            out.u8(u8::from(*compare));
        }
        Message::Ask { round, level } => {
            out.u8(6);
            out.u64(*round);
            out.level(*level);
        }
        Message::Digests { round, level, seen, digests } => {
            out.u8(7);
            out.u64(*round);
            out.level(*level);
            out.context(seen);
            out.list(digests, |out, digest| out.u64(*digest));
        }
        Message::Pull { round, bucket, after, have } => {
            out.u8(8);
            out.u64(*round);
            out.number(u64::from(*bucket));
            out.option(after.as_deref());
            out.list(have, Writer::have);
        }
        Message::Chunk { round, bucket, after, seen, chunk } => {
            out.u8(9);
            out.u64(*round);
            out.number(u64::from(*bucket));
            out.option(after.as_deref());
            out.context(seen);
            out.list(&chunk.entries, |out, (key, siblings)| {
                out.bytes(key);
                out.list(siblings, Writer::sibling);
            });
            out.list(&chunk.gone, Writer::have);
            out.option(chunk.next.as_deref());
            out.u8(u8::from(chunk.behind));
        }
    }
    out.0
}

pub(super) fn decode(bytes: &[u8]) -> Result<Envelope, Malformed> {
    let mut input = Reader(bytes);
    let format = input.u8()?;
    if format != FORMAT {
        return Err(Malformed::Format(format));
    }
    let from = Incarnation::new(input.u64()?);
    let to = Some(input.u64()?).filter(|number| *number != 0).map(Incarnation::new);
    let message = match input.u8()? {
        1 => {
            let flags = input.u8()?;
            let keeping = if flags & 4 == 0 { Keeping::Latest } else { Keeping::Concurrent };
            Message::Hello(Hello {
                ready: flags & 1 != 0,
                reply: flags & 2 != 0,
                written: input.number()?,
                time: input.u64()?,
                keeping,
                away: input.list(|input| Ok((input.addr()?, Duration::from_millis(input.number()?))))?,
            })
        }
        2 => Message::Bye,
        3 => {
            let ack = input.u8()? != 0;
            Message::Write { writes: input.list(Reader::write)?, ack }
        }
        4 => Message::Ack { seen: input.seen()? },
        5 => Message::Offer { written: input.number()?, compare: input.u8()? != 0 },
        6 => Message::Ask { round: input.u64()?, level: input.level()? },
        7 => Message::Digests {
            round: input.u64()?,
            level: input.level()?,
            seen: input.context()?,
            digests: input.list(Reader::u64)?,
        },
        8 => Message::Pull {
            round: input.u64()?,
            bucket: input.small("a bucket")?,
            after: input.option()?.map(Box::from),
            have: input.list(Reader::have)?,
        },
        9 => Message::Chunk {
            round: input.u64()?,
            bucket: input.small("a bucket")?,
            after: input.option()?.map(Box::from),
            seen: input.context()?,
            chunk: Chunk {
                entries: input.list(|input| Ok((Box::from(input.bytes()?), input.list(Reader::sibling)?)))?,
                gone: input.list(Reader::have)?,
                next: input.option()?.map(Box::from),
                behind: input.u8()? != 0,
            },
        },
        _ => return Err(Malformed::OutOfBounds("the kind")),
    };
    if input.0.is_empty() { Ok(Envelope { from, to, message }) } else { Err(Malformed::Leftover) }
}

/// The siblings of one key, as they are kept on disk.
#[cfg(feature = "persist")]
pub(crate) fn encode_siblings(siblings: &[Sibling]) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.list(siblings, Writer::sibling);
    out.0
}

#[cfg(feature = "persist")]
pub(crate) fn decode_siblings(bytes: &[u8]) -> Result<Vec<Sibling>, Malformed> {
    let mut input = Reader(bytes);
    let siblings = input.list(Reader::sibling)?;
    if input.0.is_empty() { Ok(siblings) } else { Err(Malformed::Leftover) }
}

/// What was seen, and the latest time, as they are kept on disk.
#[cfg(feature = "persist")]
pub(crate) fn encode_context(context: &Context, time: u64) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.context(context);
    out.u64(time);
    out.0
}

#[cfg(feature = "persist")]
pub(crate) fn decode_context(bytes: &[u8]) -> Result<(Context, u64), Malformed> {
    let mut input = Reader(bytes);
    let found = (input.context()?, input.u64()?);
    if input.0.is_empty() { Ok(found) } else { Err(Malformed::Leftover) }
}

/// Writes fields one after another.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn option(&mut self, bytes: Option<&[u8]>) {
        self.u8(u8::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    fn level(&mut self, level: Option<u16>) {
        self.number(level.map_or(0, |group| u64::from(group) + 1));
    }

    /// IPv4 as the IPv6 address it maps to.
    fn addr(&mut self, addr: SocketAddr) {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.0.extend_from_slice(&ip.octets());
        self.0.extend_from_slice(&addr.port().to_be_bytes());
    }

    pub(crate) fn dot(&mut self, dot: Dot) {
        self.u64(dot.node.get());
        self.number(dot.counter);
    }

    pub(crate) fn version(&mut self, version: Version) {
        self.u64(version.time);
        self.dot(version.dot);
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|each| item(self, each));
    }

    pub(crate) fn sibling(&mut self, sibling: &Sibling) {
        self.version(sibling.version);
        self.list(&sibling.past, |out, dot| out.dot(*dot));
        self.option(sibling.value.as_deref());
    }

    fn have(&mut self, have: &Have) {
        self.u64(have.key_hash);
        self.list(&have.dots, |out, dot| out.dot(*dot));
    }

    fn seen(&mut self, seen: &Seen) {
        self.number(seen.upto);
        self.list(&seen.beyond, |out, (first, last)| {
            out.number(*first);
            out.number(last - first);
        });
    }

    pub(crate) fn context(&mut self, context: &Context) {
        self.number(context.len() as u64);
        for (node, seen) in context.iter() {
            self.u64(node.get());
            self.seen(seen);
        }
    }
}

/// Reads fields one after another.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::OutOfBounds("a number"))
    }

    fn small(&mut self, what: &'static str) -> Result<u16, Malformed> {
        u16::try_from(self.number()?).map_err(|_large| Malformed::OutOfBounds(what))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.number()?).map_err(|_large| Malformed::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn option(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.u8()? == 0 { Ok(None) } else { self.bytes().map(Some) }
    }

    fn level(&mut self) -> Result<Option<u16>, Malformed> {
        Ok(self.small("a group")?.checked_sub(1))
    }

    fn addr(&mut self) -> Result<SocketAddr, Malformed> {
        let (octets, rest) = self.0.split_first_chunk::<16>().ok_or(Malformed::Truncated)?;
        let (port, rest) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(SocketAddr::new(Ipv6Addr::from(*octets).to_canonical(), u16::from_be_bytes(*port)))
    }

    pub(crate) fn dot(&mut self) -> Result<Dot, Malformed> {
        Ok(Dot { node: Incarnation::new(self.u64()?), counter: self.number()? })
    }

    pub(crate) fn version(&mut self) -> Result<Version, Malformed> {
        Ok(Version { time: self.u64()?, dot: self.dot()? })
    }

    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let len = usize::try_from(self.number()?).map_err(|_large| Malformed::Truncated)?;
        // Every item takes a byte at least.
        if len > self.0.len() {
            return Err(Malformed::Truncated);
        }
        // Grown as they come: an item in memory is many times its bytes.
        let mut items = Vec::with_capacity(len.min(64));
        for _ in 0..len {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn write(&mut self) -> Result<Write, Malformed> {
        let key = Box::from(self.bytes()?);
        let version = self.version()?;
        let past = self.list(Self::dot)?.into_boxed_slice();
        let payload = match self.u8()? {
            0 => Payload::Removed,
            1 => Payload::Value(Arc::from(self.bytes()?)),
            2 => Payload::Diff { base: self.dot()?, diff: Arc::from(self.bytes()?) },
            _ => return Err(Malformed::OutOfBounds("the kind of a write")),
        };
        Ok(Write { key, version, past, payload })
    }

    pub(crate) fn sibling(&mut self) -> Result<Sibling, Malformed> {
        Ok(Sibling {
            version: self.version()?,
            past: self.list(Self::dot)?.into_boxed_slice(),
            value: self.option()?.map(Arc::from),
        })
    }

    fn have(&mut self) -> Result<Have, Malformed> {
        Ok(Have { key_hash: self.u64()?, dots: self.list(Self::dot)? })
    }

    fn seen(&mut self) -> Result<Seen, Malformed> {
        let upto = self.number()?;
        let beyond = self.list(|input| {
            let first = input.number()?;
            let last = first.checked_add(input.number()?).ok_or(Malformed::OutOfBounds("a range"))?;
            Ok((first, last))
        })?;
        Ok(Seen::new(upto, beyond))
    }

    pub(crate) fn context(&mut self) -> Result<Context, Malformed> {
        let mut context = Context::default();
        let count = Reader(self.0).number()?;
        if count > MAX_NODES as u64 {
            return Err(Malformed::OutOfBounds("the number of writers"));
        }
        for (node, seen) in self.list(|input| Ok((Incarnation::new(input.u64()?), input.seen()?)))? {
            context.insert(node, seen.upto, &seen.beyond);
        }
        Ok(context)
    }
}
