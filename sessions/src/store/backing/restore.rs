//! A session that no node has, had back from the backing.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::Time;

use super::super::Inner;
use super::Backing;
use super::record::{Unfit, from_record};
use crate::document::Session;
use crate::error::SessionError;
use crate::shared::{ForeignError, ForeignRecord};
use crate::{Durability, SessionId};

/// How long a request waits for the backing, of which half at most for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the backing has of a session.
pub(in crate::store) enum Had {
    /// This, which the nodes have from now on.
    Session(Arc<Session>),
    /// Nothing, or a session whose time is over, or of another store.
    Nothing,
    /// Something that is no session here: damaged, too large.
    Unfit,
    /// It does not say.
    Unknown,
}

impl Had {
    pub(in crate::store) fn session(self) -> Option<Arc<Session>> {
        match self {
            Self::Session(session) => Some(session),
            Self::Nothing | Self::Unfit | Self::Unknown => None,
        }
    }
}

impl Inner {
    /// What the backing, if there is one, has of a session that no node has.
    ///
    /// Two nodes that have it back at the same time come to the same: they merge.
    pub(in crate::store) async fn restore(&self, id: SessionId) -> Result<Had, SessionError> {
        let Some(backing) = &self.backing else { return Ok(Had::Nothing) };
        let began = self.env.now();
        if backing.queue().is_ending(id) {
            return Ok(Had::Nothing);
        }
        let record = if backing.queue().may_read(began) { self.read_behind(backing, id, began).await } else { None };
        let Some(record) = record else {
            backing.queue().missed();
            return Ok(Had::Unknown);
        };
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Had::Nothing),
            Err(why) => {
                tracing::warn!(?id, why, "a session of the backing cannot be had back");
                return Ok(Had::Unfit);
            }
        };
        let rules = (&self.policies, self.limits, self.inactivity);
        let session = match from_record(&self.name, record, self.now().wall_ms, rules, self.hashes) {
            Ok(session) => session,
            Err(Unfit::Over) => return Ok(Had::Nothing),
            // That is no business of this one, not even to remove it.
            Err(why @ Unfit::Another) => {
                tracing::warn!(?id, %why, "a session of the backing is not to be had here");
                return Ok(Had::Nothing);
            }
            Err(why) => {
                tracing::warn!(?id, %why, "a session of the backing cannot be had back");
                return Ok(Had::Unfit);
            }
        };
        // It may have ended while it was read.
        if backing.queue().is_ending(id) {
            return Ok(Had::Nothing);
        }
        let add = |found: Option<&Session>, _| {
            let merged = match found {
                Some(found) => Session::merge(found.clone(), session.clone()),
                None => session.clone(),
            };
            (found != Some(&merged)).then_some(merged)
        };
        let restored = self.table.update(id, Durability::Queued, add).await?;
        backing.queue().restored(id, self.env.now());
        Ok(restored.after.map_or(Had::Nothing, Had::Session))
    }

    /// The record of a session, or why it cannot be read; none if the backing does not say.
    async fn read_behind(
        &self,
        backing: &Backing,
        id: SessionId,
        began: Time,
    ) -> Option<Result<Option<ForeignRecord>, String>> {
        let env = &self.env;
        // That others are before it is no fault of the backing.
        let _permit = env.until(began + PATIENCE / 2, backing.reads.acquire()).await?;
        let why = match env.until(began + PATIENCE, backing.store.load(id)).await {
            Some(Ok(found)) => {
                backing.queue().was_read();
                return Some(Ok(found));
            }
            Some(Err(ForeignError::Decode(why))) => {
                backing.queue().was_read();
                return Some(Err(why));
            }
            Some(Err(error)) => error.to_string(),
            None => "no answer".to_owned(),
        };
        tracing::debug!(?id, why, "the sessions' backing fails; a request is served without its session");
        backing.queue().read_failed(env.now());
        None
    }
}
