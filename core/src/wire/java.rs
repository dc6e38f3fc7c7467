//! The few Java objects that go over the wire, as byte templates: calls and replies of RPC (wire section 12) and what
//! the static membership service exchanges (wire section 14).
//!
//! No object is deserialized. A stream either follows one of the templates byte for byte, lengths and values apart, or
//! is none of our business. The streams are linear: every class description in them is written once, at its first use,
//! and no back-reference (`71 …`) can occur; so the RPC form of a member message is the bare form put between header
//! and end mark.
//!
//! A Java reader refuses a `MemberImpl` whose class version differs from its own (wire section 16): a writer must know
//! its peers' release, see [`MEMBER_CLASS_VERSION`]. This reader ignores the number.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::{Cursor, wire_len};
use super::{Field, Limits, decode_member, encode_member, java_text, member_len};
use crate::Member;

/// The class version of `MemberImpl` in Tomcat 10.1.40 and 11.0.10 and later. 10.0.27 to 10.1.35 and 11.0.0 to 11.0.5
/// have `535528fd049659fe`, 8.5.100 and 9.0.50 and later `2e21087915506d1c`; the borders lie in the gaps.
pub const MEMBER_CLASS_VERSION: [u8; 8] = [0x84, 0x76, 0xF3, 0x7B, 0x32, 0x95, 0x36, 0x67];

const STREAM: &[u8] = b"\xAC\xED\x00\x05";
/// `TC_OBJECT`, `TC_CLASSDESC`.
const OBJECT: &[u8] = b"\x73\x72";
/// An externalizable class with block data and no fields.
const EXTERNAL: &[u8] = b"\x0C\x00\x00";
/// `TC_ENDBLOCKDATA` of the class description, and no further superclass.
const CLASS_END: &[u8] = b"\x78\x70";
/// The same where the description of the superclass follows.
const SUPERCLASS: &[u8] = b"\x78\x72";
const END: &[u8] = b"\x78";
const NULL: u8 = 0x70;
const BLOCK: u8 = 0x77;
const LONG_BLOCK: u8 = 0x7A;
/// `TC_STRING` and, above 65,535 bytes, `TC_LONGSTRING`.
const STRING: u8 = 0x74;
const LONG_STRING: u8 = 0x7C;
/// Java flushes block data at this size.
const MAX_BLOCK: usize = 1024;

/// Name with its length, and class version.
const RPC_MESSAGE: &[u8] = b"\x00\x2Borg.apache.catalina.tribes.group.RpcMessage\x71\x2A\x75\x0F\xF2\x74\xE5\x09";
const NO_RPC_CHANNEL: &[u8] =
    b"\x00\x3Dorg.apache.catalina.tribes.group.RpcMessage$NoRpcChannelReply\x7B\xAB\x8F\xB3\x6A\x4B\x5B\xA6";
const BYTE_MESSAGE: &[u8] = b"\x00\x26org.apache.catalina.tribes.ByteMessage\x7F\x57\x97\x0A\x7B\xAB\xE1\x0D";
/// Names with their lengths; these classes' versions are not compared.
const MEMBER_IMPL: &[u8] = b"\x00\x30org.apache.catalina.tribes.membership.MemberImpl";
const STATIC_MEMBER: &[u8] = b"\x00\x32org.apache.catalina.tribes.membership.StaticMember";
/// An object of class `MemberMessage` up to its first value: class name, version 1, three fields.
const MEMBER_MESSAGE: &[u8] = b"\x73\x72\x00\x4Corg.apache.catalina.tribes.membership.\
StaticMembershipProvider$MemberMessage\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x03\
I\x00\x07msgtypeL\x00\x06membert\x00\x23Lorg/apache/catalina/tribes/Member;[\x00\x0CmembershipIdt\x00\x02[B\x78\x70";
/// A `byte[]` up to its length.
const BYTE_ARRAY: &[u8] = b"\x75\x72\x00\x02[B\xAC\xF3\x17\xF8\x06\x08\x54\xE0\x02\x00\x00\x78\x70";

