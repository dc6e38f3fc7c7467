//! The file.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tribes_core::BoxError;

use crate::core::{Batch, Saved};
use crate::message::codec;
use crate::store::Keeping;

/// Keys and their siblings.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// What was seen and the latest time, under `SEEN`; the format, under `FORMAT`.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const SEEN: &str = "seen";
const FORMAT: &str = "format";

/// A map's file, open: no other process opens it meanwhile.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    /// `None` after a failure: the store wants to be opened anew then.
    database: Option<Database>,
}

impl File {
    /// Opens the file at `path`, made if there is none, with what it holds.
    pub(crate) fn open(path: &Path, keeping: Keeping) -> Result<(Self, Saved), BoxError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let database = Database::create(path)?;
        let format: &[u8] = match keeping {
            Keeping::Latest => b"1 latest",
            Keeping::Concurrent => b"1 concurrent",
        };
        let mut saved = Saved::default();
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT)?.map(|found| found.value().to_vec());
            match found {
                None => {
                    meta.insert(FORMAT, format)?;
                }
                Some(found) if found == format => {}
                Some(found) => {
                    let (found, format) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(format));
                    let why = format!("the file is of format {found:?}, and the map as it is set up needs {format:?}");
                    return Err(why.into());
                }
            }
            if let Some(seen) = meta.get(SEEN)? {
                (saved.seen, saved.time) = codec::decode_context(seen.value())?;
            }
            for entry in transaction.open_table(ENTRIES)?.iter()? {
                let (key, siblings) = entry?;
                saved.entries.push((key.value().into(), codec::decode_siblings(siblings.value())?));
            }
        }
        transaction.commit()?;
        // What was begun is really there.
        drop(database.begin_read()?);
        Ok((Self { path: path.to_owned(), database: Some(database) }, saved))
    }

    /// Saves a batch, whole or not at all; on return it is on the disk. After a failure the file is closed until the next call.
    pub(crate) fn save(&mut self, batch: &Batch) -> Result<(), BoxError> {
        let database = match self.database.take() {
            Some(database) => database,
            // One that is not there is not made anew: what was saved before would be missing in it.
            None => Database::open(&self.path)?,
        };
        #[cfg(test)]
        if self.path.with_extension("broken").exists() {
            return Err("the disk is broken, as the test wants it".into());
        }
        write(&database, batch)?;
        self.database = Some(database);
        Ok(())
    }
}

fn write(database: &Database, batch: &Batch) -> Result<(), BoxError> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for (key, siblings) in &batch.entries {
            match siblings {
                Some(siblings) => entries.insert(&**key, &*codec::encode_siblings(siblings))?,
                None => entries.remove(&**key)?,
            };
        }
        transaction.open_table(META)?.insert(SEEN, &*codec::encode_context(&batch.seen, batch.time))?;
    }
    transaction.commit()?;
    Ok(())
}
