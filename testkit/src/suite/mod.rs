//! Conformance suites: what every part of a kind has to do, third parties' parts included.
//!
//! | suite | for | as tests |
//! |---|---|---|
//! | [`interceptor_suite`] | an interceptor of either form | [`conformance!`](crate::conformance) |
//! | [`sender_suite`] | a [`ChannelSender`](tribes_core::ChannelSender) | [`sender_suite!`](crate::sender_suite) |
//! | [`receiver_suite`] | a [`ChannelReceiver`](tribes_core::ChannelReceiver) | [`receiver_suite!`](crate::receiver_suite) |
//! | [`membership_suite`] | a [`MembershipService`](tribes_core::MembershipService) | [`membership_suite!`](crate::membership_suite) |
//!
//! Each case runs under several seeds. The environment says which, and where reports go:
//!
//! | variable | value | meaning |
//! |---|---|---|
//! | `TRIBES_SEEDS` | a number, by default 3; or `A..B` | every case runs under the seeds from 1 to this; or from A to before B |
//! | `TRIBES_SEED` | a number | every case runs under this seed only: what a failed case prints, to replay it |
//! | `TRIBES_REPORT` | a folder | each suite, or each case that is a test of its own, writes what it found there, as JSON; see [`SuiteReport::to_json`] |

mod interceptor;
mod io;
mod macros;
mod report;
mod run;
mod seeds;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

pub use interceptor::{__interceptor_test, InterceptorSuite, Profile, interceptor_suite};
pub use io::{
    __membership_test, __receiver_test, __sender_test, IoProfile, Site, membership_suite, receiver_suite, sender_suite,
};
pub use report::{CaseFailure, CaseReport, SuiteReport};
pub use run::TestSite;
pub use seeds::Seeds;

/// Polls `future` at most `polls` times, a millisecond apart, then drops it; what it gave if it was done by then.
async fn polled<T>(env: &tribes_core::Env, polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future: Pin<Box<_>> = Box::pin(future);
    for _ in 0..polls {
        let done = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(value) = done.await {
            return Some(value);
        }
        env.sleep(Duration::from_millis(1)).await;
    }
    None
}
