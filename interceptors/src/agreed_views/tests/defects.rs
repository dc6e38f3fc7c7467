//! Mistakes in the protocol are found: what the checkers say can be wrong.

use super::scenario::{Found, Plan, run};
use crate::agreed_views::Quorum;
use crate::agreed_views::core::Defect;

/// A mistake is to be found under one of so many seeds, from the one on under which it was found when this was written.
const SEEDS: u64 = 200;

/// The first run with the mistake of which `is_found` holds.
fn caught(defect: Defect, quorum: Quorum, is_found: fn(&Found) -> bool, first: u64) {
    for seed in first..first + SEEDS {
        let plan = Plan {
            seed,
            quorum,
            defect: Some(defect),
            traced: false,
            uneven: defect == Defect::LeaseIgnored,
            restarts: false,
        };
        let found = run(plan).value;
        if is_found(&found) {
            eprintln!("{defect:?}: found under seed {seed}");
            // It is the mistake that is found.
            assert!(!is_found(&run(Plan { defect: None, ..plan }).value));
            return;
        }
    }
    panic!("{defect:?} is not found under any of {SEEDS} seeds from {first} on");
}

const VIEWS: fn(&Found) -> bool = |found| found.views.is_err();
const STUCK: fn(&Found) -> bool = |found| found.stuck.is_some();
const EITHER: fn(&Found) -> bool = |found| found.views.is_err() || found.leaders.is_err();
const LEADERS: fn(&Found) -> bool = |found| found.leaders.is_err();

macro_rules! caught {
    ($($test:ident $defect:ident $quorum:ident $checker:ident $first:literal;)*) => {
        $(#[test] fn $test() { caught(Defect::$defect, Quorum::$quorum, $checker, $first); })*
    };
}

caught! {
    an_epoch_that_is_reused EpochReused None VIEWS 1;
    a_promise_that_is_forgotten PromiseForgotten None VIEWS 1;
    promises_that_are_not_awaited PromisesNotAwaited Static EITHER 1;
    a_lease_that_is_ignored LeaseIgnored Static LEADERS 23;
    a_side_that_does_not_wait GraceSkipped Static LEADERS 3;
    a_token_that_is_kept TokenKept Static LEADERS 3;
    a_quorum_that_is_not_counted QuorumIgnored Static LEADERS 1;
    a_wait_that_is_forgotten WaitForgotten KeepOldest LEADERS 155;
    a_view_that_is_not_told_of ChainUntold Dynamic LEADERS 15;
    followers_that_are_impatient Impatient None STUCK 1;
}
