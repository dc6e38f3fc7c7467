//! The folder that is watched.

mod core;
mod glob;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tribes_core::Env;

use self::core::{Action, Folder, Took};
use crate::disk::Stamp;
use crate::farm::{Farm, FarmError, PublishError, WeakFarm};
use crate::name::ArtefactName;

/// Folders in folders are looked into so deep.
const DEEPEST: usize = 32;
/// If more files are hinted at, all are looked through.
#[cfg(feature = "watch")]
const MOST_HINTS: usize = 4096;

/// How a folder is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watch {
    /// How long a file has to look the same, in size and time, before it is taken for whole. Default 750 ms. Whoever writes with
    /// longer pauses should write elsewhere on the same file system, and rename the file into the folder: that is right with any
    /// settle time.
    pub settle: Duration,
    /// Which files are artefacts: `*` stands for any text, `?` for any character; a pattern without a slash is about the name
    /// without its folders. Default `*`.
    pub pattern: String,
    /// How often the whole folder is looked through (Tomcat: `processDeployFrequency`): what is not reported by the operating system,
    /// as on network drives, is noticed by that. Default 20 s.
    pub poll_fallback: Duration,
    /// Whether an artefact whose file goes is removed from all members, if its content is the current one. Default yes, as in
    /// Tomcat. What went while nobody watched is not noticed.
    pub removals: bool,
}

impl Default for Watch {
    fn default() -> Self {
        let (settle, poll_fallback) = (Duration::from_millis(750), Duration::from_secs(20));
        Self { settle, pattern: "*".into(), poll_fallback, removals: true }
    }
}

impl Watch {
    /// Sets [`settle`](Self::settle).
    #[must_use]
    pub const fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Sets [`pattern`](Self::pattern).
    #[must_use]
    pub fn with_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = pattern.into();
        self
    }

    /// Sets [`poll_fallback`](Self::poll_fallback).
    #[must_use]
    pub const fn with_poll_fallback(mut self, every: Duration) -> Self {
        self.poll_fallback = every;
        self
    }

    /// Sets [`removals`](Self::removals).
    #[must_use]
    pub const fn with_removals(mut self, removals: bool) -> Self {
        self.removals = removals;
        self
    }
}

/// What the operating system told of, until it is looked at.
#[derive(Debug, Default)]
struct Hints {
    names: Mutex<(BTreeSet<ArtefactName>, bool)>,
    wake: Notify,
}

impl Hints {
    #[cfg(feature = "watch")]
    fn add(&self, names: impl Iterator<Item = ArtefactName>, all: bool) {
        let mut hints = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        hints.0.extend(names);
        hints.1 |= all || hints.0.len() > MOST_HINTS;
        drop(hints);
        self.wake.notify_one();
    }

    fn take(&self) -> (BTreeSet<ArtefactName>, bool) {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches `folder` as long as there is a farm.
pub(crate) async fn start(farm: &Farm, folder: PathBuf, watch: Watch) -> Result<(), FarmError> {
    let made = folder.clone();
    let folder = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&made)?;
        fs::canonicalize(made)
    });
    let folder = folder.await.map_err(io::Error::other)??;
    let hints = Arc::new(Hints::default());
    #[cfg(feature = "watch")]
    let watcher = events(&folder, &hints);
    // Otherwise what the group has would be published again.
    let (loaded, closed) = (farm.loaded(), farm.closed());
    let (env, farm) = (farm.env(), farm.downgrade());
    let clock = env.clone();
    env.spawn(async move {
        #[cfg(feature = "watch")]
        let _watcher = watcher;
        let watching = async {
            loaded.await;
            run(farm, clock, folder, watch, &hints).await;
        };
        tokio::select! {
            biased;
            () = closed => {}
            () = watching => {}
        }
    });
    Ok(())
}

