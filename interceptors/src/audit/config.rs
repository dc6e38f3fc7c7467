//! Options of [`Audit`](super::Audit).

use std::path::PathBuf;

use tribes_core::settings::{number, path, size};

/// Options of [`Audit`](super::Audit).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditConfig {
    /// The file to append to; its folder must exist. Default [`AuditConfig::PATH`], in the working directory.
    pub path: PathBuf,
    /// The file is rotated before it would grow beyond this, 4 KiB to 1 TiB. Default [`AuditConfig::MAX_SIZE`].
    pub max_size: u64,
    /// How many rotated files are kept, 1 to 1,000: `path.1` is the youngest. Default [`AuditConfig::FILES`].
    pub files: usize,
    /// How many records may wait for the writer, 16 to 1,048,576; more are lost, and counted. Default
    /// [`AuditConfig::QUEUE`], about 2 MB at most with [`body`](Self::body) at zero.
    pub queue: usize,
    /// How many bytes of each body, from its beginning, go into the record, 0 to 1,024. Default 0.
    pub body: usize,
}

impl AuditConfig {
    /// The default of [`path`](Self::path).
    pub const PATH: &'static str = "tribes-audit.jsonl";
    /// The default of [`max_size`](Self::max_size), 64 MiB.
    pub const MAX_SIZE: u64 = 64 << 20;
    /// The default of [`files`](Self::files), 5.
    pub const FILES: usize = 5;
    /// The default of [`queue`](Self::queue), 8,192.
    pub const QUEUE: usize = 8192;

    /// With this file.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// With files of at most this size, in bytes.
    #[must_use]
    pub const fn with_max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// With this many rotated files kept.
    #[must_use]
    pub const fn with_files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// With room for this many records.
    #[must_use]
    pub const fn with_queue(mut self, records: usize) -> Self {
        self.queue = records;
        self
    }

    /// With this many bytes of each body.
    #[must_use]
    pub const fn with_body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from(Self::PATH),
            max_size: Self::MAX_SIZE,
            files: Self::FILES,
            queue: Self::QUEUE,
            body: 0,
        }
    }
}

tribes_core::settings! { AuditConfig {
    path: path(), "The file that records are appended to; its folder must exist.";
    max_size: size(4096..=1 << 40), "The file is rotated before it grows beyond so many bytes.";
    files: number(1..=1000), "How many rotated files are kept.";
    queue: number(16..=1 << 20), "How many records may wait to be written; more are lost, and counted.";
    body: size(0..=1024), "How many bytes of each body, from its beginning, go into the record.";
} }
