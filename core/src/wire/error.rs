//! What can be wrong with bytes from a peer, one variant per class of fault.

use std::fmt;

use thiserror::Error;

/// Bytes that are not Tribes' protocol, or more of it than the [`Limits`](super::Limits) allow.
///
/// On a stream every one of them is final: where a frame was damaged the start of the next one is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// A marker has another byte than it must have.
    #[error("byte {found:#04x} at offset {at} is not part of the {marker}")]
    BadMarker {
        /// The marker that should stand there.
        marker: Marker,
        /// The byte found.
        found: u8,
        /// Where, counted from the start of the frame or member.
        at: usize,
    },
    /// A length field below zero.
    #[error("negative length {found} for the {field}")]
    NegativeLength {
        /// What the length is of.
        field: Field,
        /// The value found.
        found: i32,
    },
    /// A length field that exceeds what encloses it.
    #[error("length {found} for the {field}, but only {available} bytes are left in what encloses it")]
    BeyondEnclosing {
        /// What the length is of.
        field: Field,
        /// The value found.
        found: usize,
        /// Bytes left.
        available: usize,
    },
    /// A length, received or about to be sent, above a configured limit.
    #[error("length {found} for the {field} exceeds the limit of {limit} bytes")]
    BeyondLimit {
        /// What the length is of.
        field: Field,
        /// The value found.
        found: usize,
        /// The limit, see [`Limits`](super::Limits).
        limit: usize,
    },
    /// The fields end before the unit that declares its own length does: bytes are left that belong to no field.
    #[error("the fields of the {field} end {slack} bytes before its declared end")]
    Slack {
        /// The unit whose length does not add up.
        field: Field,
        /// Bytes that belong to no field.
        slack: usize,
    },
    /// Bytes follow where a unit has ended.
    #[error("{extra} bytes follow the end of the {field}")]
    TrailingBytes {
        /// The unit that had ended.
        field: Field,
        /// How many bytes follow.
        extra: usize,
    },
    /// A unit that came as a whole ends within a field of fixed size.
    #[error("the {field} ends early: {needed} bytes expected, {available} left")]
    Truncated {
        /// The unit that ends early.
        field: Field,
        /// Bytes the next field needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A member's host length with the sign bit set; Java reads it as negative.
    #[error("host of {found} bytes, at most 127 are allowed")]
    HostTooLong {
        /// The length found, 128 to 255.
        found: u8,
    },
    /// A message without a sender. It can be written but not answered; Java refuses it too.
    #[error("the message has no sender")]
    MissingSender,
    /// A code that stands for nothing in a control frame of a known type.
    #[error("unknown code {found} for the {field} of a control frame")]
    UnknownCode {
        /// What the code is for.
        field: Field,
        /// The value found.
        found: u8,
    },
    /// A text that is not UTF-8.
    #[error("the {field} is not UTF-8")]
    NotUtf8 {
        /// Which text.
        field: Field,
    },
}

/// A fixed sequence of bytes that begins or ends a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Marker {
    /// `FLT2002`, or `TRSCTL1` for our control frames.
    FrameStart,
    /// `TLF2003`.
    FrameEnd,
    /// `1LTCSRT`, behind our control frames.
    ControlEnd,
    /// `TRIBES-B`, 1, 0.
    MemberBegin,
    /// `TRIBES-E`, 1, 0.
    MemberEnd,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrameStart => "start marker of a frame",
            Self::FrameEnd => "end marker of a frame",
            Self::ControlEnd => "end marker of a control frame",
            Self::MemberBegin => "begin marker of a member",
            Self::MemberEnd => "end marker of a member",
        })
    }
}

/// The part of the protocol that a [`WireError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The contents of a data frame.
    Frame,
    /// The contents of one of our control frames.
    Control,
    /// The envelope of a message as a whole.
    Envelope,
    /// A message's id.
    MessageId,
    /// The sender's member encoding in a message.
    Sender,
    /// A message's body.
    Message,
    /// A member encoding as a whole.
    Member,
    /// The part of a member encoding that its length field covers.
    MemberBody,
    /// A member's host.
    Host,
    /// A member's command.
    Command,
    /// A member's domain.
    Domain,
    /// A member's payload.
    Payload,
    /// The purpose of a connection, in a hello.
    LinkKind,
    /// A yes or no in a control frame.
    Flag,
    /// The reason of a refusal.
    RefuseReason,
    /// The result of handling a message.
    HandledCode,
    /// The text of a failure.
    FailureText,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frame => "frame",
            Self::Control => "control frame",
            Self::Envelope => "message envelope",
            Self::MessageId => "message id",
            Self::Sender => "sender",
            Self::Message => "message body",
            Self::Member => "member encoding",
            Self::MemberBody => "member body",
            Self::Host => "host",
            Self::Command => "command",
            Self::Domain => "domain",
            Self::Payload => "member payload",
            Self::LinkKind => "link kind",
            Self::Flag => "flag",
            Self::RefuseReason => "reason of refusal",
            Self::HandledCode => "result",
            Self::FailureText => "failure text",
        })
    }
}
