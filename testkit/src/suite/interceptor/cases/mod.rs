//! The cases.
//!
//! | file | holds |
//! |---|---|
//! | `declared` | `declaration`, `flags` |
//! | `lifecycle` | `lifecycle`, `heartbeat` |
//! | `transparency` | `transparency` |
//! | `traffic` | `content`, `volume`, `concurrency`, `determinism` |
//! | `accounts` | `outcomes`, `refusals`, `receipts` |
//! | `pressure` | `backpressure` |
//! | `members` | `member_events` |
//! | `garbage` | `garbage` |
//! | `broken_off` | `cancellation`, `panics` |
//! | `memory` | `memory` |

mod accounts;
mod broken_off;
mod declared;
mod garbage;
mod lifecycle;
mod members;
mod memory;
mod pressure;
mod traffic;
mod transparency;

use self::accounts::{outcomes, receipts, refusals};
use self::broken_off::{cancellation, panics};
use self::declared::{declaration, flags};
use self::garbage::garbage;
use self::lifecycle::{heartbeat, lifecycle};
pub(in super::super) use self::members::consistent;
use self::members::member_events;
use self::memory::memory;
use self::pressure::backpressure;
use self::traffic::{concurrency, content, determinism, volume};
use self::transparency::transparency;
use super::Subject;
use super::bench::Bench;
use crate::suite::run::{Case, Verdict};

/// The one list of cases: their names and what they demand. Calls `$then` with `$args` and the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __interceptor_cases {
    ([$($then:tt)*] $args:tt) => {
        $($then)* { $args
            declaration "a name in kebab-case, a trigger that a channel accepts, the same answers every time";
            lifecycle "it starts and stops in any state, and in time, and nothing accepted stays without an outcome";
            flags "a message without the bits of its trigger is left as it is, and so are all other bits";
            transparency "a message is the same after two instances, alone and between other layers, and no time passes";
            content "every body arrives unchanged, once and in order, at each of several members";
            volume "of thousands of messages each arrives once and in order";
            concurrency "what many tasks send at once arrives once, and each task's in order";
            backpressure "no more is accepted than there is room for while those below or above do not get on";
            outcomes "one outcome for each message, which blames the dead member only";
            refusals "what those below refuse is told of just those members, and for that reason";
            receipts "the answer of a remote listener comes back";
            member_events "membership events come through, all and in order, or are consistently hidden";
            heartbeat "minutes of heartbeats change nothing";
            garbage "whatever comes from below is answered, costs no more than its size, and spoils nothing";
            cancellation "a call that is dropped at any of its awaits spoils nothing";
            panics "a panic in the layer above or below fails that message only";
            determinism "the same seed gives the same run";
            memory "when traffic has ended, nothing is kept";
        }
    };
}

macro_rules! table {
    (() $($name:ident $demand:literal;)*) => {
        pub(super) const ALL: &[Case<Subject>] =
            &[$(Case { name: stringify!($name), demand: $demand, run: $name }),*];
    };
}

__interceptor_cases! { [table!] () }

/// Runs an asynchronous case.
fn simulate(subject: &Subject, seed: u64, case: impl AsyncFnOnce(&Bench) -> Verdict) -> Verdict {
    super::bench::simulate(subject, seed, case)
}
