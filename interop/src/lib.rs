//! Runs `tribes` nodes against the real Apache Tribes, process against process, on loopback.
//!
//! Both implementations are driven through the line protocol of `tribes node`: options on the command line, commands on
//! standard input, one JSON event a line on standard output. On the Java side `java/Peer.java` speaks it, so a
//! scenario names an [`Impl`] for each member and is otherwise the same for every combination.
//!
//! A scenario is a function that is given a [`Scenario`]: it spawns [`Node`]s from [`Spec`]s, gives them commands
//! and waits for their events, always with a deadline. [`run`] and [`run_alone`] call it, and show what every node wrote when it
//! fails. The nodes die with the scenario.
//!
//! ```no_run
//! use std::time::Duration;
//! use tribes_interop::{Impl, Spec, run};
//!
//! # fn main() -> Result<(), tribes_interop::Failure> {
//! run("greeting", |scenario| {
//!     let group = scenario.group()?;
//!     let mut rust = scenario.spawn("rust", &Spec::new(Impl::Rust).multicast(&group))?;
//!     let mut java = scenario.spawn("java", &Spec::new(Impl::Java).multicast(&group))?;
//!     rust.wait_member_added(&java.local()?.id, Duration::from_secs(10))?;
//!     let sent = rust.send("ack", "text:hello", 1)?;
//!     assert_eq!(sent.failed, 0);
//!     java.wait_message(Duration::from_secs(5), |message| message.len == 5)?;
//!     Ok(())
//! })
//! # }
//! ```
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

mod event;
mod failure;
mod node;
mod pattern;
mod ports;
mod programs;
mod scenario;
mod spec;

pub use event::{Event, MemberInfo, MessageInfo, Removal, SentInfo};
pub use failure::Failure;
pub use node::Node;
pub use pattern::{hex, pattern};
pub use ports::Lease;
pub use scenario::{Scenario, run, run_alone};
pub use spec::{Impl, Spec, member_id};
