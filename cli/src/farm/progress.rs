//! How far files are: bars on a terminal, otherwise a line now and then.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::names::print;

/// What is under way, each under a text of its own.
#[derive(Debug)]
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    under_way: BTreeMap<String, (u64, Option<ProgressBar>)>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { bars: io::stderr().is_terminal().then(MultiProgress::new), under_way: BTreeMap::new() }
    }

    /// So many bytes of `total` are there.
    pub(super) fn show(&mut self, what: &str, done: u64, total: u64) {
        let bars = &self.bars;
        let (known, bar) = self.under_way.entry(what.to_owned()).or_insert_with(|| {
            let bar = bars.as_ref().map(|bars| bars.add(ProgressBar::new(total)));
            if let Some(bar) = &bar {
                let template = "{msg:24} {bar:40.cyan} {bytes} of {total_bytes}, {bytes_per_sec}";
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_error| ProgressStyle::default_bar()),
                );
                bar.set_message(what.to_owned());
            }
            (0, bar)
        });
        match bar {
            Some(bar) => bar.set_position(done),
            None if done > *known => print(format_args!("* {what}: {done} of {total} bytes")),
            None => {}
        }
        *known = done;
    }

    /// Nothing of what is not in `still` is under way any more.
    pub(super) fn keep(&mut self, still: impl Fn(&str) -> bool) {
        self.under_way.retain(|what, (_, bar)| {
            let keep = still(what);
            if let Some(bar) = bar.as_ref().filter(|_| !keep) {
                bar.finish_and_clear();
            }
            keep
        });
    }

    /// Writes a line above the bars.
    pub(super) fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| print(line)),
            None => print(line),
        }
    }
}
