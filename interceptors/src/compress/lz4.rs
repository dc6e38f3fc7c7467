//! LZ4 in blocks, each by itself: two bytes for the length of what follows, big-endian, then the LZ4 block of the next 65,534
//! bytes of the body, or of what is left of it. A block that LZ4 makes no shorter stands there as it is, which its length tells.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::core::NotShorter;

/// Bytes of a body in one block: with no more of them LZ4 gets along with the small table, and the length with two bytes.
pub(super) const BLOCK: usize = 0xFFFE;
const HEAD: usize = 2;

/// LZ4 never makes less of its input than this.
const MAX_RATIO: usize = 255;

/// A compressor.
#[derive(Default)]
pub(super) struct Packer {
    table: CompressTable,
    /// Bytes that do not fill a block yet.
    pending: Vec<u8>,
    /// One block's output.
    scratch: Vec<u8>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn begin(&mut self, len: usize) {
        self.pending.clear();
        let most = get_maximum_output_size(len.min(BLOCK));
        if self.scratch.len() < most {
            self.scratch.resize(most, 0);
        }
    }

    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        while !input.is_empty() {
            if self.pending.is_empty() && input.len() >= BLOCK {
                let (block, rest) = input.split_at(BLOCK);
                self.block(block, out, limit)?;
                input = rest;
                continue;
            }
            let (some, rest) = input.split_at(input.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(some);
            input = rest;
            if self.pending.len() == BLOCK {
                self.flush(out, limit)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        if self.pending.is_empty() { Ok(()) } else { self.flush(out, limit) }
    }

    fn flush(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        let mut pending = std::mem::take(&mut self.pending);
        let result = self.block(&pending, out, limit);
        pending.clear();
        self.pending = pending;
        result
    }

    fn block(&mut self, block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        let len = compress_into_with_table(block, &mut self.scratch, &mut self.table);
        let packed = len.ok().and_then(|len| self.scratch.get(..len)).filter(|packed| packed.len() < block.len());
        let packed = packed.unwrap_or(block);
        let len = u16::try_from(packed.len()).map_err(|_cannot_be| NotShorter)?;
        if out.len().saturating_add(HEAD).saturating_add(packed.len()) > limit {
            return Err(NotShorter);
        }
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(packed);
        Ok(())
    }
}

/// Whether so few packed bytes can make so many.
pub(super) const fn can_be(packed: usize, len: usize) -> bool {
    len / MAX_RATIO <= packed
}

/// Unpacks the next block of a body of `len` bytes; whether that was the last. `None` if it is damaged.
pub(super) fn unpack(rest: &mut &[u8], out: &mut Vec<u8>, len: usize) -> Option<bool> {
    let expected = len.checked_sub(out.len())?.min(BLOCK);
    if expected == 0 {
        return Some(true);
    }
    let (head, body) = rest.split_first_chunk::<HEAD>()?;
    let (block, after) = body.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
    if block.len() == expected {
        out.extend_from_slice(block);
    } else {
        let at = out.len();
        out.resize(at + expected, 0);
        let made = decompress_into(block, out.get_mut(at..)?).ok()?;
        if made != expected {
            return None;
        }
    }
    *rest = after;
    Some(out.len() == len)
}
