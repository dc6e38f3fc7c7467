//! The traits of the IO layer: what carries messages, what takes them in, and what finds the members.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::channel::WeakChannel;
use crate::delivery::Outbound;
use crate::error::{BoxError, SendError, Unsupported};
use crate::member::{MemberEvent, Suspicion};
use crate::message::ChannelMessage;
use crate::pipeline::Link;
use crate::stats::Gauge;
use crate::{Member, SendOptions, Services, Time};

/// Carries messages to members (Tribes: `ChannelSender`).
///
/// # Cancel safety
/// The channel awaits `start` and `stop` to their end, unless the application drops its own `start` or `stop`; it then calls
/// `stop` again. `send` may be dropped while it waits for room: what has been accepted by then is sent, the rest counts as
/// dropped. `probe` and `heartbeat` may be dropped at any time.
#[async_trait]
pub trait ChannelSender: Debug + Send + Sync + 'static {
    /// Called before any send. `up` raises suspicions ([`Link::suspect`]) and gives access to environment and budget.
    ///
    /// # Errors
    /// The channel does not start.
    async fn start(&self, local: Arc<Member>, up: Link) -> Result<(), BoxError>;

    /// Sends what is queued, or fails it, by `deadline`; tells peers that can hear it that this member leaves; closes.
    async fn stop(&self, deadline: Time);

    /// Whether [`send_now`](Self::send_now) accepts every message whose room is reserved. Layers that queue then leave the
    /// queueing to this sender. Asked once, when the channel is built.
    fn is_prompt(&self) -> bool {
        false
    }

    /// As far as [`send`](Self::send) needs no waiting: accepts the message for each destination that holds a
    /// [reservation](crate::Destination::reservation) or gets one at once, and gives back those that have to wait for room;
    /// they are then given to `send`. Must not block. The default accepts none.
    ///
    /// # Errors
    /// As `send`.
    fn send_now(&self, out: Outbound) -> Result<Option<Outbound>, SendError> {
        Ok(Some(out))
    }

    /// Accepts a message, in order, for each destination; tries all, and resolves each completion with its own result. A
    /// slow or dead member never delays another. Returns when every destination is accepted or has failed.
    ///
    /// # Errors
    /// Only what concerns the message as a whole; faults of members go to their completions.
    async fn send(&self, out: Outbound) -> Result<(), SendError>;

    /// Asks whether `member` is alive, over a connection of its own, by `deadline`. If the member is not one of ours,
    /// `frame` is written and any answer awaited; without a frame being able to connect is all that can be found out.
    async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult;

    /// Whether a connection to `member` is open now.
    fn is_connected(&self, member: &Member) -> bool {
        let _ = member;
        false
    }

    /// Members come and go; open or drop connections. Called in order; must not block.
    fn member_event(&self, event: &MemberEvent) {
        let _ = event;
    }

    /// The local member's record changed.
    fn update_local(&self, local: Arc<Member>) {
        let _ = local;
    }

    /// The channel's heartbeat: keep-alive and idle connections.
    async fn heartbeat(&self, now: Time) {
        let _ = now;
    }

    /// Figures for [`Channel::stats`](crate::Channel::stats).
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeResult {
    /// It answered: the process is alive.
    Answered,
    /// It could be connected to, and nothing was asked of it.
    Connected,
    /// Something listens there, but it is another process: the member is gone.
    Replaced,
    /// Nothing listens there.
    Refused,
    /// It connected, or did not even that, and gave no answer in time: frozen, overloaded or cut off.
    TimedOut,
    /// There is no way to it, or its address is none.
    Unreachable,
}

impl ProbeResult {
    /// Whether the member counts as alive.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Answered | Self::Connected)
    }
}

