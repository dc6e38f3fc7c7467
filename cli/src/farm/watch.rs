//! `tribes farm watch`: a member that takes files, and publishes those of a folder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tribes::BoxError;
use tribes::farm::{Farm, NodeState, Stage, Watch};

use super::args::WatchArgs;
use super::progress::Progress;
use super::{builder, channel, own};
use crate::input;
use crate::names::plain;

/// Runs until it is interrupted, or its input ends.
pub(super) async fn watch(args: WatchArgs) -> Result<(), BoxError> {
    let name = own(&args.group);
    let channel = channel(&args.group, &name)?;
    channel.start().await?;
    let progress = Arc::new(Mutex::new(Progress::new()));
    let farm = farm(&args, &channel, &progress).await?;
    say(&progress, &format!("* you are {name}, at {}; the farm is {:?}", channel.local(), args.group.farm));
    let running = async {
        farm.ready().await;
        let count = farm.status().iter().filter(|artefact| artefact.size.is_some()).count();
        say(&progress, &format!("* ready: {count} {}", if count == 1 { "file" } else { "files" }));
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut lines = input::lines();
        while lines.recv().await.is_some() {}
        if args.ignore_input {
            std::future::pending::<()>().await;
        }
    };
    // Progress is shown before it is ready, too.
    let local = channel.local();
    tokio::select! {
        biased;
        () = input::interrupted() => {}
        () = ended => {}
        () = show(&farm, &progress, &local) => {}
        () = running => {}
    }
    farm.close();
    channel.stop().await;
    Ok(())
}

async fn farm(args: &WatchArgs, channel: &tribes::Channel, progress: &Arc<Mutex<Progress>>) -> Result<Farm, BoxError> {
    let (live, gone) = (Arc::clone(progress), Arc::clone(progress));
    // Here it is a circle, which goes with the process.
    let counting: Arc<OnceLock<Farm>> = Arc::default();
    let counted = Arc::clone(&counting);
    let mut builder = builder(channel, &args.group, &args.staging)?
        .activation(args.activation.0)
        .mode(args.mode)
        .keep_versions(args.keep)
        .on_activated(move |artefact| {
            let (name, version) = (plain(artefact.name().as_str()), artefact.version());
            let stats = counted.get().and_then(|farm| farm.stats().artefacts.get(artefact.name()).copied());
            let fetched = stats.unwrap_or_default().bytes;
            say(&live, &format!("* {name} is live: {} bytes, {fetched} fetched, version {version}", artefact.size()));
            std::future::ready(Ok(()))
        })
        .on_removed(move |name| {
            say(&gone, &format!("* {} is removed", plain(name.as_str())));
            std::future::ready(())
        });
    if let Some(live) = &args.live {
        builder = builder.live(live);
    }
    if let Some(dir) = &args.dir {
        let watch = Watch::default().with_settle(args.settle).with_poll_fallback(args.poll);
        builder = builder.watch(dir, watch.with_pattern(&args.pattern).with_removals(!args.keep_removed));
    }
    let farm = builder.start().await?;
    Ok(counting.get_or_init(|| farm).clone())
}

fn say(progress: &Mutex<Progress>, line: &str) {
    progress.lock().unwrap_or_else(PoisonError::into_inner).line(line);
}

/// Shows what is being fetched here, as long as there is a farm.
async fn show(farm: &Farm, progress: &Mutex<Progress>, local: &tribes::Member) {
    let mut shown = BTreeMap::new();
    loop {
        let mut now = BTreeMap::new();
        let news = farm.changed(|farm| {
            now = fetching(farm, local);
            now != shown
        });
        if !news.await {
            return;
        }
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.keep(|what| now.contains_key(what));
        now.iter().for_each(|(what, (done, total))| progress.show(what, *done, *total));
        shown = now;
    }
}

/// What is being fetched here: how many bytes are there, of how many.
fn fetching(farm: &Farm, local: &tribes::Member) -> BTreeMap<String, (u64, u64)> {
    let of = |artefact: tribes::farm::ArtefactStatus| {
        let own = artefact.nodes.iter().find(|node| node.member.id() == local.id())?;
        let NodeState::At(Stage::Fetching { done }) = own.state else { return None };
        Some((plain(artefact.name.as_str()), (done, artefact.size?)))
    };
    farm.status().into_iter().filter_map(of).collect()
}
