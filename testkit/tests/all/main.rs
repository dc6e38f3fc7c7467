//! The tests of the kit, and of the core by means of it, in one program: each more would be compiled and linked anew.

mod broken;
mod common;

mod channel_lifecycle;
mod channel_members;
mod channel_messages;
mod conformance;
mod defects;
mod endpoints;
mod groups;
mod inline;
mod io_conformance;
mod pipeline;
mod rpc;
mod rpc_seeds;
