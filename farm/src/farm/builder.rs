//! How a farm is to be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::rpc::RpcError;
use tribes_core::{BoxError, Channel};
use tribes_replication::OpenError;

use super::callbacks::{Artefact, Callbacks, Verdict};
use super::{Farm, drive};
use crate::digest::Algorithm;
use crate::limits::Limits;
use crate::manifest::MAX_EARLIER;
use crate::name::ArtefactName;
use crate::replica::Activation;
use crate::trust::Trust;
use crate::watch::Watch;

/// Why a farm did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FarmError {
    /// It was not said whom to trust.
    #[error("a farm needs to know whom to trust: whoever publishes decides what all members run; see `trust`")]
    NoTrust,
    /// It trusts nobody.
    #[error("no key is trusted, so nothing would ever be taken")]
    NoKeys,
    /// It was not said where to stage.
    #[error("a farm needs a folder to stage in; see `staging`")]
    NoStaging,
    /// A limit cannot be.
    #[error("{0}")]
    Limits(&'static str),
    /// The algorithm is not in this build.
    #[error("{0:?} is not in this build")]
    Algorithm(Algorithm),
    /// A folder cannot be used.
    #[error("the folders cannot be used")]
    Io(#[from] std::io::Error),
    /// There is a farm of this name on the channel, or the name is none.
    #[error("the farm's maps cannot be opened")]
    Map(#[from] OpenError),
    /// The same.
    #[error("the farm cannot answer others")]
    Rpc(#[from] RpcError),
}

/// Sets up a [`Farm`]. What is said to be the same on all members must be; nobody checks it.
#[derive(Debug)]
#[must_use = "call `start`"]
pub struct FarmBuilder {
    pub(super) channel: Channel,
    pub(super) name: String,
    pub(super) staging: Option<PathBuf>,
    pub(super) live: Option<PathBuf>,
    pub(super) mode: u32,
    pub(super) trust: Option<Trust>,
    pub(super) watch: Option<(PathBuf, Watch)>,
    pub(super) limits: Limits,
    pub(super) algorithm: Algorithm,
    pub(super) activation: Activation,
    pub(super) callbacks: Callbacks,
    pub(super) keep_versions: usize,
    pub(super) idle_timeout: Duration,
    pub(super) keep_partial: Duration,
}

impl FarmBuilder {
    pub(super) fn new(channel: &Channel, name: String) -> Self {
        Self {
            channel: channel.clone(),
            name,
            staging: None,
            live: None,
            mode: 0o600,
            trust: None,
            watch: None,
            limits: Limits::default(),
            algorithm: Algorithm::default(),
            activation: Activation::default(),
            callbacks: Callbacks { limit: Duration::from_secs(60), ..Callbacks::default() },
            keep_versions: 3,
            idle_timeout: Duration::from_secs(300),
            keep_partial: Duration::from_secs(24 * 3600),
        }
    }

    /// Where files are fetched to, and kept (Tomcat: `tempDir`). Must be set; one farm at a time uses it. It is made if there
    /// is none; on Unix so that only this user gets into it. What is in it is needed after a restart: it saves fetching all again.
    pub fn staging(mut self, folder: impl Into<PathBuf>) -> Self {
        self.staging = Some(folder.into());
        self
    }

    /// Where artefacts get their names (Tomcat: `deployDir`); on the same file system as [`staging`](Self::staging), which is checked
    /// at the start. Not set: this member only publishes; it fetches nothing, and counts in no roll-out.
    pub fn live(mut self, folder: impl Into<PathBuf>) -> Self {
        self.live = Some(folder.into());
        self
    }

    /// Who can read live files, on Unix: their permission bits, of which the owner always has those to read and write, and no more than
    /// `0o777` are taken. Default `0o600`, this user only, whatever the umask is: modes are not carried, and a private key must not be
    /// easier to read here than where it was published. It is for all files of the farm; what is live already keeps its mode until another
    /// version is. Folders in [`live`](Self::live) are made as the umask says.
    pub const fn mode(mut self, bits: u32) -> Self {
        self.mode = bits;
        self
    }

    /// Whose artefacts are taken. Must be set: there is no default.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Publishes what is in this folder, and what comes into it (Tomcat: `watchDir`, `watchEnabled`). Not set: nothing is published
    /// but by [`Farm::publish_file`] and its kin.
    pub fn watch(mut self, folder: impl Into<PathBuf>, watch: Watch) -> Self {
        self.watch = Some((folder.into(), watch));
        self
    }

    /// How much is taken; the same on all members.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How what is published here is hashed. Default SHA-256.
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// When staged versions go live; the same on all members. Default: at once.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Asks the application about each version that is fetched and verified, before it is said to be staged. It is not asked about
    /// versions that are gone back to. Default: all are accepted.
    pub fn on_staged<R>(mut self, callback: impl Fn(Artefact) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Verdict> + Send + 'static,
    {
        self.callbacks.staged = Some(Arc::new(move |artefact| Box::pin(callback(artefact))));
        self
    }

    /// Tells the application that a version has its name in `live` now. An error makes the version before live again, which
    /// the callback is told of as well, and ends the roll-out: see [`Activation`]. If it cannot be made live, or the callback fails over
    /// that, too, it is tried again every 10 s until it succeeds; until then this member is not told as having it. What was live already
    /// when the farm started is not told: it is there from the beginning.
    pub fn on_activated<R>(mut self, callback: impl Fn(Artefact) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.callbacks.activated = Some(Arc::new(move |artefact| Box::pin(callback(artefact))));
        self
    }

    /// Tells the application that an artefact is gone from `live`.
    pub fn on_removed<R>(mut self, callback: impl Fn(ArtefactName) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = ()> + Send + 'static,
    {
        self.callbacks.removed = Some(Arc::new(move |name| Box::pin(callback(name))));
        self
    }

    /// How long each of the callbacks may take; then its future is dropped, and it has failed. Default 60 s. Without it one that
    /// hangs would hold up a roll-out for ever.
    pub const fn callback_limit(mut self, limit: Duration) -> Self {
        self.callbacks.limit = limit;
        self
    }

    /// How many versions before the current one are kept, to go back to; at most 16. Default 3. The same on all members, or what
    /// one goes back to is fetched from another.
    pub fn keep_versions(mut self, versions: usize) -> Self {
        self.keep_versions = versions.min(MAX_EARLIER);
        self
    }

    /// After what time without a byte a transfer is said to have stalled (Tomcat: `maxValidTime`). Default 300 s. It is tried on; but a
    /// roll-out in which all wait for each other is stopped.
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How long a partial file is kept that nobody asks for any more. Default 24 h. All of these together are at most
    /// [`Limits::file`] long: the oldest go first, within a minute or two.
    pub const fn keep_partial(mut self, time: Duration) -> Self {
        self.keep_partial = time;
        self
    }

    /// Starts the farm. It begins to fetch what the group has; see [`Farm::ready`]. The channel should be started.
    ///
    /// # Errors
    /// If something is missing or cannot be, folders cannot be used, or the channel has a farm of this name.
    ///
    /// # Cancel safety
    /// Dropped before its end, no farm is started.
    pub async fn start(self) -> Result<Farm, FarmError> {
        drive::start(self).await
    }
}
