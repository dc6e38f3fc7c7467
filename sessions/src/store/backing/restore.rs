//! A session that no node has, had back from the backing.

use std::sync::Arc;
use std::time::Duration;

use super::super::Inner;
use super::record::{Unfit, from_record};
use crate::document::Session;
use crate::error::SessionError;
use crate::{Durability, SessionId};

/// How long a request waits for the backing.
const PATIENCE: Duration = Duration::from_secs(1);

impl Inner {
    /// The session as the backing has it, which the nodes have from now on; `None` if it has none, or does not answer.
    ///
    /// Two nodes that have it back at the same time come to the same: they merge.
    pub(in crate::store) async fn restore(&self, id: SessionId) -> Result<Option<Arc<Session>>, SessionError> {
        let Some(backing) = &self.backing else { return Ok(None) };
        let env = &self.env;
        if !backing.queue().may_ask(env.now()) {
            backing.queue().missed();
            return Ok(None);
        }
        let load = async {
            // Never closed.
            let _permit = backing.reads.acquire().await;
            backing.store.load(id).await
        };
        let record = match env.until(env.now() + PATIENCE, load).await {
            Some(Ok(Some(record))) => record,
            Some(Ok(None)) => {
                backing.queue().works();
                return Ok(None);
            }
            failed => {
                let why =
                    failed.and_then(Result::err).map_or_else(|| "no answer".to_owned(), |error| error.to_string());
                tracing::debug!(?id, why, "the sessions' backing fails; a request is served without its session");
                let mut queue = backing.queue();
                queue.fails(env.now());
                queue.missed();
                return Ok(None);
            }
        };
        let rules = (&self.policies, self.limits, self.inactivity);
        let session = match from_record(record, self.now().wall_ms, rules, self.hashes) {
            Ok(session) => session,
            Err(Unfit::Over) => return Ok(None),
            Err(why) => {
                tracing::warn!(?id, %why, "a session of the backing cannot be had back");
                return Ok(None);
            }
        };
        let add = |found: Option<&Session>, _| {
            let merged = match found {
                Some(found) => Session::merge(found.clone(), session.clone()),
                None => session.clone(),
            };
            (found != Some(&merged)).then_some(merged)
        };
        let restored = self.table.update(id, Durability::Queued, add).await?;
        backing.queue().restored();
        Ok(restored.after)
    }
}
