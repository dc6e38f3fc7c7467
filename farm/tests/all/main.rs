//! Farms over real sockets and in real folders, and on the simulated network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(unreachable_pub, reason = "shared between the modules of this program")]
#![allow(clippy::disallowed_methods, reason = "real time and tasks where there are real sockets")]

mod common;
mod rollout;
mod simulated;
mod sockets;
mod watching;
