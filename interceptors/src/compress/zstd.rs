//! Zstandard: one frame of its own format.

use std::fmt;

use ::zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use super::core::NotShorter;
use crate::packing::STEP;

/// The largest window that a frame may ask for, as a power of two: what the highest level uses. The decompressor takes so much
/// memory beside the body.
const MAX_WINDOW_LOG: u32 = 23;

/// So many bytes may come out in one go. They are set to zero first, which is why they are not more.
const WINDOW: usize = STEP / 4;

/// A compressor.
pub(super) struct Packer(Encoder<'static>);

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn new(level: u32) -> Option<Self> {
        let mut encoder = Encoder::new(i32::try_from(level).ok()?).ok()?;
        // Four bytes by which damage is found, whoever carries the message.
        encoder.set_parameter(CParameter::ChecksumFlag(true)).ok()?;
        Some(Self(encoder))
    }

    pub(super) fn begin(&mut self, len: usize) -> Result<(), NotShorter> {
        self.0.reinit().map_err(|_cannot_be| NotShorter)?;
        // Small bodies get small tables.
        let len = u64::try_from(len).map_err(|_cannot_be| NotShorter)?;
        self.0.set_pledged_src_size(Some(len)).map_err(|_cannot_be| NotShorter)
    }

    /// Compresses `input`, and ends the frame if that was the `last`.
    pub(super) fn run(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize, last: bool) -> Result<(), NotShorter> {
        let mut source = InBuffer::around(input);
        loop {
            let at = out.len();
            // One byte more than the limit shows that there is more.
            let room = limit.saturating_add(1).saturating_sub(at).min(WINDOW);
            out.resize(at.saturating_add(room), 0);
            let (_, free) = out.split_at_mut(at);
            let mut target = OutBuffer::around(free);
            let left = if source.pos() < input.len() || !last {
                self.0.run(&mut source, &mut target).map(|_hint| usize::from(source.pos() < input.len()))
            } else {
                self.0.finish(&mut target, false)
            };
            let made = target.pos();
            out.truncate(at.saturating_add(made));
            let left = left.map_err(|_cannot_be| NotShorter)?;
            if out.len() > limit {
                return Err(NotShorter);
            }
            if left == 0 && (source.pos() == input.len()) {
                return Ok(());
            }
        }
    }
}

/// A decompressor at work.
pub(super) struct Unpacker {
    decoder: Decoder<'static>,
    ended: bool,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Unpacker {
    pub(super) fn new() -> Option<Self> {
        let mut decoder = Decoder::new().ok()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).ok()?;
        Some(Self { decoder, ended: false })
    }

    /// Unpacks up to [`STEP`] bytes more of a body of `len` bytes; whether those were the last. `None` if it is damaged.
    pub(super) fn step(&mut self, rest: &mut &[u8], out: &mut Vec<u8>, len: usize) -> Option<bool> {
        let at = out.len();
        // One byte more than there are to be shows that there are more.
        let room = len.saturating_add(1).saturating_sub(at).min(STEP);
        out.resize(at.saturating_add(room), 0);
        let (_, free) = out.split_at_mut(at);
        let mut source = InBuffer::around(rest);
        let mut target = OutBuffer::around(free);
        let hint = self.decoder.run(&mut source, &mut target);
        let (taken, made) = (source.pos(), target.pos());
        out.truncate(at.saturating_add(made));
        let hint = hint.ok()?;
        *rest = rest.get(taken..)?;
        if out.len() > len {
            return None;
        }
        self.ended = hint == 0;
        let stuck = !self.ended && taken == 0 && made == 0;
        if stuck { None } else { Some(self.ended) }
    }
}
