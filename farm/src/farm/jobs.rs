//! Doing what was decided.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::MemberId;
use tribes_core::rpc::{Answer, Payload};
use tribes_replication::Durability;

use super::callbacks::Artefact;
use super::drive::Input;
use super::shared::{Shared, blocking};
use super::wire::{self, Question};
use crate::disk::{Local, Stamp};
use crate::manifest::{Content, Manifest, Record, Version};
use crate::name::ArtefactName;
use crate::replica::{Action, Activated};
use crate::transfer::{self, Fault};

/// What could not be saved is tried again after so long.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// How long a member may take for a chunk.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) fn perform(shared: &Arc<Shared>, action: Action) {
    let this = Arc::clone(shared);
    match action {
        Action::Transfer(action) => transfer(this, action),
        Action::Save(name) => shared.save_later(name),
        Action::Tell(name, status) => shared.tell(Some(&name), status),
        Action::Judge(name, manifest) => {
            shared.env.spawn(async move {
                let path = manifest.content.map(|content| this.disk.object(&content.hash)).unwrap_or_default();
                let verdict = match Artefact::of(&name, &manifest, path) {
                    Some(artefact) => this.callbacks.judge(&this.env, artefact).await,
                    None => Ok(()),
                };
                this.input(Input::Judged(name, *manifest, verdict));
            });
        }
        Action::Activate { name, manifest, before, back } => {
            shared.env.spawn(async move {
                let ended = activate(&this, &name, &manifest, before.map(|before| *before), back).await;
                this.input(Input::Activated(name, *manifest, Box::new(ended)));
            });
        }
        Action::Remove(name) => {
            shared.env.spawn(async move {
                let result = remove(&this, &name).await;
                this.input(Input::Removed(name, result));
            });
        }
        Action::Mend(name) => mend(shared, name),
        Action::Forget(name) => {
            // It may be gone already.
            let _ = shared.records.begin_remove(name.as_str(), Durability::Local);
            shared.stamps().remove(&name);
            shared.counters.forget(&name);
            shared.save_later(name);
        }
        Action::Again => {
            let is_known = |key: &String, record: &Record| {
                let name: Option<ArtefactName> = key.parse().ok();
                let replica = this.replica();
                name.is_some_and(|name| replica.artefact(&name).is_some_and(|artefact| artefact.record == *record))
            };
            let news: Vec<String> =
                this.records.iter().filter(|(key, record)| !is_known(key, record)).map(|(key, _)| key).collect();
            shared.dirty(|dirty| dirty.records.extend(news));
        }
        Action::Refuse(key, why) => {
            let times = shared.counters.refused(why);
            if times.is_power_of_two() {
                tracing::warn!(farm = shared.name, artefact = key, %why, times, "what a member publishes is refused");
            }
        }
        Action::Superseded(name, by) => {
            shared.counters.count(|stats| stats.superseded += 1);
            tracing::warn!(farm = shared.name, artefact = %name, %by, "a version published here lost against one published elsewhere");
        }
        Action::Ready => {
            shared.ready.send_replace(true);
        }
    }
}

fn transfer(this: Arc<Shared>, action: transfer::Action) {
    let env = this.env.clone();
    match action {
        transfer::Action::Open(content) => {
            env.spawn(async move {
                let disk = Arc::clone(&this.disk);
                let looked = blocking(move || disk.look(&content)).await;
                let opened = looked.and_then(|opened| opened.map_err(|error| error.to_string()));
                this.input(Input::Opened(content.hash, opened));
            });
        }
        transfer::Action::AskList { peer, content } => {
            env.spawn(async move {
                let list = ask(&this, peer, Question::List(content)).await;
                let disk = Arc::clone(&this.disk);
                let taken = blocking(move || {
                    let list = wire::read_list(&list?);
                    disk.take_list(&content, &list)?;
                    Ok(list.into())
                });
                let taken = taken.await.unwrap_or_else(|why| Err(Fault::Disk(why)));
                this.count_fault(&content, taken.as_ref().err());
                this.input(Input::Listed(content.hash, peer, taken));
            });
        }
        transfer::Action::AskChunk { peer, content, index, expected } => {
            env.spawn(async move {
                let chunk = ask(&this, peer, Question::Chunk(content, index)).await;
                let disk = Arc::clone(&this.disk);
                let taken = blocking(move || {
                    let chunk = chunk?;
                    disk.take_chunk(&content, index, &expected, &chunk)?;
                    Ok(chunk.len() as u64)
                });
                let taken = taken.await.unwrap_or_else(|why| Err(Fault::Disk(why)));
                this.count_fault(&content, taken.as_ref().err());
                if let Ok(bytes) = taken {
                    this.count(&content, |stats| {
                        stats.chunks += 1;
                        stats.bytes += bytes;
                    });
                }
                this.input(Input::Pulled(content.hash, peer, index, taken.map(drop)));
            });
        }
        transfer::Action::Finish(content) => {
            env.spawn(async move {
                let disk = Arc::clone(&this.disk);
                let finished = blocking(move || disk.finish(&content)).await;
                let finished = finished.unwrap_or_else(|why| Err(Fault::Disk(why)));
                this.count_fault(&content, finished.as_ref().err());
                this.input(Input::Finished(content.hash, finished));
            });
        }
        transfer::Action::Leave(hash) => this.disk.leave(&hash),
        // These are the replica's own affair.
        transfer::Action::Done(_) | transfer::Action::Stalled(..) => {}
    }
}

