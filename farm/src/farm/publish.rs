//! Publishing, removing, going back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tribes_replication::MapError;

use super::Farm;
use super::publication::Publication;
use super::shared::blocking;
use crate::digest::Digest;
use crate::disk::{Disk, ImportError};
use crate::manifest::{Content, Manifest, Record, Version};
use crate::name::{ArtefactName, NameError};

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One of the two would be a folder in which the other is.
    #[error("{name} cannot be beside {other}: one would have to be a folder")]
    InTheWay {
        /// What was to be published.
        name: ArtefactName,
        /// What there is.
        other: ArtefactName,
    },
    /// The file cannot be read, or not be kept.
    #[error("{path} cannot be published")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It changed while it was read.
    #[error("{path} changed while it was read")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// A limit is in the way.
    #[error("it is more than the limits allow: {0}")]
    Limit(String),
    /// No member would take it.
    #[error("the members would refuse it: {0}")]
    Refused(String),
    /// Only what is signed is taken here, and there is no key to sign with.
    #[error("there is no key to sign with")]
    NoKey,
    /// There is no such artefact, or no such version of it.
    #[error("there is no such artefact or version")]
    Unknown,
    /// The farm is closed, or its map takes nothing.
    #[error("the farm takes nothing")]
    Map(#[from] MapError),
}

impl Farm {
    /// Publishes the file at `path` under `name`. It returns when all members that are there are being told; they fetch it from here
    /// then, so stay until others have it: see [`Publication::wait`]. A file whose content is what is published already is
    /// no new version.
    ///
    /// The file is copied first: what happens to it afterwards does not matter.
    ///
    /// # Errors
    /// If nothing was published.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be published or not.
    pub async fn publish_file(
        &self,
        name: impl AsRef<str>,
        path: impl Into<PathBuf>,
    ) -> Result<Publication, PublishError> {
        let name: ArtefactName = name.as_ref().parse()?;
        self.publish_path(&name, path.into(), false, false).await.map(|(publication, _)| publication)
    }

    /// As [`publish_file`](Self::publish_file), from memory.
    ///
    /// # Errors
    /// As [`publish_file`](Self::publish_file).
    ///
    /// # Cancel safety
    /// As [`publish_file`](Self::publish_file).
    pub async fn publish_bytes(
        &self,
        name: impl AsRef<str>,
        bytes: impl Into<Bytes>,
    ) -> Result<Publication, PublishError> {
        let name: ArtefactName = name.as_ref().parse()?;
        let (bytes, limits, algorithm) = (bytes.into(), self.shared().limits, self.shared().algorithm);
        let import = move |disk: &Disk| disk.import_from(&mut &bytes[..], bytes.len() as u64, &limits, algorithm);
        self.import(&name, Path::new("memory"), import, false).await.map(|(publication, _)| publication)
    }

    /// Publishes a file of the watched folder; also what its hash is. `fresh`: nothing of it was published by this process, so
    /// if it is an earlier version, it was there when that was published.
    pub(crate) async fn publish_path(
        &self,
        name: &ArtefactName,
        path: PathBuf,
        twice: bool,
        fresh: bool,
    ) -> Result<(Publication, Digest), PublishError> {
        let (limits, algorithm, file) = (self.shared().limits, self.shared().algorithm, path.clone());
        self.import(name, &path, move |disk| disk.import(&file, twice, &limits, algorithm), fresh).await
    }

    async fn import(
        &self,
        name: &ArtefactName,
        path: &Path,
        import: impl FnOnce(&Disk) -> Result<Content, ImportError> + Send + 'static,
        fresh: bool,
    ) -> Result<(Publication, Digest), PublishError> {
        let shared = self.shared();
        let in_the_way = {
            let replica = shared.replica();
            let others = replica.artefacts().iter().filter(|(_, other)| other.record.current.content.is_some());
            others.map(|(other, _)| other).find(|other| other.is_in_the_way_of(name)).cloned()
        };
        if let Some(other) = in_the_way {
            return Err(PublishError::InTheWay { name: name.clone(), other });
        }
        let _publishing = shared.publishing.read().await;
        let disk = Arc::clone(&shared.disk);
        let failed = |source| PublishError::File { path: path.to_owned(), source };
        let imported = blocking(move || import(&disk)).await.map_err(|why| failed(std::io::Error::other(why)))?;
        let content = imported.map_err(|error| match error {
            ImportError::Io(source) => failed(source),
            ImportError::NoFile => failed(std::io::Error::other(error.to_string())),
            ImportError::Changed => PublishError::Changed { path: path.to_owned() },
            ImportError::TooLarge { .. } => PublishError::Limit(error.to_string()),
        })?;
        let is_known = |record: &Record| {
            let is_this = |manifest: &Manifest| manifest.content.is_some_and(|known| known.hash == content.hash);
            is_this(&record.current) || fresh && record.earlier.iter().any(is_this)
        };
        let known = shared.replica().artefact(name).map(|artefact| artefact.record.clone()).filter(is_known);
        if let Some(record) = known.filter(|_| shared.replica().unfit(name).is_none()) {
            let publication = Publication::new(self, name.clone(), record.current.version);
            return Ok((publication, content.hash));
        }
        let publication = self.put(name, Some(content)).await?;
        Ok((publication, content.hash))
    }

