//! The store as one request sees it, which keeps what the request was given: so that need not travel in the session's data.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Result, SessionStore};

use super::super::ReplicatedStore;
use super::super::requests::{Given, Loading};
use super::tower_sessions_core::{error, id_of};
use super::{date_in, end_of};
use crate::EndReason;
use crate::document::BASE_KEY;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct RequestStore {
    store: ReplicatedStore,
    read: AtomicBool,
    kept: Mutex<Kept>,
}

/// What is kept of a request.
#[derive(Debug, Default)]
struct Kept {
    /// What it was given last.
    given: Option<Given>,
    /// What it was given before: of two who have its session, one may read it anew while the other saves it.
    earlier: Option<Box<Option<Given>>>,
    /// How often it was given one.
    count: u32,
    /// The session of which nobody could say whether there is one.
    unknown: Option<Id>,
    saved: LastSave,
    /// The session that is not to end though it is deleted.
    spared: Option<Id>,
}

/// What came of the last save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastSave {
    /// The session is as it was to be, or it was over before the request had changed it.
    #[default]
    Made,
    /// It was to be written over without a look at it, and is over: nothing was saved.
    Over,
    /// Nobody could say whether there is such a session, and nothing was to be saved.
    Nothing,
    /// Nobody could say whether there is such a session: nothing was saved.
    Unknown,
}

impl RequestStore {
    pub(crate) fn new(store: ReplicatedStore) -> Self {
        Self { store, read: AtomicBool::new(false), kept: Mutex::default() }
    }

    /// Whether a session was looked for.
    pub(crate) fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// What came of the last save.
    pub(crate) async fn saved(&self) -> LastSave {
        self.kept.lock().await.saved
    }

    /// Does not end the session of which nobody can say whether there is one when it gets another id: whoever chose that, the
    /// request has not ended it.
    pub(crate) async fn spare(&self) {
        let mut kept = self.kept.lock().await;
        kept.spared = kept.unknown;
    }
}

#[async_trait]
impl SessionStore for RequestStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let mut kept = self.kept.lock().await;
        let (given, number) = kept.of(record);
        let created = self.store.0.create_given((given, number), &mut record.data, end_of(record.expiry_date)).await;
        record.id = created.map_err(|cause| error(&self.store, cause))?.into();
        (kept.count, kept.saved) = (number + 1, LastSave::Made);
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let mut kept = self.kept.lock().await;
        // Who has cleared it has no mark either, and writes over whatever there is.
        if kept.unknown == Some(record.id) && record.data.contains_key(BASE_KEY) {
            kept.saved = if record.data.len() == 1 { LastSave::Nothing } else { LastSave::Unknown };
            return Ok(());
        }
        let (given, _) = kept.of(record);
        let end = end_of(record.expiry_date);
        let is_over = self.store.0.save_given(id_of(record.id), given, &record.data, end).await;
        let is_over = is_over.map_err(|cause| error(&self.store, cause))?;
        kept.saved = if is_over && given.is_none() { LastSave::Over } else { LastSave::Made };
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.read.store(true, Ordering::Relaxed);
        let mut kept = self.kept.lock().await;
        let number = kept.count;
        let loaded = self.store.0.load_given(id_of(*id), number).await.map_err(|cause| error(&self.store, cause))?;
        (kept.count, kept.unknown) = (number + 1, None);
        let (data, left) = match loaded {
            Loading::Nothing => return Ok(None),
            Loading::Found(loaded, given) => {
                let earlier = kept.given.replace(given);
                if earlier.is_some() {
                    kept.earlier = Some(Box::new(earlier));
                }
                (loaded.data, loaded.left)
            }
            Loading::Unknown => {
                kept.unknown = Some(*id);
                (HashMap::from([(BASE_KEY.to_owned(), Given::mark(number))]), None)
            }
        };
        Ok(Some(Record { id: *id, data, expiry_date: date_in(left) }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        if self.kept.lock().await.spared.take() == Some(*id) {
            return Ok(());
        }
        let ended = self.store.0.end(id_of(*id), EndReason::Invalidated).await;
        ended.map(drop).map_err(|cause| error(&self.store, cause))
    }
}

impl Kept {
    /// What the request was given of which this record is, and the number of what it is given next.
    fn of(&mut self, record: &Record) -> (&mut Option<Given>, u32) {
        let is_of = |earlier: &Given| record.data.get(BASE_KEY).is_some_and(|mark| earlier.is_marked(mark));
        if let Some(earlier) = &mut self.earlier
            && earlier.as_ref().as_ref().is_some_and(is_of)
        {
            std::mem::swap(&mut self.given, earlier);
        }
        (&mut self.given, self.count)
    }
}
