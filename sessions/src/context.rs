//! What an application keeps for itself, on all nodes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::Channel;
use tribes_replication::{ChangeHandle, Conflicts, Durability, MapError, OpenError, ReplicatedMap, Written};

/// Attributes of an application that all its nodes share (Tomcat: `ReplicatedContext`): settings switched at run time, notices,
/// counts. A cheap handle; all clones are the same. Give it to axum as state.
///
/// Values are JSON. What one node sets all others come to have, as entries of a
/// [`ReplicatedMap`], on which it stands: reads are local, and of two writes that did not know of each other the later counts, alike on
/// all nodes. (In Tomcat the one that arrives last, which may be another on each node; and what cannot be serialised silently stays
/// local.) Attributes do not expire, and are gone when all nodes stop.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// # use tribes_core::Channel;
/// use axum::{Router, extract::State, routing::get};
/// use tribes_sessions::ReplicatedContext;
///
/// async fn banner(State(shared): State<ReplicatedContext>) -> String {
///     shared.get("banner").unwrap_or_default()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let channel = SimNet::new(7).join(Channel::builder()).build()?;
/// # channel.start().await?;
/// let shared = ReplicatedContext::join(&channel, "shop").await?;
/// shared.set("banner", "Closed on Sunday").await?;
/// let app: Router = Router::new().route("/banner", get(banner)).with_state(shared);
/// # let _ = app;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ReplicatedContext {
    map: ReplicatedMap<String, String>,
}

impl fmt::Debug for ReplicatedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedContext").field("attributes", &self.map.len()).finish_non_exhaustive()
    }
}

/// Why an attribute was not set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The value cannot be written as JSON. Nothing was set. (Tomcat keeps it local, and says nothing.)
    #[error("the attribute {name:?} cannot be written as JSON: {source}")]
    Json {
        /// The attribute.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It was not written, or not as far as it should be.
    #[error("the attribute {name:?}: {source}")]
    Map {
        /// The attribute.
        name: String,
        /// Why.
        source: MapError,
    },
}

impl ReplicatedContext {
    /// Opens the attributes of the application `name` on `channel`, which should be started. Attributes that others have set come
    /// soon after; see [`ready`](Self::ready).
    ///
    /// # Errors
    /// If the channel has one of this name, or the name is empty or longer than 190 bytes.
    ///
    /// # Panics
    /// Outside of a runtime, as everything that runs tasks.
    pub fn open(channel: &Channel, name: &str) -> Result<Self, OpenError> {
        // Tomcat's: acknowledged by the others.
        let durability = Durability::all(Duration::from_secs(2));
        let builder = ReplicatedMap::builder(format!("context:{name}")).conflicts(Conflicts::latest_wins());
        Ok(Self { map: builder.durability(durability).open(channel)? })
    }

    /// [Opens](Self::open) them, and waits until those that others have set are here.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropped, it leaves again.
    pub async fn join(channel: &Channel, name: &str) -> Result<Self, OpenError> {
        let context = Self::open(channel, name)?;
        context.ready().await;
        Ok(context)
    }

    /// Waits until the attributes that others have set are here. Cancel safe.
    pub async fn ready(&self) {
        self.map.ready().await;
    }

    /// An attribute; `None` if it is not set, or is no `T`, which the log says.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let json = self.map.get(name)?;
        serde_json::from_str(&json)
            .inspect_err(|error| tracing::warn!(name, %error, "an attribute is no {}", std::any::type_name::<T>()))
            .ok()
    }

    /// Sets an attribute, here at once, and waits until all other nodes have it, for 2 s at most.
    ///
    /// # Errors
    /// If the value is no JSON, then nothing is set; if not all have it in time, then it is, and comes to them later.
    ///
    /// # Cancel safety
    /// It is set at the first poll. Dropped after that, its outcome is lost.
    pub async fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<Written, ContextError> {
        let json = serde_json::to_string(value);
        let json = json.map_err(|source| ContextError::Json { name: name.to_owned(), source })?;
        self.map.put(name, &json).await.map_err(|source| ContextError::Map { name: name.to_owned(), source })
    }

    /// Takes an attribute away; `None` if it is not set here.
    ///
    /// # Errors
    /// If not all have heard of it in time; it is away all the same.
    ///
    /// # Cancel safety
    /// As [`set`](Self::set).
    pub async fn remove(&self, name: &str) -> Result<Option<Written>, ContextError> {
        self.map.remove(name).await.map_err(|source| ContextError::Map { name: name.to_owned(), source })
    }

    /// The names of the attributes that are set, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.map.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// Has `listener` called with the name of each attribute that changes, by whomever, until the handle is dropped. It must not block.
    pub fn on_change(&self, listener: impl Fn(&str) + Send + Sync + 'static) -> ChangeHandle {
        self.map.on_change(move |change| listener(&change.key))
    }

    /// Waits until `condition` holds, looking after each change. Cancel safe.
    pub async fn changed(&self, mut condition: impl FnMut(&Self) -> bool) {
        self.map.changed(|_| condition(self)).await;
    }
}