/// What a member says in the exchange of the static membership service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberMessageKind {
    /// It has started. An RPC; the reply is the same message with the answering member in it.
    Start = 1,
    /// It stops. One way, not an RPC.
    Stop = 2,
    /// It is alive. An RPC, answered like a start.
    Ping = 3,
}

impl MemberMessageKind {
    const fn from_code(code: i32) -> Option<Self> {
        match code {
            1 => Some(Self::Start),
            2 => Some(Self::Stop),
            3 => Some(Self::Ping),
            _ => None,
        }
    }
}

/// A message of the static membership service (Tribes: `StaticMembershipProvider.MemberMessage`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMessage {
    /// What it says.
    pub kind: MemberMessageKind,
    /// About whom: the sender in a request and in a stop, the answering member in a reply.
    pub member: Member,
    /// Channel name + `-StaticMembership` in ISO-8859-1; the RPC id as well.
    pub membership_id: Bytes,
}

/// The object within an RPC message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcBody {
    /// Java's null: the answer of a callback that has none.
    Null,
    /// A `ByteMessage`: raw bytes.
    Bytes(Bytes),
    /// A `byte[]`.
    Array(Bytes),
    /// A `String`. Java's may hold halves of surrogate pairs; those are none of ours.
    Text(String),
    /// A message of the static membership service.
    Member(MemberMessage),
}

/// A Java object that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JavaMessage {
    /// A call or a reply (Tribes: `RpcMessage`).
    Rpc {
        /// Whether it is a reply.
        reply: bool,
        /// Ties a reply to its call; 16 random bytes.
        id: Bytes,
        /// Names the RPC channel; compared exactly.
        rpc_id: Bytes,
        /// What it carries.
        body: RpcBody,
    },
    /// A message of the static membership service outside of RPC, as a stop is sent.
    Member(MemberMessage),
    /// The answer to a call for which there is no RPC channel (Tribes: `RpcMessage.NoRpcChannelReply`).
    NoRpcChannel {
        /// The id of the call.
        id: Bytes,
        /// The RPC channel that was asked for.
        rpc_id: Bytes,
    },
}

impl JavaMessage {
    /// The object stream, as Java would write it. `member_class_version` is that of the peers' `MemberImpl`, see
    /// [`MEMBER_CLASS_VERSION`].
    #[must_use]
    pub fn encode(&self, member_class_version: [u8; 8]) -> Bytes {
        let mut out = BytesMut::with_capacity(512);
        out.put_slice(STREAM);
        match self {
            Self::Rpc { reply, id, rpc_id, body } => {
                put_all(&[OBJECT, RPC_MESSAGE, EXTERNAL, CLASS_END], &mut out);
                let mut block = BytesMut::new();
                block.put_u8(u8::from(*reply));
                put_block(id, &mut block);
                put_block(rpc_id, &mut block);
                put_blocks(&block, &mut out);
                match body {
                    RpcBody::Null => out.put_u8(NULL),
                    RpcBody::Bytes(bytes) => put_byte_message(bytes, &mut out),
                    RpcBody::Array(bytes) => {
                        out.put_slice(BYTE_ARRAY);
                        put_block(bytes, &mut out);
                    }
                    RpcBody::Text(text) => put_text(text, &mut out),
                    RpcBody::Member(message) => message.put(member_class_version, &mut out),
                }
                out.put_slice(END);
            }
            Self::Member(message) => message.put(member_class_version, &mut out),
            Self::NoRpcChannel { id, rpc_id } => {
                put_all(&[OBJECT, NO_RPC_CHANNEL, EXTERNAL, SUPERCLASS, RPC_MESSAGE, EXTERNAL, CLASS_END], &mut out);
                let mut block = BytesMut::new();
                put_block(id, &mut block);
                put_block(rpc_id, &mut block);
                put_blocks(&block, &mut out);
                out.put_slice(END);
            }
        }
        out.freeze()
    }

