//! The wire protocol: bytes in, values out, and back. No I/O, no clock, no task.
//!
//! | file | unit |
//! |---|---|
//! | `frame` | what a stream or a datagram is made of |
//! | `envelope` | the contents of a data frame: one message |
//! | `member` | a member; alone it is a heartbeat |
//! | `control` | the contents of our own control frames |
//! | `trailer` | what our own nodes add behind a body |
//! | `constants` | bodies that are fixed byte for byte |
//! | `java`, `java_text` | the few Java objects that are written and matched as templates; Java's strings |
//! | `limits`, `error` | how much is accepted, and what is said when it is not |
//!
//! Everything read from a peer is checked before it is used: a length is compared with what encloses it and with
//! [`Limits`] before a byte is buffered or allocated for it.

mod constants;
mod control;
mod cursor;
mod envelope;
mod error;
mod frame;
pub mod java;
mod java_text;
mod limits;
mod member;
mod trailer;

pub use constants::{FAILURE_DETECTOR_PROBE, STATIC_MEMBER_START, STATIC_MEMBER_STOP, TCP_PING};
pub use control::{Control, HandledCode, LinkKind, MAX_FAILURE_TEXT, RefuseReason};
pub use envelope::{
    Envelope, SenderCache, check_frame_len, decode_message, decode_message_at, encode_frame, encode_frame_head,
    frame_len,
};
pub use error::{Field, Marker, WireError};
pub use frame::{
    ACK_FRAME, CONTROL_END, CONTROL_START, FAIL_ACK_FRAME, FRAME_END, FRAME_OVERHEAD, FRAME_START, Frame, FrameAt,
    FrameDecoder, Frames,
};
pub use limits::Limits;
pub use member::{
    MEMBER_BEGIN, MEMBER_END, check_member_len, decode_member, decode_member_shared, encode_member,
    encode_member_alive, member_len,
};
pub use trailer::{ExtensionKind, MAX_TRAILER, NESTED, TRAILER_FOOTER, Trailer, TrailerFull};
