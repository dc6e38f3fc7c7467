//! Putting a channel together.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::{Channel, DRAIN, Inner, check, lifecycle};
use crate::budget::{Budget, BudgetConfig};
use crate::delivery::Audience;
use crate::delivery::Inbound;
use crate::error::{BuildError, BuildFault};
use crate::interceptor::{IntoLayer, Layer};
use crate::member::{MemberEvent, MemberId, View};
use crate::pipeline::{Stack, Top};
use crate::transport::{ChannelReceiver, ChannelSender, MembershipService};
use crate::{Env, Member, SendOptions};

/// Puts a [`Channel`] together. The first interceptor added is nearest to the application.
///
/// A sender, a receiver and a membership service are needed; the facade's `tribes::channel()` fills in those of Tomcat's
/// cluster. [`build`](Self::build) checks everything and reports all faults at once.
#[must_use = "call `build`"]
pub struct ChannelBuilder {
    layers: Vec<Layer>,
    sender: Option<Arc<dyn ChannelSender>>,
    receiver: Option<Arc<dyn ChannelReceiver>>,
    membership: Option<Arc<dyn MembershipService>>,
    env: Env,
    name: Option<String>,
    options: SendOptions,
    budget: BudgetConfig,
    option_check: bool,
    order_check: bool,
    telemetry: bool,
    faults: Vec<BuildFault>,
    settings: lifecycle::Settings,
}

impl ChannelBuilder {
    pub(super) fn new() -> Self {
        Self {
            layers: Vec::new(),
            sender: None,
            receiver: None,
            membership: None,
            env: Env::real(),
            name: None,
            options: SendOptions::default(),
            budget: BudgetConfig::default(),
            option_check: false,
            order_check: true,
            telemetry: true,
            faults: Vec::new(),
            settings: lifecycle::Settings {
                heartbeat: Some(Duration::from_secs(5)),
                drain: DRAIN,
                id: None,
                domain: Bytes::new(),
                payload: Bytes::new(),
            },
        }
    }

    /// Adds a layer below those added before.
    pub fn interceptor<Form>(mut self, layer: impl IntoLayer<Form>) -> Self {
        self.layers.push(layer.into_layer());
        self
    }

    /// What carries messages to members.
    pub fn sender(mut self, sender: impl ChannelSender) -> Self {
        self.sender = Some(Arc::new(sender));
        self
    }

    /// As [`sender`](Self::sender) for one that is shared.
    pub fn sender_shared(mut self, sender: Arc<dyn ChannelSender>) -> Self {
        self.sender = Some(sender);
        self
    }

    /// What takes messages in.
    pub fn receiver(mut self, receiver: impl ChannelReceiver) -> Self {
        self.receiver = Some(Arc::new(receiver));
        self
    }

    /// As [`receiver`](Self::receiver) for one that is shared.
    pub fn receiver_shared(mut self, receiver: Arc<dyn ChannelReceiver>) -> Self {
        self.receiver = Some(receiver);
        self
    }

    /// What finds the members.
    pub fn membership(mut self, membership: impl MembershipService) -> Self {
        self.membership = Some(Arc::new(membership));
        self
    }

    /// As [`membership`](Self::membership) for a service that is shared, to change it at run time.
    pub fn membership_shared(mut self, membership: Arc<dyn MembershipService>) -> Self {
        self.membership = Some(membership);
        self
    }

    /// The surroundings; default the real ones.
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// A name, part of what static membership calls its group. Default none, as in Tribes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What [`Channel::send_options`] returns; default [`SendOptions::ACK`].
    pub fn send_options(mut self, options: SendOptions) -> Self {
        self.options = options;
        self
    }

    /// Bounds of what may wait for members; default 32 MiB, a quarter of it for one member.
    pub fn budget(mut self, budget: BudgetConfig) -> Self {
        self.budget = budget;
        self
    }

    /// Makes it an error that two layers are switched by a common bit; by default that is a warning.
    pub fn option_check(mut self, check: bool) -> Self {
        self.option_check = check;
        self
    }

    /// Whether a stack against the advice of its layers ([`Rule::advised`](crate::Rule::advised)) is a fault; default yes. With
    /// `false` that is a warning, for a group that runs such a stack already: a layer that changes bytes must have the same
    /// place on all members. Binding rules are faults all the same.
    pub fn order_check(mut self, check: bool) -> Self {
        self.order_check = check;
        self
    }

    /// Whether the pipeline counts and times messages for [`Channel::stats`]; default yes. Rare events (drops, errors,
    /// panics) are counted always. Switching it off saves two atomic additions a layer and message; `benches/hop` says what
    /// that is worth.
    pub fn telemetry(mut self, telemetry: bool) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// How often the channel visits every layer; default 5 s, `None` for only by [`Channel::heartbeat`].
    pub fn heartbeat(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.settings.heartbeat = every.into();
        self
    }

