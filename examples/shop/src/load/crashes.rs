//! Killing nodes, and starting them again.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use tribes::prelude::BoxError;

use super::Run;
use super::tally::Tally;
use crate::client::Client;
use crate::nodes::{Node, Nodes};
use crate::witness::Counted;

/// How long a node may take until it is ready, before all is given up.
const READY: Duration = Duration::from_secs(90);

/// Kills nodes in turn.
#[derive(Debug)]
pub(super) struct Crashes {
    nodes: Nodes,
    pub(super) running: Vec<Node>,
    /// Whether each is to have all sessions.
    pub(super) is_everywhere: bool,
    every: Duration,
    /// How long one is not there.
    away: Duration,
    /// How long each took from its start until it was ready again.
    pub(super) times: Vec<Duration>,
    /// Those that took longer than until the next.
    pub(super) late: usize,
    /// What the killed ones had counted.
    pub(super) counted: Counted,
}

impl Crashes {
    pub(super) fn new(nodes: Nodes, running: Vec<Node>, is_everywhere: bool, every: Duration, away: Duration) -> Self {
        Self { nodes, running, is_everywhere, every, away, times: Vec::new(), late: 0, counted: Counted::default() }
    }

    /// Until users are to end. All nodes are ready then.
    pub(super) async fn go_on(&mut self, run: &Run) -> Result<(), BoxError> {
        let mut next = Instant::now() + self.every;
        while next < run.end {
            tokio::time::sleep_until(next).await;
            // The one that runs longest: all that it knows the others have to have by now.
            let victim = self.running.remove(0);
            if let Some(counted) = victim.counted().await {
                self.counted += counted;
            }
            let (name, at, killed) = (victim.name.clone(), run.tally.at(), Instant::now());
            victim.kill().await?;
            tokio::time::sleep(self.away).await;
            let node = self.nodes.start(&name, self.running.len()).await?;
            let refused = until_ready(&node, &run.http, &run.tally).await?;
            let took = killed.elapsed() - self.away;
            println!(
                "    at {at}: {name} killed, ready again after {:.2} s ({refused} probes refused)",
                took.as_secs_f64()
            );
            self.running.push(node);
            self.times.push(took);
            self.late += usize::from(took > self.every);
            next = (next + self.every).max(Instant::now());
        }
        tokio::time::sleep_until(run.end).await;
        Ok(())
    }
}

/// Asks a node that starts for an account, and whether it is ready, until it is; how often it said that it was not.
pub(super) async fn until_ready(node: &Node, http: &reqwest::Client, tally: &Tally) -> Result<u64, BoxError> {
    let process = node.process_id().ok_or("it has ended")?;
    let (began, mut refused) = (Instant::now(), 0);
    loop {
        // Behind the gate: it is not to be answered by the application.
        if let Ok((_, Some(by))) = Client::new(http.clone(), None).ask(Method::GET, &node.url, "/account").await {
            tally.answered(&by);
        }
        let sent = Instant::now();
        let (answer, _) = Client::new(http.clone(), None).ask(Method::GET, &node.url, "/readyz").await?;
        match answer.status() {
            StatusCode::OK => break,
            StatusCode::SERVICE_UNAVAILABLE => tally.refused(process, sent),
            status => return Err(format!("{} answers {status} at /readyz", node.name).into()),
        }
        refused += 1;
        if began.elapsed() > READY {
            return Err(format!("{} is not ready after {} s", node.name, READY.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tally.ready(process);
    Ok(refused)
}
