//! The folder that the application reads.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Disk, at, hash_file, sync_folder};
use crate::manifest::Content;
use crate::name::ArtefactName;

/// What tells a file that was not touched: its size, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size: u64,
    /// Since 1970.
    modified_ns: u64,
}

impl Stamp {
    /// That of the plain file at `path`; `None` if there is none.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| Self::new(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn new(metadata: &Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            size: metadata.len(),
            modified_ns: u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(crate) const fn made(size: u64, modified_ns: u64) -> Self {
        Self { size, modified_ns }
    }
}

impl Disk {
    /// Where an artefact is live.
    pub(crate) fn live_path(&self, name: &ArtefactName) -> Option<PathBuf> {
        self.live.as_ref().map(|live| live.join(name.to_path()))
    }

    /// Gives an object the artefact's name, at one moment, whatever had it before.
    pub(crate) fn activate(&self, name: &ArtefactName, content: &Content) -> io::Result<Stamp> {
        let path = self.live_path(name).ok_or_else(|| io::Error::other("there is no folder for live files"))?;
        self.make_folders(name)?;
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return Err(io::Error::other(format!("{} is a folder", path.display())));
        }
        let temporary = self.temporary_path();
        let object = self.object(&content.hash);
        if fs::hard_link(&object, &temporary).is_err() {
            fs::copy(&object, &temporary).map_err(|error| at(&object, &error))?;
            File::open(&temporary)?.sync_all()?;
        }
        // An object that was made when it was to be another.
        self.set_mode(&File::open(&temporary)?)?;
        // A link to what has the name already is no change, and POSIX leaves both then.
        let renamed = fs::rename(&temporary, &path);
        let _ = fs::remove_file(&temporary);
        renamed.map_err(|error| at(&path, &error))?;
        sync_folder(&path)?;
        Stamp::of(&path)?.ok_or_else(|| io::Error::other("it is gone already"))
    }

    /// Lets those read a file who may.
    pub(super) fn set_mode(&self, file: &File) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if file.metadata()?.permissions().mode() & 0o777 != self.mode {
                file.set_permissions(fs::Permissions::from_mode(self.mode))?;
            }
        }
        #[cfg(not(unix))]
        let _ = (file, self.mode);
        Ok(())
    }

    /// Takes the artefact's name away, and folders that are empty then.
    pub(crate) fn deactivate(&self, name: &ArtefactName) -> io::Result<()> {
        let Some(path) = self.live_path(name) else { return Ok(()) };
        self.check_folders(name)?;
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(&path, &error)),
        }
        let inside = name.parts().count() - 1;
        for folder in path.ancestors().skip(1).take(inside) {
            // It has other files.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Whether what has the artefact's name is this content; it is hashed unless it looks as is `known` of it.
    pub(crate) fn is_live(&self, name: &ArtefactName, content: &Content, known: Option<Stamp>) -> io::Result<bool> {
        let Some(path) = self.live_path(name) else { return Ok(false) };
        if self.check_folders(name).is_err() {
            return Ok(false);
        }
        match Stamp::of(&path)? {
            None => Ok(false),
            Some(stamp) if Some(stamp) == known => Ok(stamp.size == content.size),
            Some(_) => Ok(hash_file(&mut File::open(&path)?, content.algorithm)?.1 == content.hash),
        }
    }

    /// The folders of an artefact inside of `live`, the outermost first.
    fn folders(&self, name: &ArtefactName) -> Vec<PathBuf> {
        let mut folder = self.live.clone().unwrap_or_default();
        let mut folders = Vec::new();
        let parts: Vec<&str> = name.parts().collect();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            folder.push(part);
            folders.push(folder.clone());
        }
        folders
    }

    /// None of its folders is anything else, a link to a folder for instance.
    fn check_folders(&self, name: &ArtefactName) -> io::Result<()> {
        for folder in self.folders(name) {
            match fs::symlink_metadata(&folder) {
                Ok(there) if !there.is_dir() => {
                    return Err(io::Error::other(format!("{} is no folder", folder.display())));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&folder, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn make_folders(&self, name: &ArtefactName) -> io::Result<()> {
        self.check_folders(name)?;
        for folder in self.folders(name) {
            match fs::create_dir(&folder) {
                Ok(()) => sync_folder(&folder)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&folder, &error)),
            }
        }
        Ok(())
    }
}
