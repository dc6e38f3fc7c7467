//! How much a peer may ask of us before it is refused.

/// Upper bounds on what is accepted from the wire. Java has none of them: there one frame or datagram with a hostile
/// length ends a receiver (wire sections 2.1, 4.6, 5). Lengths are compared with these before a byte is buffered or
/// allocated for them.
///
/// The same bounds are applied to what is sent ([`check_frame_len`](super::check_frame_len),
/// [`check_member_len`](super::check_member_len)), so that nothing goes out which an equally configured peer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Contents of one frame, in bytes. Default 64 MiB: Java peers send serialized session and map state in one frame
    /// when no fragmentation is configured, and such state reaches tens of megabytes; larger is more likely damage.
    pub max_frame: usize,
    /// One whole member encoding, in bytes. Default 64 KiB: Java's payload setter stops at 65,535, so whatever a Java
    /// node can legally announce fits.
    pub max_member: usize,
    /// A message id, in bytes. Default 1,024: all known senders use 16; other sizes are legal but pointless.
    pub max_message_id: usize,
}

/// Contents of a control frame apart from the member encoding it may hold, in bytes; see [`Limits::max_control`].
const CONTROL_FIELDS: usize = 4096;

impl Limits {
    /// The default of [`Limits::max_frame`], 64 MiB.
    pub const DEFAULT_MAX_FRAME: usize = 64 << 20;
    /// The default of [`Limits::max_member`], 64 KiB.
    pub const DEFAULT_MAX_MEMBER: usize = 64 << 10;
    /// The default of [`Limits::max_message_id`], 1,024 bytes.
    pub const DEFAULT_MAX_MESSAGE_ID: usize = 1024;

    /// With this bound on the contents of a frame, in bytes.
    #[must_use]
    pub const fn with_max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// With this bound on a member encoding, in bytes.
    #[must_use]
    pub const fn with_max_member(mut self, bytes: usize) -> Self {
        self.max_member = bytes;
        self
    }

    /// With this bound on a message id, in bytes.
    #[must_use]
    pub const fn with_max_message_id(mut self, bytes: usize) -> Self {
        self.max_message_id = bytes;
        self
    }

    /// The bound on the contents of one of our own control frames: a member encoding and 4,096 bytes for all other
    /// fields, so that later revisions can add some.
    #[must_use]
    pub const fn max_control(&self) -> usize {
        self.max_member.saturating_add(CONTROL_FIELDS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: Self::DEFAULT_MAX_FRAME,
            max_member: Self::DEFAULT_MAX_MEMBER,
            max_message_id: Self::DEFAULT_MAX_MESSAGE_ID,
        }
    }
}
