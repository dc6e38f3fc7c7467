//! What was expected, and what was seen.

use std::fmt::Display;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) failed: usize,
    pub(crate) seen: usize,
}

impl Log {
    pub(crate) fn step(&self, number: &str, what: &str) {
        println!("\n{number:>2}  {what}");
    }

    /// Notes whether what was expected was seen.
    pub(crate) fn expect(&mut self, expected: &str, seen: impl Display, is_so: bool) {
        self.seen += 1;
        self.failed += usize::from(!is_so);
        println!("    {} {expected}\n         seen: {seen}", if is_so { "ok  " } else { "FAIL" });
    }
}
