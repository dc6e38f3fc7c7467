//! `tribes farm publish`, `rollback` and `status`: members that come, do one thing, and go.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tribes::farm::{
    Activated, ArtefactStatus, Farm, NodeReport, NodeState, Publication, Report, Stage, Staged, WaitError,
};
use tribes::{BoxError, Channel};

use super::args::{GroupArgs, PublishArgs, RollbackArgs, StatusArgs, WaitArgs};
use super::progress::Progress;
use super::{builder, channel, complain, own};
use crate::names::{name_of, plain, print};
use crate::units::Short;

/// Publishes a file; whether all have it.
pub(super) async fn publish(args: PublishArgs) -> Result<bool, BoxError> {
    let name = match args.name {
        Some(name) => name,
        None => file_name(&args.file)?,
    };
    let visit = Visit::begin(&args.group, &args.wait).await?;
    let published = visit.farm.publish_file(&name, &args.file).await;
    visit.end(published.map_err(BoxError::from), &args.wait).await
}

/// Goes back to an earlier version; whether all have.
pub(super) async fn rollback(args: RollbackArgs) -> Result<bool, BoxError> {
    let visit = Visit::begin(&args.group, &args.wait).await?;
    let published = match args.to {
        Some(version) => visit.farm.rollback_to(&args.name, version).await,
        None => visit.farm.rollback(&args.name).await,
    };
    visit.end(published.map_err(BoxError::from), &args.wait).await
}

/// Shows what there is.
pub(super) async fn status(args: StatusArgs) -> Result<bool, BoxError> {
    let visit = Visit::begin(&args.group, &args.wait).await?;
    let mut found = false;
    for artefact in visit.farm.status() {
        if args.name.as_ref().is_none_or(|name| name == artefact.name.as_str()) {
            found = true;
            show(&artefact);
        }
    }
    if !found {
        print("there are no such files");
    }
    visit.leave().await;
    Ok(found || args.name.is_none())
}

fn file_name(file: &Path) -> Result<String, BoxError> {
    let name = file.file_name().and_then(|name| name.to_str());
    Ok(name.ok_or_else(|| format!("{} has no name in UTF-8; give one with --name", file.display()))?.to_owned())
}

fn show(artefact: &ArtefactStatus) {
    let name = plain(artefact.name.as_str());
    match artefact.size {
        Some(size) => print(format_args!("{name}: {size} bytes, version {}", artefact.version)),
        None => print(format_args!("{name}: removed, version {}", artefact.version)),
    }
    artefact.nodes.iter().for_each(show_node);
    for (version, size) in &artefact.earlier {
        print(format_args!("  before: {size} bytes, version {version}"));
    }
}

fn show_node(node: &NodeReport) {
    print(format_args!("  {}: {}", name_of(&node.member), plain(&node.state.to_string())));
}

/// A member that is there for a while. It takes no files.
struct Visit {
    channel: Channel,
    farm: Farm,
    _staging: Folder,
}

impl Visit {
    async fn begin(group: &GroupArgs, wait: &WaitArgs) -> Result<Self, BoxError> {
        let channel = channel(group, &own(group))?;
        let staging = Folder::new()?;
        channel.start().await?;
        let farm = builder(&channel, group, &staging.0)?.start().await?;
        let there = async {
            farm.ready().await;
            farm.changed(|farm| farm.receivers() >= wait.members).await;
        };
        let visit = Self { channel, farm: farm.clone(), _staging: staging };
        if tokio::time::timeout(wait.within, there).await.is_err() {
            let found = farm.receivers();
            visit.leave().await;
            let (within, wanted) = (Short(wait.within), wait.members);
            return Err(format!("{found} of {wanted} members that take files are there after {within}").into());
        }
        Ok(visit)
    }

    /// Waits for what was published, tells what became of it, and leaves.
    async fn end(self, published: Result<Publication, BoxError>, wait: &WaitArgs) -> Result<bool, BoxError> {
        let ended = match published {
            Ok(publication) => Ok(self.wait(&publication, wait).await),
            Err(error) => Err(error),
        };
        self.leave().await;
        ended
    }

    async fn wait(&self, publication: &Publication, wait: &WaitArgs) -> bool {
        let (name, version) = (plain(publication.name().as_str()), publication.version());
        print(format_args!("{name} is published: version {version}"));
        let waiting = async {
            if wait.staged {
                publication.wait(Staged::Everywhere).await
            } else {
                publication.wait(Activated::Everywhere).await
            }
        };
        let waited = tokio::select! {
            biased;
            waited = tokio::time::timeout(wait.within, waiting) => waited,
            never = self.show(publication) => never,
        };
        let (report, well): (Report, bool) = match waited {
            Ok(Ok(report)) => (report, true),
            Ok(Err(WaitError::Stopped(report))) => (report, false),
            Ok(Err(error)) => {
                complain(&error);
                (publication.report(), false)
            }
            Err(_elapsed) => {
                let late = format!("not everywhere after {}", Short(wait.within));
                complain(BoxError::from(late).as_ref());
                (publication.report(), false)
            }
        };
        report.nodes.iter().for_each(show_node);
        well
    }

    /// Shows how far the members are, for ever.
    async fn show<T>(&self, publication: &Publication) -> T {
        let size =
            self.farm.status_of(publication.name().as_str()).and_then(|artefact| artefact.size).unwrap_or_default();
        let (mut progress, mut shown) = (Progress::new(), BTreeMap::new());
        loop {
            let mut now = BTreeMap::new();
            let news = self.farm.changed(|_| {
                now = publication.report().nodes.iter().filter_map(fetching).collect();
                now != shown
            });
            if !news.await {
                return std::future::pending().await;
            }
            progress.keep(|what| now.contains_key(what));
            now.iter().for_each(|(what, done)| progress.show(what, *done, size));
            shown = now;
        }
    }

    async fn leave(self) {
        self.farm.close();
        self.channel.stop().await;
    }
}

fn fetching(node: &NodeReport) -> Option<(String, u64)> {
    match node.state {
        NodeState::At(Stage::Fetching { done }) => Some((name_of(&node.member), done)),
        _ => None,
    }
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let folders =
            (0..100).map(|number| std::env::temp_dir().join(format!("tribes-farm-{}-{number}", std::process::id())));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(false);
        // What is published lies in it, also what others must not read.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for folder in folders {
            match builder.create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no temporary folder is free"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is temporary anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::Folder;

    #[test]
    fn nobody_else_gets_into_a_temporary_folder() {
        let folder = Folder::new().unwrap();
        assert_eq!(std::fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
