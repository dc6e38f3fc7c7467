//! What replicas of a map say to each other.
//!
//! ```text
//! 1 byte   format, 1
//! 8        incarnation of the sender
//! 8        incarnation of the replica that is meant; 0: whoever is there
//! 1        kind
//! …        its fields
//! ```
//! Integers are big-endian where they are spread evenly (hashes, incarnations) and LEB128 where most are small. A replica
//! that reads something else than this says so and drops it.

pub(crate) mod codec;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::codec::Malformed;
use crate::context::{Context, Seen};
use crate::store::{Chunk, Have, Keeping};
use crate::version::{Dot, Incarnation, Version};

/// The group of a digest, or the digests of all groups.
pub(crate) type Level = Option<u16>;

/// A message with its sender and its addressee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) from: Incarnation,
    /// `None`: whichever replica gets it.
    pub(crate) to: Option<Incarnation>,
    pub(crate) message: Message,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// This replica is here.
    Hello(Hello),
    /// It leaves.
    Bye,
    /// New writes of the sender, or of others.
    Write { writes: Vec<Write>, ack: bool },
    /// What the sender has seen of the addressee's writes.
    Ack { seen: Seen },
    /// The sender has written so much: whoever has not seen all that is to compare; with `compare` in any case.
    Offer { written: u64, compare: bool },
    /// For digests.
    Ask { round: u64, level: Level },
    /// Digests of all groups with what the sender has seen, or of the buckets of one group.
    Digests { round: u64, level: Level, seen: Context, digests: Vec<u64> },
    /// For what differs in a bucket, after a key.
    Pull { round: u64, bucket: u16, after: Option<Box<[u8]>>, have: Vec<Have> },
    /// The answer, and what its sender has seen.
    Chunk { round: u64, bucket: u16, after: Option<Box<[u8]>>, seen: Context, chunk: Chunk },
}

/// How a replica introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// It has what the group had when it was opened.
    pub(crate) ready: bool,
    /// It wants to hear the same of the other.
    pub(crate) reply: bool,
    /// How many writes it has made.
    pub(crate) written: u64,
    /// The latest time it knows of.
    pub(crate) time: u64,
    pub(crate) keeping: Keeping,
    /// Where replicas were that vanished without a good-bye, and for how much longer removals are remembered for them; in
    /// milliseconds on the wire.
    pub(crate) away: Vec<(SocketAddr, Duration)>,
}

/// A write as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: Box<[u8]>,
    pub(crate) version: Version,
    pub(crate) past: Box<[Dot]>,
    pub(crate) payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Removed,
    Value(Arc<[u8]>),
    /// What changed of the value that the write `base` made.
    Diff {
        base: Dot,
        diff: Arc<[u8]>,
    },
}

impl Write {
    /// About how long it is on the wire.
    pub(crate) fn size(&self) -> usize {
        let payload = match &self.payload {
            Payload::Removed => 0,
            Payload::Value(bytes) | Payload::Diff { diff: bytes, .. } => bytes.len(),
        };
        64 + self.key.len() + 18 * self.past.len() + payload
    }
}

impl Envelope {
    /// The numbers of the sender's own writes in it.
    pub(crate) fn own_writes(&self) -> Vec<u64> {
        let Message::Write { writes, .. } = &self.message else { return Vec::new() };
        writes
            .iter()
            .map(|write| write.version.dot)
            .filter(|dot| dot.node == self.from)
            .map(|dot| dot.counter)
            .collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        codec::decode(bytes)
    }
}
