//! The store as one request sees it, which keeps what the request was given: so that need not travel in the session's data.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Result, SessionStore};

use super::super::ReplicatedStore;
use super::super::requests::Given;
use super::tower_sessions_core::{error, id_of};
use super::{date_in, end_of};
use crate::EndReason;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct RequestStore {
    store: ReplicatedStore,
    given: Mutex<Option<Given>>,
    read: AtomicBool,
    missed: AtomicBool,
}

impl RequestStore {
    pub(crate) const fn new(store: ReplicatedStore) -> Self {
        Self { store, given: Mutex::const_new(None), read: AtomicBool::new(false), missed: AtomicBool::new(false) }
    }

    /// Whether a session was looked for.
    pub(crate) fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether it saved last what it had never been given, and that is over: so nothing was saved.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl SessionStore for RequestStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let mut given = self.given.lock().await;
        let created = self.store.0.create_given(&mut given, &mut record.data, end_of(record.expiry_date)).await;
        record.id = created.map_err(|cause| error(&self.store, cause))?.into();
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let mut given = self.given.lock().await;
        let saved = self.store.0.save_given(id_of(record.id), &mut given, &record.data, end_of(record.expiry_date));
        let is_over = saved.await.map_err(|cause| error(&self.store, cause))?;
        self.missed.store(is_over && given.is_none(), Ordering::Relaxed);
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.read.store(true, Ordering::Relaxed);
        let mut given = self.given.lock().await;
        let loaded = self.store.0.load_given(id_of(*id)).await.map_err(|cause| error(&self.store, cause))?;
        Ok(loaded.map(|(loaded, now_given)| {
            *given = Some(now_given);
            Record { id: *id, data: loaded.data, expiry_date: date_in(loaded.left) }
        }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let ended = self.store.0.end(id_of(*id), EndReason::Invalidated).await;
        ended.map(drop).map_err(|cause| error(&self.store, cause))
    }
}
