//! Conformance suites: what every part of a kind has to do, third parties' parts included.
//!
//! | suite | for | as tests |
//! |---|---|---|
//! | [`interceptor_suite`] | an interceptor of either form | [`conformance!`](crate::conformance) |
//!
//! Each case runs under several seeds. The environment says which, and where reports go:
//!
//! | variable | value | meaning |
//! |---|---|---|
//! | `TRIBES_SEEDS` | a number, by default 3 | every case runs under the seeds from 1 to this |
//! | `TRIBES_SEED` | a number | every case runs under this seed only: what a failed case prints, to replay it |
//! | `TRIBES_REPORT` | a folder | each suite, or each case that is a test of its own, writes what it found there, as JSON; see [`SuiteReport::to_json`] |

mod interceptor;
mod macros;
mod report;
mod run;
mod seeds;

pub use interceptor::{InterceptorSuite, Profile, __interceptor_test, interceptor_suite};
pub use report::{CaseFailure, CaseReport, SuiteReport};
pub use run::TestSite;
pub use seeds::Seeds;
