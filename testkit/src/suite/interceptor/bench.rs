//! The group in which a case runs.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Channel, ChannelBuilder, Layer, Outcome, Pending, SendOptions};

use super::super::run::Verdict;
use super::{Deliberate, Subject};
use crate::net::Node;
use crate::{RecordingListener, Simulation, World};

/// What a case works with.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) subject: Subject,
    pub(super) seed: u64,
    pub(super) trigger: SendOptions,
    rng: RefCell<fastrand::Rng>,
    channels: RefCell<Vec<Channel>>,
    made: Cell<u64>,
    /// Bits that may change because of neighbours.
    pub(super) neighbours: Cell<SendOptions>,
}

/// One member of the group.
pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) channel: Channel,
    pub(super) heard: RecordingListener,
}

/// The layer's name if its panics are on purpose.
pub(super) const PANICKER: &str = "conformance.panicker";

/// Runs a case in a world of its own.
pub(super) fn simulate(subject: &Subject, seed: u64, case: impl AsyncFnOnce(&Bench) -> Verdict) -> Verdict {
    run_in(world(seed).untraced(), subject, seed, case).0
}

/// As [`simulate`], with what happened.
pub(super) fn traced(
    subject: &Subject,
    seed: u64,
    case: impl AsyncFnOnce(&Bench) -> Verdict,
) -> (Verdict, Vec<String>) {
    run_in(world(seed), subject, seed, case)
}

fn world(seed: u64) -> Simulation {
    Simulation::new(seed).quiet().limit(Duration::from_secs(24 * 3600))
}

fn run_in(
    simulation: Simulation,
    subject: &Subject,
    seed: u64,
    case: impl AsyncFnOnce(&Bench) -> Verdict,
) -> (Verdict, Vec<String>) {
    let run = simulation.run(async |world| {
        let bench = Bench::new(world, subject.clone(), seed);
        let verdict = case(&bench).await;
        verdict.and_then(|()| bench.no_panics())
    });
    (run.value, run.trace)
}

impl Bench {
    /// How many members a group has.
    pub(super) const MEMBERS: usize = 3;

    fn new(world: World, subject: Subject, seed: u64) -> Self {
        let trigger = subject.layer().trigger();
        let rng = RefCell::new(fastrand::Rng::with_seed(seed ^ 0x5EED));
        Self {
            world,
            subject,
            seed,
            trigger,
            rng,
            channels: RefCell::default(),
            made: Cell::new(0),
            neighbours: Cell::new(SendOptions::empty()),
        }
    }

    /// A layer that no channel has yet.
    pub(super) fn layer(&self) -> Layer {
        self.subject.layer()
    }

    /// Whether this is on purpose.
    pub(super) const fn is(&self, deliberate: Deliberate) -> bool {
        self.subject.profile.is(deliberate)
    }

    /// The bits that may arrive changed.
    pub(super) fn may_change(&self) -> SendOptions {
        self.subject.profile.changed | self.neighbours.get()
    }

