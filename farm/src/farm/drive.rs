//! The task that lets a farm go on: takes in what happened, and has done what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, RwLock, mpsc, watch};
use tribes_core::rpc::RpcChannel;
use tribes_core::{Member, MemberId, MembershipListener, Time};
use tribes_replication::{Conflicts, ReplicatedMap};

use super::builder::{FarmBuilder, FarmError};
use super::serve::{self, Serving};
use super::shared::{Dirty, Shared, Told, blocking, read_key};
use super::stats::Counters;
use super::{Farm, jobs};
use crate::digest::Digest;
use crate::disk::{Disk, Local};
use crate::manifest::Manifest;
use crate::name::ArtefactName;
use crate::replica::{Activated, Config, Replica};
use crate::transfer::{Fault, Opened, Tuning};

/// What a member told that left is dropped after this time: it may have been taken for gone by mistake.
const FORGET_MEMBER: Duration = Duration::from_secs(30);
/// How often the disk is looked through for what nobody needs.
const COLLECT: Duration = Duration::from_secs(60);
/// The driver looks around at least as often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How a job ended.
#[derive(Debug)]
pub(super) enum Input {
    Loaded,
    Opened(Digest, Result<Opened, String>),
    Listed(Digest, MemberId, Result<Arc<[Digest]>, Fault>),
    Pulled(Digest, MemberId, u32, Result<(), Fault>),
    Finished(Digest, Result<(), Fault>),
    Judged(ArtefactName, Manifest, Result<(), String>),
    Activated(ArtefactName, Manifest, Box<Activated>),
    Removed(ArtefactName, Result<(), String>),
}

pub(super) async fn start(builder: FarmBuilder) -> Result<Farm, FarmError> {
    let FarmBuilder { channel, name, staging, live, mode, trust, watch: watched, limits, .. } = builder;
    let trust = trust.ok_or(FarmError::NoTrust)?;
    if !trust.trusts_somebody() {
        return Err(FarmError::NoKeys);
    }
    if let Some(fault) = limits.fault() {
        return Err(FarmError::Limits(fault));
    }
    if !builder.algorithm.is_known() {
        return Err(FarmError::Algorithm(builder.algorithm));
    }
    let staging = staging.ok_or(FarmError::NoStaging)?;
    let receives = live.is_some();
    let opened = blocking(move || {
        let disk = Disk::open(staging, live, mode)?;
        let kept = disk.records()?.into_iter().map(|local| check_live(&disk, local)).collect::<Vec<_>>();
        Ok::<_, std::io::Error>((Arc::new(disk), kept))
    });
    let (disk, kept) = opened.await.map_err(std::io::Error::other)??;

    let env = channel.env();
    let counters = Arc::new(Counters::default());
    let serving = Arc::new(Serving { disk: Arc::clone(&disk), counters: Arc::clone(&counters), limits });
    let weak = Arc::downgrade(&serving);
    let rpc = RpcChannel::builder(format!("farm:{name}"))
        .handler(move |request| serve::answer(weak.clone(), request))
        .concurrency(serve::CONCURRENCY)
        .open(&channel)?;
    let records = ReplicatedMap::builder(format!("farm:{name}")).conflicts(Conflicts::max()).open(&channel)?;
    let told = ReplicatedMap::builder(format!("farm:{name}:members")).open(&channel)?;

    let seed = env.random();
    let config = Config {
        farm: name.clone(),
        me: channel.local().id(),
        trust: trust.clone(),
        limits,
        activation: builder.activation,
        receives,
        seed,
    };
    let tuning = Tuning { parallel_peers: limits.parallel_peers, idle_timeout: builder.idle_timeout, seed };
    let mut replica = Replica::new(config, tuning);
    let mut stamps = BTreeMap::new();
    let now = env.now();
    for Local { record, live, stopped, removed_ms } in kept {
        let removed = removed_ms.zip(record.current.name.parse().ok());
        if let Some((manifest, Some(stamp))) = &live
            && let Ok(name) = manifest.name.parse()
        {
            stamps.insert(name, (manifest.version, *stamp));
        }
        replica.restore(record, live.map(|(manifest, _)| manifest), stopped);
        if let Some((at, name)) = removed {
            let wall_ms = u64::try_from(env.wall_ms()).unwrap_or_default();
            replica.was_removed(&name, Duration::from_millis(wall_ms.saturating_sub(at)), now);
        }
    }
    let (inputs, from_jobs) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        name,
        env,
        records,
        told,
        rpc,
        _serving: serving,
        disk,
        replica: Mutex::new(replica),
        callbacks: builder.callbacks,
        counters,
        trust,
        limits,
        algorithm: builder.algorithm,
        keep_versions: builder.keep_versions,
        keep_partial: builder.keep_partial,
        node: seed,
        dirty: Mutex::default(),
        wake: Notify::new(),
        inputs,
        stamps: Mutex::new(stamps),
        unsaved: Mutex::default(),
        save: Notify::new(),
        publishing: RwLock::new(()),
        changed: watch::Sender::new(0),
        ready: watch::Sender::new(false),
        closed: false.into(),
        channel,
    });
    shared.env.spawn(drive(Arc::clone(&shared), from_jobs));
    shared.env.spawn(jobs::save(Arc::clone(&shared)));
    let farm = Farm::new(shared);
    if let Some((folder, watch)) = watched {
        crate::watch::start(&farm, folder, watch).await?;
    }
    Ok(farm)
}

