//! What can go wrong.

use std::time::Duration;

use tribes_core::rpc::RpcError;
use tribes_replication::{MapError, OpenError};

/// Why an operation on a session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A field would become larger than it may. Nothing of this save was written.
    #[error(
        "the session's field {field:?} takes {bytes} bytes as JSON, and {limit} are allowed: keep less in it, or raise `max_field` on all nodes"
    )]
    FieldTooLarge {
        /// Its name.
        field: String,
        /// What it takes, in bytes of JSON.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A field is nested too deep to be read again. Nothing of this save was written.
    #[error("the session's field {field:?} is nested more than 120 deep: keep something flatter in it")]
    TooDeep {
        /// Its name.
        field: String,
    },
    /// The session as a whole would. Nothing of this save was written.
    #[error(
        "the session takes {bytes} bytes, and {limit} are allowed: keep less in it, or raise `max_session` on all nodes"
    )]
    SessionTooLarge {
        /// What it takes, in bytes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The table of sessions could not be read or written.
    #[error("the table of sessions: {0}")]
    Table(#[from] MapError),
    /// No node has the session, the backing does not say whether it has it, and such a request is to
    /// [fail](crate::Unreachable::Fail), or what it wanted cannot be done without: writing over the session, or ending it when 65,536
    /// such ends wait already.
    #[error(
        "no node has the session, and the backing does not say whether it has it: see that it is up, and try again"
    )]
    Unreachable,
    /// Another member did not do what all are to do.
    #[error("another member did not end its sessions: {why}; try again")]
    Elsewhere {
        /// Which, and why.
        why: String,
    },
    /// The operating system gives no random bytes for an id.
    #[error("no random bytes for a session's id: {0}")]
    Random(#[from] std::io::Error),
}

/// Why a store was not opened, or not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The table was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The channel has a store of this name.
    #[error("the sessions {name:?}: {source}")]
    Rpc {
        /// The store's name.
        name: String,
        /// Why.
        source: RpcError,
    },
    /// The state did not come in time, and [`OnTimeout::Fail`](crate::OnTimeout::Fail) was asked for.
    #[error(
        "the sessions {name:?} did not come within {timeout:?}: is a member of the group frozen, or the network too slow? Raise the timeout, or start without them (OnTimeout::StartEmpty)"
    )]
    Timeout {
        /// The store's name.
        name: String,
        /// How long it was waited.
        timeout: Duration,
    },
    /// A setting cannot be.
    #[error("{setting} is {value}: {why}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// Why that cannot be.
        why: &'static str,
    },
}