    /// Reads an object stream that follows one of the templates from its first byte to its last; `None` for any other
    /// bytes, and for a member that is damaged or exceeds `limits`.
    #[must_use]
    pub fn decode(bytes: &[u8], limits: &Limits) -> Option<Self> {
        let mut input = Input(Cursor::new(bytes, Field::Message));
        input.literal(STREAM)?;
        let message = if input.peek_literal(MEMBER_MESSAGE) {
            Self::Member(MemberMessage::read(&mut input, limits)?)
        } else {
            input.literal(OBJECT)?;
            if input.peek_literal(RPC_MESSAGE) {
                read_rpc(&mut input, limits)?
            } else {
                read_no_rpc_channel(&mut input)?
            }
        };
        input.0.end().ok()?;
        Some(message)
    }
}

fn read_rpc(input: &mut Input<'_>, limits: &Limits) -> Option<JavaMessage> {
    for part in [RPC_MESSAGE, EXTERNAL, CLASS_END] {
        input.literal(part)?;
    }
    let block = input.blocks()?;
    let mut block = Input(Cursor::new(&block, Field::Message));
    // Java reads any byte but 0 as true.
    let reply = block.0.u8().ok()? != 0;
    let (id, rpc_id) = (block.bytes()?, block.bytes()?);
    block.0.end().ok()?;
    let body = if input.peek_literal(&[NULL]) {
        input.literal(&[NULL])?;
        RpcBody::Null
    } else if input.peek_literal(MEMBER_MESSAGE) {
        RpcBody::Member(MemberMessage::read(input, limits)?)
    } else if input.peek_literal(BYTE_ARRAY) {
        input.literal(BYTE_ARRAY)?;
        RpcBody::Array(input.bytes()?)
    } else if matches!(input.0.rest().first(), Some(&(STRING | LONG_STRING))) {
        RpcBody::Text(read_text(input)?)
    } else {
        RpcBody::Bytes(read_byte_message(input)?)
    };
    input.literal(END)?;
    Some(JavaMessage::Rpc { reply, id, rpc_id, body })
}

fn read_no_rpc_channel(input: &mut Input<'_>) -> Option<JavaMessage> {
    for part in [NO_RPC_CHANNEL, EXTERNAL, SUPERCLASS, RPC_MESSAGE, EXTERNAL, CLASS_END] {
        input.literal(part)?;
    }
    let block = input.blocks()?;
    let mut block = Input(Cursor::new(&block, Field::Message));
    let (id, rpc_id) = (block.bytes()?, block.bytes()?);
    block.0.end().ok()?;
    input.literal(END)?;
    Some(JavaMessage::NoRpcChannel { id, rpc_id })
}

fn read_text(input: &mut Input<'_>) -> Option<String> {
    let len = match input.0.u8().ok()? {
        STRING => usize::from(input.0.u16().ok()?),
        _ => usize::try_from(input.0.u64().ok()?).ok()?,
    };
    java_text::decode(input.0.take(len, Field::Message).ok()?)
}

fn put_text(text: &str, out: &mut BytesMut) {
    let bytes = java_text::encode(text);
    match u16::try_from(bytes.len()) {
        Ok(len) => {
            out.put_u8(STRING);
            out.put_u16(len);
        }
        Err(_) => {
            out.put_u8(LONG_STRING);
            out.put_u64(bytes.len() as u64);
        }
    }
    out.put_slice(&bytes);
}

fn read_byte_message(input: &mut Input<'_>) -> Option<Bytes> {
    for part in [OBJECT, BYTE_MESSAGE, EXTERNAL, CLASS_END] {
        input.literal(part)?;
    }
    let block = input.blocks()?;
    let mut block = Input(Cursor::new(&block, Field::Message));
    let bytes = block.bytes()?;
    block.0.end().ok()?;
    input.literal(END)?;
    Some(bytes)
}

fn put_byte_message(bytes: &[u8], out: &mut BytesMut) {
    put_all(&[OBJECT, BYTE_MESSAGE, EXTERNAL, CLASS_END], out);
    let mut block = BytesMut::with_capacity(bytes.len() + 4);
    put_block(bytes, &mut block);
    put_blocks(&block, out);
    out.put_slice(END);
}

