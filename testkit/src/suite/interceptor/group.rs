//! The group in which a case runs.

use std::cell::RefCell;
use std::time::Duration;

use tribes_core::{Channel, Layer, Outcome, Pending, SendOptions};

use super::Verdict;
use crate::net::Node;
use crate::{RecordingListener, World};

/// How long, in virtual time, anything may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// What a case works with.
pub(super) struct Bench {
    pub(super) world: World,
    layers: RefCell<Vec<Layer>>,
    channels: RefCell<Vec<Channel>>,
    /// Options of every message.
    options: SendOptions,
    pub(super) trigger: SendOptions,
}

/// One member of the group.
pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) channel: Channel,
    pub(super) heard: RecordingListener,
}

impl Bench {
    /// How many members a group has at most.
    pub(super) const MEMBERS: usize = 3;

    pub(super) fn new(world: World, layers: Vec<Layer>, options: SendOptions) -> Self {
        let trigger = layers.first().map_or(SendOptions::empty(), Layer::trigger);
        Self { world, layers: RefCell::new(layers), channels: RefCell::default(), options, trigger }
    }

    /// A layer that no channel has yet.
    pub(super) fn layer(&self) -> Result<Layer, String> {
        self.layers.borrow_mut().pop().ok_or_else(|| "the case uses more layers than there are".to_owned())
    }

    /// Has the layers of `channel` checked for panics at the end.
    pub(super) fn watch(&self, channel: &Channel) {
        self.channels.borrow_mut().push(channel.clone());
    }

    /// Options to send with: each acknowledgement, with the layer's trigger and without.
    pub(super) fn variants(&self) -> Vec<SendOptions> {
        let acks = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK];
        let mut variants: Vec<_> = acks.iter().map(|ack| *ack | self.options | self.trigger).collect();
        if !self.trigger.is_empty() {
            variants.extend(acks.iter().map(|ack| *ack | self.options));
        }
        variants
    }

    /// `ack` with the trigger.
    pub(super) fn with(&self, ack: SendOptions) -> SendOptions {
        ack | self.options | self.trigger
    }

    /// A group in which everybody sees everybody, as far as the layers let them.
    pub(super) async fn group(&self) -> Result<Vec<Peer>, String> {
        let mut peers = Vec::new();
        for _ in 0..Self::MEMBERS {
            let node = self.world.node();
            let channel = node.join(Channel::builder()).interceptor(self.layer()?).build();
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
        let env = self.world.env();
        env.until(env.now() + LIMIT, future).await.ok_or_else(|| format!("{what} is not done after {LIMIT:?}"))
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
        let deadline = self.world.env().now() + LIMIT;
        while !condition() {
            if self.world.env().now() >= deadline {
                return Err(otherwise());
            }
            self.world.sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Whether no layer of any channel panicked.
    pub(super) fn no_panics(&self) -> Verdict {
        for layer in self.channels.borrow().iter().flat_map(|channel| channel.stats().layers) {
            let errors = layer.down.errors.iter().chain(&layer.up.errors);
            let panics: u64 = errors.filter(|(reason, _)| reason.contains("panicked")).map(|(_, count)| count).sum();
            if panics > 0 {
                return Err(format!("layer {} panicked {panics} times", layer.name));
            }
        }
        Ok(())
    }
}
