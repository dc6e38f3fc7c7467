//! What stands behind a body on the wire: `00` behind a whole one; number, count and `01` behind a piece.

use bytes::{BufMut, Bytes, BytesMut};
use tribes_core::Body;

/// Behind a whole body.
pub(super) const WHOLE: &[u8] = &[0];
/// Number and count, before the last byte of a piece.
const PLACE: usize = 8;
/// A piece's last byte; Tribes takes any but zero for it.
const PIECE: u8 = 1;

/// Where a piece belongs: `number` of `count`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) count: u32,
}

/// Why a received body is neither whole nor a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedPiece {
    /// There is no last byte that tells which.
    #[error("the message has no trailing byte: is the sender without fragmentation?")]
    NoTrailer,
    /// It ends before its number and count.
    #[error("the piece is too short for its number and count")]
    TooShort,
    /// Number or count cannot be.
    #[error("the piece says that it is number {number} of {count}")]
    Place {
        /// Its number, from 0.
        number: i32,
        /// How many it says there are.
        count: i32,
    },
}

/// How many pieces of at most `size` bytes `len` bytes make; `None` if they cannot be counted.
pub(super) fn count(len: usize, size: usize) -> Option<u32> {
    let count = len.div_ceil(size.max(1));
    i32::try_from(count).ok().and_then(|count| u32::try_from(count).ok())
}

/// Cuts `body` into `count` pieces of `size` bytes, each with what stands behind it. Copies only a body of several segments.
pub(super) fn cut(body: &Body, size: usize, count: u32) -> Vec<Body> {
    let mut rest = body.to_bytes();
    let mut trailers = BytesMut::with_capacity((PLACE + 1).saturating_mul(count as usize));
    (0..count)
        .map(|number| {
            let mut piece = Body::new(rest.split_to(size.min(rest.len())));
            trailers.put_u32(number);
            trailers.put_u32(count);
            trailers.put_u8(PIECE);
            piece.push_trailer(trailers.split().freeze());
            piece
        })
        .collect()
}

/// Takes off what stands behind `body`; `None` if that is whole.
pub(super) fn take_off(body: &mut Body) -> Result<Option<Place>, MalformedPiece> {
    let last = body.split_trailer(1).and_then(|last| last.first().copied());
    match last {
        None => Err(MalformedPiece::NoTrailer),
        Some(0) => Ok(None),
        Some(_) => place(&body.split_trailer(PLACE).ok_or(MalformedPiece::TooShort)?).map(Some),
    }
}

fn place(bytes: &Bytes) -> Result<Place, MalformedPiece> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(MalformedPiece::TooShort)?;
    let (count, _) = rest.split_first_chunk::<4>().ok_or(MalformedPiece::TooShort)?;
    let (number, count) = (i32::from_be_bytes(*number), i32::from_be_bytes(*count));
    let malformed = MalformedPiece::Place { number, count };
    let place = |value| u32::try_from(value).map_err(|_negative| malformed);
    let place = Place { number: place(number)?, count: place(count)? };
    if place.number < place.count { Ok(place) } else { Err(malformed) }
}
