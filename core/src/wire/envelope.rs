//! The envelope of a message (wire section 6): what a data frame holds.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | options |
//! | 4 | 8 | timestamp, Unix milliseconds |
//! | 12 | 4 + I | message id |
//! | 16+I | 4 + A | sender, a member encoding |
//! | 20+I+A | 4 + M | body |
//!
//! Strict where Java is not: the three lengths must add up to the frame's contents.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::{Cursor, wire_len};
use super::member::decode_member_shared;
use super::{FRAME_END, FRAME_OVERHEAD, FRAME_START, Field, Limits, WireError, encode_member, member_len};
use crate::{Body, ChannelMessage, Member, MessageId, SendOptions};

/// An envelope without its three variable fields: options, timestamp, three lengths.
const FIXED: usize = 4 + 8 + 3 * 4;
/// The longest contents whose frame can still be counted in an int32, as Java does.
const MAX_CONTENTS: usize = (1 << 31) - 1 - FRAME_OVERHEAD;

/// An envelope as it stands on the wire, the sender not looked into. For what [`ChannelMessage`] cannot say: a message
/// without a sender, or with one that is to be passed on byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// The option word; unknown bits are kept.
    pub options: SendOptions,
    /// Unix milliseconds at the sender when the message was made.
    pub timestamp_ms: i64,
    /// The message's id.
    pub id: MessageId,
    /// The sender's member encoding; `None` if there is none, which [`decode_message`] refuses.
    pub sender: Option<Bytes>,
    /// The body.
    pub body: Bytes,
}

impl Envelope {
    /// An envelope of these fields.
    #[must_use]
    pub const fn new(
        options: SendOptions,
        timestamp_ms: i64,
        id: MessageId,
        sender: Option<Bytes>,
        body: Bytes,
    ) -> Self {
        Self { options, timestamp_ms, id, sender, body }
    }

    /// Reads the contents of a data frame. The fields are slices of `contents`.
    ///
    /// # Errors
    /// If the lengths do not add up exactly to `contents`, or one exceeds its limit.
    pub fn decode(contents: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let raw = Raw::read(contents, limits)?;
        Ok(Self {
            options: raw.options,
            timestamp_ms: raw.timestamp_ms,
            id: raw.id,
            sender: (!raw.sender.is_empty()).then(|| contents.slice_ref(raw.sender)),
            body: contents.slice_ref(raw.body),
        })
    }

    /// The length of the encoding in bytes, the frame around it not counted.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        contents_len(&self.id, self.sender.as_deref().map_or(0, <[u8]>::len), self.body.len())
    }

    /// Appends the contents of a data frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        put_head(
            self.options,
            self.timestamp_ms,
            &self.id,
            self.sender.as_deref().unwrap_or_default(),
            self.body.len(),
            out,
        );
        out.put_slice(&self.body);
    }

    /// Appends the whole frame to `out`.
    pub fn encode_frame(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len() + FRAME_OVERHEAD);
        out.put_slice(FRAME_START);
        out.put_i32(wire_len(self.encoded_len()));
        self.encode(out);
        out.put_slice(FRAME_END);
    }
}

/// Remembers the last sender seen on a connection: nearly all frames of a connection carry the very same sender field,
/// which is then neither parsed nor allocated again.
#[derive(Clone, Debug, Default)]
pub struct SenderCache {
    last: Option<(Bytes, Arc<Member>)>,
}

impl SenderCache {
    /// An empty cache.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// The member that `encoded` says.
    fn resolve(&mut self, encoded: &[u8], limits: &Limits) -> Result<Arc<Member>, WireError> {
        if let Some((bytes, member)) = &self.last
            && bytes == encoded
        {
            return Ok(Arc::clone(member));
        }
        // Copied: a slice would keep a whole read buffer for as long as the member is known.
        let bytes = Bytes::copy_from_slice(encoded);
        let member = Arc::new(decode_member_shared(&bytes, limits)?);
        self.last = Some((bytes, Arc::clone(&member)));
        Ok(member)
    }
}

/// Reads the contents of a data frame. The body is a slice of `contents`.
///
/// # Errors
/// If the lengths do not add up exactly to `contents`, one exceeds its limit, or the sender is missing or damaged.
pub fn decode_message(contents: &Bytes, limits: &Limits, cache: &mut SenderCache) -> Result<ChannelMessage, WireError> {
    decode_message_at(contents, 0..contents.len(), limits, cache)
}

