//! The farm's handle.

mod builder;
mod callbacks;
mod drive;
mod jobs;
mod publication;
mod publish;
mod serve;
mod shared;
mod stats;
mod status;
mod wire;

use std::fmt;
use std::sync::Arc;

use tribes_core::{Channel, Env};

pub use self::builder::{FarmBuilder, FarmError};
pub use self::callbacks::{Artefact, Verdict};
pub use self::publication::{Activated, Goal, NodeReport, NodeState, Publication, Report, Staged, WaitError};
pub use self::publish::PublishError;
use self::shared::Shared;
pub use self::stats::{ArtefactStats, FarmStats};
pub use self::status::ArtefactStatus;

/// A folder of files that every member of the group has, who starts a farm of the same name (Tomcat: `FarmWarDeployer`). A cheap
/// handle; when the last is dropped the farm ends.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// use tribes_farm::{Activated, Farm, Trust};
/// # use tribes_core::Channel;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let net = SimNet::new(7);
/// # let (one, two) = (net.join(Channel::builder()).build()?, net.join(Channel::builder()).build()?);
/// # one.start().await?;
/// # two.start_and_wait(1, std::time::Duration::from_secs(5)).await?;
/// # let folder = tempfile::tempdir()?;
/// # let var = |member: &str, folder_of: &str| folder.path().join(member).join(folder_of);
/// // On each member, on a channel that is started:
/// let here = Farm::builder(&one, "assets")
///     .staging(var("one", "staging"))
///     .live(var("one", "live"))
///     .trust(Trust::Cluster) // whoever is in the group may publish: see `Trust`
///     .start()
///     .await?;
/// # let there = Farm::builder(&two, "assets").staging(var("two", "staging")).live(var("two", "live"));
/// # let there = there.trust(Trust::Cluster).start().await?;
/// here.ready().await;
/// # there.ready().await;
/// # here.changed(|farm| farm.receivers() == 2).await;
/// let publication = here.publish_bytes("rules.json", "{}").await?;
/// publication.wait(Activated::Everywhere).await?;
/// assert_eq!(std::fs::read(var("two", "live").join("rules.json"))?, b"{}");
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// - **Whole or not at all.** Under its name in `live` an artefact is always one verified version, before a crash and after it: each
///   chunk and the whole have the hashes that its publisher said, it is synced, and then gets its name at one moment.
/// - **Everybody gets it**: who joins later, was away or was restarted, from any member that has it. What was fetched before an
///   interruption is not fetched again.
/// - **One version.** Of versions published at the same time all members come to have the later one; who published the other
///   is told.
/// - **Names** lead nowhere but into `live`: see [`ArtefactName`](crate::ArtefactName).
/// - **Bounded**: a few chunks of memory for each member, and [`Limits`](crate::Limits).
/// - **Activation** is apart from transfer: see [`Activation`](crate::Activation). No death holds up a roll-out.
///
/// Not guaranteed: that all members activate at one moment; that each of them sees every version, if several follow quickly; an
/// order among artefacts. The two sides of a split group each roll out by themselves. Of a file its bytes are carried, and
/// nothing else: no owner, mode or time.
#[derive(Clone)]
pub struct Farm(Arc<Opened>);

/// Ends the farm when the last handle goes.
struct Opened(Arc<Shared>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Farm {
    /// A farm of this name on `channel`; the name tells the farms of a group apart, and is the same on all members.
    pub fn builder(channel: &Channel, name: impl Into<String>) -> FarmBuilder {
        FarmBuilder::new(channel, name.into())
    }

    fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Opened(shared)))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Waits until this member has what the group had when it joined: of each artefact the version that is to be here is live, or
    /// waits for others to be staged there as well; or it was rejected or failed, or nothing of it came for
    /// the [`idle_timeout`](FarmBuilder::idle_timeout). What a member has that is not ready itself, because it has just come, too, may be
    /// missing. `false` if the farm was closed before. Cancel safe.
    pub async fn ready(&self) -> bool {
        let mut ready = self.shared().ready.subscribe();
        tokio::select! {
            biased;
            // The sender is here.
            _ = ready.wait_for(|ready| *ready) => true,
            () = self.shared().closed() => false,
        }
    }

    /// Whether it has what the group had.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared().replica().is_ready()
    }

    /// How many members there are that take artefacts, this one counted if it does.
    #[must_use]
    pub fn receivers(&self) -> usize {
        let replica = self.shared().replica();
        replica.receivers().len() + usize::from(replica.receives())
    }

    /// Waits until `condition` holds, looking after each change of what this member knows. `false` if the farm was closed before: then
    /// nothing changes any more. Cancel safe.
    pub async fn changed(&self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let mut changes = self.shared().changed.subscribe();
        while !condition(self) {
            if self.is_closed() {
                return false;
            }
            // The sender is here.
            let _ = changes.changed().await;
        }
        true
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> FarmStats {
        self.shared().counters.snapshot()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Ends the farm here; what is live stays. The others go on without this member.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Waits until the group's maps are here, or the farm is closed, which it does not hinder: it holds no handle.
    pub(crate) fn loaded(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(self.shared());
        async move {
            shared.loaded().await;
        }
    }

    /// Waits until the farm is closed, which it does not hinder.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(self.shared());
        async move { shared.closed().await }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared().is_closed()
    }

    pub(crate) fn env(&self) -> Env {
        self.shared().env.clone()
    }

    pub(crate) fn downgrade(&self) -> WeakFarm {
        WeakFarm(Arc::downgrade(&self.0))
    }

    pub(crate) fn limits(&self) -> &crate::Limits {
        &self.shared().limits
    }
}

impl fmt::Debug for Farm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farm").field("name", &self.name()).field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// A handle that does not keep the farm.
#[derive(Clone)]
pub(crate) struct WeakFarm(std::sync::Weak<Opened>);

impl WeakFarm {
    pub(crate) fn upgrade(&self) -> Option<Farm> {
        self.0.upgrade().map(Farm)
    }
}
