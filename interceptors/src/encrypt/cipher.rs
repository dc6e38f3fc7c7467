//! Tribes' sealed bodies (wire section 11.4): IV, then ciphertext of (time, body).

use std::fmt;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{AesGcm, KeyInit as _};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use cbc::cipher::consts::{U12, U16};
use cbc::cipher::inout::InOutBuf;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit as _, StreamCipher as _};
use tribes_core::Body;

use super::EncryptError;
use super::algorithm::Algorithm;
use super::core::Chance;
use super::key::{Key, Octets};

/// Bytes of a GCM tag, and of an AES block.
pub(super) const TAG: usize = 16;
const BLOCK: usize = 16;
/// Bytes of the time inside.
const STAMP: usize = 8;

/// One key under one algorithm, in one of the two layouts.
pub(super) struct TribesCipher {
    algorithm: Algorithm,
    /// Whether the time stands before the body.
    stamped: bool,
    prepared: Prepared,
}

enum Prepared {
    Gcm(Box<Gcm>),
    Blocks(Key),
}

enum Gcm {
    Aes128(AesGcm<Aes128, U12>),
    Aes192(AesGcm<Aes192, U12>),
    Aes256(AesGcm<Aes256, U12>),
}

/// What was sealed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// What made this sealing unlike all others; filled up with zeros.
    pub(super) iv: [u8; 16],
    /// The time inside, if the layout has one.
    pub(super) timestamp_ms: Option<i64>,
    pub(super) body: Bytes,
}

impl TribesCipher {
    pub(super) fn new(algorithm: Algorithm, stamped: bool, key: &Key) -> Self {
        let prepared = match (algorithm, key.octets()) {
            (Algorithm::Gcm, Octets::Aes128(octets)) => {
                Prepared::Gcm(Box::new(Gcm::Aes128(AesGcm::new(octets.into()))))
            }
            (Algorithm::Gcm, Octets::Aes192(octets)) => {
                Prepared::Gcm(Box::new(Gcm::Aes192(AesGcm::new(octets.into()))))
            }
            (Algorithm::Gcm, Octets::Aes256(octets)) => {
                Prepared::Gcm(Box::new(Gcm::Aes256(AesGcm::new(octets.into()))))
            }
            _ => Prepared::Blocks(key.clone()),
        };
        Self { algorithm, stamped, prepared }
    }

    /// The fewest bytes that something sealed can have.
    pub(super) const fn least(&self) -> usize {
        let plain = if self.stamped { STAMP } else { 0 };
        // Padding has at least one byte, and fills the block.
        self.algorithm.iv_len() + if self.algorithm.is_legacy() { BLOCK } else { plain + TAG }
    }

    /// Seals `body`. `chance` gives random bytes: first the IV, then padding that is to be random.
    pub(super) fn seal(&self, chance: Chance<'_>, timestamp_ms: i64, body: &Body) -> Result<Bytes, EncryptError> {
        let (iv, iv_len) = (chance()?, self.algorithm.iv_len());
        // A tag, or a block of padding.
        let mut out = BytesMut::with_capacity(iv_len + STAMP + body.len() + TAG);
        out.extend_from_slice(iv.get(..iv_len).unwrap_or_default());
        if self.stamped {
            out.put_i64(timestamp_ms);
        }
        body.segments().for_each(|segment| out.extend_from_slice(segment));
        match &self.prepared {
            Prepared::Gcm(gcm) => {
                let text = out.get_mut(iv_len..).unwrap_or_default();
                let tag = gcm.seal(&iv, text).ok_or(EncryptError::TooLong)?;
                out.extend_from_slice(&tag);
            }
            Prepared::Blocks(key) => {
                let fill = BLOCK - (out.len() - iv_len) % BLOCK;
                let count = u8::try_from(fill).unwrap_or_default();
                if self.algorithm == Algorithm::CbcIso10126 {
                    out.extend_from_slice(chance()?.get(..fill - 1).unwrap_or_default());
                    out.put_u8(count);
                } else {
                    out.put_bytes(count, fill);
                }
                crypt(Direction::Encrypt, self.algorithm, key, &iv, out.get_mut(iv_len..).unwrap_or_default());
            }
        }
        Ok(out.freeze())
    }

