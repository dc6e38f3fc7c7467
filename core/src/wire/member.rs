//! The encoding of a member (wire section 2): what a heartbeat is, and what a message names its sender with.
//!
//! Strict where Java is not (wire section 2.1): the fields must end exactly at the end marker, and nothing follows it.
//! No known sender produces anything else.

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::{Cursor, wire_len};
use super::{Field, Limits, Marker, WireError};
use crate::{Member, MemberId};

/// The first ten bytes of a member encoding, `TRIBES-B`, 1, 0. A datagram that starts with them is a heartbeat.
pub const MEMBER_BEGIN: &[u8; 10] = b"TRIBES-B\x01\x00";
/// The last ten bytes of a member encoding, `TRIBES-E`, 1, 0.
pub const MEMBER_END: &[u8; 10] = b"TRIBES-E\x01\x00";

/// Markers and the length field.
const AROUND_BODY: usize = MEMBER_BEGIN.len() + 4 + MEMBER_END.len();
/// The body without host, command, domain and payload: alive time, three ports, host length, three lengths, id.
const FIXED_BODY: usize = 8 + 3 * 4 + 1 + 3 * 4 + 16;

/// The length of `member`'s encoding in bytes.
#[must_use]
pub fn member_len(member: &Member) -> usize {
    AROUND_BODY + body_len(member)
}

fn body_len(member: &Member) -> usize {
    FIXED_BODY + member.host().len() + member.command().len() + member.domain().len() + member.payload().len()
}

/// Checks that `member`'s encoding is within `limits`, and returns its length in bytes.
///
/// # Errors
/// If it is longer than [`Limits::max_member`]: peers would refuse it.
pub fn check_member_len(member: &Member, limits: &Limits) -> Result<usize, WireError> {
    let found = member_len(member);
    if found > limits.max_member {
        return Err(WireError::BeyondLimit { field: Field::Member, found, limit: limits.max_member });
    }
    Ok(found)
}

/// Appends `member`'s encoding to `out`.
pub fn encode_member(member: &Member, out: &mut BytesMut) {
    encode_member_alive(member, member.alive_ms(), out);
}

/// Appends `member`'s encoding with another alive time: what each heartbeat does.
pub fn encode_member_alive(member: &Member, alive_ms: i64, out: &mut BytesMut) {
    // Cannot be more than 127: a member cuts its host off there.
    let host_len = u8::try_from(member.host().len()).unwrap_or(u8::MAX);
    out.reserve(member_len(member));
    out.put_slice(MEMBER_BEGIN);
    out.put_i32(wire_len(body_len(member)));
    out.put_i64(alive_ms);
    out.put_i32(member.port());
    out.put_i32(member.secure_port());
    out.put_i32(member.udp_port());
    out.put_u8(host_len);
    out.put_slice(member.host());
    put_block(member.command(), out);
    put_block(member.domain(), out);
    out.put_slice(member.id().as_bytes());
    put_block(member.payload(), out);
    out.put_slice(MEMBER_END);
}

fn put_block(bytes: &[u8], out: &mut BytesMut) {
    out.put_i32(wire_len(bytes.len()));
    out.put_slice(bytes);
}

/// Reads a member encoding that fills `bytes`. The member gets a copy of its own.
///
/// # Errors
/// If `bytes` are not exactly one member encoding, or exceed [`Limits::max_member`].
pub fn decode_member(bytes: &[u8], limits: &Limits) -> Result<Member, WireError> {
    // Before the copy, not after it.
    check_len(bytes, limits)?;
    decode_member_shared(&Bytes::copy_from_slice(bytes), limits)
}

/// Reads a member encoding that fills `bytes`. Nothing is copied: as long as the member lives it keeps the whole
/// allocation behind `bytes`.
///
/// # Errors
/// If `bytes` are not exactly one member encoding, or exceed [`Limits::max_member`].
pub fn decode_member_shared(bytes: &Bytes, limits: &Limits) -> Result<Member, WireError> {
    check_len(bytes, limits)?;
    let limit = limits.max_member;
    let mut unit = Cursor::new(bytes, Field::Member);
    unit.marker(MEMBER_BEGIN, Marker::MemberBegin, 0)?;
    let found = unit.length(Field::MemberBody)?;
    let body = unit.take(found, Field::MemberBody)?;
    unit.marker(MEMBER_END, Marker::MemberEnd, MEMBER_BEGIN.len() + 4 + body.len())?;
    unit.end()?;

    let mut body = Cursor::new(body, Field::MemberBody);
    let alive_ms = body.i64()?;
    let port = body.i32()?;
    let secure_port = body.i32()?;
    let udp_port = body.i32()?;
    let host_len = body.u8()?;
    if host_len > 127 {
        return Err(WireError::HostTooLong { found: host_len });
    }
    let host = body.take(usize::from(host_len), Field::Host)?;
    let command = body.block(Field::Command, limit)?;
    let domain = body.block(Field::Domain, limit)?;
    let id = MemberId::from_bytes(body.array()?);
    let payload = body.block(Field::Payload, limit)?;
    match body.remaining() {
        0 => {}
        slack => return Err(WireError::Slack { field: Field::MemberBody, slack }),
    }

    Ok(Member::from_parts(id, bytes.slice_ref(host), port)
        .with_secure_port(secure_port)
        .with_udp_port(udp_port)
        .with_alive_ms(alive_ms)
        .with_command(bytes.slice_ref(command))
        .with_domain(bytes.slice_ref(domain))
        .with_payload(bytes.slice_ref(payload)))
}

const fn check_len(bytes: &[u8], limits: &Limits) -> Result<(), WireError> {
    if bytes.len() > limits.max_member {
        return Err(WireError::BeyondLimit { field: Field::Member, found: bytes.len(), limit: limits.max_member });
    }
    Ok(())
}