    /// How long [`Channel::stop`] lets queues drain; default 5 s.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.settings.drain = limit;
        self
    }

    /// A fixed member id; default a fresh one at each start. A fixed id without our mark makes peers treat this member as a
    /// Java one.
    pub fn id(mut self, id: MemberId) -> Self {
        self.settings.id = Some(id);
        self
    }

    /// The domain that the member announces; default empty.
    pub fn domain(mut self, domain: impl Into<Bytes>) -> Self {
        self.settings.domain = domain.into();
        self
    }

    /// The payload that the member announces; default empty.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.settings.payload = payload.into();
        self
    }

    /// Adds a fault that was found elsewhere; [`build`](Self::build) reports it with the others. For those who fill in a
    /// builder from text, as the facade does.
    pub fn fault(mut self, fault: BuildFault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The channel, not yet started.
    ///
    /// # Errors
    /// Lists everything that is wrong.
    pub fn build(mut self) -> Result<Channel, BuildError> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.extend(self.faults());
        let (Some(sender), Some(receiver), Some(membership)) = (self.sender, self.receiver, self.membership) else {
            return Err(BuildError::new(faults));
        };
        if !faults.is_empty() {
            return Err(BuildError::new(faults));
        }
        let budget = Budget::new(self.budget, self.env.clone());
        let placeholder = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let id = self.settings.id.unwrap_or_default();
        let local = Arc::new(Member::new(id, placeholder));
        let (events, raised) = mpsc::unbounded_channel();
        let (member_calls, calls) = mpsc::unbounded_channel();
        let stack =
            Stack::new(self.layers, sender, receiver, membership, self.env, budget, local, events, self.telemetry);
        let inner = Arc::new(Inner {
            stack: Arc::clone(&stack),
            name: self.name,
            options: self.options,
            settings: self.settings,
            lifecycle: tokio::sync::Mutex::default(),
            layers_started: watch::Sender::new(false),
            running: lifecycle::Running::default(),
            view: ArcSwap::from_pointee(View::default()),
            everyone: ArcSwap::new(Audience::new(Arc::new([]), None)),
            view_number: watch::Sender::new(0),
            application: super::dispatch::Application::new(stack.env.clone()),
            member_listeners: ArcSwap::default(),
            streams: std::sync::Mutex::default(),
            member_calls,
            next_key: std::sync::atomic::AtomicU64::new(0),
            queues: super::dispatch::Queues::default(),
            endpoints: super::endpoint::Endpoints::default(),
            rpc: std::sync::OnceLock::new(),
            top_down: crate::stats::FlowCounters::default(),
            event_ends: std::sync::Mutex::new(Some((raised, calls))),
        });
        stack.set_top(Box::new(WeakTop(Arc::downgrade(&inner))));
        let channel = Channel(inner);
        // Also without any RPC channel: whoever asks is to hear that there is none.
        channel.rpc_hub();
        Ok(channel)
    }

    /// What is wrong so far.
    pub(crate) fn faults(&self) -> Vec<BuildFault> {
        let mut faults = Vec::new();
        for (missing, part, method) in [
            (self.sender.is_none(), "sender", "sender"),
            (self.receiver.is_none(), "receiver", "receiver"),
            (self.membership.is_none(), "membership service", "membership"),
        ] {
            if missing {
                faults.push(BuildFault::Missing { part, method });
            }
        }
        if self.budget.total == 0 || self.budget.per_member == 0 {
            faults.push(BuildFault::OutOfBounds {
                setting: "budget",
                value: "0 bytes".to_owned(),
                bounds: "at least 1 byte",
            });
        }
        if self.settings.heartbeat.is_some_and(|every| every.is_zero()) {
            faults.push(BuildFault::OutOfBounds {
                setting: "heartbeat",
                value: "0s".to_owned(),
                bounds: "more than zero",
            });
        }
        faults.extend(check::layers(&self.layers, self.option_check, self.order_check));
        faults
    }
}

impl Inner {
    /// Takes those of the first `count` messages out of `batch` that an RPC channel waits for in Java's form; how many.
    fn claim_calls(&self, batch: &mut Vec<Inbound>, count: usize) -> usize {
        let is_object = |msg: &Inbound| !msg.message.options.contains(SendOptions::BYTE_MESSAGE);
        let Some(hub) = self.rpc().filter(|_| batch.iter().take(count).any(is_object)) else { return 0 };
        let open = self.endpoints.is_open();
        let claimed = batch.extract_if(..count, |msg| open && is_object(msg) && hub.claim(&msg.message));
        claimed.map(|msg| msg.receipt.accept()).count()
    }

    /// Whether it is a call or an answer in Java's form that nobody waits for.
    fn is_unclaimed_call(&self, message: &crate::ChannelMessage) -> bool {
        let is_object = !message.options.contains(SendOptions::BYTE_MESSAGE);
        is_object && self.endpoints.is_open() && self.rpc().is_some_and(|hub| hub.unclaimed(message))
    }
}

/// The channel as the top of its stack. Weak, for the channel holds the stack.
struct WeakTop(std::sync::Weak<Inner>);

impl Top for WeakTop {
    fn deliver(&self, batch: &mut Vec<Inbound>, count: usize) -> usize {
        let Some(channel) = self.0.upgrade() else {
            batch.drain(..count);
            return count;
        };
        // Before the listeners of what came earlier: nothing for an endpoint waits for those.
        let (taken, mut refused) = channel.endpoints.deliver(&channel, batch, count);
        let claimed = channel.claim_calls(batch, count - taken);
        let (mut left, mut passed) = (count - taken - claimed, 0);
        while let Some(msg) = batch.get(passed).filter(|_| passed < left) {
            if channel.stack.membership.intercept(&msg.message) || channel.is_unclaimed_call(&msg.message) {
                // What came before it goes first.
                refused += channel.queues.deliver(&channel, batch, passed);
                batch.drain(..1).for_each(|msg| msg.receipt.accept());
                (left, passed) = (left - passed - 1, 0);
            } else {
                passed += 1;
            }
        }
        refused + channel.queues.deliver(&channel, batch, passed)
    }

    fn member_event(&self, event: MemberEvent) {
        if let Some(channel) = self.0.upgrade() {
            channel.member_event(event);
        }
    }
}

impl fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("layers", &self.layers.iter().map(Layer::name).collect::<Vec<_>>())
            .field("sender", &self.sender)
            .field("receiver", &self.receiver)
            .field("membership", &self.membership)
            .finish_non_exhaustive()
    }
}
