//! Frames (wire section 5): cuts a stream of bytes into data frames, acknowledgements and our own control frames.
//!
//! | offset | size | data frame | control frame |
//! |---|---|---|---|
//! | 0 | 7 | `FLT2002` | `TRSCTL1` |
//! | 7 | 4 | N, int32, length of the contents | the same |
//! | 11 | N | a message envelope or an acknowledgement | see [`Control`](super::Control) |
//! | 11+N | 7 | `TLF2003` | `1LTCSRT` |
//!
//! Frames follow each other with no gap. Control frames are ours and go to our own nodes only; they have a marker of
//! their own so that a stream explains itself.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::cursor::{Cursor, check_marker};
use super::{Field, Limits, Marker, WireError};

/// The first seven bytes of a data frame.
pub const FRAME_START: &[u8; 7] = b"FLT2002";
/// The last seven bytes of a data frame.
pub const FRAME_END: &[u8; 7] = b"TLF2003";
/// The first seven bytes of one of our control frames.
pub const CONTROL_START: &[u8; 7] = b"TRSCTL1";
/// The last seven bytes of one of our control frames.
pub const CONTROL_END: &[u8; 7] = b"1LTCSRT";
/// What a frame of either kind has beside its contents, in bytes.
pub const FRAME_OVERHEAD: usize = HEADER + FRAME_END.len();
/// A whole positive acknowledgement. There is no id in it: acknowledgements come in the order of the messages.
pub const ACK_FRAME: &[u8; 21] = b"FLT2002\x00\x00\x00\x03\x06\x02\x03TLF2003";
/// A whole negative acknowledgement.
pub const FAIL_ACK_FRAME: &[u8; 21] = b"FLT2002\x00\x00\x00\x03\x0B\x00\x05TLF2003";

const ACK: &[u8] = b"\x06\x02\x03";
const FAIL_ACK: &[u8] = b"\x0B\x00\x05";
/// Start marker and length.
const HEADER: usize = FRAME_START.len() + 4;

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The contents of a data frame, not looked into: see [`decode_message`](super::decode_message).
    Data(Bytes),
    /// A positive acknowledgement. Whether one is legal at this end is for the caller to decide.
    Ack,
    /// A negative acknowledgement.
    FailAck,
    /// The contents of one of our control frames: see [`Control::decode`](super::Control::decode).
    Control(Bytes),
}

/// Whole frames that follow each other in a stream, as one piece; see [`FrameDecoder::split`].
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Bytes,
    at: usize,
}

/// One frame of [`Frames`]; its contents are at this place of [`Frames::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameAt {
    /// As [`Frame::Data`].
    Data(Range<usize>),
    /// As [`Frame::Ack`].
    Ack,
    /// As [`Frame::FailAck`].
    FailAck,
    /// As [`Frame::Control`].
    Control(Range<usize>),
}

impl Frames {
    /// All of them, as they were in the stream.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether [`next`](Self::next) has returned the last one.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

impl Iterator for Frames {
    type Item = FrameAt;

    fn next(&mut self) -> Option<FrameAt> {
        // Checked by the decoder: the frame is there as its header says.
        let header = self.bytes.get(self.at..)?.first_chunk::<HEADER>()?;
        let [kind, .., a, b, c, d] = *header;
        let start = self.at + HEADER;
        let end = start.checked_add(usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?)?;
        self.at = end.checked_add(FRAME_END.len())?;
        let contents = self.bytes.get(start..end)?;
        Some(if Some(&kind) == CONTROL_START.first() {
            FrameAt::Control(start..end)
        } else if contents == ACK {
            FrameAt::Ack
        } else if contents == FAIL_ACK {
            FrameAt::FailAck
        } else {
            FrameAt::Data(start..end)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Control,
}

impl Kind {
    const fn end(self) -> (&'static [u8; 7], Marker) {
        match self {
            Self::Data => (FRAME_END, Marker::FrameEnd),
            Self::Control => (CONTROL_END, Marker::ControlEnd),
        }
    }
}

/// The header of the frame being received, checked.
#[derive(Clone, Copy, Debug)]
struct Header {
    kind: Kind,
    contents: usize,
}

impl Header {
    /// Cannot overflow: a length is below 2^31, which was checked against the limit first.
    const fn total(self) -> usize {
        self.contents.saturating_add(FRAME_OVERHEAD)
    }
}

/// Cuts a stream into frames, strictly: the first wrong byte ends it.
///
/// The reader puts bytes into [`buffer_mut`](Self::buffer_mut), then calls [`next`](Self::next) until it returns
/// `None`. Once a header is in, [`needed`](Self::needed) tells how much room the frame takes; the decoder itself never
/// allocates by a length that a peer sent. Contents are slices of the buffer.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limits: Limits,
    header: Option<Header>,
    poison: Option<WireError>,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), limits, header: None, poison: None }
    }

