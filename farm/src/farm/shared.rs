//! What the handle, the driver and its jobs share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, RwLock, mpsc, watch};
use tribes_core::rpc::RpcChannel;
use tribes_core::{Channel, Env, Member, MemberId, Time};
use tribes_replication::{Durability, ReplicatedMap};

use super::callbacks::Callbacks;
use super::drive::Input;
use super::serve::Serving;
use super::stats::Counters;
use crate::digest::Algorithm;
use crate::disk::{Disk, Stamp};
use crate::limits::Limits;
use crate::manifest::{Record, Version};
use crate::name::ArtefactName;
use crate::replica::{Replica, Status};
use crate::trust::Trust;

/// What a member tells: of itself under its id, of an artefact under its id, a slash and the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Whether it takes artefacts.
    pub(super) receives: bool,
    pub(super) status: Option<Status>,
}

/// What changed and was not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) records: BTreeSet<String>,
    pub(super) told: BTreeSet<String>,
    pub(super) members: bool,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) channel: Channel,
    pub(super) env: Env,
    pub(super) records: ReplicatedMap<String, Record>,
    pub(super) told: ReplicatedMap<String, Told>,
    pub(super) rpc: RpcChannel,
    /// The handler of questions has it as long as it is here.
    pub(super) _serving: Arc<Serving>,
    pub(super) disk: Arc<Disk>,
    pub(super) replica: Mutex<Replica>,
    pub(super) callbacks: Callbacks,
    pub(super) counters: Arc<Counters>,
    pub(super) trust: Trust,
    pub(super) limits: Limits,
    pub(super) algorithm: Algorithm,
    pub(super) keep_versions: usize,
    pub(super) keep_partial: Duration,
    /// Who publishes here: in the versions.
    pub(super) node: u64,
    pub(super) dirty: Mutex<Dirty>,
    /// Wakes the driver.
    pub(super) wake: Notify,
    pub(super) inputs: mpsc::UnboundedSender<Input>,
    /// How live files looked when they were made, and of which version they are.
    pub(super) stamps: Mutex<BTreeMap<ArtefactName, (Version, Stamp)>>,
    /// What has to be saved.
    pub(super) unsaved: Mutex<BTreeSet<ArtefactName>>,
    pub(super) save: Notify,
    /// Held while something is being published: nothing is dropped from disk meanwhile.
    pub(super) publishing: RwLock<()>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) closed: AtomicBool,
}

impl Shared {
    pub(super) fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dirty(&self, change: impl FnOnce(&mut Dirty)) {
        change(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    pub(super) fn now(&self) -> Time {
        self.env.now()
    }

    pub(super) fn wall_ms(&self) -> u64 {
        u64::try_from(self.env.wall_ms()).unwrap_or_default()
    }

    /// An input for the driver, which may be gone.
    pub(super) fn input(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    pub(super) fn tell(&self, name: Option<&ArtefactName>, status: Option<Status>) {
        let receives = self.replica().receives();
        let key = key_of(self.replica().me(), name);
        let put = if name.is_some() && status.is_none() {
            self.told.begin_remove(&key, Durability::Local).map(drop)
        } else {
            self.told.begin_put(&key, &Told { receives, status }, Durability::Local).map(drop)
        };
        if let Err(error) = put {
            tracing::warn!(farm = self.name, %error, "the others cannot be told how far this member is");
        }
    }

    /// Takes in what the map says of an artefact now.
    pub(super) fn take_record(&self, key: &str) {
        let record = self.records.get(key);
        self.replica().record_changed(key, record, self.now(), self.wall_ms());
    }

    pub(super) fn member(&self, id: MemberId) -> Option<Arc<Member>> {
        let local = self.channel.local();
        if local.id() == id { Some(local) } else { self.channel.view().by_id(id).cloned() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until it is closed. Cancel safe.
    pub(super) async fn closed(&self) {
        // The sender is here.
        let _ = self.changed.subscribe().wait_for(|_| self.is_closed()).await;
    }

    /// Waits until the group's maps are here; `false` if the farm is closed before. Closed maps would be waited for without end, and
    /// whoever waits keeps the folders.
    pub(super) async fn loaded(&self) -> bool {
        let maps = async { tokio::join!(self.records.ready(), self.told.ready()) };
        tokio::select! {
            biased;
            () = self.closed() => false,
            _ = maps => true,
        }
    }

    /// Ends the farm: its driver notices.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
        self.save.notify_one();
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn stamps(&self) -> MutexGuard<'_, BTreeMap<ArtefactName, (Version, Stamp)>> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn save_later(&self, name: ArtefactName) {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        self.save.notify_one();
    }
}

/// The key of what a member tells of an artefact, or of itself.
pub(super) fn key_of(member: MemberId, name: Option<&ArtefactName>) -> String {
    match name {
        Some(name) => format!("{member}/{name}"),
        None => member.to_string(),
    }
}

/// Whose it is, and of what; `None` if it is no key.
pub(super) fn read_key(key: &str) -> Option<(MemberId, Option<ArtefactName>)> {
    match key.split_once('/') {
        Some((member, name)) => Some((member.parse().ok()?, Some(name.parse().ok()?))),
        None => Some((key.parse().ok()?, None)),
    }
}

/// Runs what blocks. A panic in it is an error.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
