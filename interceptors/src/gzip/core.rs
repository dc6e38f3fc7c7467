//! The gzip format (RFC 1952) in steps, so that a large body does not keep a thread from its other work.
//!
//! What comes from a peer is checked in full: header, checksums, lengths, and the bound of the output before each step.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

pub(super) use crate::packing::STEP;

/// As Java writes it: deflate, no flags, no time, system unknown.
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// Checksum and length, behind the compressed bytes.
const TRAILER: usize = 8;

/// Deflate never makes less of its input than this.
const MAX_RATIO: usize = 1032;

/// So many members a body may have: all known senders make one. Each costs as much as tens of thousands of bytes, for twenty that
/// a peer sends.
pub(super) const MAX_MEMBERS: u32 = 256;

/// Flags of a member's header.
const CHECKED: u8 = 2;
const EXTRA: u8 = 4;
const NAMED: u8 = 8;
const COMMENTED: u8 = 16;
const RESERVED: u8 = 0xE0;

/// A compressor of this level.
pub(super) fn compressor(level: u32) -> Compress {
    Compress::new(Compression::new(level), false)
}

/// A decompressor.
pub(super) fn decompressor() -> Decompress {
    Decompress::new(false)
}

/// The compressed form would be longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotShorter;

/// A body that is being compressed.
#[derive(Debug)]
pub(super) struct Packing {
    deflate: Compress,
    crc: Crc,
    out: Vec<u8>,
    /// The most bytes before the trailer.
    limit: usize,
    /// So many bytes may come out in one go. They are set to zero first, which is why they are not more.
    window: usize,
}

impl Packing {
    /// Begins a body of `len` bytes, of which at most `limit` may become.
    pub(super) fn new(mut deflate: Compress, len: usize, limit: usize) -> Self {
        deflate.reset();
        let mut out = Vec::with_capacity((len / 2).saturating_add(64).min(limit.max(HEADER.len() + TRAILER)));
        out.extend_from_slice(&HEADER);
        let window = len.saturating_add(64).min(STEP / 4);
        Self { deflate, crc: Crc::new(), out, limit: limit.saturating_sub(TRAILER), window }
    }

    /// Compresses the next bytes of it.
    pub(super) fn feed(&mut self, mut input: &[u8]) -> Result<(), NotShorter> {
        self.crc.update(input);
        while !input.is_empty() {
            let (taken, _) = self.run(input, FlushCompress::None)?;
            input = input.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends the body; its compressed form.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, NotShorter> {
        while !self.run(&[], FlushCompress::Finish)?.1 {}
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        Ok(out)
    }

    /// The compressor, for the next body.
    pub(super) fn into_compressor(self) -> Compress {
        self.deflate
    }

    /// One call of the compressor: how many bytes it took, and whether the stream has ended.
    fn run(&mut self, input: &[u8], flush: FlushCompress) -> Result<(usize, bool), NotShorter> {
        let at = self.out.len();
        // One byte more than the limit shows that there is more.
        let room = self.limit.saturating_add(1).saturating_sub(at).min(self.window);
        self.out.resize(at.saturating_add(room), 0);
        let (_, free) = self.out.split_at_mut(at);
        let (taken, made) = (self.deflate.total_in(), self.deflate.total_out());
        let status = self.deflate.compress(input, free, flush).map_err(|_cannot_be| NotShorter)?;
        let taken = usize::try_from(self.deflate.total_in() - taken).unwrap_or(input.len());
        let made = usize::try_from(self.deflate.total_out() - made).unwrap_or(room);
        self.out.truncate(at.saturating_add(made));
        let ended = status == Status::StreamEnd;
        let stuck = !ended && taken == 0 && made == 0;
        if stuck || self.out.len() > self.limit { Err(NotShorter) } else { Ok((taken, ended)) }
    }
}

/// Why a received body could not be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is marked as compressed, but is no gzip, or other bytes follow: the stacks of the two members may differ.
    #[error("the body is marked as compressed, but it is not gzip, or has other bytes behind")]
    NotGzip,
    /// It ends too early.
    #[error("the compressed body is cut short")]
    Truncated,
    /// A checksum, a length or the compressed bytes themselves are wrong.
    #[error("the compressed body is damaged")]
    Damaged,
    /// It unpacks to more than allowed.
    #[error("the body unpacks to more than the limit of {limit} bytes; raise `max_size` of gzip")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It consists of more pieces, each a gzip of its own, than any known sender makes.
    #[error("the body consists of more than {MAX_MEMBERS} gzip members")]
    TooManyMembers,
    /// The channel is stopped.
    #[error("the channel was stopped")]
    Stopped,
}

/// How large the unpacked body claims to be, if that can be at all: true of all bodies that are one gzip member, as all
/// known senders make them; of several it is the size of the last.
pub(super) fn claimed_size(packed: &[u8]) -> Result<usize, UnpackError> {
    if packed.len() < HEADER.len() + TRAILER {
        return Err(if HEADER.starts_with(packed.get(..3).unwrap_or(packed)) {
            UnpackError::Truncated
        } else {
            UnpackError::NotGzip
        });
    }
    skip_header(packed)?;
    let size = packed.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
    let size = usize::try_from(size).map_err(|_too_large| UnpackError::Damaged)?;
    // Before memory is taken for it.
    if size / MAX_RATIO > packed.len() { Err(UnpackError::Damaged) } else { Ok(size) }
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done,
}

/// A body that is being unpacked.
#[derive(Debug)]
pub(super) struct Unpacking<'a> {
    inflate: Decompress,
    rest: &'a [u8],
    crc: Crc,
    out: Vec<u8>,
    limit: usize,
    /// Whether `rest` begins within a member.
    inside: bool,
    /// How many members have begun.
    members: u32,
}

