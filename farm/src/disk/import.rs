//! From a file of the application to an object.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Disk, PIECE, Stamp, hash_file, own_file, sync_folder};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::limits::Limits;
use crate::manifest::{Content, list_digest};

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("it changed while it was read")]
    Changed,
    #[error("it has {size} bytes, and {limit} are the limit")]
    TooLarge { size: u64, limit: u64 },
    #[error("it is no plain file")]
    NoFile,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Disk {
    /// Copies a file to an object. `twice`: reads it twice, and takes it only if it was the same.
    pub(crate) fn import(
        &self,
        path: &Path,
        twice: bool,
        limits: &Limits,
        algorithm: Algorithm,
    ) -> Result<Content, ImportError> {
        let mut source = open_plain(path)?;
        let before = Stamp::new(&source.metadata()?);
        let first = if twice { Some(hash_file(&mut source, algorithm)?) } else { None };
        source.seek(SeekFrom::Start(0))?;
        let content = self.import_from(&mut source, before.size(), limits, algorithm)?;
        let same = first.is_none_or(|first| first == (content.size, content.hash));
        if same && Stamp::of(path)? == Some(before) { Ok(content) } else { Err(ImportError::Changed) }
    }

    /// Makes an object of `size` bytes that `source` gives.
    pub(crate) fn import_from(
        &self,
        source: &mut dyn Read,
        size: u64,
        limits: &Limits,
        algorithm: Algorithm,
    ) -> Result<Content, ImportError> {
        if size > limits.file {
            return Err(ImportError::TooLarge { size, limit: limits.file });
        }
        let chunk = limits.chunk_for(size);
        let temporary = self.temporary_path();
        let mut file = own_file().write(true).create_new(true).open(&temporary)?;
        let copied = copy(source, &mut file, size, chunk, algorithm);
        let kept = copied.and_then(|(hash, list)| {
            self.set_mode(&file)?;
            file.sync_all()?;
            let content = Content { size, algorithm, hash, chunk, list: list_digest(algorithm, &list) };
            if content.chunks() > 1 {
                self.keep_list(&content, &list)?;
            }
            self.keep_object(&temporary, &content)?;
            Ok(content)
        });
        if kept.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        kept
    }

    /// Gives a file that is whole, verified and synced its name among the objects.
    pub(super) fn keep_object(&self, path: &Path, content: &Content) -> io::Result<()> {
        let object = self.object(&content.hash);
        fs::rename(path, &object)?;
        // It is fetched no more, whoever made it whole.
        self.leave(&content.hash);
        sync_folder(&object)?;
        if let Some(stamp) = Stamp::of(&object)? {
            self.hashed().insert((content.hash, content.algorithm), (stamp, true));
        }
        Ok(())
    }
}

/// Opens a plain file. What is looked at is what is opened: a link that takes its place meanwhile leads nowhere, and a pipe is not
/// waited for.
fn open_plain(path: &Path) -> Result<File, ImportError> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use nix::libc::{ELOOP, O_NOFOLLOW, O_NONBLOCK};
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NOFOLLOW | O_NONBLOCK);
        let file = match options.open(path) {
            Err(error) if error.raw_os_error() == Some(ELOOP) => return Err(ImportError::NoFile),
            opened => opened?,
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(ImportError::NoFile) }
    }
    #[cfg(not(unix))]
    {
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(ImportError::NoFile);
        }
        Ok(options.open(path)?)
    }
}

/// Pieces that are copied, and wait to be hashed into the whole.
const AHEAD: usize = 4;

/// Copies exactly `size` bytes; the hash of the whole and of each chunk. Of what has several chunks the whole is hashed by a thread of
/// its own: hashing is what takes longest.
fn copy(
    source: &mut dyn Read,
    target: &mut File,
    size: u64,
    chunk: u32,
    algorithm: Algorithm,
) -> Result<(Digest, Vec<Digest>), ImportError> {
    if size <= u64::from(chunk) {
        let mut hash = algorithm.digest(&[]);
        copy_pieces(source, target, size, chunk, |bytes| hash = algorithm.digest(&bytes))?;
        return Ok((hash, if size == 0 { Vec::new() } else { vec![hash] }));
    }
    std::thread::scope(|scope| {
        let (send, pieces) = std::sync::mpsc::sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let whole = scope.spawn(move || {
            let mut hasher = Hasher::new(algorithm);
            pieces.iter().for_each(|piece| hasher.update(&piece));
            hasher.finish()
        });
        let mut list = Vec::new();
        copy_pieces(source, target, size, chunk, |bytes| {
            let bytes = Arc::new(bytes);
            // It takes all as long as it lives, and if it does not, that is seen below.
            let _ = send.send(Arc::clone(&bytes));
            list.push(algorithm.digest(&bytes));
        })?;
        drop(send);
        let whole = whole.join().map_err(|_panic| io::Error::other("hashing panicked"))?;
        Ok((whole, list))
    })
}

fn copy_pieces(
    source: &mut dyn Read,
    target: &mut File,
    size: u64,
    chunk: u32,
    mut copied: impl FnMut(Vec<u8>),
) -> Result<(), ImportError> {
    let mut left = size;
    while left > 0 {
        let len = left.min(u64::from(chunk));
        let mut bytes = Vec::with_capacity((chunk as usize).min(PIECE));
        if source.take(len).read_to_end(&mut bytes)? as u64 != len {
            return Err(ImportError::Changed);
        }
        target.write_all(&bytes)?;
        copied(bytes);
        left -= len;
    }
    if source.read(&mut [0])? == 0 { Ok(()) } else { Err(ImportError::Changed) }
}
