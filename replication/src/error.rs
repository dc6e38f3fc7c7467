//! What can go wrong with a map.

use std::sync::Arc;

use tribes_core::{EndpointError, Member};

use crate::durability::CopyState;
use crate::version::Version;

/// An operation that did not come to what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A key or value cannot be written as MessagePack.
    #[error("it cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The value is beyond the map's bound; nothing was written.
    #[error(
        "the value has {bytes} bytes and the map takes {limit} (MapBuilder::max_value): store it in parts, or raise the bound on every member"
    )]
    ValueTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The map is beyond its bound; nothing was written.
    #[error(
        "with this value the map has {bytes} bytes, and its bound is {limit} (MapBuilder::max_bytes): remove entries, or raise the bound on every member"
    )]
    Full {
        /// What it would have.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The write is made and still comes to everybody in time, but not enough members said so by the deadline.
    #[error(
        "the write {version} is made, but it was to wait for {wanted}, and {} said so: {}",
        having(members),
        missing(members)
    )]
    NotAcknowledged {
        /// Its version.
        version: Version,
        /// The durability, in words.
        wanted: String,
        /// How far it has come to each member.
        members: Vec<(Arc<Member>, CopyState)>,
    },
    /// Another write came between reading and writing, time and again.
    #[error("the key is written by others all the time: the update did not come through in {tries} tries")]
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// Nobody that holds the key could be asked in time: the members to hold it are gone, frozen, cut off, or still fetching
    /// it. Nothing was written.
    #[error("no member that holds the key answers: {why}; try again, or wait longer (LazyMapBuilder::patience)")]
    NoHolder {
        /// Who was asked, and what came of it.
        why: String,
    },
    /// The member that was to make the write says nothing: whether it is made is not known.
    #[error(
        "{member} was to make the write and does not answer ({why}): it may have been made; read the key before trying again"
    )]
    Unanswered {
        /// Who was asked.
        member: Arc<Member>,
        /// What came of it.
        why: String,
    },
    /// Others did not take over in time what this member holds.
    #[error(
        "{entries} entries that this member holds were not taken over in time; they are lost if it ends and no other holds them"
    )]
    NotHandedOver {
        /// Entries that are still here.
        entries: usize,
    },
    /// The map does not merge values written at the same time, and would lose what was added; nothing was written.
    #[error("the map keeps no counters: open it with MapBuilder::conflicts(Conflicts::counter()), on every member")]
    NoCounters,
    /// What has happened is not on disk, and it is not to be waited for.
    #[cfg(feature = "persist")]
    #[error(
        "the map is not saved: it is closed and its last save failed, or the thread that saves it has died; the log says why"
    )]
    NotSaved,
    /// The map is closed.
    #[error("the map is closed")]
    Closed,
}

/// A map that was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The channel has a map of this name already, or the name is none.
    #[error("the map {name:?} cannot be opened: {source}")]
    Name {
        /// The map's name.
        name: String,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// A lazy map could not be made answer others.
    #[error("the map {name:?} cannot be opened: {source}")]
    Rpc {
        /// The map's name.
        name: String,
        /// What is wrong.
        source: tribes_core::rpc::RpcError,
    },
    /// Its file cannot be opened: it is another process's, of another format, or the disk says no.
    #[cfg(feature = "persist")]
    #[error("the map {name:?} cannot be opened from {}: {source}", path.display())]
    File {
        /// The map's name.
        name: String,
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: tribes_core::BoxError,
    },
    /// The thread that saves it cannot be started.
    #[cfg(feature = "persist")]
    #[error("the map {name:?} cannot be saved: {source}")]
    Thread {
        /// The map's name.
        name: String,
        /// What is wrong.
        source: tribes_core::BoxError,
    },
}

fn having(members: &[(Arc<Member>, CopyState)]) -> usize {
    members.iter().filter(|(_, state)| *state == CopyState::Has).count()
}

fn missing(members: &[(Arc<Member>, CopyState)]) -> String {
    let missing = members.iter().filter(|(_, state)| *state != CopyState::Has);
    let text: Vec<String> = missing
        .map(|(member, state)| {
            let why = match state {
                CopyState::Behind => "has no room for it yet",
                CopyState::Left => "has left",
                CopyState::Has | CopyState::Sent => "has not answered",
            };
            format!("{member} {why}")
        })
        .collect();
    if text.is_empty() { "there is nobody else".to_owned() } else { text.join(", ") }
}