/// Asks a member; whatever its answer is, it ends within the time.
async fn ask(shared: &Shared, peer: MemberId, question: Question) -> Result<Bytes, Fault> {
    let member = shared.channel.view().by_id(peer).cloned().ok_or(Fault::Unreachable)?;
    let payload = Payload::encode(&question).map_err(|_never| Fault::Unreachable)?;
    let replies = shared.rpc.call(&member, payload).within(ANSWER).await.map_err(|_stopped| Fault::Unreachable)?;
    match replies.into_iter().next() {
        Some((_, Answer::Replied(reply))) => wire::read(reply.bytes()).ok_or(Fault::Absent),
        _ => Err(Fault::Unreachable),
    }
}

impl Shared {
    /// Counts for each artefact that has this content as its current version.
    fn count(&self, content: &Content, change: impl Fn(&mut super::stats::ArtefactStats)) {
        let of = |record: &Record| {
            record.versions().any(|manifest| manifest.content.is_some_and(|c| c.hash == content.hash))
        };
        let names: Vec<ArtefactName> = {
            let replica = self.replica();
            let artefacts = replica.artefacts().iter().filter(|(_, artefact)| of(&artefact.record));
            artefacts.map(|(name, _)| name.clone()).collect()
        };
        names.iter().for_each(|name| self.counters.of(name, &change));
    }

    fn count_fault(&self, content: &Content, fault: Option<&Fault>) {
        if fault == Some(&Fault::Corrupt) {
            self.count(content, |stats| stats.verify_failures += 1);
        }
    }
}

/// Makes a version live; if it or the application fails, the one before, unless that is what is done here.
async fn activate(
    shared: &Arc<Shared>,
    name: &ArtefactName,
    manifest: &Manifest,
    before: Option<Manifest>,
    back: bool,
) -> Activated {
    let (made, done) = match make_live(shared, name, manifest).await {
        Ok(artefact) => (true, shared.callbacks.activated(&shared.env, artefact).await),
        Err(why) => (false, Err(why)),
    };
    let Err(why) = done else {
        shared.counters.of(name, |stats| {
            stats.activated += 1;
            stats.rolled_back += u64::from(back);
        });
        return Activated { live: Some(manifest.clone()), failed: None, ill: false };
    };
    tracing::error!(farm = shared.name, artefact = %name, version = %manifest.version, why, "an activation failed");
    shared.counters.of(name, |stats| stats.failed += 1);
    let live = if made { Some(manifest.clone()) } else { found(shared, name, manifest, before.as_ref()).await };
    if back || live == before {
        return Activated { ill: made, live, failed: Some(why) };
    }
    let (live, restored) = match &before {
        Some(earlier) => match make_live(shared, name, earlier).await {
            Ok(artefact) => (before, shared.callbacks.activated(&shared.env, artefact).await),
            Err(why) => (found(shared, name, manifest, before.as_ref()).await, Err(why)),
        },
        None => match remove(shared, name).await {
            Ok(()) => (None, Ok(())),
            Err(why) => (live, Err(why)),
        },
    };
    match &restored {
        Ok(()) => shared.counters.of(name, |stats| stats.rolled_back += 1),
        Err(why) => {
            tracing::error!(farm = shared.name, artefact = %name, why, "what was live before is not live again yet");
        }
    }
    Activated { ill: restored.is_err(), live, failed: Some(why) }
}

/// Which of two versions has the name, after making one of them live failed: it may have been done already.
async fn found(
    shared: &Arc<Shared>,
    name: &ArtefactName,
    manifest: &Manifest,
    before: Option<&Manifest>,
) -> Option<Manifest> {
    let (disk, of, content) = (Arc::clone(&shared.disk), name.clone(), manifest.content?);
    let is_live = blocking(move || disk.is_live(&of, &content, None)).await;
    if matches!(is_live, Ok(Ok(true))) { Some(manifest.clone()) } else { before.cloned() }
}

