//! Each kind of fault is found by the case for it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use crate::broken::{self, Broken, Fault};
use tribes_testkit::suite::{InterceptorSuite, Profile};

/// The case for `fault` fails, also where the profile declares anything else.
#[track_caller]
fn is_caught(fault: Fault, case: &str) {
    let profile = broken::profile(fault);
    let sound = InterceptorSuite::new(|| Broken::layer(Fault::None), Profile::default()).run_case(case);
    assert!(sound.passed(), "the same layer without the fault: {sound}");
    let report = InterceptorSuite::new(move || Broken::layer(fault), profile).run_case(case);
    assert!(!report.passed(), "{fault:?} is not found by {case}");
    eprintln!("{report}");
}

macro_rules! caught {
    ($($test:ident $fault:ident $case:literal;)*) => {
        $(#[test] fn $test() { is_caught(Fault::$fault, $case); })*

        #[test]
        fn every_case_catches_something() {
            let caught = [$($case),*];
            for case in InterceptorSuite::cases() {
                assert!(caught.contains(&case), "no fault is there for {case}");
            }
        }
    };
}

caught! {
    a_name_in_capitals Shouts "declaration";
    one_that_deadlocks_on_stop DeadlocksOnStop "lifecycle";
    one_that_refuses_to_start_again DiesOnStop "lifecycle";
    one_that_keeps_what_comes_after_its_stop KeepsWhatComesLate "lifecycle";
    one_that_acts_on_any_flag ActsOnAnyFlag "flags";
    one_that_clears_a_bit_of_others ClearsBits "flags";
    one_that_leaves_its_bit LeavesBits "transparency";
    one_that_takes_its_time Dawdles "transparency";
    one_that_makes_new_ids Renames "transparency";
    one_that_changes_bodies ChangesBodies "content";
    one_that_panics_over_an_empty_body PanicsOnEmpty "content";
    one_that_doubles Duplicates "content";
    one_that_loses_one_in_a_thousand LosesOneInAThousand "volume";
    one_that_reorders Reorders "concurrency";
    one_that_mixes_up_tasks MixesTasksUp "concurrency";
    a_queue_without_bounds Hoards "backpressure";
    one_that_lets_go_of_leases DropsLeases "backpressure";
    one_that_blames_everybody BlamesEverybody "outcomes";
    one_that_loses_completions LeaksCompletions "outcomes";
    one_that_claims_success ClaimsSuccess "outcomes";
    one_that_blames_the_wrong_member BlamesAnother "refusals";
    one_that_hides_refusals HidesRefusals "receipts";
    one_that_never_answers LeaksReceipts "receipts";
    one_that_swallows_departures SwallowsRemovals "member_events";
    one_that_reorders_events ReordersEvents "member_events";
    one_that_hides_half_of_a_member HidesAdditions "member_events";
    one_that_wears_out WearsOut "heartbeat";
    one_that_panics_on_garbage PanicsOnGarbage "garbage";
    one_that_believes_lengths BelievesLengths "garbage";
    one_that_keeps_garbage Leaks "garbage";
    one_that_is_busy_for_ever StaysBusy "cancellation";
    one_that_is_stuck_after_a_panic StuckAfterPanic "panics";
    one_that_throws_dice ThrowsDice "determinism";
    one_that_leaks Leaks "memory";
    one_that_remembers_all_members RemembersMembers "memory";
}