/// Has the operating system tell of changes. Where it cannot, the folder is only looked through now and then.
#[cfg(feature = "watch")]
fn events(folder: &Path, hints: &Arc<Hints>) -> Option<notify::RecommendedWatcher> {
    use notify::Watcher as _;
    let (root, hints) = (folder.to_owned(), Arc::clone(hints));
    let told = move |event: notify::Result<notify::Event>| match event {
        // It would be told of its own reading.
        Ok(event) if event.kind.is_access() => {}
        Ok(event) => {
            let inside = |path: &PathBuf| ArtefactName::from_relative_path(path.strip_prefix(&root).ok()?).ok();
            // What happens to a folder happens to all that is in it.
            let all = event.need_rescan() || event.paths.iter().any(|path| path.is_dir());
            hints.add(event.paths.iter().filter_map(inside), all);
        }
        Err(_) => hints.add(std::iter::empty(), true),
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(folder, notify::RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let complain = |error: &notify::Error| {
        tracing::warn!(folder = %folder.display(), %error, "changes are noticed by looking now and then only");
    };
    watcher.inspect_err(complain).ok()
}

async fn run(farm: WeakFarm, env: Env, root: PathBuf, watch: Watch, hints: &Hints) {
    let home = identity(&root).ok();
    let mut folder = Folder::new(watch.settle);
    let mut fresh: BTreeSet<ArtefactName> = BTreeSet::new();
    let mut scan_at = env.now();
    loop {
        let Some(farm) = farm.upgrade().filter(|farm| !farm.is_closed()) else { return };
        let now = env.now();
        let (names, all) = hints.take();
        let mut actions = Vec::new();
        if all || scan_at <= now {
            scan_at = now + watch.poll_fallback;
            let (of, pattern, most) = (root.clone(), watch.pattern.clone(), farm.limits().artefacts);
            match tokio::task::spawn_blocking(move || same(&of, home).and_then(|()| scan(&of, &pattern, most))).await {
                Ok(Ok(found)) => actions.extend(folder.scanned(&found, now)),
                Ok(Err(error)) => {
                    tracing::warn!(folder = %root.display(), %error, "the folder cannot be looked through")
                }
                Err(_) => {}
            }
        }
        let fit = names.into_iter().filter(|name| glob::matches(&watch.pattern, name.as_str()));
        actions.extend(fit.filter_map(|name| folder.hint(name)));
        actions.extend(folder.tick(now));
        while let Some(action) = actions.pop() {
            match action {
                Action::Look(name) => {
                    let (root, of) = (root.clone(), name.clone());
                    match tokio::task::spawn_blocking(move || look(&root, home, &of)).await {
                        Ok(Ok(seen)) => actions.extend(folder.saw(&name, seen, env.now())),
                        Ok(Err(error)) => {
                            tracing::warn!(artefact = %name, %error, "a file cannot be looked at");
                            folder.unseen(&name, env.now());
                        }
                        Err(_) => folder.unseen(&name, env.now()),
                    }
                }
                Action::Take(name) => {
                    let first = fresh.insert(name.clone());
                    let took = take(&farm, &name, root.join(name.to_path()), first).await;
                    actions.extend(folder.took(&name, took, env.now()));
                }
                Action::Remove(name, hash) => {
                    fresh.insert(name.clone());
                    let removed = if watch.removals { farm.remove_if(&name, hash).await } else { Ok(()) };
                    if let Err(error) = &removed {
                        tracing::warn!(artefact = %name, %error, "a removal is not published yet");
                    }
                    actions.extend(folder.removed(&name, removed.is_ok(), env.now()));
                }
            }
        }
        drop(farm);
        let wake = folder.next_wake().min(scan_at);
        env.until(wake, hints.wake.notified()).await;
    }
}

async fn take(farm: &Farm, name: &ArtefactName, path: PathBuf, fresh: bool) -> Took {
    match farm.publish_path(name, path, true, fresh).await {
        Ok((publication, hash)) => {
            tracing::debug!(artefact = %name, version = %publication.version(), "published");
            Took::Published(hash)
        }
        Err(PublishError::Changed { .. }) => Took::Changed,
        Err(error) => {
            tracing::warn!(artefact = %name, %error, "a file is not published");
            Took::Failed
        }
    }
}

/// What tells a folder from another that is found under its name later, as when a drive is not mounted any more.
fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Ok((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    Ok((0, u64::from(metadata.is_dir())))
}

/// An error if the folder is another than it was: that its files are not there says nothing of them then.
fn same(root: &Path, home: Option<(u64, u64)>) -> io::Result<()> {
    if Some(identity(root)?) == home { Ok(()) } else { Err(io::Error::other("the watched folder is another one now")) }
}

/// How a file looks; `None` if there is none, or one of its folders is a link.
///
/// # Errors
/// If that cannot be said.
fn look(root: &Path, home: Option<(u64, u64)>, name: &ArtefactName) -> io::Result<Option<Stamp>> {
    let path = root.join(name.to_path());
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != root);
    let mut real = true;
    for folder in folders {
        match fs::symlink_metadata(folder) {
            Ok(there) => real &= there.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => real = false,
            Err(error) => return Err(error),
        }
    }
    let seen = if real { Stamp::of(&path)? } else { None };
    if seen.is_none() {
        same(root, home)?;
    }
    Ok(seen)
}

/// All files that are artefacts. Links are passed over, whatever they lead to, and so is what has no name; and a folder in it that cannot be
/// read, whose files are then looked at one by one.
///
/// # Errors
/// If `root` cannot be read.
fn scan(root: &Path, pattern: &str, most: usize) -> io::Result<BTreeMap<ArtefactName, Stamp>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Err(error) if depth > 0 => {
                tracing::warn!(folder = %folder.display(), %error, "a folder is passed over");
                continue;
            }
            entries => entries?,
        };
        for entry in entries {
            let (path, metadata) = (entry.path(), entry.metadata());
            // Gone already.
            let Ok(metadata) = metadata else { continue };
            if metadata.is_dir() {
                folders.extend((depth < DEEPEST).then(|| (path, depth + 1)));
                continue;
            }
            let inside = path.strip_prefix(root).map_err(io::Error::other)?;
            let Ok(name) = ArtefactName::from_relative_path(inside) else { continue };
            if metadata.is_file() && glob::matches(pattern, name.as_str()) && found.len() < most {
                found.insert(name, Stamp::new(&metadata));
            }
        }
    }
    Ok(found)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Not even root reads a folder whose path is too long.
    #[test]
    fn a_folder_that_cannot_be_read_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let part = "x".repeat(200);
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do mkdir $0 && cd -P $0 || exit 1; done";
        let made = std::process::Command::new("sh").args(["-c", script, &part]).current_dir(folder.path()).status();
        assert!(made.unwrap().success());
        let deep: PathBuf = std::iter::once(folder.path()).chain((0..22).map(|_| Path::new(&part))).collect();
        assert!(fs::read_dir(&deep).is_err(), "the premise");
        for there in ["a", "z/b"] {
            fs::create_dir_all(folder.path().join(there).parent().unwrap()).unwrap();
            fs::write(folder.path().join(there), "x").unwrap();
        }
        let found = scan(folder.path(), "*", 10).unwrap();
        assert_eq!(found.keys().map(ArtefactName::as_str).collect::<Vec<_>>(), ["a", "z/b"]);
        assert!(scan(&folder.path().join("none"), "*", 10).is_err());
    }
}
