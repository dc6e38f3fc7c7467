//! Whole groups in a world that a seed decides.

use std::fmt;
use std::time::Duration;

use tribes_core::{ChannelBuilder, Env, EnvProvider, Time};

use crate::SimEnv;
use crate::net::{NetConfig, Node, SimNet};

/// Runs `scenario` in a simulated world with this seed, on a runtime of its own with paused time; see [`Simulation`] for
/// more wishes.
///
/// The same seed gives the same run, as the [`trace`](Run::trace) shows byte for byte, as long as the scenario is itself
/// deterministic: it uses the world's [`Env`], ordered maps, and `select! { biased; .. }`.
///
/// # Panics
/// If the scenario panics, a task in its world does, or it takes longer than ten minutes of virtual time.
///
/// ```
/// use tribes_core::{Channel, SendOptions};
///
/// let scenario = async |world: tribes_testkit::World| {
///     let one = world.join(Channel::builder()).build().unwrap();
///     let two = world.join(Channel::builder()).build().unwrap();
///     one.start().await.unwrap();
///     two.start_and_wait(1, std::time::Duration::from_secs(1)).await.unwrap();
///     one.send(&two.local(), "hello", SendOptions::SYNC_ACK).await.unwrap()
/// };
/// let (first, second) = (tribes_testkit::simulate(1, scenario), tribes_testkit::simulate(1, scenario));
/// assert_eq!(first.value, second.value);
/// assert_eq!(first.trace, second.trace);
/// ```
pub fn simulate<T>(seed: u64, scenario: impl AsyncFnOnce(World) -> T) -> Run<T> {
    Simulation::new(seed).run(scenario)
}

/// How a simulated world is to be.
#[derive(Clone, Debug)]
#[must_use = "call `run`"]
pub struct Simulation {
    seed: u64,
    limit: Duration,
    net: NetConfig,
    quiet: bool,
    untraced: bool,
}

/// A simulated world: a clock, chance, and a network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    env: SimEnv,
    net: SimNet,
}

/// What a simulation gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run<T> {
    /// What the scenario returned.
    pub value: T,
    /// What happened, line by line; see [`World::trace`].
    pub trace: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// How long it took, in virtual time.
    pub took: Duration,
}

impl Simulation {
    /// A world with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, limit: Duration::from_secs(600), net: NetConfig::default(), quiet: false, untraced: false }
    }

    /// How much virtual time a run may take; default ten minutes.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How its network behaves.
    pub const fn net(mut self, config: NetConfig) -> Self {
        self.net = config;
        self
    }

    /// Does not print its seed: for those who say by themselves which one it was.
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Keeps no trace: for those who do not look at it.
    pub const fn untraced(mut self) -> Self {
        self.untraced = true;
        self
    }

    /// Runs `scenario` in such a world. Call it outside of any runtime.
    ///
    /// # Panics
    /// As [`simulate`].
    pub fn run<T>(self, scenario: impl AsyncFnOnce(World) -> T) -> Run<T> {
        let Self { seed, limit, net, quiet, untraced } = self;
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime for the simulation: {error}"),
        };
        let (run, panics) = runtime.block_on(async move {
            let env = SimEnv::new(seed);
            let net = if quiet { SimNet::quietly_within } else { SimNet::within }(&env, seed, net);
            if untraced {
                net.untraced();
            }
            let world = World { net, env: env.clone() };
            let observer = world.clone();
            let value = tokio::time::timeout(limit, scenario(world)).await;
            let Ok(value) = value else {
                let tail = observer.trace();
                let tail = tail.iter().rev().take(30).rev().fold(String::new(), |text, line| text + "\n" + line);
                panic!(
                    "the simulation of seed {seed} is not done after {limit:?} of virtual time; its last lines:{tail}"
                );
            };
            let run = Run { value, trace: observer.trace(), seed, took: env.now() - Time::ZERO };
            (run, env.panics())
        });
        if !panics.is_empty() {
            panic!("tasks panicked in the simulation of seed {seed}: {}", panics.join("; "));
        }
        run
    }
}

impl World {
    /// Its clock, chance and tasks.
    #[must_use]
    pub fn env(&self) -> Env {
        self.env.env()
    }

    /// As [`World::env`], with the controls of the simulation.
    #[must_use]
    pub const fn sim_env(&self) -> &SimEnv {
        &self.env
    }

    /// Its network.
    #[must_use]
    pub const fn net(&self) -> &SimNet {
        &self.net
    }

    /// A new node of its network.
    #[must_use]
    pub fn node(&self) -> Node {
        self.net.node()
    }

    /// Puts a channel at a new node; see [`SimNet::join`].
    pub fn join(&self, builder: ChannelBuilder) -> ChannelBuilder {
        self.net.join(builder)
    }

    /// Lets virtual time pass.
    pub async fn sleep(&self, duration: Duration) {
        self.env().sleep(duration).await;
    }

    /// Waits until `condition` holds, looking every millisecond of virtual time; whether it did within `limit`.
    pub async fn until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = self.env.now() + limit;
        loop {
            if condition() {
                return true;
            }
            if self.env.now() >= deadline {
                return false;
            }
            self.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Adds a line to the trace.
    pub fn note(&self, text: impl fmt::Display) {
        self.net.note(text);
    }

    /// What happened so far: one line for each event of the network and each [`note`](Self::note).
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.net.trace()
    }
}
