//! Files: what is kept where, and how it gets there. All of it blocks.
//!
//! ```text
//! staging/lock        one process at a time
//! staging/tmp/        what is being written; emptied at start
//! staging/objects/    whole contents under their hashes, verified and synced
//! staging/lists/      hashes of the chunks of a content
//! staging/partial/    what is being fetched
//! staging/records/    what is known of each artefact, and what is live here
//! live/               the artefacts under their names: hard links to objects, or copies where there are no links
//! ```
//!
//! Nothing gets another name than a temporary one before it is whole and synced. Names of peers are joined to `live` alone, part by
//! part, and no part may be a symbolic link. On Unix only the owner gets into `staging`; a live file has the mode that it is to have, and
//! so has its object, which is the same file.

mod import;
mod live;
mod partial;
mod records;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

pub(crate) use self::import::ImportError;
pub(crate) use self::live::Stamp;
use self::partial::Partial;
pub(crate) use self::records::Local;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::manifest::Content;

/// Files are read in pieces of this size.
const PIECE: usize = 256 << 10;

/// The two folders of a farm.
#[derive(Debug)]
pub(crate) struct Disk {
    staging: PathBuf,
    live: Option<PathBuf>,
    partials: Mutex<BTreeMap<Digest, Arc<Partial>>>,
    /// Objects as they were when they were hashed, and whether that gave their name. By algorithm too: others may ask by another.
    hashed: Mutex<BTreeMap<(Digest, Algorithm), (Stamp, bool)>>,
    verifying: Mutex<()>,
    temporary: AtomicU64,
    /// Of live files, on Unix.
    mode: u32,
    _lock: File,
}

impl Disk {
    /// Takes the folders for this process, and makes them if there are none.
    ///
    /// # Errors
    /// If they cannot be written, are taken, or are not on one file system.
    pub(crate) fn open(staging: PathBuf, live: Option<PathBuf>, mode: u32) -> io::Result<Self> {
        if let Some(parent) = staging.parent() {
            fs::create_dir_all(parent).map_err(|error| at(parent, &error))?;
        }
        make_own(&staging)?;
        for folder in ["tmp", "objects", "lists", "partial", "records"] {
            let folder = staging.join(folder);
            make_own(&folder)?;
            if !fs::symlink_metadata(&folder)?.is_dir() {
                return Err(io::Error::other(format!("{} is no folder", folder.display())));
            }
            // One that somebody else made, or that was made before this was so.
            #[cfg(unix)]
            fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .map_err(|error| at(&folder, &error))?;
        }
        let lock = own_file().create(true).truncate(false).write(true).open(staging.join("lock"))?;
        lock.try_lock()
            .map_err(|_taken| io::Error::other(format!("{} is in use by another farm", staging.display())))?;
        for left in fs::read_dir(staging.join("tmp"))? {
            fs::remove_file(left?.path())?;
        }
        let disk = Self {
            staging,
            live,
            partials: Mutex::default(),
            hashed: Mutex::default(),
            verifying: Mutex::default(),
            temporary: AtomicU64::new(0),
            // Here it has to be written to, and read.
            mode: mode & 0o777 | 0o600,
            _lock: lock,
        };
        disk.check_one_file_system()?;
        Ok(disk)
    }

