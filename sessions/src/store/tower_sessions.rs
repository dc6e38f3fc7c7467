//! The traits of tower-sessions.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::ReplicatedStore;
use super::requests::RecordEnd;
use crate::error::SessionError;
use crate::{EndReason, SessionId};

/// A date that far away is none.
const NEVER: Duration = Duration::from_secs(400 * 365 * 86_400);

fn end_of(date: OffsetDateTime) -> RecordEnd {
    let left = Duration::try_from(date - OffsetDateTime::now_utc()).unwrap_or_default();
    let date_ms = u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    RecordEnd { left, date_ms }
}

fn date_in(left: Option<Duration>) -> OffsetDateTime {
    let left = time::Duration::try_from(left.unwrap_or(NEVER).min(NEVER)).unwrap_or_default();
    OffsetDateTime::now_utc().saturating_add(left)
}

/// The same trait of two releases, whose types are not the same.
macro_rules! session_store {
    ($core:ident) => {
        mod $core {
            use ::$core::session::{Id, Record};
            use ::$core::session_store::{Error, ExpiredDeletion, Result, SessionStore};

            use super::*;

            pub(super) const fn id_of(id: Id) -> SessionId {
                SessionId::from_bits(id.0.cast_unsigned())
            }

            impl From<Id> for SessionId {
                fn from(id: Id) -> Self {
                    id_of(id)
                }
            }

            impl From<SessionId> for Id {
                fn from(id: SessionId) -> Self {
                    Self(id.to_bits().cast_signed())
                }
            }

            pub(super) fn error(store: &ReplicatedStore, error: SessionError) -> Error {
                match error {
                    SessionError::FieldTooLarge { .. }
                    | SessionError::SessionTooLarge { .. }
                    | SessionError::TooDeep { .. } => Error::Encode(error.to_string()),
                    other => {
                        crate::request::note_failure(store.0.address());
                        Error::Backend(other.to_string())
                    }
                }
            }

            #[async_trait]
            impl SessionStore for ReplicatedStore {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let end = end_of(record.expiry_date);
                    let id = self.0.create(&mut record.data, end).await.map_err(|cause| error(self, cause))?;
                    record.id = id.into();
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    self.0
                        .save(id_of(record.id), &record.data, end_of(record.expiry_date))
                        .await
                        .map_err(|cause| error(self, cause))
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let loaded = self.0.load(id_of(*id)).await.map_err(|cause| error(self, cause))?;
                    Ok(loaded.map(|loaded| Record { id: *id, data: loaded.data, expiry_date: date_in(loaded.left) }))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    self.0.end(id_of(*id), EndReason::Invalidated).await.map(drop).map_err(|cause| error(self, cause))
                }
            }

            /// For applications that have a task for this, as database stores need one: there is nothing to do. The store ends
            /// each session itself when its time is over.
            #[async_trait]
            impl ExpiredDeletion for ReplicatedStore {
                async fn delete_expired(&self) -> Result<()> {
                    Ok(())
                }
            }
        }
    };
}

#[cfg(feature = "tower-sessions")]
session_store!(tower_sessions_core);
#[cfg(feature = "tower-sessions")]
mod of_request;
#[cfg(feature = "tower-sessions")]
pub(crate) use self::of_request::{LastSave, RequestStore};
#[cfg(feature = "tower-sessions-0-14")]
session_store!(tower_sessions_core_0_14);
