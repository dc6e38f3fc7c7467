//! Membership services for `tribes`: how a channel finds the other members and notices that they left.
//!
//! | service | finds members by | Tribes' class |
//! |---|---|---|
//! | [`McastMembership`] | heartbeats to a multicast group | `McastService` |
//! | [`StaticMembership`] | a list of addresses that can change at run time | `StaticMembershipService` |
//!
//! Each has a `core` without I/O, which takes what was heard and a time and returns what to do, and a thin driver around
//! it that owns sockets and timers. Configurations name them `multicast` and `static`; see
//! [`Registry`](tribes_core::registry::Registry).

mod bounds;
mod counters;
mod fixed;
mod limiter;
mod multicast;
#[cfg(test)]
mod stub;
mod timer;

pub use fixed::{Resolve, StaticConfig, StaticMembership, StaticPeer, SystemResolver};
pub use multicast::{McastConfig, McastMembership, loops_back};
