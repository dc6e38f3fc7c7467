//! Shows how far the report is: bars on a terminal, otherwise a line for each run.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the bars are drawn anew: seldom enough to disturb no measurement.
const REDRAW: Duration = Duration::from_millis(250);

/// Tells on standard error what is done.
#[derive(Debug)]
pub(super) struct Progress {
    done: usize,
    total: usize,
    bars: Option<Bars>,
}

#[derive(Debug)]
struct Bars {
    both: MultiProgress,
    all: ProgressBar,
    current: ProgressBar,
}

impl Progress {
    /// For `total` runs.
    pub(super) fn new(total: usize) -> Self {
        Self { done: 0, total, bars: io::stderr().is_terminal().then(|| Bars::new(total)) }
    }

    /// A run begins.
    pub(super) fn begin(&self, run: &str) {
        if let Some(bars) = &self.bars {
            bars.current.set_message(run.to_owned());
        }
    }

    /// A run has ended like this.
    pub(super) fn end(&mut self, outcome: &str) {
        self.done += 1;
        match &self.bars {
            Some(bars) => {
                bars.all.inc(1);
                let _ = bars.both.println(outcome);
            }
            None => {
                let _ = writeln!(io::stderr(), "[{}/{}] {outcome}", self.done, self.total);
            }
        }
    }
}

impl Drop for Progress {
    /// Takes the bars away: what follows is written where they were.
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            bars.current.finish_and_clear();
            bars.all.finish_and_clear();
        }
    }
}

impl Bars {
    fn new(total: usize) -> Self {
        let style =
            |template| ProgressStyle::with_template(template).unwrap_or_else(|_error| ProgressStyle::default_bar());
        let both = MultiProgress::new();
        let all = both.add(ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)));
        all.set_style(style("{bar:40.cyan} {pos} of {len} runs, {elapsed} gone, {eta} to go"));
        let current = both.add(ProgressBar::new_spinner());
        current.set_style(style("{spinner} {msg}"));
        [&all, &current].iter().for_each(|bar| bar.enable_steady_tick(REDRAW));
        Self { both, all, current }
    }
}
