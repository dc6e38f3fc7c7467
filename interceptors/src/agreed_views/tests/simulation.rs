//! Many groups, each as its seed decides.

use std::time::Duration;

use tribes_testkit::suite::Seeds;

use super::scenario::{BOUND, Found, Plan, run};
use crate::agreed_views::Quorum;

/// How many seeds are run unless the environment says otherwise, as the gate does. They are split among the policies, and among
/// tests that can run at the same time.
const SEEDS: u64 = 120;
const POLICIES: u64 = 5;
const PARTS: u64 = 4;

fn plan(seed: u64, quorum: Quorum, restarts: bool) -> Plan {
    Plan { seed, quorum, defect: None, traced: false, uneven: false, restarts }
}

/// Runs a seed; if anything is wrong, once more, to say what happened.
fn check(seed: u64, quorum: Quorum, restarts: bool) -> Found {
    let found = run(plan(seed, quorum, restarts)).value;
    if !found.is_sound() {
        let again = run(Plan { traced: true, ..plan(seed, quorum, restarts) });
        let told = again.trace.iter().filter(|line| !line.contains(" -> ")).map(String::as_str);
        eprintln!("{}", told.collect::<Vec<_>>().join("\n"));
        panic!("seed {seed}, {quorum:?}: {}", found.text());
    }
    found
}

fn all(quorum: Quorum, restarts: bool, part: u64, test: &str) {
    let (mut runs, mut merges, mut longest) = (0, 0, Duration::ZERO);
    let policy = match quorum {
        Quorum::None => 0,
        Quorum::Static => 1,
        Quorum::Dynamic => 2,
        Quorum::Weighted => 3,
        _ => 4,
    };
    let command = format!("cargo test -p tribes-interceptors --all-features --lib {}::{test}", module_path!());
    Seeds::from_env_or(SEEDS).run(&command, |seed| {
        if seed % (POLICIES * PARTS) == policy * PARTS + part {
            let found = check(seed, quorum, restarts);
            (runs, merges, longest) = (runs + 1, merges + found.merges, longest.max(found.took));
        }
    });
    eprintln!(
        "{quorum:?}, restarts {restarts}: {runs} runs, {merges} merges told, all together within {longest:?} of the last fault"
    );
    assert!(longest < BOUND);
}

macro_rules! simulations {
    ($($policy:ident $quorum:ident $restarts:literal;)*) => {
        $(mod $policy {
            use super::*;
            #[test] fn seeds_0() { all(Quorum::$quorum, $restarts, 0, concat!(stringify!($policy), "::seeds_0")); }
            #[test] fn seeds_1() { all(Quorum::$quorum, $restarts, 1, concat!(stringify!($policy), "::seeds_1")); }
            #[test] fn seeds_2() { all(Quorum::$quorum, $restarts, 2, concat!(stringify!($policy), "::seeds_2")); }
            #[test] fn seeds_3() { all(Quorum::$quorum, $restarts, 3, concat!(stringify!($policy), "::seeds_3")); }
        })*
    };
}

simulations! {
    whoever_may_write None false;
    a_static_majority Static false;
    a_dynamic_majority Dynamic false;
    a_majority_by_weight Weighted false;
    the_side_of_the_oldest KeepOldest false;
    // Many are restarted at once: nobody may write then, or what a fixed majority says does not hold; the views do.
    a_dynamic_majority_that_forgets Dynamic true;
    the_side_of_an_oldest_that_forgets KeepOldest true;
    a_static_majority_that_forgets Static true;
}

/// Seeds under which something was wrong once, and what that was. `defects` makes the same mistakes again.
#[test]
fn what_was_found_stays_mended() {
    for (seed, quorum) in [
        // Members that were missing went on writing, as a wait for them was forgotten when another view came during it.
        (29, Quorum::KeepOldest),
        (155, Quorum::KeepOldest),
        // A member of a view that may not write had not been told of those that may.
        (88, Quorum::Dynamic),
        (15, Quorum::Dynamic),
        // Followers lost patience while their leader still collected members.
        (1, Quorum::None),
        // Who had not been led once was never led again: it took the wait for one leader for that for the next.
        (21, Quorum::Static),
    ] {
        check(seed, quorum, false);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 23, 46] {
        for quorum in [Quorum::Static, Quorum::Dynamic] {
            let plan = Plan { traced: true, ..plan(seed, quorum, false) };
            let (first, second) = (run(plan), run(plan));
            assert!(first.trace.len() > 1000);
            assert_eq!(first.trace.join("\n"), second.trace.join("\n"), "seed {seed}");
            assert_eq!(first.took, second.took);
        }
    }
}