    /// Removes an artefact from all members.
    ///
    /// # Errors
    /// [`PublishError::Unknown`] if there is none; otherwise as [`publish_file`](Self::publish_file).
    ///
    /// # Cancel safety
    /// As [`publish_file`](Self::publish_file).
    pub async fn remove(&self, name: impl AsRef<str>) -> Result<Publication, PublishError> {
        let name: ArtefactName = name.as_ref().parse()?;
        let there = |record: &Record| record.current.content.is_some();
        if !self.shared().replica().artefact(&name).is_some_and(|artefact| there(&artefact.record)) {
            return Err(PublishError::Unknown);
        }
        self.put(&name, None).await
    }

    /// As [`remove`](Self::remove), if this content is the current one.
    pub(crate) async fn remove_if(&self, name: &ArtefactName, hash: Digest) -> Result<(), PublishError> {
        let current = self.shared().replica().artefact(name).and_then(|artefact| artefact.record.current.content);
        if current.is_some_and(|content| content.hash == hash) {
            self.put(name, None).await?;
        }
        Ok(())
    }

    /// Publishes what was current before, as a new version; from there it goes its way like any other. Going back twice is
    /// going forth again. Members that kept that version fetch nothing; this one need not have it.
    ///
    /// # Errors
    /// [`PublishError::Unknown`] if no earlier version is kept; otherwise as [`publish_file`](Self::publish_file).
    ///
    /// # Cancel safety
    /// As [`publish_file`](Self::publish_file).
    pub async fn rollback(&self, name: impl AsRef<str>) -> Result<Publication, PublishError> {
        self.rollback_if(name.as_ref(), |_, _| true).await
    }

    /// As [`rollback`](Self::rollback), to one of the versions that [are kept](crate::ArtefactStatus::earlier).
    ///
    /// # Errors
    /// As [`rollback`](Self::rollback).
    ///
    /// # Cancel safety
    /// As [`publish_file`](Self::publish_file).
    pub async fn rollback_to(&self, name: impl AsRef<str>, version: Version) -> Result<Publication, PublishError> {
        self.rollback_if(name.as_ref(), |earlier, _| earlier.version == version).await
    }

    async fn rollback_if(
        &self,
        name: &str,
        wanted: impl Fn(&Manifest, &Manifest) -> bool,
    ) -> Result<Publication, PublishError> {
        let name: ArtefactName = name.parse()?;
        let content = {
            let replica = self.shared().replica();
            let record = &replica.artefact(&name).ok_or(PublishError::Unknown)?.record;
            let fit =
                |earlier: &&Manifest| earlier.content != record.current.content && wanted(earlier, &record.current);
            record.earlier.iter().find(fit).and_then(|earlier| earlier.content).ok_or(PublishError::Unknown)?
        };
        self.put(&name, Some(content)).await
    }

    /// Makes a new version, and tells it to all.
    async fn put(&self, name: &ArtefactName, content: Option<Content>) -> Result<Publication, PublishError> {
        let shared = self.shared();
        if let Some(content) = &content {
            self.check_room(name, content)?;
        }
        loop {
            let version = shared.replica().next_version(shared.wall_ms(), shared.node);
            let mut manifest = Manifest { version, name: name.to_string(), content, signed: None };
            manifest.signed =
                shared.trust.sign(&manifest.signed_bytes(&shared.name)).map_err(|_no_key| PublishError::NoKey)?;
            let record = Record { current: manifest.clone(), earlier: Vec::new() };
            record
                .check(name.as_str(), &shared.name, &shared.trust, &shared.limits)
                .map_err(|why| PublishError::Refused(why.to_string()))?;
            let (known, unfit) = {
                let replica = shared.replica();
                (replica.artefact(name).map(|artefact| artefact.record.clone()), replica.unfit(name))
            };
            let written = shared.records.update(name.as_str(), |found| {
                let is_good =
                    |found: &Record| found.check(name.as_str(), &shared.name, &shared.trust, &shared.limits).is_ok();
                let best = found.filter(is_good).max(known.clone());
                let later = best.as_ref().is_none_or(|best| best.current.version < version);
                later.then(|| Record::followed_by(best.as_ref(), manifest.clone(), shared.keep_versions, unfit))
            });
            if written.await?.is_some() {
                shared.take_record(name.as_str());
                shared.wake.notify_one();
                return Ok(Publication::new(self, name.clone(), version));
            }
            // Somebody else has published meanwhile: this is later than that.
            shared.take_record(name.as_str());
        }
    }

    fn check_room(&self, name: &ArtefactName, content: &Content) -> Result<(), PublishError> {
        let (replica, limits) = (self.shared().replica(), &self.shared().limits);
        let others = replica.artefacts().iter().filter(|(other, _)| *other != name);
        let total = others.fold(content.size, |sum, (_, artefact)| sum.saturating_add(artefact.record.current.size()));
        if total > limits.total {
            return Err(PublishError::Limit(format!("{total} bytes of {} in all", limits.total)));
        }
        if replica.artefact(name).is_none() && replica.artefacts().len() >= limits.artefacts {
            return Err(PublishError::Limit(format!("there are {} artefacts", limits.artefacts)));
        }
        Ok(())
    }
}
