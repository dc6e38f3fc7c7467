//! The tests of the program, in one program: each more would be compiled and linked anew.
//! `partition` beside this folder is run by name, where the network can be cut.

#[path = "../common/mod.rs"]
mod common;

mod chat;
mod check;
mod demo;
#[cfg(unix)]
mod farm;
mod load;
mod load_report;
mod map;
mod node;
mod rpc;
