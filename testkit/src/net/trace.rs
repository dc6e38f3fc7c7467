//! What happened in a simulated network, line by line.

use std::fmt;

use tribes_core::Time;

/// How many lines are kept.
const KEPT: usize = 200_000;

/// The lines so far. The same seed gives the same lines.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Lines cost more than most of what they tell of.
    off: bool,
    lines: Vec<String>,
    left_off: u64,
}

impl Trace {
    pub(super) fn turn_off(&mut self) {
        self.off = true;
    }

    pub(super) fn line(&mut self, now: Time, what: fmt::Arguments<'_>) {
        if self.off {
            return;
        }
        if self.lines.len() < KEPT {
            let micros = now.as_nanos() / 1000;
            self.lines.push(format!("{:>7}.{:03} ms  {what}", micros / 1000, micros % 1000));
        } else {
            self.left_off += 1;
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if self.left_off > 0 {
            lines.push(format!("… and {} more", self.left_off));
        }
        lines
    }
}