/// Reads the contents of a data frame that is at `at` in `bytes`. The body is a slice of `bytes`.
///
/// # Errors
/// As [`decode_message`].
pub fn decode_message_at(
    bytes: &Bytes,
    at: Range<usize>,
    limits: &Limits,
    cache: &mut SenderCache,
) -> Result<ChannelMessage, WireError> {
    let raw = Raw::read(bytes.get(at).unwrap_or_default(), limits)?;
    if raw.sender.is_empty() {
        return Err(WireError::MissingSender);
    }
    Ok(ChannelMessage {
        options: raw.options,
        timestamp_ms: raw.timestamp_ms,
        id: raw.id,
        sender: cache.resolve(raw.sender, limits)?,
        body: Body::new(bytes.slice_ref(raw.body)),
    })
}

/// The length of `message`'s whole frame in bytes.
#[must_use]
pub fn frame_len(message: &ChannelMessage) -> usize {
    FRAME_OVERHEAD + contents_len(&message.id, member_len(&message.sender), message.body.len())
}

/// Checks before anything is written that `message` may be sent, and returns the length of its whole frame in bytes.
///
/// # Errors
/// If its id, its sender or its frame exceeds `limits`, or its frame what the protocol can count.
pub fn check_frame_len(message: &ChannelMessage, limits: &Limits) -> Result<usize, WireError> {
    let check = |field, found, limit| {
        if found > limit { Err(WireError::BeyondLimit { field, found, limit }) } else { Ok(()) }
    };
    let frame = frame_len(message);
    check(Field::MessageId, message.id.as_bytes().len(), limits.max_message_id)?;
    check(Field::Sender, member_len(&message.sender), limits.max_member)?;
    check(Field::Frame, frame - FRAME_OVERHEAD, limits.max_frame.min(MAX_CONTENTS))?;
    Ok(frame)
}

/// Appends all of `message`'s frame that stands before its body. The frame is then this head, the body's segments and
/// [`FRAME_END`]. `sender_encoded` is the sender's member encoding, which senders keep ready.
///
/// [`check_frame_len`] comes first: a length that cannot be written is not noticed here.
pub fn encode_frame_head(message: &ChannelMessage, sender_encoded: &[u8], out: &mut BytesMut) {
    let body_len = message.body.len();
    let contents = contents_len(&message.id, sender_encoded.len(), body_len);
    out.reserve(FRAME_OVERHEAD + contents - body_len);
    out.put_slice(FRAME_START);
    out.put_i32(wire_len(contents));
    put_head(message.options, message.timestamp_ms, &message.id, sender_encoded, body_len, out);
}

/// Appends `message`'s whole frame. [`check_frame_len`] comes first.
pub fn encode_frame(message: &ChannelMessage, out: &mut BytesMut) {
    let mut sender = BytesMut::new();
    encode_member(&message.sender, &mut sender);
    out.reserve(frame_len(message));
    encode_frame_head(message, &sender, out);
    message.body.segments().for_each(|segment| out.put_slice(segment));
    out.put_slice(FRAME_END);
}

fn contents_len(id: &MessageId, sender: usize, body: usize) -> usize {
    FIXED.saturating_add(id.as_bytes().len()).saturating_add(sender).saturating_add(body)
}

fn put_head(
    options: SendOptions,
    timestamp_ms: i64,
    id: &MessageId,
    sender: &[u8],
    body_len: usize,
    out: &mut BytesMut,
) {
    out.put_u32(options.bits());
    out.put_i64(timestamp_ms);
    out.put_i32(wire_len(id.as_bytes().len()));
    out.put_slice(id.as_bytes());
    out.put_i32(wire_len(sender.len()));
    out.put_slice(sender);
    out.put_i32(wire_len(body_len));
}

/// The fields of an envelope within the frame's contents.
struct Raw<'a> {
    options: SendOptions,
    timestamp_ms: i64,
    id: MessageId,
    sender: &'a [u8],
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    fn read(contents: &'a [u8], limits: &Limits) -> Result<Self, WireError> {
        if contents.len() > limits.max_frame {
            return Err(WireError::BeyondLimit { field: Field::Frame, found: contents.len(), limit: limits.max_frame });
        }
        let mut unit = Cursor::new(contents, Field::Envelope);
        let options = SendOptions::from_bits_retain(unit.u32()?);
        let timestamp_ms = unit.i64()?;
        let id = unit.block(Field::MessageId, limits.max_message_id)?;
        let sender = unit.block(Field::Sender, limits.max_member)?;
        let body = unit.block(Field::Message, limits.max_frame)?;
        match unit.remaining() {
            0 => {}
            slack => return Err(WireError::Slack { field: Field::Envelope, slack }),
        }
        Ok(Self { options, timestamp_ms, id: message_id(id), sender, body })
    }
}

/// An id of the usual size is held by value; another one is copied, so that it does not keep the read buffer.
fn message_id(id: &[u8]) -> MessageId {
    match <[u8; 16]>::try_from(id) {
        Ok(array) => MessageId::from_array(array),
        Err(_) => MessageId::from_bytes(Bytes::copy_from_slice(id)),
    }
}