/// What was live may have been changed or taken away since.
fn check_live(disk: &Disk, mut local: Local) -> Local {
    let is_live = |(manifest, stamp): &(Manifest, Option<crate::disk::Stamp>)| {
        disk.is_live(&manifest.name.parse().ok()?, &manifest.content?, *stamp).ok()
    };
    if local.live.as_ref().and_then(is_live) != Some(true) {
        local.live = None;
    }
    local
}

/// Notes who comes and goes.
struct Members(std::sync::Weak<Shared>);

impl Members {
    fn changed(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.dirty(|dirty| dirty.members = true);
        }
    }
}

impl MembershipListener for Members {
    fn member_added(&self, _: &Arc<Member>) {
        self.changed();
    }

    fn member_removed(&self, _: &Arc<Member>, _: tribes_core::Departure) {
        self.changed();
    }
}

async fn drive(shared: Arc<Shared>, mut inputs: mpsc::UnboundedReceiver<Input>) {
    let weak = Arc::downgrade(&shared);
    let _members = shared.channel.listen_members(Members(weak.clone()));
    let noted = weak.clone();
    let _records = shared.records.on_change(move |change| {
        if let Some(shared) = noted.upgrade() {
            shared.dirty(|dirty| dirty.records.extend([change.key.clone()]));
        }
    });
    let noted = weak.clone();
    let _told = shared.told.on_change(move |change| {
        if let Some(shared) = noted.upgrade() {
            shared.dirty(|dirty| dirty.told.extend([change.key.clone()]));
        }
    });
    // What was there before the listeners.
    shared.dirty(|dirty| {
        dirty.records.extend(shared.records.iter().map(|(key, _)| key));
        dirty.told.extend(shared.told.iter().map(|(key, _)| key));
        dirty.members = true;
    });
    shared.tell(None, None);
    let loading = Arc::clone(&shared);
    shared.env.spawn(async move {
        if loading.loaded().await {
            loading.input(Input::Loaded);
        }
    });

    let mut gone = BTreeMap::new();
    let mut collect_at = shared.now() + COLLECT;
    while !shared.is_closed() {
        take_in(&shared, &mut gone);
        let now = shared.now();
        shared.replica().tick(now);
        forget_members(&shared, &mut gone, now);
        if collect_at <= now {
            collect_at = now + COLLECT;
            shared.env.spawn(jobs::collect(Arc::clone(&shared)));
        }
        let actions = shared.replica().take_actions();
        let busy = !actions.is_empty();
        actions.into_iter().for_each(|action| jobs::perform(&shared, action));
        shared.changed.send_modify(|count| *count += 1);
        if busy {
            continue;
        }
        let wake = shared.replica().next_wake(now).min(now + LONGEST_SLEEP).min(collect_at);
        let wake = gone.values().copied().fold(wake, Time::min).max(now + Duration::from_millis(1));
        let input = async {
            tokio::select! {
                biased;
                () = shared.wake.notified() => None,
                input = inputs.recv() => input,
            }
        };
        if let Some(Some(input)) = shared.env.until(wake, input).await {
            take(&shared, input);
            // Those that came with it.
            while let Ok(input) = inputs.try_recv() {
                take(&shared, input);
            }
        }
    }
    shared.records.close();
    shared.told.close();
}