impl MemberMessage {
    fn put(&self, member_class_version: [u8; 8], out: &mut BytesMut) {
        out.put_slice(MEMBER_MESSAGE);
        out.put_i32(self.kind as i32);
        put_all(&[OBJECT, MEMBER_IMPL, &member_class_version, EXTERNAL, CLASS_END], out);
        let mut block = BytesMut::new();
        block.put_i32(wire_len(member_len(&self.member)));
        encode_member(&self.member, &mut block);
        put_blocks(&block, out);
        out.put_slice(END);
        out.put_slice(BYTE_ARRAY);
        put_block(&self.membership_id, out);
    }

    fn read(input: &mut Input<'_>, limits: &Limits) -> Option<Self> {
        input.literal(MEMBER_MESSAGE)?;
        let kind = MemberMessageKind::from_code(input.0.i32().ok()?)?;
        input.literal(OBJECT)?;
        // A configured member is a StaticMember, which extends MemberImpl; both are written alike.
        if input.peek_literal(STATIC_MEMBER) {
            input.class(STATIC_MEMBER)?;
            input.literal(SUPERCLASS)?;
        }
        input.class(MEMBER_IMPL)?;
        input.literal(CLASS_END)?;
        let block = input.blocks()?;
        let mut block = Cursor::new(&block, Field::Message);
        let member = decode_member(block.block(Field::Member, limits.max_member).ok()?, limits).ok()?;
        block.end().ok()?;
        input.literal(END)?;
        input.literal(BYTE_ARRAY)?;
        let membership_id = input.bytes()?;
        Some(Self { kind, member, membership_id })
    }
}

/// What is left of a stream. Anything that does not fit is `None`: why does not matter here.
struct Input<'a>(Cursor<'a>);

impl<'a> Input<'a> {
    fn peek_literal(&self, literal: &[u8]) -> bool {
        self.0.rest().starts_with(literal)
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let found = self.0.take(literal.len(), Field::Message).ok()?;
        (found == literal).then_some(())
    }

    /// The description of an externalizable class, its version left aside.
    fn class(&mut self, name: &[u8]) -> Option<()> {
        self.literal(name)?;
        self.0.array::<8>().ok()?;
        self.literal(EXTERNAL)
    }

    /// Bytes with their int32 length in front.
    fn bytes(&mut self) -> Option<Bytes> {
        self.0.block(Field::Message, usize::MAX).ok().map(Bytes::copy_from_slice)
    }

    /// All blocks that follow each other, joined.
    fn blocks(&mut self) -> Option<Cow<'a, [u8]>> {
        let mut joined = Cow::default();
        loop {
            let len = match self.0.rest().first() {
                Some(&BLOCK) => {
                    self.literal(&[BLOCK])?;
                    usize::from(self.0.u8().ok()?)
                }
                Some(&LONG_BLOCK) => {
                    self.literal(&[LONG_BLOCK])?;
                    self.0.length(Field::Message).ok()?
                }
                _ => return Some(joined),
            };
            let block = self.0.take(len, Field::Message).ok()?;
            if joined.is_empty() {
                joined = Cow::Borrowed(block);
            } else {
                joined.to_mut().extend_from_slice(block);
            }
        }
    }
}

fn put_all(parts: &[&[u8]], out: &mut BytesMut) {
    parts.iter().for_each(|part| out.put_slice(part));
}

/// Bytes with their int32 length in front.
fn put_block(bytes: &[u8], out: &mut BytesMut) {
    out.put_i32(wire_len(bytes.len()));
    out.put_slice(bytes);
}

/// `bytes` as block data, cut where Java cuts.
fn put_blocks(bytes: &[u8], out: &mut BytesMut) {
    for block in bytes.chunks(MAX_BLOCK) {
        match u8::try_from(block.len()) {
            Ok(len) => put_all(&[&[BLOCK, len]], out),
            Err(_) => {
                out.put_u8(LONG_BLOCK);
                out.put_i32(wire_len(block.len()));
            }
        }
        out.put_slice(block);
    }
}
