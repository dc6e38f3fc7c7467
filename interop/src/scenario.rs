use std::cell::RefCell;
use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::Transcript;
use crate::{Failure, Lease, Node, Spec, programs};

/// The multicast group of all scenarios; each has a port of its own.
const GROUP: &str = "228.0.0.4";

/// What a scenario works with: it spawns nodes, leases ports, and keeps what the nodes wrote for the case that it fails.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    start: Instant,
    transcripts: RefCell<Vec<Arc<Transcript>>>,
    leases: RefCell<Vec<Lease>>,
    passed: bool,
}

/// Runs a scenario, beside others.
///
/// With `TRIBES_INTEROP=skip` in the environment it says so and does nothing.
///
/// # Errors
/// What `body` returns. What the nodes wrote is then on standard error; so it is when `body` panics.
pub fn run(name: &str, body: impl FnOnce(&Scenario) -> Result<(), Failure>) -> Result<(), Failure> {
    run_with(name, true, body)
}

/// Runs a scenario that measures time: while it lasts, no other scenario of the same build runs.
///
/// # Errors
/// As for [`run`].
pub fn run_alone(name: &str, body: impl FnOnce(&Scenario) -> Result<(), Failure>) -> Result<(), Failure> {
    run_with(name, false, body)
}

fn run_with(
    name: &str,
    beside_others: bool,
    body: impl FnOnce(&Scenario) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if env::var_os("TRIBES_INTEROP").is_some_and(|value| value == "skip") {
        eprintln!("skipped: {name} (TRIBES_INTEROP=skip)");
        return Ok(());
    }
    let _turn = programs::lock("scenario.lock", beside_others)?;
    let mut scenario = Scenario {
        name: name.to_owned(),
        start: Instant::now(),
        transcripts: RefCell::default(),
        leases: RefCell::default(),
        passed: false,
    };
    let result = body(&scenario);
    scenario.passed = result.is_ok();
    result
}

impl Scenario {
    /// Starts a node; `name` is how it is called in the output. It may not be ready yet: see [`Node::local`].
    ///
    /// # Errors
    /// When its program cannot be found, built or started.
    pub fn spawn(&self, name: &str, spec: &Spec) -> Result<Node, Failure> {
        let (node, transcript) = Node::spawn(name, spec, self.start)?;
        self.transcripts.borrow_mut().push(transcript);
        Ok(node)
    }

    /// A multicast group of this scenario's own, as `--mcast` takes it.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn group(&self) -> Result<String, Failure> {
        let group = format!("{GROUP}:{}", self.udp_port()?);
        eprintln!("{}: multicast group {group}", self.name);
        Ok(group)
    }

    /// A free UDP port, this scenario's until it ends.
    ///
    /// # Errors
    /// When there is none.
    pub fn udp_port(&self) -> Result<u16, Failure> {
        Ok(self.keep(Lease::udp()?))
    }

    /// A free TCP port, this scenario's until it ends.
    ///
    /// # Errors
    /// When there is none.
    pub fn tcp_port(&self) -> Result<u16, Failure> {
        Ok(self.keep(Lease::tcp()?))
    }

    fn keep(&self, lease: Lease) -> u16 {
        let port = lease.port();
        self.leases.borrow_mut().push(lease);
        port
    }

    /// Notes a measured time in the test's output.
    pub fn measured(&self, what: &str, time: Duration) {
        eprintln!("{}: measured {:.1} ms: {what}", self.name, time.as_secs_f64() * 1e3);
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !self.passed {
            eprintln!("{} failed; its nodes wrote:", self.name);
            for transcript in self.transcripts.borrow().iter() {
                eprintln!("{}", transcript.text());
            }
        }
    }
}