/// Takes messages in (Tribes: `ChannelReceiver`).
///
/// # Cancel safety
/// As [`ChannelSender`]: a dropped `start` or `stop` is followed by another `stop`.
#[async_trait]
pub trait ChannelReceiver: Debug + Send + Sync + 'static {
    /// Binds and begins to take messages in; each goes to [`Link::receive`] of `up`. Returns what was really bound.
    /// Messages are taken only after the channel has made its local member known with
    /// [`update_local`](Self::update_local).
    ///
    /// # Errors
    /// The channel does not start, for instance when no port of the range is free.
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError>;

    /// Closes all sockets and connections. What has been taken in is still handled.
    async fn stop(&self, deadline: Time);

    /// The local member's record; peers are told apart by whether they expect this one.
    fn update_local(&self, local: Arc<Member>) {
        let _ = local;
    }

    /// Members come and go. Called in order; must not block.
    fn member_event(&self, event: &MemberEvent) {
        let _ = event;
    }

    /// Figures for [`Channel::stats`](crate::Channel::stats).
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// Where a receiver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The address that peers connect to.
    pub host: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// The UDP port, if it takes UDP messages.
    pub udp_port: Option<u16>,
    /// The TLS port, if it has one.
    pub secure_port: Option<u16>,
}

impl Endpoint {
    /// An endpoint for TCP alone.
    #[must_use]
    pub const fn new(host: IpAddr, port: u16) -> Self {
        Self { host, port, udp_port: None, secure_port: None }
    }

    /// With this UDP port.
    #[must_use]
    pub const fn with_udp_port(mut self, port: Option<u16>) -> Self {
        self.udp_port = port;
        self
    }
}

/// What a membership service is given at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MembershipContext {
    /// The local member, with the address that the receiver really has.
    pub local: Arc<Member>,
    /// Raises events ([`Link::member_event`]), probes members, gives access to the environment.
    pub link: Link,
    /// The channel itself, to send from the top of the stack and to listen there.
    pub channel: WeakChannel,
}

impl MembershipContext {
    /// A context; the channel makes one, tests may.
    #[must_use]
    pub const fn new(local: Arc<Member>, link: Link, channel: WeakChannel) -> Self {
        Self { local, link, channel }
    }
}

/// Finds members and notices their leaving (Tribes: `MembershipService`).
///
/// # Cancel safety
/// As [`ChannelSender`]: a dropped `start` or `stop` is followed by another `stop`. `broadcast` and `heartbeat` may be dropped at
/// any time.
#[async_trait]
pub trait MembershipService: Debug + Send + Sync + 'static {
    /// The service's name in errors and statistics.
    fn name(&self) -> &'static str;

    /// Starts listening, announcing or both; never blocks for members to appear. A half that is running stays so.
    ///
    /// # Errors
    /// The channel does not start.
    async fn start(&self, services: Services, context: MembershipContext) -> Result<(), BoxError>;

    /// Stops the halves named; when the announcing half stops, peers are told that this member leaves.
    async fn stop(&self, services: Services);

    /// The local member's record changed (payload, domain): announce it.
    fn update_local(&self, local: Arc<Member>) {
        let _ = local;
    }

    /// Sends a message once to all members at the same time.
    ///
    /// # Errors
    /// If this service has no such way, or the message does not fit.
    async fn broadcast(&self, out: Outbound) -> Result<(), SendError> {
        drop(out);
        Err(SendError::Unsupported(Unsupported::Multicast { service: self.name() }))
    }

    /// The transport suspects a member, for instance because it closed its connection.
    fn suspected(&self, member: &Arc<Member>, why: Suspicion) {
        let _ = (member, why);
    }

    /// A member said over its own connection that it leaves. The service raises `Removed(Shutdown)`.
    fn departed(&self, member: &Arc<Member>) {
        let _ = member;
    }

    /// A member of ours connected and named itself: a hint that it exists, to be verified as any newcomer.
    fn heard_of(&self, member: &Arc<Member>) {
        let _ = member;
    }

    /// Sees each message that reaches the top of the stack, before the listener queues, and may take it: membership's own
    /// exchange must not wait behind the application's. Must not block.
    ///
    /// Default: takes nothing.
    fn intercept(&self, message: &ChannelMessage) -> bool {
        let _ = message;
        false
    }

    /// The channel's heartbeat.
    async fn heartbeat(&self, now: Time) {
        let _ = now;
    }

    /// Figures for [`Channel::stats`](crate::Channel::stats).
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// Which of the two ways a message takes at the bottom of the stack.
pub(crate) const fn is_multicast(options: SendOptions) -> bool {
    options.contains(SendOptions::MULTICAST)
}