async fn make_live(shared: &Arc<Shared>, name: &ArtefactName, manifest: &Manifest) -> Result<Artefact, String> {
    let Some(content) = manifest.content else { return Err("there is nothing to make live".into()) };
    let (disk, of) = (Arc::clone(&shared.disk), name.clone());
    let stamp = blocking(move || disk.activate(&of, &content)).await?.map_err(|error| error.to_string())?;
    shared.stamps().insert(name.clone(), (manifest.version, stamp));
    let path = shared.disk.live_path(name).unwrap_or_default();
    Artefact::of(name, manifest, path).ok_or_else(|| "there is nothing to make live".into())
}

async fn remove(shared: &Arc<Shared>, name: &ArtefactName) -> Result<(), String> {
    let (disk, of) = (Arc::clone(&shared.disk), name.clone());
    blocking(move || disk.deactivate(&of)).await?.map_err(|error| error.to_string())?;
    shared.stamps().remove(name);
    shared.callbacks.removed(&shared.env, name.clone()).await;
    Ok(())
}

/// Puts what is known here into the map, unless what is there is as good.
pub(super) fn mend(shared: &Arc<Shared>, name: ArtefactName) {
    let this = Arc::clone(shared);
    shared.env.spawn(async move {
        let Some(known) = this.replica().artefact(&name).map(|artefact| artefact.record.clone()) else { return };
        let mended = this.records.update(name.as_str(), |found| {
            let is_good = |found: &Record| found.check(name.as_str(), &this.name, &this.trust, &this.limits).is_ok();
            let better = found.is_some_and(|found| is_good(&found) && found >= known);
            (!better).then(|| known.clone())
        });
        if let Err(error) = mended.await {
            tracing::debug!(farm = this.name, artefact = %name, %error, "a record is not mended");
        }
    });
}

/// Saves what has to be, as long as the farm runs. One after another: what is later is not overwritten.
pub(super) async fn save(shared: Arc<Shared>) {
    loop {
        let names = std::mem::take(&mut *shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner));
        if names.is_empty() {
            if shared.is_closed() {
                return;
            }
            shared.save.notified().await;
            continue;
        }
        let again = names.clone();
        let locals: Vec<_> = names.into_iter().map(|name| (local(&shared, &name), name)).collect();
        let disk = Arc::clone(&shared.disk);
        let saved = blocking(move || {
            for (local, name) in locals {
                match local {
                    Some(local) => disk.save(&local)?,
                    None => disk.forget(name.as_str())?,
                }
            }
            Ok::<_, std::io::Error>(())
        });
        if let Ok(Err(error)) = saved.await {
            tracing::error!(farm = shared.name, %error, "what is known of artefacts is not saved yet");
            shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner).extend(again);
            if shared.is_closed() {
                return;
            }
            shared.env.sleep(SAVE_AGAIN).await;
        }
    }
}

/// With how its file looked, if that is known: the name may have gone to another version a moment ago.
fn stamped(live: Manifest, stamp: Option<(Version, Stamp)>) -> (Manifest, Option<Stamp>) {
    let stamp = stamp.filter(|(version, _)| *version == live.version).map(|(_, stamp)| stamp);
    (live, stamp)
}

fn local(shared: &Shared, name: &ArtefactName) -> Option<Local> {
    let stamp = shared.stamps().get(name).copied();
    let replica = shared.replica();
    let artefact = replica.artefact(name)?;
    let live = artefact.live.clone().map(|live| stamped(live, stamp));
    let age = artefact.removed_for(shared.now()).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let removed_ms = age.map(|age| shared.wall_ms().saturating_sub(age));
    Some(Local { record: artefact.record.clone(), live, stopped: artefact.stopped.clone(), removed_ms })
}

/// Drops from disk what nobody needs.
pub(super) async fn collect(shared: Arc<Shared>) {
    // What is being published is not known yet.
    let Ok(_alone) = shared.publishing.try_write() else { return };
    let (disk, wall_ms, keep) = (Arc::clone(&shared.disk), shared.env.wall_ms(), shared.keep_partial);
    let (of, most) = (Arc::clone(&shared), shared.limits.file);
    let used = move || of.replica().used(of.keep_versions);
    match blocking(move || disk.collect(used, wall_ms, keep, most)).await {
        Ok(Err(error)) => tracing::warn!(farm = shared.name, %error, "what nobody needs stays on disk"),
        Err(error) => tracing::warn!(farm = shared.name, error, "what nobody needs stays on disk"),
        Ok(Ok(())) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_that_of_its_version() {
        let version = |time| Version { time, node: 1 };
        let live = Manifest { version: version(1), name: "a".into(), content: None, signed: None };
        let stamp = Stamp::made(3, 7);
        assert_eq!(stamped(live.clone(), Some((version(1), stamp))), (live.clone(), Some(stamp)));
        // The next is in its place already, and nobody has said so yet.
        assert_eq!(stamped(live.clone(), Some((version(2), stamp))), (live.clone(), None));
        assert_eq!(stamped(live.clone(), None), (live, None));
    }
}