    /// Where the reader appends what it has read.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Appends a copy of `bytes`. Does nothing once an error has occurred.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.poison.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// At the first byte that no valid frame has at its place, and at a length beyond the limits as soon as it is in.
    /// What was buffered is dropped then, and every further call returns the same error.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at None; this goes on when bytes come")]
    pub fn next(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.poison {
            return Err(error.clone());
        }
        self.cut().map_err(|error| self.poisoned(error))
    }

    /// All whole frames that are there, in one piece: cheaper than one after another. `None` if more bytes are needed.
    ///
    /// # Errors
    /// As [`next`](Self::next). Frames before the first wrong byte are returned first.
    pub fn split(&mut self) -> Result<Option<Frames>, WireError> {
        if let Some(error) = &self.poison {
            return Err(error.clone());
        }
        let mut end = 0;
        loop {
            match self.whole(end) {
                Ok(Some(frame)) => end += frame.total(),
                Ok(None) => break,
                // Found again when it is at the front.
                Err(_) if end > 0 => break,
                Err(error) => return Err(self.poisoned(error)),
            }
        }
        Ok((end > 0).then(|| Frames { bytes: self.buffer.split_to(end).freeze(), at: 0 }))
    }

    /// Bytes buffered of frames not yet returned.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The size of the whole frame being received, 18 bytes of overhead included; known once [`next`](Self::next) has
    /// seen and accepted its header.
    #[must_use]
    pub fn needed(&self) -> Option<usize> {
        self.header.map(Header::total)
    }

    /// Whether an error has occurred. There is no way on from there.
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    fn cut(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = self.whole(0)? else { return Ok(None) };
        self.buffer.advance(HEADER);
        let contents = self.buffer.split_to(header.contents).freeze();
        self.buffer.advance(FRAME_END.len());
        Ok(Some(match header.kind {
            Kind::Control => Frame::Control(contents),
            Kind::Data if contents == ACK => Frame::Ack,
            Kind::Data if contents == FAIL_ACK => Frame::FailAck,
            Kind::Data => Frame::Data(contents),
        }))
    }

    /// The header of the frame that begins at `at`, if the frame is whole; if not, what is known of it is remembered.
    fn whole(&mut self, at: usize) -> Result<Option<Header>, WireError> {
        let rest = self.buffer.get(at..).unwrap_or_default();
        let header = match self.header.take() {
            Some(header) => header,
            None => match read_header(rest, &self.limits)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let footer_at = HEADER.saturating_add(header.contents);
        let (end, marker) = header.kind.end();
        if let Some(footer) = rest.get(footer_at..) {
            check_marker(footer, end, marker, footer_at)?;
        }
        if rest.len() < header.total() {
            self.header = Some(header);
            return Ok(None);
        }
        Ok(Some(header))
    }

    fn poisoned(&mut self, error: WireError) -> WireError {
        self.buffer = BytesMut::new();
        self.header = None;
        self.poison = Some(error.clone());
        error
    }
}

/// Checks as much of a header as there is; `Some` when it is whole.
fn read_header(bytes: &[u8], limits: &Limits) -> Result<Option<Header>, WireError> {
    let (kind, start, field, limit) = if bytes.first() == CONTROL_START.first() {
        (Kind::Control, CONTROL_START, Field::Control, limits.max_control())
    } else {
        (Kind::Data, FRAME_START, Field::Frame, limits.max_frame)
    };
    check_marker(bytes, start, Marker::FrameStart, 0)?;
    let Some(length) = bytes.get(start.len()..HEADER) else { return Ok(None) };
    let contents = Cursor::new(length, field).length(field)?;
    if contents > limit {
        return Err(WireError::BeyondLimit { field, found: contents, limit });
    }
    Ok(Some(Header { kind, contents }))
}
