//! Our own control frames: what two nodes of this project say to each other beside messages (no counterpart in Tribes).
//!
//! They go only to members whose id carries our mark ([`MemberId::revision`]), and both sides speak the lower of the
//! two revisions that the ids name. Contents of a frame, revision 1; integers are big-endian:
//!
//! | type | name | fields |
//! |---|---|---|
//! | 1 | hello | revision u8, capabilities u32, link kind u8, expected id 16, session u64, own member: int32 length and encoding |
//! | 2 | welcome | revision u8, capabilities u32, own id 16, session u64, flag u8, if the flag is 1: taken u64 |
//! | 3 | refused | reason u8; for 1 (wrong member): own id 16 |
//! | 4 | taken | count u64 |
//! | 5 | handled | sequence number u64, result u8; for 2 (failed): text, u16 length and UTF-8 |
//! | 6 | goodbye | id 16 |
//! | 7, 8 | ping, pong | nonce u64 |
//!
//! A type that is not known is skipped by the reader ([`Control::Unknown`]): room for later revisions. Within a known
//! type decoding is strict.

use bytes::{BufMut, BytesMut};

use super::cursor::{Cursor, wire_len};
use super::{CONTROL_END, CONTROL_START, Field, Limits, WireError, decode_member, encode_member, member_len};
use crate::{Member, MemberId};

/// The longest text of a failure that is sent, in bytes: it is for a log line, not for data.
pub const MAX_FAILURE_TEXT: usize = 512;

/// One of our control frames.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// The connecting side's first frame.
    Hello {
        /// Revision that it speaks.
        revision: u8,
        /// What it can do beyond that revision; unknown bits are ignored.
        capabilities: u32,
        /// What the connection is for.
        kind: LinkKind,
        /// Who connects.
        own: Box<Member>,
        /// Whom it means to reach.
        expected: MemberId,
        /// Names the sequence of data frames that this connection begins or continues.
        session: u64,
    },
    /// The answer to a hello.
    Welcome {
        /// Revision that it speaks.
        revision: u8,
        /// What it can do beyond that revision; unknown bits are ignored.
        capabilities: u32,
        /// Who answers.
        own: MemberId,
        /// The session of the hello.
        session: u64,
        /// How many data frames of the session were taken before; `None` if the session is not known, so that a new
        /// one begins at 0.
        taken: Option<u64>,
    },
    /// The connection is not wanted; it is closed after this.
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// So many data frames of the session have been taken.
    Taken {
        /// Counted from the session's start.
        count: u64,
    },
    /// A data frame that asked for it has been handled.
    Handled {
        /// The frame's number in the session, from 0.
        seq: u64,
        /// What came of it.
        result: HandledCode,
    },
    /// The member leaves the group.
    Goodbye {
        /// Who leaves.
        member: MemberId,
    },
    /// Asks for a [`Control::Pong`] with the same nonce.
    Ping {
        /// Chosen by the asking side.
        nonce: u64,
    },
    /// The answer to a [`Control::Ping`].
    Pong {
        /// The ping's nonce.
        nonce: u64,
    },
    /// A type that this revision does not know; to be skipped.
    Unknown(u8),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// Messages.
    Data,
    /// Control frames, so that data in a queue never delays signs of life.
    Control,
    /// One question whether the member is alive.
    Probe,
}

/// Why a hello was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefuseReason {
    /// Another member listens here: a restarted process does not get its predecessor's messages.
    WrongMember {
        /// Who listens here.
        own: MemberId,
    },
    /// The channel is stopping.
    Stopping,
    /// No room for another connection.
    Busy,
    /// The revision of the hello is not spoken here.
    Revision,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandledCode {
    /// A listener took it and returned.
    Ok,
    /// Nobody accepted it.
    NoTaker,
    /// A listener failed or a layer refused it; a text for the log, cut at [`MAX_FAILURE_TEXT`] bytes.
    Failed(String),
}

