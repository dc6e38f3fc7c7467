//! The tests of the whole, in one program: compiling and linking one takes a fraction of what one for each file takes.
//! What looks at its whole process, at its memory, its log or its registry, is a program of its own beside this folder.

#[path = "../common/mod.rs"]
mod common;

mod agreed_views;
mod by_address;
#[cfg(all(feature = "config", feature = "full"))]
mod config;
mod connections;
mod datagrams;
mod deadlock;
mod faults;
mod integrity;
mod liveness;
#[cfg(feature = "replication")]
mod maps;
mod order;
mod rpc;
#[cfg(feature = "sessions")]
mod sessions;
