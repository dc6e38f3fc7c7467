//! The messages of an election, byte for byte Tribes' (wire section 11.10).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tribes_core::wire::{self, Limits, WireError};
use tribes_core::{Body, Member};

use super::view_id::ViewId;

/// What the body of each of them begins with.
const HEADER: [u8; 16] = *b"\xAA\x26\xDE\xE3\x9E\x5A\x41\x3F\xAF\x86\xFA\x92\x63\xCA\x0D\x3F";
const REQUEST: [u8; 16] = *b"\x68\xA1\xA4\xD6\x72\xDC\x47\xED\xB1\x14\x7A\x65\xFF\xD0\xCF\x1E";
const CONFIRMATION: [u8; 16] = *b"\x43\x58\x6B\xAA\x45\x17\x4C\xBA\xA5\xE9\xA9\xE7\x83\x56\x4B\x14";
/// A sign of life that Tribes knows and never sends.
#[rustfmt::skip]
const ALIVE: [u8; 64] = [
    0x4F, 0x87, 0xE7, 0xF1, 0xC5, 0x05, 0x40, 0x5E, 0xB3, 0x71, 0x89, 0xA8, 0x34, 0x72, 0xC8, 0xD2,
    0xEE, 0x66, 0x0A, 0x22, 0x81, 0xF7, 0x47, 0x73, 0xBA, 0x48, 0x9B, 0x58, 0x48, 0x84, 0x7F, 0x6F,
    0x4A, 0x4C, 0x8C, 0x32, 0x6F, 0x67, 0x41, 0x03, 0xB3, 0x33, 0xDD, 0x00, 0x77, 0x75, 0x09, 0xE6,
    0x77, 0x32, 0xB5, 0x97, 0x9A, 0x24, 0x4F, 0x25, 0xBC, 0xAC, 0x85, 0x0F, 0xEA, 0x93, 0x6A, 0xC9,
];

/// The most members that a list may have.
pub(super) const MAX_MEMBERS: usize = 4096;
/// The most bytes that a body may have: what is kept of a peer's messages is a fixed number of them.
pub(super) const MAX_BODY: usize = 1 << 20;

/// One message of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Election {
    pub(super) kind: Kind,
    /// Names the view that this is about.
    pub(super) id: ViewId,
    pub(super) leader: Arc<Member>,
    /// Who runs the election.
    pub(super) source: Arc<Member>,
    /// Everybody, leader and source included.
    pub(super) members: Vec<Arc<Member>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The token, on its way round.
    Request,
    /// The view is agreed on.
    Confirmation,
}

/// What a body is to this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    Election,
    Alive,
    Other,
}

/// An election message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("an election message of {0} bytes, at most {MAX_BODY} are allowed")]
    TooLong(usize),
    #[error("an election message ends early")]
    Truncated,
    #[error("an election message with the length {0}")]
    Length(i32),
    #[error("an election message with {0} members, at most {MAX_MEMBERS} are allowed")]
    Members(i32),
    #[error("{0} bytes follow the end of an election message")]
    Trailing(usize),
    #[error("an election message with a member that cannot be read")]
    Member(#[from] WireError),
}

/// Looks at how a body begins, as Tribes does; nearly every other differs in the first byte.
pub(super) fn recognise(body: &Body) -> Recognised {
    let begins_with = |prefix: &[u8]| body.segments().flatten().take(prefix.len()).eq(prefix);
    if begins_with(&HEADER) {
        Recognised::Election
    } else if begins_with(&ALIVE) {
        Recognised::Alive
    } else {
        Recognised::Other
    }
}

impl Election {
    pub(super) fn encode(&self) -> Bytes {
        let members = || [&self.leader, &self.source].into_iter().chain(&self.members);
        let size: usize = members().map(|member| 4 + wire::member_len(member)).sum();
        let mut out = BytesMut::with_capacity(size + 4 * HEADER.len());
        out.put_slice(&HEADER);
        for (at, member) in members().enumerate() {
            if at == 2 {
                out.put_i32(length(self.members.len()));
            }
            out.put_i32(length(wire::member_len(member)));
            wire::encode_member(member, &mut out);
        }
        if self.members.is_empty() {
            out.put_i32(0);
        }
        out.put_slice(self.id.as_bytes());
        out.put_slice(match self.kind {
            Kind::Request => &REQUEST,
            Kind::Confirmation => &CONFIRMATION,
        });
        out.freeze()
    }

    /// Reads a body. Members get copies of their own: nothing of the buffer is kept.
    ///
    /// Strict where Java is not: lengths are checked before anything is allocated for them, and nothing follows the end. As
    /// in Java, every type that is not the confirmation is a request.
    pub(super) fn decode(body: &Body) -> Result<Self, Malformed> {
        if body.len() > MAX_BODY {
            return Err(Malformed::TooLong(body.len()));
        }
        let bytes = body.to_bytes();
        let mut rest = bytes.get(HEADER.len()..).ok_or(Malformed::Truncated)?;
        let leader = member(&mut rest)?;
        let source = member(&mut rest)?;
        let count = int(&mut rest)?;
        let number = usize::try_from(count).ok().filter(|number| *number <= MAX_MEMBERS);
        // Grows as members are read, so that a wrong count costs nothing.
        let members = (0..number.ok_or(Malformed::Members(count))?).map(|_| member(&mut rest));
        let members = members.collect::<Result<_, _>>()?;
        let id = ViewId::from_bytes(array(&mut rest)?);
        let kind = if array(&mut rest)? == CONFIRMATION { Kind::Confirmation } else { Kind::Request };
        if !rest.is_empty() {
            return Err(Malformed::Trailing(rest.len()));
        }
        Ok(Self { kind, id, leader, source, members })
    }

    pub(super) fn lists(&self, member: &Member) -> bool {
        self.members.iter().any(|listed| **listed == *member)
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (array, after) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
    *rest = after;
    Ok(*array)
}

fn int(rest: &mut &[u8]) -> Result<i32, Malformed> {
    array(rest).map(i32::from_be_bytes)
}

fn member(rest: &mut &[u8]) -> Result<Arc<Member>, Malformed> {
    let len = int(rest)?;
    let size = usize::try_from(len).map_err(|_negative| Malformed::Length(len))?;
    let (bytes, after) = rest.split_at_checked(size).ok_or(Malformed::Length(len))?;
    *rest = after;
    Ok(Arc::new(wire::decode_member(bytes, &Limits::default())?))
}

/// Members and lists beyond this have been refused long before.
fn length(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