    /// Opens what [`seal`](Self::seal) made; `None` if it was not sealed with this key, or not like this, or was altered where
    /// that is noticed.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Opened> {
        if sealed.len() < self.least() {
            return None;
        }
        let (head, text) = sealed.split_at_checked(self.algorithm.iv_len())?;
        let mut iv = [0; 16];
        iv.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        let mut plain = match &self.prepared {
            Prepared::Gcm(gcm) => {
                let (text, tag) = text.split_last_chunk::<TAG>()?;
                let mut plain = BytesMut::from(text);
                gcm.open(&iv, &mut plain, tag).then_some(plain)?
            }
            Prepared::Blocks(key) => {
                if !text.len().is_multiple_of(BLOCK) {
                    return None;
                }
                let mut plain = BytesMut::from(text);
                crypt(Direction::Decrypt, self.algorithm, key, &iv, &mut plain);
                let len = unpadded(&plain, self.algorithm == Algorithm::CbcIso10126)?;
                plain.truncate(len);
                plain
            }
        };
        let timestamp_ms = if self.stamped { Some(plain.try_get_i64().ok()?) } else { None };
        Some(Opened { iv, timestamp_ms, body: plain.freeze() })
    }
}

impl fmt::Debug for TribesCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TribesCipher({}, stamped: {})", self.algorithm, self.stamped)
    }
}

/// The same call on whichever key size it is.
macro_rules! each_size {
    ($gcm:expr, $inner:ident => $call:expr) => {
        match $gcm {
            Gcm::Aes128($inner) => $call,
            Gcm::Aes192($inner) => $call,
            Gcm::Aes256($inner) => $call,
        }
    };
}

impl Gcm {
    /// Encrypts in place; the tag. `None` beyond 64 GiB.
    fn seal(&self, iv: &[u8; 16], text: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = iv.first_chunk::<12>()?;
        each_size!(self, gcm => gcm.encrypt_in_place_detached(nonce.into(), &[], text)).ok().map(Into::into)
    }

    /// Decrypts in place, if the tag is right; otherwise nothing is changed.
    fn open(&self, iv: &[u8; 16], text: &mut [u8], tag: &[u8; TAG]) -> bool {
        let Some(nonce) = iv.first_chunk::<12>() else { return false };
        each_size!(self, gcm => gcm.decrypt_in_place_detached(nonce.into(), &[], text, tag.into())).is_ok()
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// Runs whole blocks of `data` through a legacy mode.
fn crypt(direction: Direction, algorithm: Algorithm, key: &Key, iv: &[u8; 16], data: &mut [u8]) {
    macro_rules! with {
        ($aes:ty, $key:expr) => {
            match (algorithm, direction) {
                (Algorithm::Ofb, _) => ofb::Ofb::<$aes>::new($key, iv.into()).apply_keystream(data),
                (Algorithm::Cfb, Direction::Encrypt) => {
                    encrypt(cfb_mode::Encryptor::<$aes>::new($key, iv.into()), data);
                }
                (Algorithm::Cfb, Direction::Decrypt) => {
                    decrypt(cfb_mode::Decryptor::<$aes>::new($key, iv.into()), data);
                }
                (_, Direction::Encrypt) => encrypt(cbc::Encryptor::<$aes>::new($key, iv.into()), data),
                (_, Direction::Decrypt) => decrypt(cbc::Decryptor::<$aes>::new($key, iv.into()), data),
            }
        };
    }
    match key.octets() {
        Octets::Aes128(key) => with!(Aes128, key.into()),
        Octets::Aes192(key) => with!(Aes192, key.into()),
        Octets::Aes256(key) => with!(Aes256, key.into()),
    }
}

fn encrypt(mut mode: impl BlockEncryptMut<BlockSize = U16>, data: &mut [u8]) {
    let (blocks, _) = InOutBuf::from(data).into_chunks::<U16>();
    mode.encrypt_blocks_inout_mut(blocks);
}

fn decrypt(mut mode: impl BlockDecryptMut<BlockSize = U16>, data: &mut [u8]) {
    let (blocks, _) = InOutBuf::from(data).into_chunks::<U16>();
    mode.decrypt_blocks_inout_mut(blocks);
}

/// The length without padding; `None` if the padding is wrong. Looks at all of the last block, whatever it finds.
fn unpadded(plain: &[u8], iso10126: bool) -> Option<usize> {
    let block = plain.last_chunk::<BLOCK>()?;
    let [.., count] = *block;
    let fill = usize::from(count);
    let wrong =
        block.iter().rev().enumerate().fold(0, |wrong, (at, byte)| wrong | if at < fill { byte ^ count } else { 0 });
    ((1..=BLOCK).contains(&fill) && (iso10126 || wrong == 0)).then(|| plain.len() - fill)
}