impl<'a> Unpacking<'a> {
    /// Begins to unpack `packed` to at most `limit` bytes, for which memory is taken at once.
    pub(super) fn new(inflate: Decompress, packed: &'a [u8], limit: usize) -> Self {
        let out = Vec::with_capacity(limit.saturating_add(1));
        Self { inflate, rest: packed, crc: Crc::new(), out, limit, inside: false, members: 0 }
    }

    /// Goes on until [`STEP`] bytes have come out, or a member ends.
    pub(super) fn step(&mut self) -> Result<Step, UnpackError> {
        if !self.inside {
            self.members += 1;
            if self.members > MAX_MEMBERS {
                return Err(UnpackError::TooManyMembers);
            }
            self.rest = skip_header(self.rest)?;
            self.inflate.reset(false);
            self.crc.reset();
            self.inside = true;
        }
        let at = self.out.len();
        // One byte more than the limit shows that there is more.
        let room = self.limit.saturating_add(1).saturating_sub(at).min(STEP);
        self.out.resize(at.saturating_add(room), 0);
        let (_, free) = self.out.split_at_mut(at);
        let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(self.rest, free, FlushDecompress::None);
        let status = status.map_err(|_details_say_nothing| UnpackError::Damaged)?;
        let taken = usize::try_from(self.inflate.total_in() - taken).unwrap_or(self.rest.len());
        let made = usize::try_from(self.inflate.total_out() - made).unwrap_or(room);
        self.rest = self.rest.get(taken..).unwrap_or_default();
        self.out.truncate(at.saturating_add(made));
        self.crc.update(self.out.get(at..).unwrap_or_default());
        if self.out.len() > self.limit {
            return Err(UnpackError::TooLarge { limit: self.limit });
        }
        match status {
            Status::StreamEnd => self.end_of_member(),
            _ if taken == 0 && made == 0 => Err(UnpackError::Truncated),
            _ => Ok(Step::More),
        }
    }

    fn end_of_member(&mut self) -> Result<Step, UnpackError> {
        let (sum, rest) = self.rest.split_first_chunk::<4>().ok_or(UnpackError::Truncated)?;
        let (size, rest) = rest.split_first_chunk::<4>().ok_or(UnpackError::Truncated)?;
        if u32::from_le_bytes(*sum) != self.crc.sum() || u32::from_le_bytes(*size) != self.crc.amount() {
            return Err(UnpackError::Damaged);
        }
        (self.rest, self.inside) = (rest, false);
        Ok(if rest.is_empty() { Step::Done } else { Step::More })
    }

    /// What came out, and the decompressor for the next body.
    pub(super) fn into_parts(self) -> (Vec<u8>, Decompress) {
        (self.out, self.inflate)
    }
}

/// What follows a member's header.
fn skip_header(bytes: &[u8]) -> Result<&[u8], UnpackError> {
    let (head, mut rest) = bytes.split_first_chunk::<10>().ok_or(UnpackError::NotGzip)?;
    let [0x1F, 0x8B, 8, flags, ..] = *head else { return Err(UnpackError::NotGzip) };
    if flags & RESERVED != 0 {
        return Err(UnpackError::Damaged);
    }
    if flags & EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>().ok_or(UnpackError::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..).ok_or(UnpackError::Truncated)?;
    }
    for text in [NAMED, COMMENTED] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(UnpackError::Truncated)?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    if flags & CHECKED != 0 {
        let mut crc = Crc::new();
        crc.update(bytes.get(..bytes.len() - rest.len()).unwrap_or_default());
        let (sum, after) = rest.split_first_chunk::<2>().ok_or(UnpackError::Truncated)?;
        if crc.sum() & 0xFFFF != u32::from(u16::from_le_bytes(*sum)) {
            return Err(UnpackError::Damaged);
        }
        rest = after;
    }
    Ok(rest)
}