impl Control {
    /// Appends the whole frame to `out`. [`Control::Unknown`] becomes a frame of that type without fields.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(CONTROL_START);
        out.put_i32(0);
        let contents = out.len();
        self.put_fields(out);
        let len = wire_len(out.len() - contents).to_be_bytes();
        let length_at = start + CONTROL_START.len();
        if let Some(field) = out.get_mut(length_at..length_at + len.len()) {
            field.copy_from_slice(&len);
        }
        out.put_slice(CONTROL_END);
    }

    fn put_fields(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { revision, capabilities, kind, own, expected, session } => {
                out.put_u8(1);
                out.put_u8(*revision);
                out.put_u32(*capabilities);
                out.put_u8(kind.code());
                out.put_slice(expected.as_bytes());
                out.put_u64(*session);
                out.put_i32(wire_len(member_len(own)));
                encode_member(own, out);
            }
            Self::Welcome { revision, capabilities, own, session, taken } => {
                out.put_u8(2);
                out.put_u8(*revision);
                out.put_u32(*capabilities);
                out.put_slice(own.as_bytes());
                out.put_u64(*session);
                out.put_u8(u8::from(taken.is_some()));
                taken.iter().for_each(|count| out.put_u64(*count));
            }
            Self::Refused { reason } => {
                out.put_u8(3);
                out.put_u8(reason.code());
                if let RefuseReason::WrongMember { own } = reason {
                    out.put_slice(own.as_bytes());
                }
            }
            Self::Taken { count } => put_number(4, *count, out),
            Self::Handled { seq, result } => {
                put_number(5, *seq, out);
                out.put_u8(result.code());
                if let HandledCode::Failed(text) = result {
                    let text = text.get(..text.floor_char_boundary(MAX_FAILURE_TEXT)).unwrap_or_default();
                    out.put_u16(u16::try_from(text.len()).unwrap_or_default());
                    out.put_slice(text.as_bytes());
                }
            }
            Self::Goodbye { member } => {
                out.put_u8(6);
                out.put_slice(member.as_bytes());
            }
            Self::Ping { nonce } => put_number(7, *nonce, out),
            Self::Pong { nonce } => put_number(8, *nonce, out),
            Self::Unknown(kind) => out.put_u8(*kind),
        }
    }

    /// Reads the contents of a control frame.
    ///
    /// # Errors
    /// If the fields of a known type do not fill `contents` exactly, have unknown codes, or exceed `limits`.
    pub fn decode(contents: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let mut unit = Cursor::new(contents, Field::Control);
        let control = match unit.u8()? {
            1 => Self::Hello {
                revision: unit.u8()?,
                capabilities: unit.u32()?,
                kind: LinkKind::from_code(unit.u8()?)?,
                expected: member_id(&mut unit)?,
                session: unit.u64()?,
                own: Box::new(decode_member(unit.block(Field::Member, limits.max_member)?, limits)?),
            },
            2 => Self::Welcome {
                revision: unit.u8()?,
                capabilities: unit.u32()?,
                own: member_id(&mut unit)?,
                session: unit.u64()?,
                taken: match unit.u8()? {
                    0 => None,
                    1 => Some(unit.u64()?),
                    found => return Err(WireError::UnknownCode { field: Field::Flag, found }),
                },
            },
            3 => Self::Refused { reason: RefuseReason::read(&mut unit)? },
            4 => Self::Taken { count: unit.u64()? },
            5 => Self::Handled { seq: unit.u64()?, result: HandledCode::read(&mut unit)? },
            6 => Self::Goodbye { member: member_id(&mut unit)? },
            7 => Self::Ping { nonce: unit.u64()? },
            8 => Self::Pong { nonce: unit.u64()? },
            unknown => return Ok(Self::Unknown(unknown)),
        };
        unit.end()?;
        Ok(control)
    }
}

impl LinkKind {
    const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Control => 1,
            Self::Probe => 2,
        }
    }

    const fn from_code(code: u8) -> Result<Self, WireError> {
        match code {
            0 => Ok(Self::Data),
            1 => Ok(Self::Control),
            2 => Ok(Self::Probe),
            found => Err(WireError::UnknownCode { field: Field::LinkKind, found }),
        }
    }
}

impl RefuseReason {
    const fn code(self) -> u8 {
        match self {
            Self::WrongMember { .. } => 1,
            Self::Stopping => 2,
            Self::Busy => 3,
            Self::Revision => 4,
        }
    }

    fn read(unit: &mut Cursor<'_>) -> Result<Self, WireError> {
        match unit.u8()? {
            1 => Ok(Self::WrongMember { own: member_id(unit)? }),
            2 => Ok(Self::Stopping),
            3 => Ok(Self::Busy),
            4 => Ok(Self::Revision),
            found => Err(WireError::UnknownCode { field: Field::RefuseReason, found }),
        }
    }
}

impl HandledCode {
    const fn code(&self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::NoTaker => 1,
            Self::Failed(_) => 2,
        }
    }

    fn read(unit: &mut Cursor<'_>) -> Result<Self, WireError> {
        match unit.u8()? {
            0 => Ok(Self::Ok),
            1 => Ok(Self::NoTaker),
            2 => {
                let field = Field::FailureText;
                let found = usize::from(unit.u16()?);
                if found > MAX_FAILURE_TEXT {
                    return Err(WireError::BeyondLimit { field, found, limit: MAX_FAILURE_TEXT });
                }
                let text = std::str::from_utf8(unit.take(found, field)?);
                Ok(Self::Failed(text.map_err(|_utf8| WireError::NotUtf8 { field })?.to_owned()))
            }
            found => Err(WireError::UnknownCode { field: Field::HandledCode, found }),
        }
    }
}

fn put_number(kind: u8, number: u64, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u64(number);
}

fn member_id(unit: &mut Cursor<'_>) -> Result<MemberId, WireError> {
    unit.array().map(MemberId::from_bytes)
}
