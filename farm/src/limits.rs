//! How much a farm takes.

/// How much a member takes and does at most. What is beyond is refused by publishers, and by receivers whatever a publisher says;
/// so the same on all members. What was refused for want of room is looked at again when there is some. Of what several publish at the same
/// time, and is too much together, each member has what it heard of first until then: publishers see the room that there is, not what
/// others are about to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one file. Default 2 GiB, at most 64 GiB.
    pub file: u64,
    /// Bytes of all current versions together. Default 10 GiB. Kept versions come on top, and the copies in the watched folder.
    pub total: u64,
    /// How many artefacts there are, removed ones of the last week counted. Default 10,000. Each takes some hundred bytes of memory on
    /// every member.
    pub artefacts: usize,
    /// Bytes of a chunk, the unit in which files are fetched and checked. Default 256 KiB; from 1 KiB to 8 MiB. Files of more than
    /// 8,192 chunks have larger ones. A larger chunk is less work, and more to fetch anew when it is lost.
    pub chunk: u32,
    /// From how many members one file is fetched at the same time. Default 3.
    pub parallel_peers: usize,
}

/// Hashes of a file's chunks come in one message.
pub(crate) const MAX_CHUNKS: u64 = 8192;
/// The largest chunk that is taken from a peer.
pub(crate) const MAX_CHUNK: u32 = 8 << 20;
pub(crate) const MIN_CHUNK: u32 = 1 << 10;

impl Default for Limits {
    fn default() -> Self {
        Self { file: 2 << 30, total: 10 << 30, artefacts: 10_000, chunk: 256 << 10, parallel_peers: 3 }
    }
}

impl Limits {
    /// Sets [`file`](Self::file).
    #[must_use]
    pub const fn with_file(mut self, bytes: u64) -> Self {
        self.file = bytes;
        self
    }

    /// Sets [`total`](Self::total).
    #[must_use]
    pub const fn with_total(mut self, bytes: u64) -> Self {
        self.total = bytes;
        self
    }

    /// Sets [`artefacts`](Self::artefacts).
    #[must_use]
    pub const fn with_artefacts(mut self, count: usize) -> Self {
        self.artefacts = count;
        self
    }

    /// Sets [`chunk`](Self::chunk).
    #[must_use]
    pub const fn with_chunk(mut self, bytes: u32) -> Self {
        self.chunk = bytes;
        self
    }

    /// Sets [`parallel_peers`](Self::parallel_peers).
    #[must_use]
    pub const fn with_parallel_peers(mut self, peers: usize) -> Self {
        self.parallel_peers = peers;
        self
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !(MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk) {
            return Some("a chunk has from 1 KiB to 8 MiB");
        }
        if self.parallel_peers == 0 {
            return Some("files are fetched from at least one member");
        }
        if self.file > u64::from(MAX_CHUNK) * MAX_CHUNKS {
            return Some("a file has at most 64 GiB");
        }
        None
    }

    /// The size of the chunks of a file.
    pub(crate) fn chunk_for(&self, size: u64) -> u32 {
        let needed = size.div_ceil(MAX_CHUNKS).next_multiple_of(u64::from(MIN_CHUNK));
        u32::try_from(needed).unwrap_or(MAX_CHUNK).max(self.chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_has_too_many_chunks() {
        let limits = Limits::default().with_file(64 << 30);
        assert_eq!(limits.fault(), None);
        for size in [0, 1, 256 << 10, 2 << 30, (2 << 30) + 1, 10 << 30, (64 << 30) - 1, 64 << 30] {
            let chunk = limits.chunk_for(size);
            assert!(size.div_ceil(u64::from(chunk)) <= MAX_CHUNKS && chunk <= MAX_CHUNK, "{size}: {chunk}");
        }
        assert_eq!(limits.chunk_for(200 << 20), 256 << 10);
        for wrong in [
            limits.with_chunk(0),
            limits.with_chunk(MAX_CHUNK + 1),
            limits.with_parallel_peers(0),
            limits.with_file(u64::MAX),
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
