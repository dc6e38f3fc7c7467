//! What was seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::Instant;

use crate::client::By;

/// So many faults are told in full.
const TOLD: usize = 20;

/// What all users and probes have seen so far.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    /// The process that has nobody to have sessions from.
    first: Option<u32>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How long answers took that said that it is done.
    pub(super) times: Vec<Duration>,
    /// The longest that a user waited until something was done, with all attempts.
    pub(super) longest: Duration,
    /// Answers by what they said, but for 200.
    pub(super) others: HashMap<StatusCode, u64>,
    /// Requests without an answer.
    pub(super) broken: u64,
    /// Requests that were sent again by their user.
    pub(super) retries: u64,
    /// A user's requests that another node answered than that before.
    pub(super) moves: u64,
    pub(super) logins: u64,
    pub(super) logouts: u64,
    /// Carts that nobody knows the session of, since it had another id by a login that was not answered.
    pub(super) given_up: u64,
    /// Looks at a cart.
    pub(super) reads: u64,
    /// Those that showed less than was acknowledged.
    pub(super) behind: u64,
    /// Pieces that were looked for before a logout.
    pub(super) taken: u64,
    /// Those that were not there, however often their user looked.
    pub(super) lost: u64,
    /// Answers that took somebody who is logged in for nobody.
    pub(super) strangers: u64,
    /// Carts with pieces that were never put there, or are there twice.
    pub(super) odd_carts: u64,
    /// Looks at a session that has ended, with its cookie.
    pub(super) looked_at_ended: u64,
    /// Those that found it alive.
    pub(super) alive_again: u64,
    /// Answers of nodes that were not ready.
    pub(super) too_early: u64,
    /// Probes that a node refused while it was not ready.
    pub(super) refused: u64,
    processes: HashMap<u32, Process>,
    told: usize,
}

/// A run of a node.
#[derive(Debug, Default)]
struct Process {
    is_ready: bool,
    /// When answers came of which it is not known yet whether it was ready.
    answers: Vec<Instant>,
    /// When the last probe was sent to which it said that it was not.
    refused: Option<Instant>,
}

impl Tally {
    pub(super) fn new(first: Option<u32>) -> Self {
        Self { began: Instant::now(), first, seen: Mutex::default() }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since it began, for people.
    pub(super) fn at(&self) -> String {
        format!("{:.3} s", self.began.elapsed().as_secs_f64())
    }

    /// Tells of a fault, unless there were too many.
    pub(super) fn tell(&self, fault: &str) {
        let mut seen = self.seen();
        seen.told += 1;
        if seen.told <= TOLD {
            println!("    at {}: {fault}", self.at());
        }
    }

    /// The application of a node has answered, just now.
    pub(super) fn answered(&self, by: &By) {
        let now = Instant::now();
        let mut seen = self.seen();
        let process = seen.processes.entry(by.process).or_default();
        if !process.is_ready {
            process.answers.push(now);
        }
        // The first may have been alone, or had the second's nothing.
        let is_in = by.state == "complete" || (by.state == "alone" && self.first == Some(by.process));
        if !is_in {
            seen.too_early += 1;
            drop(seen);
            self.tell(&format!("{} answered, and the state of its sessions was {:?}", by.name, by.state));
        }
    }

    /// A node said that it is not ready to what was sent then.
    pub(super) fn refused(&self, process: u32, sent: Instant) {
        let mut seen = self.seen();
        seen.refused += 1;
        let process = seen.processes.entry(process).or_default();
        process.refused = process.refused.max(Some(sent));
    }

    /// A node said that it is ready. It was not when the last refused probe was sent: nothing may have been answered by then.
    pub(super) fn ready(&self, process: u32) {
        let mut seen = self.seen();
        let process = seen.processes.entry(process).or_default();
        process.is_ready = true;
        let answers = std::mem::take(&mut process.answers);
        let refused = process.refused;
        let early = answers.into_iter().filter(|answer| refused.is_some_and(|refused| *answer < refused)).count();
        seen.too_early += early as u64;
        drop(seen);
        if early > 0 {
            self.tell(&format!("a node had given {early} answers and was not ready"));
        }
    }
}