fn take(shared: &Arc<Shared>, input: Input) {
    let now = shared.now();
    let mut replica = shared.replica();
    match input {
        Input::Loaded => {
            drop(replica);
            loaded(shared);
        }
        Input::Opened(hash, opened) => replica.opened(&hash, opened, now),
        Input::Listed(hash, peer, list) => replica.listed(&hash, peer, list, now),
        Input::Pulled(hash, peer, index, result) => replica.pulled(&hash, peer, index, result, now),
        Input::Finished(hash, result) => replica.finished(&hash, result, now),
        Input::Judged(name, manifest, verdict) => replica.judged(&name, &manifest, verdict, now),
        Input::Activated(name, manifest, ended) => replica.activated(&name, &manifest, *ended, now),
        Input::Removed(name, result) => replica.removed(&name, result, now),
    }
}

/// The maps have what the group had.
fn loaded(shared: &Arc<Shared>) {
    let dirty = std::mem::take(&mut *shared.dirty.lock().unwrap_or_else(PoisonError::into_inner));
    take_dirty(shared, dirty);
    let mut replica = shared.replica();
    // What an earlier process left goes into the map, if the group does not know it or something better.
    let kept: Vec<ArtefactName> = replica.artefacts().keys().cloned().collect();
    replica.loaded(shared.now());
    drop(replica);
    for name in kept {
        if shared.records.get(name.as_str()).is_none() {
            jobs::mend(shared, name);
        }
    }
}

fn take_in(shared: &Arc<Shared>, gone: &mut BTreeMap<MemberId, Time>) {
    let dirty = std::mem::take(&mut *shared.dirty.lock().unwrap_or_else(PoisonError::into_inner));
    let members = dirty.members || dirty.told.iter().any(|key| !key.contains('/'));
    take_dirty(shared, dirty);
    if !members {
        return;
    }
    let view = shared.channel.view();
    let (mut farms, mut receivers) = (BTreeSet::new(), BTreeSet::new());
    for member in view.members().iter() {
        let Some(told) = shared.told.get(&member.id().to_string()) else { continue };
        farms.insert(member.id());
        if told.receives {
            receivers.insert(member.id());
        }
    }
    shared.replica().members(&farms, receivers, shared.now());
    let me = shared.replica().me();
    gone.retain(|id, _| view.by_id(*id).is_none());
    let tellers = shared.told.iter().filter_map(|(key, _)| read_key(&key)).map(|(id, _)| id);
    for id in tellers.filter(|id| *id != me && view.by_id(*id).is_none()) {
        gone.entry(id).or_insert_with(|| shared.now() + FORGET_MEMBER);
    }
}

fn take_dirty(shared: &Arc<Shared>, dirty: Dirty) {
    for key in dirty.records {
        shared.take_record(&key);
    }
    for key in dirty.told {
        let Some((member, name)) = read_key(&key) else { continue };
        let told: Option<Told> = shared.told.get(&key);
        let is_mine = member == shared.replica().me();
        match (name, told) {
            (Some(name), None) if is_mine => shared.replica().tell_again(&name, shared.now()),
            (None, None) if is_mine => shared.tell(None, None),
            (Some(name), told) if !is_mine => {
                let status = told.and_then(|told| told.status);
                shared.replica().told(member, &name, status, shared.now());
            }
            _ => {}
        }
    }
}

/// Drops what members told that have been away for a while.
fn forget_members(shared: &Arc<Shared>, gone: &mut BTreeMap<MemberId, Time>, now: Time) {
    let due: BTreeSet<MemberId> = gone.extract_if(.., |_, at| *at <= now).map(|(id, _)| id).collect();
    if due.is_empty() {
        return;
    }
    let keys: Vec<String> = shared.told.iter().map(|(key, _)| key).collect();
    for key in keys.iter().filter(|key| read_key(key).is_some_and(|(id, _)| due.contains(&id))) {
        if let Err(error) = shared.told.begin_remove(key, tribes_replication::Durability::Local) {
            tracing::debug!(farm = shared.name, %error, "what a member told that left is not dropped");
        }
    }
}
