//! A walk through the life of a session while nodes crash: the scenario by which Tomcat's clustering is explained, with real
//! processes, real HTTP and SIGKILL.

mod steps;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tribes::prelude::BoxError;

use crate::balancer::Balancer;
use crate::log::Log;
use crate::nodes::{NAMES, Nodes};
use crate::watch::Watch;

/// The inactivity timeout.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Tour {
    /// How many nodes there are in the end, at least two.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How many other nodes hold each session; all, if it is not said.
    #[arg(long)]
    copies: Option<usize>,
    /// The client comes through nginx, which this starts: the one that is installed, or another program.
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, default_missing_value = "nginx")]
    nginx: Option<PathBuf>,
    /// Opens a page in which you see sessions move, as `shop watch` does, after the nine steps if all was as expected.
    #[arg(long)]
    page: bool,
}

impl Tour {
    pub(crate) async fn run(self) -> Result<bool, BoxError> {
        let mut nodes = Nodes::new(self.copies, IDLE)?;
        let balancer = match &self.nginx {
            None => None,
            Some(program) => {
                let places = nodes.stay(NAMES.get(..self.nodes.into()).unwrap_or_default())?;
                let started = Balancer::start(program, &places).await;
                Some(started.map_err(|error| {
                    format!("{error}\nInstall nginx (Debian: apt-get install nginx), or leave --nginx out.")
                })?)
            }
        };
        let url = balancer.as_ref().map(|balancer| balancer.url.as_str());
        match url {
            None => println!("The client goes to the nodes directly."),
            Some(url) => println!("The client comes through nginx at {url}."),
        }
        let mut log = Log::default();
        let began = Instant::now();
        let walked = steps::walk(&nodes, url, self.nodes.into(), self.copies.is_none(), &mut log).await;
        if let Some(balancer) = balancer.as_ref().filter(|_| walked.is_err() || log.failed > 0) {
            println!("\nnginx said:\n{}", balancer.said());
        }
        walked?;
        let Log { failed, seen } = log;
        println!("\n{} of {seen} as expected, in {:.1} s", seen - failed, began.elapsed().as_secs_f64());
        if self.page && failed == 0 {
            println!();
            Watch::new(self.nodes.max(3), self.copies, true).run().await?;
        }
        Ok(failed == 0)
    }
}
