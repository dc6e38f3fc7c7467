//! The sealed body between our own nodes, which vouches for the envelope, too.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | 1, the revision of this format |
//! | 1 | 16 | session: random, another one for each start of a sender and each of its keys |
//! | 17 | 8 | counter of the session, from 1 |
//! | 25 | | AES-256-GCM ciphertext of the fields below |
//! | | 4 | the options as the sealing layer saw them |
//! | | 2 | n, how many members it is for |
//! | | 16 n | their ids, in ascending order |
//! | | | body |
//! | end - 16 | 16 | tag |
//!
//! The key is derived (HKDF-SHA-256) from the configured key with the session as salt and the sender's id as context; the nonce
//! is the counter, so that none is used twice whatever chance does. The tag also vouches for the message's id and time and for
//! the sender's record but for its alive time: see [`associated`].

use std::fmt;

use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use hkdf::Hkdf;
use sha2::Sha256;
use tribes_core::{ChannelMessage, MemberId, SendOptions, wire};
use zeroize::Zeroizing;

use super::EncryptError;
use super::cipher::TAG;
use super::key::Key;

/// What ties keys and tags to this use and this format.
const LABEL: &[u8] = b"tribes encrypt, authenticated, 1";
const REVISION: u8 = 1;
/// Bytes of one member's id.
const ID: usize = 16;

/// A session's random name.
pub(super) type SessionId = [u8; 16];

/// What stands before the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) session: SessionId,
    pub(super) counter: u64,
}

impl Header {
    const LEN: usize = 1 + 16 + 8;
    /// The fewest bytes of a sealed body: for one member, and empty.
    pub(super) const LEAST: usize = Self::LEN + 4 + 2 + ID + TAG;

    /// The header and the ciphertext behind it; `None` if this is something else.
    pub(super) fn read(sealed: &[u8]) -> Option<(Self, &[u8])> {
        let (revision, rest) = sealed.split_first()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        (*revision == REVISION && sealed.len() >= Self::LEAST)
            .then(|| (Self { session: *session, counter: u64::from_be_bytes(*counter) }, rest))
    }

    fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }
}

/// The key of one session of one sender.
pub(super) struct SessionKey(Aes256Gcm);

/// What was sealed.
#[derive(Debug)]
pub(super) struct Unsealed {
    /// The options as the sealing layer saw them.
    pub(super) options: SendOptions,
    ids: Bytes,
    pub(super) body: Bytes,
}

impl Unsealed {
    /// Whether it is for this member.
    pub(super) fn is_for(&self, member: MemberId) -> bool {
        let (ids, _) = self.ids.as_chunks::<ID>();
        ids.contains(member.as_bytes())
    }
}

impl SessionKey {
    pub(super) fn derive(key: &Key, session: &SessionId, sender: MemberId) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        let hkdf = Hkdf::<Sha256>::new(Some(session), key.bytes());
        // 32 bytes are far below what HKDF can give.
        let _ = hkdf.expand_multi_info(&[LABEL, sender.as_bytes()], derived.as_mut_slice());
        Self(Aes256Gcm::new((&*derived).into()))
    }

    /// Seals the message's body for these members, at most 65,535.
    pub(super) fn seal(
        &self,
        header: Header,
        message: &ChannelMessage,
        mut ids: Vec<MemberId>,
    ) -> Result<Bytes, EncryptError> {
        ids.sort_unstable();
        ids.dedup();
        let count = u16::try_from(ids.len()).map_err(|_too_many| EncryptError::TooManyMembers { count: ids.len() })?;
        let len = Header::LEN + 4 + 2 + ids.len() * ID + message.body.len() + TAG;
        let mut out = BytesMut::with_capacity(len);
        out.put_u8(REVISION);
        out.put_slice(&header.session);
        out.put_u64(header.counter);
        out.put_u32(message.options.bits());
        out.put_u16(count);
        ids.iter().for_each(|id| out.put_slice(id.as_bytes()));
        message.body.segments().for_each(|segment| out.put_slice(segment));
        let text = out.get_mut(Header::LEN..).unwrap_or_default();
        let tag = self.0.encrypt_in_place_detached((&header.nonce()).into(), &associated(message), text);
        out.put_slice(&tag.map_err(|_too_long| EncryptError::TooLong)?);
        Ok(out.freeze())
    }

    /// Opens what [`seal`](Self::seal) made; `None` if anything that it vouches for is not as it was.
    pub(super) fn open(&self, header: Header, message: &ChannelMessage, sealed: &[u8]) -> Option<Unsealed> {
        let (text, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut plain = BytesMut::from(text);
        let nonce = header.nonce();
        self.0.decrypt_in_place_detached((&nonce).into(), &associated(message), &mut plain, tag.into()).ok()?;
        let options = SendOptions::from_bits_retain(plain.try_get_u32().ok()?);
        let ids = usize::from(plain.try_get_u16().ok()?) * ID;
        (ids <= plain.len()).then(|| {
            let ids = plain.split_to(ids).freeze();
            Unsealed { options, ids, body: plain.freeze() }
        })
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(hidden)")
    }
}

/// What the tag vouches for besides the ciphertext. The options are not in here: layers below change theirs on the way, and
/// are to be told apart from others by whoever opens.
fn associated(message: &ChannelMessage) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(LABEL);
    let at = out.len();
    // How long the sender has been alive is the one field that moves by itself.
    wire::encode_member_alive(&message.sender, 0, &mut out);
    out.put_u64(u64::try_from(out.len() - at).unwrap_or(u64::MAX));
    out.put_i64(message.timestamp_ms);
    // Last, as its length is its own.
    out.put_slice(message.id.as_bytes());
    out
}
