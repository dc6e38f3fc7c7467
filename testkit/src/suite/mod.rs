//! Conformance suites: what every part of a kind has to do, third parties' parts included.
//!
//! | suite | for |
//! |---|---|
//! | [`interceptor_suite`] | an interceptor of either form |
//!
//! A suite needs no test framework: it returns a [`SuiteReport`].

mod interceptor;
mod report;

pub use interceptor::{InterceptorSuite, interceptor_suite};
pub use report::{CaseReport, SuiteReport};
