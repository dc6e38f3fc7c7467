//! The algorithms behind one face, in steps, and what the extension trailer says of a compressed body.
//!
//! What comes from a peer is checked in full: the algorithm, the length that it claims, the bound of the output before each
//! step, and that just as many bytes come out as were claimed.

use super::config::Algorithm;
#[cfg(feature = "compress-lz4")]
use super::lz4;
#[cfg(feature = "compress-zstd")]
use super::zstd;

/// Why a received body could not be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is marked as compressed, but nothing says how: the stacks of the two members may differ.
    #[error(
        "the body is marked as compressed, but nothing says how; do both members have their layers in the same order?"
    )]
    NoEntry,
    /// What says how it is compressed cannot be read.
    #[error("what says how the body is compressed is malformed")]
    BadEntry,
    /// Its algorithm is unknown.
    #[error("the body is compressed by algorithm {number}, which this version does not know")]
    Unknown {
        /// The algorithm's number.
        number: u8,
    },
    /// This build has not its algorithm.
    #[error("the body is compressed by {algorithm}, which this build has not; enable the feature {}", algorithm.feature())]
    NotInThisBuild {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The compressed bytes are wrong, end too early, or do not make as many bytes as was claimed.
    #[error("the compressed body is damaged")]
    Damaged,
    /// It unpacks to more than allowed.
    #[error("the body unpacks to {claimed} bytes, more than the limit of {limit}; raise `max_size` of compress")]
    TooLarge {
        /// What it claims.
        claimed: usize,
        /// The limit.
        limit: usize,
    },
    /// The channel is stopped.
    #[error("the channel was stopped")]
    Stopped,
}

/// The compressed form would be longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotShorter;

/// What the extension trailer says of a compressed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) algorithm: Algorithm,
    /// Unpacked length in bytes.
    pub(super) len: u32,
}

impl Entry {
    /// Bytes that a message grows by for it, when it has no trailer yet.
    pub(super) const COST: usize = 4 + 5 + tribes_core::wire::TRAILER_FOOTER;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![self.algorithm.number()];
        bytes.extend(self.len.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, UnpackError> {
        let [number, len @ ..] = bytes else { return Err(UnpackError::BadEntry) };
        let algorithm = Algorithm::of_number(*number).ok_or(UnpackError::Unknown { number: *number })?;
        let len = len.try_into().map(u32::from_be_bytes).map_err(|_length| UnpackError::BadEntry)?;
        if algorithm.is_available() {
            Ok(Self { algorithm, len })
        } else {
            Err(UnpackError::NotInThisBuild { algorithm })
        }
    }
}

/// A compressor without work.
#[derive(Debug)]
pub(super) enum Packer {
    #[cfg(feature = "compress-lz4")]
    Lz4(lz4::Packer),
    #[cfg(feature = "compress-zstd")]
    Zstd(zstd::Packer),
    /// This build has none, so there is none of these either.
    #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
    #[allow(dead_code, reason = "never made")]
    Absent,
}

impl Packer {
    /// `None` if this build has not the algorithm, or there is no memory for it.
    pub(super) fn new(algorithm: Algorithm, level: u32) -> Option<Self> {
        let _ = level;
        match algorithm {
            #[cfg(feature = "compress-lz4")]
            Algorithm::Lz4 => Some(Self::Lz4(lz4::Packer::default())),
            #[cfg(feature = "compress-zstd")]
            Algorithm::Zstd => zstd::Packer::new(level).map(Self::Zstd),
            #[allow(unreachable_patterns, reason = "not with all features")]
            _ => None,
        }
    }

    /// Begins a body of `len` bytes.
    #[allow(unused_variables, reason = "without an algorithm there is no packer")]
    pub(super) fn begin(&mut self, len: usize) -> Result<(), NotShorter> {
        match self {
            #[cfg(feature = "compress-lz4")]
            Self::Lz4(packer) => {
                packer.begin(len);
                Ok(())
            }
            #[cfg(feature = "compress-zstd")]
            Self::Zstd(packer) => packer.begin(len),
            #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
            Self::Absent => Err(NotShorter),
        }
    }

    /// Compresses the next bytes of it into `out`, which must not become longer than `limit`.
    #[allow(unused_variables, reason = "without an algorithm there is no packer")]
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        match self {
            #[cfg(feature = "compress-lz4")]
            Self::Lz4(packer) => packer.feed(input, out, limit),
            #[cfg(feature = "compress-zstd")]
            Self::Zstd(packer) => packer.run(input, out, limit, false),
            #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
            Self::Absent => Err(NotShorter),
        }
    }

