//! A walk through the life of a session while nodes crash: the scenario by which Tomcat's clustering is explained, with real
//! processes, real HTTP and SIGKILL.

mod steps;

use std::fmt::Display;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tribes::prelude::BoxError;

use crate::nodes::Nodes;
use crate::watch::Watch;

#[derive(Debug, Args)]
pub(crate) struct Tour {
    /// How many nodes there are in the end, at least two.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How many other nodes hold each session; all, if it is not said.
    #[arg(long)]
    copies: Option<usize>,
    /// Opens a page in which you see sessions move, as `shop watch` does, after the nine steps if all was as expected.
    #[arg(long)]
    page: bool,
}

/// What the tour has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    failed: usize,
    seen: usize,
}

impl Log {
    fn step(&self, number: &str, what: &str) {
        println!("\n{number:>2}  {what}");
    }

    /// Notes whether what was expected was seen.
    fn expect(&mut self, expected: &str, seen: impl Display, is_so: bool) {
        self.seen += 1;
        self.failed += usize::from(!is_so);
        println!("    {} {expected}\n         seen: {seen}", if is_so { "ok  " } else { "FAIL" });
    }
}

impl Tour {
    pub(crate) async fn run(self) -> Result<bool, BoxError> {
        let mut nodes = Nodes::new(self.copies, steps::IDLE)?;
        let mut log = Log::default();
        let began = Instant::now();
        steps::walk(&mut nodes, self.nodes.into(), self.copies.is_none(), &mut log).await?;
        let Log { failed, seen } = log;
        println!("\n{} of {seen} as expected, in {:.1} s", seen - failed, began.elapsed().as_secs_f64());
        if self.page && failed == 0 {
            println!();
            Watch::new(self.nodes.max(3), self.copies, true).run().await?;
        }
        Ok(failed == 0)
    }
}

/// Asks again and again until `look` gives something, or `limit` is over; and how long it took.
async fn within<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> (Option<T>, Duration) {
    let began = Instant::now();
    loop {
        let found = look().await;
        let took = began.elapsed();
        if found.is_some() || took >= limit {
            return (found, took);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
