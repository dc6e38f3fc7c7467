//! A store of another crate behind one trait, whichever release of tower-sessions' it was made for; and ours as one of both.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use serde_json::Value;
use time::OffsetDateTime;

use crate::SessionId;

/// A record, as both releases have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForeignRecord {
    pub(crate) id: SessionId,
    pub(crate) data: HashMap<String, Value>,
    pub(crate) date: OffsetDateTime,
}

/// Why a store of another crate failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForeignError {
    #[error("a session could not be written down: {0}")]
    Encode(String),
    #[error("a session could not be read: {0}")]
    Decode(String),
    #[error("{0}")]
    Backend(String),
}

/// A store of another crate.
#[async_trait]
pub(super) trait Foreign: fmt::Debug + Send + Sync + 'static {
    /// Makes a session, under another id if this one is taken.
    async fn create(&self, record: ForeignRecord) -> Result<SessionId, ForeignError>;
    async fn save(&self, record: ForeignRecord) -> Result<(), ForeignError>;
    async fn load(&self, id: SessionId) -> Result<Option<ForeignRecord>, ForeignError>;
    async fn delete(&self, id: SessionId) -> Result<(), ForeignError>;
}

/// The same of two releases, whose types are not the same.
#[cfg(any(feature = "tower-sessions", feature = "tower-sessions-0-14"))]
macro_rules! foreign {
    ($core:ident, $new:ident, $(#[$doc:meta])*) => {
        mod $core {
            use ::$core::session::{Id, Record};
            use ::$core::session_store::{Error, Result as StoreResult, SessionStore};

            use super::super::SharedStore;
            use super::*;

            #[derive(Debug)]
            struct Of<S>(S);

            impl From<Error> for ForeignError {
                fn from(error: Error) -> Self {
                    match error {
                        Error::Encode(why) => Self::Encode(why),
                        Error::Decode(why) => Self::Decode(why),
                        Error::Backend(why) => Self::Backend(why),
                    }
                }
            }

            impl From<ForeignError> for Error {
                fn from(error: ForeignError) -> Self {
                    match error {
                        ForeignError::Encode(why) => Self::Encode(why),
                        ForeignError::Decode(why) => Self::Decode(why),
                        ForeignError::Backend(why) => Self::Backend(why),
                    }
                }
            }

            impl From<Record> for ForeignRecord {
                fn from(record: Record) -> Self {
                    Self { id: record.id.into(), data: record.data, date: record.expiry_date }
                }
            }

            impl From<ForeignRecord> for Record {
                fn from(record: ForeignRecord) -> Self {
                    Self { id: Id::from(record.id), data: record.data, expiry_date: record.date }
                }
            }

            #[async_trait]
            impl<S: SessionStore> Foreign for Of<S> {
                async fn create(&self, record: ForeignRecord) -> Result<SessionId, ForeignError> {
                    let mut record = Record::from(record);
                    self.0.create(&mut record).await?;
                    Ok(record.id.into())
                }

                async fn save(&self, record: ForeignRecord) -> Result<(), ForeignError> {
                    Ok(self.0.save(&record.into()).await?)
                }

                async fn load(&self, id: SessionId) -> Result<Option<ForeignRecord>, ForeignError> {
                    Ok(self.0.load(&id.into()).await?.map(Into::into))
                }

                async fn delete(&self, id: SessionId) -> Result<(), ForeignError> {
                    Ok(self.0.delete(&id.into()).await?)
                }
            }

            impl SharedStore {
                $(#[$doc])*
                pub fn $new(store: impl SessionStore) -> Self {
                    Self::of(Of(store))
                }
            }

            #[async_trait]
            impl SessionStore for SharedStore {
                async fn create(&self, record: &mut Record) -> StoreResult<()> {
                    record.id = Self::create(self, record.clone().into()).await?.into();
                    Ok(())
                }

                async fn save(&self, record: &Record) -> StoreResult<()> {
                    Ok(Self::save(self, record.clone().into()).await?)
                }

                async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
                    Ok(Self::load(self, (*id).into()).await?.map(Into::into))
                }

                async fn delete(&self, id: &Id) -> StoreResult<()> {
                    Ok(Self::delete(self, (*id).into()).await?)
                }
            }
        }
    };
}

#[cfg(feature = "tower-sessions")]
foreign!(
    tower_sessions_core, new,
    /// Over a store for tower-sessions-core 0.15.
);
#[cfg(feature = "tower-sessions-0-14")]
foreign!(
    tower_sessions_core_0_14, new_0_14,
    /// Over a store for tower-sessions-core 0.14, such as that of `tower-sessions-redis-store` 0.16.
);
