//! What the application has a say in.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tribes_core::{BoxError, Env};

use crate::digest::Digest;
use crate::manifest::{Manifest, Version};
use crate::name::ArtefactName;

/// A version of an artefact, as the application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    name: ArtefactName,
    version: Version,
    size: u64,
    hash: Digest,
    path: PathBuf,
}

impl Artefact {
    /// `None` for a removal.
    pub(super) fn of(name: &ArtefactName, manifest: &Manifest, path: PathBuf) -> Option<Self> {
        let content = manifest.content?;
        Some(Self { name: name.clone(), version: manifest.version, size: content.size, hash: content.hash, path })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &ArtefactName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Its bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the whole.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// The file: among the staged ones for [`on_staged`](crate::FarmBuilder::on_staged), where it is live otherwise. To be read only:
    /// both may be the same file on disk.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What the application says of a version that is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It may go live.
    Accept,
    /// It must not, for this reason.
    Reject(String),
}

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Callback<A, T> = Arc<dyn Fn(A) -> Answer<T> + Send + Sync>;

/// All that is called.
#[derive(Clone, Default)]
pub(super) struct Callbacks {
    pub(super) staged: Option<Callback<Artefact, Verdict>>,
    pub(super) activated: Option<Callback<Artefact, Result<(), BoxError>>>,
    pub(super) removed: Option<Callback<ArtefactName, ()>>,
    pub(super) limit: Duration,
}

impl Callbacks {
    pub(super) async fn judge(&self, env: &Env, artefact: Artefact) -> Result<(), String> {
        let Some(callback) = &self.staged else { return Ok(()) };
        match self.call(env, callback, artefact).await? {
            Verdict::Accept => Ok(()),
            Verdict::Reject(why) => Err(why),
        }
    }

    pub(super) async fn activated(&self, env: &Env, artefact: Artefact) -> Result<(), String> {
        let Some(callback) = &self.activated else { return Ok(()) };
        self.call(env, callback, artefact).await?.map_err(|error| error.to_string())
    }

    pub(super) async fn removed(&self, env: &Env, name: ArtefactName) {
        let Some(callback) = &self.removed else { return };
        if let Err(why) = self.call(env, callback, name.clone()).await {
            tracing::error!(artefact = %name, why, "the application failed over a removal");
        }
    }

    async fn call<A, T>(&self, env: &Env, callback: &Callback<A, T>, argument: A) -> Result<T, String> {
        let panicked = |_| "the application panicked".to_owned();
        let mut answer = std::panic::catch_unwind(AssertUnwindSafe(|| callback(argument))).map_err(panicked)?;
        let contained = std::future::poll_fn(|cx| {
            let polled = std::panic::catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        let answer = env.until(env.now() + self.limit, contained).await;
        let late = || format!("the application did not answer within {} s", self.limit.as_secs());
        answer.ok_or_else(late)?.map_err(panicked)
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("limit", &self.limit).finish_non_exhaustive()
    }
}
