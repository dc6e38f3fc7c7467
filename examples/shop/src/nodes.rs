//! Nodes of the shop, as processes.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tribes::prelude::BoxError;

use crate::admin::Report;
use crate::balancer::Reserved;
use crate::within;
use crate::witness::Counted;

/// What nodes are called.
pub(crate) const NAMES: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
/// Time for a process to begin.
const BEGIN: Duration = Duration::from_secs(20);

/// How nodes are started.
#[derive(Debug)]
pub(crate) struct Nodes {
    group: String,
    copies: Option<usize>,
    idle: Duration,
    http: reqwest::Client,
    /// Where those listen that are to come back at the same port.
    ports: HashMap<String, Reserved>,
}

/// A node that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) url: String,
    process: Child,
    http: reqwest::Client,
}

impl Nodes {
    /// Whose sessions end when they were not used for `idle`.
    pub(crate) fn new(copies: Option<usize>, idle: Duration) -> Result<Self, BoxError> {
        // A group of its own, so that it meets no others.
        let port = UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
        let group = format!("228.0.0.4:{port}");
        Ok(Self { group, copies, idle, http: reqwest::Client::new(), ports: HashMap::new() })
    }

    /// Nodes of these names will listen at the same port whenever they start: where, for balancers.
    pub(crate) fn stay(&mut self, names: &[&str]) -> Result<Vec<(String, SocketAddr)>, BoxError> {
        let mut places = Vec::new();
        for name in names {
            let port = Reserved::new()?;
            places.push(((*name).to_owned(), port.address));
            self.ports.insert((*name).to_owned(), port);
        }
        Ok(places)
    }

    /// Starts a node beside `others`; it listens, and is not ready yet.
    pub(crate) async fn start(&self, name: &str, others: usize) -> Result<Node, BoxError> {
        self.start_with(name, others, &["--admin"]).await
    }

    /// Starts a node with these options; it is ready.
    pub(crate) async fn start_bare(&self, name: &str, others: usize, options: &[&str]) -> Result<Node, BoxError> {
        let node = self.start_with(name, others, options).await?;
        let (ready, _) = within(BEGIN, async || node.status("/account").await.filter(|status| *status == 200)).await;
        ready.ok_or_else(|| format!("{name} is not ready after {BEGIN:?}"))?;
        Ok(node)
    }

    async fn start_with(&self, name: &str, others: usize, options: &[&str]) -> Result<Node, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--name", name, "--group", &self.group, "--idle", &self.idle.as_secs_f64().to_string()]);
        command.args(["--expect", &others.to_string()]).args(options);
        if let Some(port) = self.ports.get(name) {
            command.args(["--http", &port.address.to_string()]);
        }
        if let Some(copies) = self.copies {
            command.args(["--copies", &copies.to_string()]);
        }
        let mut process = command.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(BEGIN, lines.next_line()).await??.unwrap_or_default();
        let url = line.split_whitespace().last().filter(|url| url.starts_with("http://"));
        let url = url.ok_or_else(|| format!("{name} said {line:?}, not where it listens"))?.to_owned();
        Ok(Node { name: name.to_owned(), url, process, http: self.http.clone() })
    }
}

impl AsRef<str> for Node {
    fn as_ref(&self) -> &str {
        &self.url
    }
}

impl Node {
    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, BoxError> {
        Ok(self.url.trim_start_matches("http://").parse()?)
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<(), BoxError> {
        Ok(self.process.kill().await?)
    }

    /// Whether its process is there no more.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// What it says of itself; none if it does not answer.
    pub(crate) async fn report(&self) -> Option<Report> {
        let answer = self.http.get(format!("{}/admin", self.url)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// What it has counted; none if it does not answer.
    pub(crate) async fn counted(&self) -> Option<Counted> {
        let answer = self.http.get(format!("{}/counted", self.url)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// What its process has taken of processors so far; only on Linux.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process_id()?)).ok()?;
        // After the program's name, which may contain anything, in brackets: user and system time are the 12th and 13th, in
        // hundredths of a second.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// The id of its process; none if it has ended.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The status with which it answers at `path`.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.ok()?;
        Some(answer.status().as_u16())
    }
}
