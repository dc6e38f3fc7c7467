//! The file, and its older siblings.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::core::Fill;

/// An append-only file that is rotated when it is full.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    keep: usize,
    fill: Fill,
    file: Option<File>,
    pub(super) rotations: u64,
    /// Those that did not work, in a row.
    failed: u64,
}

impl Log {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path, max: u64, keep: usize) -> io::Result<Self> {
        let mut log =
            Self { path: path.to_owned(), keep, fill: Fill { size: 0, max }, file: None, rotations: 0, failed: 0 };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<&mut File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        #[cfg(unix)]
        {
            // Who talks to whom is nobody else's business.
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&self.path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // The last line is torn: the process, or the disk, gave up in the middle of it.
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        self.fill.size = size;
        Ok(self.file.insert(file))
    }

    /// Appends whole lines, all to the same file.
    ///
    /// # Errors
    /// They were not written, or only in part. The next call opens the file anew.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let len = lines.len() as u64;
        let result = self.try_append(lines, len);
        match &result {
            Ok(()) => self.fill.size += len,
            Err(_) => self.file = None,
        }
        result
    }

    fn try_append(&mut self, lines: &[u8], len: u64) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.fill.must_rotate(len) {
            self.file = None;
            // If the file cannot be moved, rather too large a file than a gap.
            match self.rotate() {
                Ok(()) => (self.rotations, self.failed) = (self.rotations + 1, 0),
                Err(error) => {
                    // Tried anew with each record: the other log is not to be filled with that.
                    self.failed += 1;
                    if self.failed.is_power_of_two() {
                        let times = self.failed;
                        tracing::warn!(path = %self.path.display(), %error, times, "the audit file cannot be rotated");
                    }
                }
            }
            self.reopen()?;
        }
        match &mut self.file {
            Some(file) => file.write_all(lines),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// How many more bytes fit before a rotation.
    pub(super) const fn room(&self) -> u64 {
        self.fill.max.saturating_sub(self.fill.size)
    }

    fn rotate(&self) -> io::Result<()> {
        let sibling = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // The oldest is overwritten.
        for number in (1..self.keep).rev() {
            match std::fs::rename(sibling(number), sibling(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, sibling(1))
    }
}