    fn check_one_file_system(&self) -> io::Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        fs::create_dir_all(live).map_err(|error| at(live, &error))?;
        let (probe, there) = (self.temporary_path(), live.join(format!(".tribes-farm-{}", std::process::id())));
        own_file().write(true).create_new(true).open(&probe)?;
        let renamed = fs::rename(&probe, &there);
        let _ = fs::remove_file(if renamed.is_ok() { &there } else { &probe });
        renamed.map_err(|error| {
            let (staging, live) = (self.staging.display(), live.display());
            io::Error::new(error.kind(), format!("{staging} and {live} have to be on one file system: {error}"))
        })
    }

    pub(crate) fn object(&self, hash: &Digest) -> PathBuf {
        self.staging.join("objects").join(hash.to_string())
    }

    fn list_path(&self, content: &Content) -> PathBuf {
        self.staging.join("lists").join(format!("{}-{}", content.hash, content.chunk))
    }

    fn temporary_path(&self) -> PathBuf {
        self.staging.join("tmp").join(self.temporary.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Whether the object is here whole. What is under its name and is something else is dropped, to be fetched anew.
    pub(crate) fn has_object(&self, content: &Content) -> io::Result<bool> {
        if self.is_whole(content)? {
            return Ok(true);
        }
        let path = self.object(&content.hash);
        if Stamp::of(&path)?.is_some() {
            tracing::warn!(object = %content.hash, "a verified file was changed on disk; it is fetched anew");
            fs::remove_file(&path)?;
        }
        Ok(false)
    }

    /// Whether the object is here whole. It is hashed unless that was done before and it has not changed since: whoever
    /// writes into a live file writes into the object, too. Whoever asks decides nothing: not what is dropped, and how often it is
    /// hashed neither.
    fn is_whole(&self, content: &Content) -> io::Result<bool> {
        let path = self.object(&content.hash);
        let Some(stamp) = Stamp::of(&path)? else { return Ok(false) };
        let key = (content.hash, content.algorithm);
        let known = || self.hashed().get(&key).filter(|(hashed, _)| *hashed == stamp).map(|(_, is_whole)| *is_whole);
        if let Some(is_whole) = known() {
            return Ok(is_whole);
        }
        // Several may ask for chunks of it.
        let _one_at_a_time = self.verifying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_whole) = known() {
            return Ok(is_whole);
        }
        let is_whole = hash_file(&mut File::open(&path)?, content.algorithm)?.1 == content.hash;
        self.hashed().insert(key, (stamp, is_whole));
        Ok(is_whole)
    }

    /// The hashes of a content's chunks, if they are kept here. They are not computed: whoever asks would decide how much there is to
    /// do.
    pub(crate) fn list(&self, content: &Content) -> io::Result<Option<Vec<Digest>>> {
        if let Some(list) = content.own_list().filter(|list| content.is_list(list)) {
            return Ok(Some(list));
        }
        match fs::read(self.list_path(content)) {
            Ok(bytes) => Ok(Some(read_list(&bytes)).filter(|list| content.is_list(list))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn keep_list(&self, content: &Content, list: &[Digest]) -> io::Result<()> {
        let bytes: Vec<u8> = list.iter().flat_map(|digest| *digest.as_bytes()).collect();
        self.write_whole(&self.list_path(content), &bytes)
    }

    /// A chunk of what is here, whole or in part.
    pub(crate) fn read_chunk(&self, content: &Content, index: u32, before: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some((start, len)) = content.range(index) else { return Ok(None) };
        let partial = self.partials().get(&content.hash).cloned();
        if let Some(partial) = partial.filter(|partial| partial.is_of(content) && partial.has(index)) {
            return partial.read(start, len, before).map(Some);
        }
        if !self.is_whole(content)? {
            return Ok(None);
        }
        let mut file = File::open(self.object(&content.hash))?;
        read_at(&mut file, start, len, before).map(Some)
    }

    /// Writes a file whole, so that after a crash there is the old one or the new one.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary_path();
        let mut file = own_file().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    }

    /// Drops what none of `used` needs (contents, and the sizes of their chunks), which is asked when it is known what there is: what
    /// comes in between is left alone. What was being fetched is kept for `keep_partial` after it was written last, the latest
    /// first, until all of that is longer than `most_partial`; of what is here whole no part is kept.
    pub(crate) fn collect(
        &self,
        used: impl FnOnce() -> BTreeSet<(Digest, u32)>,
        wall_ms: i64,
        keep_partial: Duration,
        most_partial: u64,
    ) -> io::Result<()> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(wall_ms).unwrap_or_default());
        let entries = |folder| {
            let entries = fs::read_dir(self.staging.join(folder))?.map(|entry| {
                let entry = entry?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
            });
            entries.collect::<io::Result<Vec<(String, PathBuf)>>>()
        };
        let (objects, lists, partials) = (entries("objects")?, entries("lists")?, entries("partial")?);
        let used = used();
        let hashes: HashSet<String> = used.iter().map(|(hash, _)| hash.to_string()).collect();
        let mut names: HashSet<String> = used.iter().map(|(hash, chunk)| format!("{hash}-{chunk}")).collect();
        let (whole, unused): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(name, _)| hashes.contains(name));
        let whole: HashSet<String> = whole.into_iter().map(|(name, _)| name).collect();
        let mut drop: Vec<PathBuf> = unused.into_iter().map(|(_, path)| path).collect();
        let mut spare = Vec::new();
        for (name, path) in partials {
            if whole.contains(name.split('-').next().unwrap_or_default()) {
                drop.push(path);
            } else if !names.contains(&name) {
                let metadata = match fs::metadata(&path) {
                    // It was finished meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                spare.push((metadata.modified()?, metadata.len(), name, path));
            }
        }
        spare.sort_unstable_by(|one, other| other.cmp(one));
        let mut total = 0u64;
        for (at, len, name, path) in spare {
            total = total.saturating_add(len);
            if total > most_partial || now.duration_since(at).is_ok_and(|age| age >= keep_partial) {
                drop.push(path);
            } else {
                names.insert(name);
            }
        }
        drop.extend(lists.into_iter().filter(|(name, _)| !names.contains(name)).map(|(_, path)| path));
        for path in drop {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.hashed().retain(|(hash, _), _| hashes.contains(&hash.to_string()));
        Ok(())
    }

    fn hashed(&self) -> MutexGuard<'_, BTreeMap<(Digest, Algorithm), (Stamp, bool)>> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partials(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Partial>>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A folder that only its owner gets into, on Unix. One that is there stays as it is.
fn make_own(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(folder, &error)),
        _ => Ok(()),
    }
}

/// To make a file that only its owner can read, on Unix.
#[cfg(unix)]
fn own_file() -> fs::OpenOptions {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(not(unix))]
fn own_file() -> fs::OpenOptions {
    File::options()
}

fn read_list(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks::<32>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect()
}

/// The bytes at `start`, with `before` in front of them.
fn read_at(file: &mut File, start: u64, len: usize, before: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(before.len() + len);
    bytes.extend_from_slice(before);
    file.seek(SeekFrom::Start(start))?;
    let read = Read::by_ref(file).take(len as u64).read_to_end(&mut bytes)?;
    if read == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The length and hash of a file from its beginning.
fn hash_file(file: &mut File, algorithm: Algorithm) -> io::Result<(u64, Digest)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut size) = (Hasher::new(algorithm), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { return Ok((size, hasher.finish())) };
        hasher.update(read);
        size += read.len() as u64;
    }
}

/// After a rename: the name is on disk, too.
fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        // Only there can folders be opened.
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// An error that says where.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