    /// A random number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        self.rng.borrow_mut().usize(..end.max(1))
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&self, of: &[T]) -> T {
        let at = self.below(of.len());
        of.get(at).copied().unwrap_or_else(|| panic!("there is nothing to pick from"))
    }

    /// A body of this length, or a few bytes more, that is like no other.
    pub(super) fn body(&self, len: usize) -> Bytes {
        self.made.set(self.made.get() + 1);
        super::arrivals::body((self.seed << 24) + self.made.get(), len)
    }

    /// A body that cannot be compressed.
    pub(super) fn noise(&self, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        self.rng.borrow_mut().fill(&mut bytes);
        bytes.into()
    }

    /// How long anything may take.
    pub(super) fn limit(&self) -> Duration {
        self.subject.profile.patience.unwrap_or(Duration::from_secs(30))
    }

    /// A builder as the profile wants it.
    pub(super) fn builder(&self) -> ChannelBuilder {
        let builder = Channel::builder().env(self.world.env());
        match self.subject.profile.channel {
            Some(configure) => configure(builder),
            None => builder,
        }
    }

    /// Has the layers of `channel` checked for panics at the end.
    pub(super) fn watch(&self, channel: &Channel) {
        self.channels.borrow_mut().push(channel.clone());
    }

    /// Options to send with, with the layer's trigger and without.
    pub(super) fn variants(&self) -> Vec<SendOptions> {
        let acks = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK];
        let mut variants: Vec<_> = acks.iter().map(|ack| self.with(*ack)).collect();
        if !self.trigger.is_empty() {
            variants.extend(acks.iter().map(|ack| *ack | self.subject.profile.options));
        }
        variants
    }

    /// `ack` with the trigger.
    pub(super) fn with(&self, ack: SendOptions) -> SendOptions {
        ack | self.subject.profile.options | self.trigger
    }

    /// A group in which everybody sees everybody, as far as the layers let them.
    pub(super) async fn group(&self) -> Result<Vec<Peer>, String> {
        let mut peers = Vec::new();
        for _ in 0..Self::MEMBERS {
            let node = self.world.node();
            let channel = node.join(self.builder()).interceptor(self.layer()).build();
            let channel = channel.map_err(|error| error.to_string())?;
            let heard = RecordingListener::new();
            channel.listen(heard.clone()).forever();
            channel.listen_members(heard.clone()).forever();
            self.start(&channel).await?;
            self.watch(&channel);
            peers.push(Peer { node, channel, heard });
        }
        self.settle(&peers).await;
        Ok(peers)
    }

    pub(super) async fn start(&self, channel: &Channel) -> Verdict {
        let started = self.within("`start` of the channel", channel.start()).await?;
        started.map_err(|error| format!("the channel does not start: {error}: {:?}", std::error::Error::source(&error)))
    }

    pub(super) async fn stop(&self, channel: &Channel) -> Verdict {
        self.within("`stop` of the channel", channel.stop()).await
    }

    /// Waits until everybody sees everybody. A layer that filters members keeps that from happening; cases send to
    /// addresses, so that they work all the same.
    pub(super) async fn settle(&self, peers: &[Peer]) {
        let all = || peers.iter().all(|peer| peer.channel.view().len() + 1 >= peers.len());
        self.world.until(Duration::from_secs(10), all).await;
        self.world.sleep(Duration::from_millis(50)).await;
    }

    /// `future`, if it is done in time.
    pub(super) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        let (env, limit) = (self.world.env(), self.limit());
        env.until(env.now() + limit, future).await.ok_or_else(|| format!("{what} is not done after {limit:?}"))
    }

    /// The outcome of a message, if it comes in time.
    pub(super) async fn outcome(&self, pending: Pending) -> Result<Outcome, String> {
        let id = pending.id().clone();
        self.within(&format!("the outcome of message {id}"), pending).await
    }

    /// Waits until `condition` holds.
    pub(super) async fn until(
        &self,
        mut condition: impl FnMut() -> bool,
        otherwise: impl FnOnce() -> String,
    ) -> Verdict {
        let deadline = self.world.env().now() + self.limit();
        while !condition() {
            if self.world.env().now() >= deadline {
                return Err(otherwise());
            }
            self.world.sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Lets everything happen that can happen without the clock.
    pub(super) async fn yield_now(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Polls `future` at most `polls` times, a millisecond apart, then drops it; what it gave if it was done by then.
    pub(super) async fn polled<T>(&self, polls: usize, future: impl Future<Output = T>) -> Option<T> {
        super::super::polled(&self.world.env(), polls, future).await
    }

    /// Whether no layer of any channel panicked.
    fn no_panics(&self) -> Verdict {
        let layers = self.channels.borrow().iter().flat_map(|channel| channel.stats().layers).collect::<Vec<_>>();
        for layer in layers.iter().filter(|layer| layer.name != PANICKER) {
            let errors = layer.down.errors.iter().chain(&layer.up.errors);
            let panics: u64 = errors.filter(|(reason, _)| reason.contains("panicked")).map(|(_, count)| count).sum();
            if panics > 0 {
                return Err(format!("layer {} panicked {panics} times", layer.name));
            }
        }
        Ok(())
    }
}
