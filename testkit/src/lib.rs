//! Tests for what you build on `tribes`: interceptors, transports, membership services and whole groups, without a socket and
//! without waiting.
//!
//! | use | to |
//! |---|---|
//! | [`stack`], [`Layered`] | put your layers into a real channel between a [`Recorder`] and a recording listener |
//! | [`Recorder`] | see what left the stack, decide what becomes of it, and inject what comes from the network |
//! | [`simulate`], [`World`] | run a whole group in virtual time, as a seed decides, again and again the same |
//! | [`net`] | the simulated network under it: delay, loss, duplication, reordering, partitions, crashes |
//! | [`SimEnv`] | simulated surroundings of one channel |
//! | [`checkers`] | say whether a run was right |
//! | [`suite`] | hold your part to what every part of its kind has to do |
//!
//! A helper that waits for something that never comes panics after a deadline and says what it saw; under tokio's paused
//! clock that takes no time.

#![allow(clippy::panic, reason = "a test kit tells of a failure by a panic")]

pub mod checkers;
mod env;
mod layered;
mod listener;
mod members;
pub mod net;
mod recorder;
mod sim;
pub mod suite;
mod wait;

pub use env::{SimEnv, WALL_ORIGIN_MS};
pub use layered::{Layered, LayeredBuilder, stack};
pub use listener::{Reaction, Received, RecordingListener};
pub use members::{java_member, member};
pub use recorder::{Answer, Answered, Call, Recorder, RecorderMembership, RecorderReceiver, RecorderSender, Sent};
pub use sim::{Run, Simulation, World, simulate};
