//! What is being fetched.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Disk, hash_file, own_file, read_at};
use crate::digest::Digest;
use crate::manifest::Content;
use crate::transfer::{Fault, Opened};

/// A file some chunks of which are there. It is opened for each of them: what stalls, or is forgotten, holds no descriptor.
#[derive(Debug)]
pub(super) struct Partial {
    content: Content,
    path: PathBuf,
    have: Mutex<Vec<bool>>,
}

impl Partial {
    pub(super) fn is_of(&self, content: &Content) -> bool {
        self.content == *content
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let have = self.have.lock().unwrap_or_else(PoisonError::into_inner);
        have.get(index as usize).copied().unwrap_or_default()
    }

    pub(super) fn read(&self, start: u64, len: usize, before: &[u8]) -> io::Result<Vec<u8>> {
        read_at(&mut File::open(&self.path)?, start, len, before)
    }

    fn write(&self, index: u32, start: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        file.write_all(bytes)?;
        if let Some(have) = self.have.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index as usize) {
            *have = true;
        }
        Ok(())
    }
}

impl Disk {
    fn partial_path(&self, content: &Content) -> PathBuf {
        self.staging.join("partial").join(format!("{}-{}", content.hash, content.chunk))
    }

    /// What is there of a content: of a file that an earlier process left, the chunks that have the right hash.
    pub(crate) fn look(&self, content: &Content) -> io::Result<Opened> {
        if self.has_object(content)? {
            self.leave(&content.hash);
            return Ok(Opened::Whole);
        }
        let Some(list) = self.list(content)? else { return Ok(Opened::Nothing) };
        // What was begun by this process is not hashed each time that it is tried again.
        let begun = self.partials().get(&content.hash).filter(|partial| partial.is_of(content)).cloned();
        let begun = begun.filter(|partial| fs::metadata(&partial.path).is_ok_and(|file| file.len() == content.size));
        let have = match begun {
            Some(begun) => begun.have.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => self.begin(content, &list)?,
        };
        Ok(Opened::Part(list.into(), have))
    }

    /// Opens the file that chunks are written to; which are there already.
    fn begin(&self, content: &Content, list: &[Digest]) -> io::Result<Vec<bool>> {
        let path = self.partial_path(content);
        let fresh = fs::symlink_metadata(&path).is_err();
        let mut file = own_file().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() != content.size {
            file.set_len(content.size)?;
        }
        let mut have = vec![false; list.len()];
        if !fresh {
            for ((index, wanted), have) in (0..).zip(list).zip(&mut have) {
                let Some((start, len)) = content.range(index) else { continue };
                *have = content.algorithm.digest(&read_at(&mut file, start, len, &[])?) == *wanted;
            }
        }
        let partial = Partial { content: *content, path, have: Mutex::new(have.clone()) };
        self.partials().insert(content.hash, Arc::new(partial));
        Ok(have)
    }

    /// The hashes that a peer says its chunks have.
    pub(crate) fn take_list(&self, content: &Content, list: &[Digest]) -> Result<(), Fault> {
        if !content.is_list(list) {
            return Err(Fault::Corrupt);
        }
        let kept = self.keep_list(content, list).and_then(|()| self.begin(content, list));
        kept.map(drop).map_err(|error| Fault::Disk(error.to_string()))
    }

    /// Keeps a chunk that a peer sent, if it is what it should be.
    pub(crate) fn take_chunk(
        &self,
        content: &Content,
        index: u32,
        expected: &Digest,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let Some((start, _)) = content.range(index).filter(|(_, len)| *len == bytes.len()) else {
            return Err(Fault::Corrupt);
        };
        if content.algorithm.digest(bytes) != *expected {
            return Err(Fault::Corrupt);
        }
        let partial = self.partials().get(&content.hash).cloned();
        let Some(partial) = partial.filter(|partial| partial.is_of(content)) else {
            return Err(Fault::Disk("it is not being fetched any more".into()));
        };
        partial.write(index, start, bytes).map_err(|error| Fault::Disk(error.to_string()))
    }

    /// All chunks are there: verifies the whole, and makes it an object. A whole that is wrong is dropped.
    pub(crate) fn finish(&self, content: &Content) -> Result<(), Fault> {
        let disk = |error: io::Error| Fault::Disk(error.to_string());
        let partial = self.partials().get(&content.hash).cloned();
        let Some(partial) = partial.filter(|partial| partial.is_of(content)) else {
            return Err(Fault::Disk("it is not being fetched any more".into()));
        };
        // Written to as well: not all systems sync a file that is open for reading.
        let mut file = File::options().read(true).write(true).open(&partial.path).map_err(disk)?;
        let found = hash_file(&mut file, content.algorithm).map_err(disk)?;
        self.set_mode(&file).and_then(|()| file.sync_all()).map_err(disk)?;
        if found == (content.size, content.hash) {
            return self.keep_object(&partial.path, content).map_err(disk);
        }
        self.leave(&content.hash);
        fs::remove_file(&partial.path).map_err(disk)?;
        Err(Fault::Corrupt)
    }

    /// It is not fetched any more. What there is of it is kept for a while.
    pub(crate) fn leave(&self, hash: &Digest) {
        self.partials().remove(hash);
    }
}
