//! Nodes of the shop, as processes.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tribes::prelude::BoxError;

use crate::admin::Report;

/// Time for a process to begin.
const BEGIN: Duration = Duration::from_secs(20);

/// How nodes are started.
#[derive(Debug)]
pub(crate) struct Nodes {
    group: String,
    copies: Option<usize>,
    idle: Duration,
    http: reqwest::Client,
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
    /// `copies` as `serve` takes it; sessions end when they were not used for `idle`.
    pub(crate) fn new(copies: Option<usize>, idle: Duration) -> Result<Self, BoxError> {
        // A group of its own, so that it meets no others.
        let port = UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
        Ok(Self { group: format!("228.0.0.4:{port}"), copies, idle, http: reqwest::Client::new() })
    }

    /// Starts a node beside `others`; it listens, and is not ready yet.
    pub(crate) async fn start(&self, name: &str, others: usize) -> Result<Node, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--name", name, "--group", &self.group, "--idle", &self.idle.as_secs_f64().to_string()]);
        command.args(["--admin", "--expect", &others.to_string()]);
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

    /// The status with which it answers at `path`.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.ok()?;
        Some(answer.status().as_u16())
    }
}
