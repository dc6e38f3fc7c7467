//! The checkers find what is wrong: each defect is found under some of the first seeds.

use super::faults::run;
use super::world::Defect;
use crate::store::Keeping;

fn found(defect: Defect, checkers: &[&str]) {
    for seed in 0..300 {
        let verdict = run(seed, Keeping::Latest, defect);
        let named = |found: &&String| checkers.iter().any(|checker| found.starts_with(checker));
        if let Some(found) = verdict.violations.iter().find(named) {
            println!("{defect:?}: seed {}: {found}", verdict.seed);
            return;
        }
    }
    panic!("{defect:?} was not found by {checkers:?} under 300 seeds");
}

#[test]
fn a_version_reused_after_a_restart() {
    found(Defect::VersionReused, &["AcknowledgedWritesKept", "ReplicasEqual"]);
}

#[test]
fn a_donor_that_skips_a_key() {
    found(Defect::KeySkipped, &["ReplicasEqual", "AcknowledgedWritesKept"]);
}

#[test]
fn a_removal_that_is_forgotten_early() {
    found(Defect::RemovalForgotten, &["NoRevival"]);
}

#[test]
fn a_diff_that_is_lost() {
    found(Defect::DiffLost, &["ReplicasEqual"]);
}
