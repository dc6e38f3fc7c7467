//! Properties of a run, as types that are fed with what happened and say at the end whether it was right.
//!
//! | checker | property |
//! |---|---|
//! | [`ExactlyOnceInOrder`] | what one member sent to another arrived once each, in order |
//! | [`ViewsConverge`] | in the end everybody sees everybody who is there, and nobody else |
//! | [`NoResurrection`] | a crashed process never comes back after it was removed |
//! | [`OutcomeOnce`] | every accepted message has exactly one outcome |
//! | [`ReplicasEqual`] | in the end all replicas of a map hold the same |
//! | [`AcknowledgedWritesKept`] | no acknowledged write is lost |
//! | [`NoRevival`] | a removed key never shows an earlier value again |
//! | [`RpcOutcomes`] | every call ends in time with exactly one answer of each member, and no handler is called twice for it |
//! | [`ViewsAgree`] | members of a side agree on views whose numbers grow |
//! | [`OneLeader`] | never do two sides write at the same time, and tokens grow |
//!
//! A checker does not fail while it is fed, so that the report has everything.

mod agreed;
mod leader;
mod map;
mod once;
mod outcome;
mod resurrection;
mod rpc;
mod views;

use std::fmt;

pub use agreed::ViewsAgree;
pub use leader::OneLeader;
pub use map::{AcknowledgedWritesKept, NoRevival, ReplicasEqual};
pub use once::ExactlyOnceInOrder;
pub use outcome::OutcomeOnce;
pub use resurrection::NoResurrection;
pub use rpc::RpcOutcomes;
pub use views::ViewsConverge;

/// Everything that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violations {
    /// The checker.
    pub checker: &'static str,
    /// How much it checked: messages, members or events.
    pub checked: usize,
    /// What was wrong, in the order in which it was noticed.
    pub violations: Vec<String>,
}

/// How many violations a report shows.
const SHOWN: usize = 20;

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} violations in {} checked", self.checker, self.violations.len(), self.checked)?;
        for violation in self.violations.iter().take(SHOWN) {
            write!(f, "\n  - {violation}")?;
        }
        let more = self.violations.len().saturating_sub(SHOWN);
        if more > 0 { write!(f, "\n  … and {more} more") } else { Ok(()) }
    }
}

impl std::error::Error for Violations {}

/// `Ok` with how much was checked, if there are no `violations`.
fn report(checker: &'static str, checked: usize, violations: Vec<String>) -> Result<usize, Violations> {
    if violations.is_empty() { Ok(checked) } else { Err(Violations { checker, checked, violations }) }
}