    /// Ends it.
    #[allow(unused_variables, reason = "without an algorithm there is no packer")]
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), NotShorter> {
        match self {
            #[cfg(feature = "compress-lz4")]
            Self::Lz4(packer) => packer.finish(out, limit),
            #[cfg(feature = "compress-zstd")]
            Self::Zstd(packer) => packer.run(&[], out, limit, true),
            #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
            Self::Absent => Err(NotShorter),
        }
    }
}

/// A body that is being compressed.
#[derive(Debug)]
pub(super) struct Packing {
    packer: Packer,
    begun: Result<(), NotShorter>,
    out: Vec<u8>,
    limit: usize,
}

impl Packing {
    /// Begins a body of `len` bytes, of which at most `limit` may become.
    pub(super) fn new(mut packer: Packer, len: usize, limit: usize) -> Self {
        let begun = packer.begin(len);
        Self { packer, begun, out: Vec::with_capacity((len / 2).saturating_add(64).min(limit)), limit }
    }

    /// Compresses the next bytes of it.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<(), NotShorter> {
        self.begun?;
        self.packer.feed(input, &mut self.out, self.limit)
    }

    /// Ends the body; its compressed form.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, NotShorter> {
        self.begun?;
        self.packer.finish(&mut self.out, self.limit)?;
        Ok(std::mem::take(&mut self.out))
    }

    /// The compressor, for the next body.
    pub(super) fn into_packer(self) -> Packer {
        self.packer
    }
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
    machine: Unpacker,
    rest: &'a [u8],
    out: Vec<u8>,
    len: usize,
}

#[derive(Debug)]
enum Unpacker {
    #[cfg(feature = "compress-lz4")]
    Lz4,
    #[cfg(feature = "compress-zstd")]
    Zstd(zstd::Unpacker),
    /// As of [`Packer`].
    #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
    #[allow(dead_code, reason = "never made")]
    Absent,
}

impl Unpacker {
    #[allow(unused_variables, reason = "not every algorithm asks for the lengths")]
    fn new(algorithm: Algorithm, packed: usize, len: usize) -> Result<Self, UnpackError> {
        match algorithm {
            #[cfg(feature = "compress-lz4")]
            Algorithm::Lz4 if lz4::can_be(packed, len) => Ok(Self::Lz4),
            #[cfg(feature = "compress-lz4")]
            Algorithm::Lz4 => Err(UnpackError::Damaged),
            #[cfg(feature = "compress-zstd")]
            Algorithm::Zstd => zstd::Unpacker::new().map(Self::Zstd).ok_or(UnpackError::Damaged),
            #[allow(unreachable_patterns, reason = "not with all features")]
            algorithm => Err(UnpackError::NotInThisBuild { algorithm }),
        }
    }
}

impl<'a> Unpacking<'a> {
    /// Begins to unpack `packed` to just as many bytes as `entry` says. Takes no memory that so few packed bytes cannot
    /// fill.
    pub(super) fn new(entry: Entry, packed: &'a [u8]) -> Result<Self, UnpackError> {
        let len = usize::try_from(entry.len).map_err(|_too_large| UnpackError::Damaged)?;
        let machine = Unpacker::new(entry.algorithm, packed.len(), len)?;
        Ok(Self { machine, rest: packed, out: Vec::new(), len })
    }

    /// Goes on until about 64 KiB have come out.
    pub(super) fn step(&mut self) -> Result<Step, UnpackError> {
        let done = match &mut self.machine {
            #[cfg(feature = "compress-lz4")]
            Unpacker::Lz4 => lz4::unpack(&mut self.rest, &mut self.out, self.len),
            #[cfg(feature = "compress-zstd")]
            Unpacker::Zstd(unpacker) => unpacker.step(&mut self.rest, &mut self.out, self.len),
            #[cfg(not(any(feature = "compress-lz4", feature = "compress-zstd")))]
            Unpacker::Absent => None,
        };
        match done {
            None => Err(UnpackError::Damaged),
            Some(false) => Ok(Step::More),
            Some(true) if self.rest.is_empty() && self.out.len() == self.len => Ok(Step::Done),
            Some(true) => Err(UnpackError::Damaged),
        }
    }

    /// What came out.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.out
    }
}
