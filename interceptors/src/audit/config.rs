//! Options of [`Audit`](super::Audit).

use std::path::PathBuf;

use super::NAME;
use crate::ConfigError;
use crate::config::size;

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

const SIZES: std::ops::RangeInclusive<u64> = 4096..=1 << 40;
const SIZES_TEXT: &str = "a size from 4KiB to 1TiB";
const FILE_COUNTS: std::ops::RangeInclusive<usize> = 1..=1000;
const FILE_COUNTS_TEXT: &str = "a number from 1 to 1000";
const QUEUES: std::ops::RangeInclusive<usize> = 16..=1 << 20;
const QUEUES_TEXT: &str = "a number of records from 16 to 1048576";
const BODIES: std::ops::RangeInclusive<usize> = 0..=1024;
const BODIES_TEXT: &str = "a number of bytes from 0 to 1024";

impl AuditConfig {
    /// The default of [`path`](Self::path).
    pub const PATH: &'static str = "tribes-audit.jsonl";
    /// The default of [`max_size`](Self::max_size), 64 MiB.
    pub const MAX_SIZE: u64 = 64 << 20;
    /// The default of [`files`](Self::files), 5.
    pub const FILES: usize = 5;
    /// The default of [`queue`](Self::queue), 8,192.
    pub const QUEUE: usize = 8192;

    const KEYS: &'static [&'static str] = &["path", "max_size", "files", "queue", "body"];

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

    /// Sets an option from text: its name in snake_case; sizes as a number of bytes or as in `64KiB`.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let within = |number: Option<usize>, bounds: &std::ops::RangeInclusive<usize>, expected| {
            number.filter(|number| bounds.contains(number)).ok_or_else(|| invalid(key, value, expected))
        };
        match key {
            "max_size" => {
                let bytes = size(value).filter(|bytes| SIZES.contains(bytes));
                self.max_size = bytes.ok_or_else(|| invalid(key, value, SIZES_TEXT))?;
            }
            "files" => self.files = within(number(value), &FILE_COUNTS, FILE_COUNTS_TEXT)?,
            "queue" => self.queue = within(number(value), &QUEUES, QUEUES_TEXT)?,
            "body" => {
                let bytes = size(value).and_then(|bytes| usize::try_from(bytes).ok());
                self.body = within(bytes, &BODIES, BODIES_TEXT)?;
            }
            _ if value.is_empty() => return Err(invalid(key, value, "the path of a file")),
            _ => self.path = PathBuf::from(value),
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, value: &dyn ToString, expected| Err(invalid(key, &value.to_string(), expected));
        if !SIZES.contains(&self.max_size) {
            return refuse("max_size", &self.max_size, SIZES_TEXT);
        }
        if !FILE_COUNTS.contains(&self.files) {
            return refuse("files", &self.files, FILE_COUNTS_TEXT);
        }
        if !QUEUES.contains(&self.queue) {
            return refuse("queue", &self.queue, QUEUES_TEXT);
        }
        if !BODIES.contains(&self.body) {
            return refuse("body", &self.body, BODIES_TEXT);
        }
        Ok(())
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
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
