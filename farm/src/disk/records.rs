//! What is known of each artefact, over restarts.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Disk, Stamp};
use crate::digest::Algorithm;
use crate::manifest::{Manifest, Record};
use crate::replica::Stop;

/// A larger file is no record of ours.
const LARGEST: u64 = 1 << 20;

/// What this member knows of an artefact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Local {
    pub(crate) record: Record,
    /// What is live here, and how its file looked then.
    pub(crate) live: Option<(Manifest, Option<Stamp>)>,
    pub(crate) stopped: Option<Stop>,
    /// When this member learned that it is removed, by its own clock: milliseconds since 1970.
    #[serde(default)]
    pub(crate) removed_ms: Option<u64>,
}

impl Disk {
    fn record_path(&self, name: &str) -> PathBuf {
        let hash = Algorithm::Sha256.digest(name.as_bytes());
        self.staging.join("records").join(hash.to_string())
    }

    pub(crate) fn save(&self, local: &Local) -> io::Result<()> {
        let bytes = rmp_serde::to_vec_named(local).map_err(io::Error::other)?;
        self.write_whole(&self.record_path(&local.record.current.name), &bytes)
    }

    pub(crate) fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.record_path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All records. One that cannot be read is passed over: what it said comes from the others.
    pub(crate) fn records(&self) -> io::Result<Vec<Local>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.staging.join("records"))? {
            let entry = entry?;
            if entry.metadata()?.len() > LARGEST {
                continue;
            }
            match rmp_serde::from_slice(&fs::read(entry.path())?) {
                Ok(local) => records.push(local),
                Err(error) => tracing::warn!(file = %entry.path().display(), %error, "a record cannot be read"),
            }
        }
        Ok(records)
    }
}
