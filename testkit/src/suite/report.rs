//! What a suite found.

use std::fmt;

/// What a suite found, case by case.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "call `assert_passed`"]
pub struct SuiteReport {
    /// What was tested.
    pub subject: String,
    /// The seed of the simulations.
    pub seed: u64,
    /// Each case, in the order in which they ran.
    pub cases: Vec<CaseReport>,
}

/// One case of a suite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CaseReport {
    /// The case's name.
    pub name: &'static str,
    /// What it demands.
    pub demand: &'static str,
    /// What was wrong, if anything was; `None` in `Ok` cases and those left out.
    pub failure: Option<String>,
    /// Whether it was left out as the test wished.
    pub skipped: bool,
}

impl SuiteReport {
    /// Whether no case failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.failure.is_none())
    }

    /// The names of the cases that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.cases.iter().filter(|case| case.failure.is_some()).map(|case| case.name).collect()
    }

    /// Panics with the whole report if a case failed.
    #[track_caller]
    pub fn assert_passed(&self) {
        if !self.passed() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} of {} cases failed (seed {})",
            self.subject,
            self.failed().len(),
            self.cases.len(),
            self.seed
        )?;
        for CaseReport { name, demand, failure, skipped } in &self.cases {
            match failure {
                Some(failure) => write!(f, "\n  FAILED   {name}: {demand}\n           {failure}")?,
                None if *skipped => write!(f, "\n  left out {name}")?,
                None => write!(f, "\n  ok       {name}")?,
            }
        }
        Ok(())
    }
}
