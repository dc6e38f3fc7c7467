//! A map on disk: what a replica held is there again when it is opened after a stop of the whole group.
//!
//! Each save is one transaction of an embedded store (redb): the entries that changed, and what was seen at the same
//! moment. So the file is always as the replica was at some moment, whenever the process or the machine ends.

mod file;
mod saver;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::file::File;
pub(crate) use self::saver::{Saver, Signal, Source};

/// How a map is kept on disk.
#[derive(Clone, Debug)]
pub(crate) struct DiskConfig {
    /// `None`: it is not.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) every: Duration,
    pub(crate) acknowledge_saved: bool,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { directory: None, every: Duration::from_millis(100), acknowledge_saved: false }
    }
}

impl DiskConfig {
    /// The file of the map of this name, if it is kept in one.
    pub(crate) fn path(&self, map: &str) -> Option<PathBuf> {
        let mut name = String::new();
        for byte in map.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
        Some(self.directory.as_ref()?.join(name + ".redb"))
    }
}
