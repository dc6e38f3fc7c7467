//! Maps that every member of a group holds, and that become equal whatever happens to messages and members.
//!
//! [`ReplicatedMap`] is the way in; [`LazyReplicatedMap`] is for maps that are too large for every member. What is where:
//!
//! | folder | holds |
//! |---|---|
//! | `map` | the typed map, its builder, listeners, statistics; performs what the core decides |
//! | `lazy` | the map of which each key is held by a few members: a replica for each part |
//! | `core` | one replica without I/O: writes, acknowledgements, comparing, joining |
//! | `store` | entries in buckets with digests, and what was seen |
//! | `message` | what replicas say to each other, byte by byte |
//! | `version`, `clock`, `context` | which write is which, which is later, which have been seen |
//! | `disk` | the same after a stop of the whole group (feature `persist`) |
//! | `conflict`, `diff`, `durability` | the choices that a map offers |
//! | `contain` | panics of the application's code, and of the map's own |

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests use real time and tasks where they say so"))]

mod clock;
mod conflict;
mod contain;
mod context;
mod core;
mod diff;
#[cfg(feature = "persist")]
mod disk;
mod durability;
mod error;
mod lazy;
mod map;
mod message;
mod store;
mod version;

pub use conflict::{Conflicts, Counter};
pub use diff::Diffable;
pub use durability::{CopyState, Durability, Written};
pub use error::{MapError, OpenError};
pub use lazy::{HeldStats, LazyMapBuilder, LazyReplicatedMap, LazyStats};
pub use map::{By, Change, ChangeHandle, Changes, Iter, MapBuilder, MapStats, PeerStats, ReplicatedMap, Writing};
pub use version::{Dot, Incarnation, Version};
