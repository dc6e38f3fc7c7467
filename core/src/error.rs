//! What can go wrong, one type per operation. Errors name members and say what to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Member;
use crate::member::MemberId;

/// An error of someone else's making.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A builder's or a layer's configuration that cannot work; lists all faults at once.
#[derive(Debug, thiserror::Error)]
#[error("the channel cannot be built: {}", list(faults))]
pub struct BuildError {
    faults: Vec<BuildFault>,
}

impl BuildError {
    pub(crate) const fn new(faults: Vec<BuildFault>) -> Self {
        Self { faults }
    }

    /// Everything that is wrong, in the order of the builder's calls.
    #[must_use]
    pub fn faults(&self) -> &[BuildFault] {
        &self.faults
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One thing that is wrong with a channel's configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildFault {
    /// A part without which there is no channel.
    #[error("no {part} was given; call `ChannelBuilder::{method}`")]
    Missing {
        /// What is missing.
        part: &'static str,
        /// The builder method that sets it.
        method: &'static str,
    },
    /// Two layers of the same name.
    #[error("layer {name} stands in the stack twice; remove one or give it another name")]
    DuplicateLayer {
        /// The name of both.
        name: &'static str,
    },
    /// A layer's trigger uses bits that belong to Tribes.
    #[error(
        "the trigger {trigger} of layer {layer} uses bits that belong to the channel (below 0x80, or 0x1000000); use 0x80 or 0x200 to 0x8000"
    )]
    ReservedTrigger {
        /// The layer.
        layer: &'static str,
        /// Its trigger.
        trigger: crate::SendOptions,
    },
    /// Two layers are switched by the same bit (an error only under `option_check`).
    #[error("layers {upper} and {lower} are both switched by {bits}; give one of them another trigger")]
    SharedTrigger {
        /// The layer nearer to the application.
        upper: &'static str,
        /// The layer nearer to the network.
        lower: &'static str,
        /// The bits that they share.
        bits: crate::SendOptions,
    },
    /// A layer stands where it, or another one, cannot be: see [`Rule`](crate::Rule).
    #[error(
        "layer {upper} stands below layer {lower}, but belongs above it, as {because}; move {upper} directly above {lower}{}",
        if *advised { " (or accept the order with `order_check(false)`)" } else { "" }
    )]
    Misplaced {
        /// The layer that stands below and belongs above.
        upper: &'static str,
        /// The layer that stands above and belongs below.
        lower: &'static str,
        /// Why.
        because: &'static str,
        /// Whether it is advice, a fault only under [`order_check`](crate::ChannelBuilder::order_check).
        advised: bool,
    },
    /// Layers that suit each other in no order.
    #[error("no order suits the layers {}: {because}; remove one of them", layers.join(" and "))]
    Contradiction {
        /// The layers.
        layers: Vec<&'static str>,
        /// What they ask of each other.
        because: String,
    },
    /// A part that refuses its configuration.
    #[error("the {part} refuses its configuration: {reason}")]
    Part {
        /// `receiver`, `sender`, `membership service` or a layer's name.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// A number out of its bounds.
    #[error("{setting} is {value}, but must be {bounds}")]
    OutOfBounds {
        /// The setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        bounds: &'static str,
    },
}

/// Why a channel, or a part of it, did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A part of the channel could not start; those started before it were stopped again.
    #[error("{part} could not start")]
    Part {
        /// `receiver`, `sender`, `membership` or a layer's name.
        part: &'static str,
        /// Why.
        source: BoxError,
    },
    /// The operating system gives no random bytes, without which no member id is safe from that of another.
    #[error("the operating system gives no random bytes for the id of this member")]
    NoRandomness(#[source] std::io::Error),
    /// Membership needs the receiver's address.
    #[error("membership announces the receiver's address: start the receiver with it or before it")]
    NoReceiver,
    /// `start_and_wait` did not see enough members in time. The channel is running.
    #[error("only {seen} of {wanted} members appeared within {waited:?}")]
    TooFewMembers {
        /// How many are there.
        seen: usize,
        /// How many were wanted.
        wanted: usize,
        /// How long it waited.
        waited: Duration,
    },
}

/// Why a message was not sent, or not to everyone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Some members did not get it. The others did.
    #[error("{} of {attempted} members failed: {}", faults.len(), list(faults))]
    Faulty {
        /// How many destinations there were.
        attempted: usize,
        /// Each member that failed, and why.
        faults: Vec<Fault>,
    },
    /// There was nobody to send to.
    #[error("no destination: the group has no other member, or the list is empty")]
    NoDestination,
    /// The channel's sender is not running.
    #[error("the channel is not started")]
    NotStarted,
    /// The channel was stopped.
    #[error("the channel was stopped")]
    Stopped,
    /// [`Channel::try_send`](crate::Channel::try_send) would have had to wait.
    #[error("the queue of at least one member is full; nothing was sent")]
    Full,
    /// A layer refused the message.
    #[error("layer {layer} refused the message")]
    Layer {
        /// The layer.
        layer: &'static str,
        /// Why.
        source: BoxError,
    },
    /// A layer panicked over the message.
    #[error("layer {layer} panicked over the message: {text}")]
    Panicked {
        /// The layer.
        layer: &'static str,
        /// The panic's text.
        text: String,
    },
    /// The typed value could not be encoded.
    #[error(transparent)]
    Encode(#[from] crate::message::EncodeError),
    /// The message asks for what this channel or this transport cannot do.
    #[error("{0}")]
    Unsupported(Unsupported),
}

impl SendError {
    /// Each member that failed, and why; empty if the failure was not a member's.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Faulty { faults, .. } => faults,
            _ => &[],
        }
    }

    /// Whether the same send may succeed later without a change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Faulty { faults, .. } => faults.iter().all(|fault| fault.kind.is_retryable()),
            _ => false,
        }
    }
}

/// What a transport or channel cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Multicast data over a membership service that has no multicast.
    #[error("{service} membership cannot multicast; send without the multicast option")]
    Multicast {
        /// The membership service.
        service: &'static str,
    },
    /// A message too large for one datagram.
    #[error("the message needs a datagram of {size} bytes, but at most {max} fit; send it over TCP")]
    DatagramSize {
        /// Bytes needed.
        size: usize,
        /// Bytes that fit.
        max: usize,
    },
    /// A message larger than the largest frame.
    #[error(
        "the message needs a frame of {size} bytes, more than the limit of {max}; raise `max_frame` on all members"
    )]
    FrameSize {
        /// Bytes needed.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The member announces no UDP port.
    #[error("the member takes no UDP messages; give its receiver a UDP port")]
    Udp,
    /// The message is in a form of our own, and one of both is not known to be a node of ours: the member is one of Tribes'
    /// own or no more than its address is known, or this channel has a configured id without our mark.
    #[error("only nodes of this project understand it, and not both ends are known to be such")]
    NotOurs,
    /// The sender has no such service.
    #[error("{0}")]
    Other(&'static str),
}

/// One member that did not get a message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The member.
    pub member: Arc<Member>,
    /// Why.
    pub kind: FaultKind,
}

impl Fault {
    /// A fault of `member`.
    #[must_use]
    pub const fn new(member: Arc<Member>, kind: FaultKind) -> Self {
        Self { member, kind }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.kind)
    }
}

/// Why one member did not get a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke, and the message may or may not have arrived.
    #[error("the connection broke: {0}")]
    Disconnected(String),
    /// It could not be sent within the send deadline.
    #[error("not sent within {0:?}")]
    Timeout(Duration),
    /// It was sent but not acknowledged in time.
    #[error("no acknowledgement within {0:?}")]
    AckTimeout(Duration),
    /// The member got it, and its listener or a layer there failed. The member is alive; nothing is sent again.
    #[error("the receiver refused it{}", .0.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    RemoteFailure(Option<String>),
    /// This channel's queue for the member is full: the member is too slow, or this sender too fast.
    #[error("the queue for this member is full")]
    QueueFull,
    /// Another process has taken the member's address; it did not get the message.
    #[error("another process ({0}) now has this member's address")]
    Replaced(MemberId),
    /// The member left the group while the message was waiting.
    #[error("the member left the group")]
    Left,
    /// Waiting for the acknowledgement would never end: the send comes from within the handling of this member's own
    /// message. Send without `sync`, or from another task.
    #[error("waiting for this member from within the handling of its own message would deadlock")]
    WouldDeadlock,
    /// The message asks for what cannot be done towards this member.
    #[error("{0}")]
    Unsupported(Unsupported),
    /// A layer dropped it without saying why, or was stopped with it.
    #[error("dropped by {by}: {reason}")]
    Dropped {
        /// The layer or part.
        by: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The channel stopped before it was sent.
    #[error("the channel was stopped first")]
    Stopped,
}

impl FaultKind {
    /// Whether a later send to this member may succeed without a change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::Disconnected(_) | Self::Timeout(_) | Self::AckTimeout(_) | Self::QueueFull
        )
    }

    /// Whether this speaks against the member itself, so that a failure detector should look at it. A local overload,
    /// a negative acknowledgement or a request that cannot be met never does.
    #[must_use]
    pub const fn speaks_against_member(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::Disconnected(_) | Self::Timeout(_) | Self::AckTimeout(_) | Self::Replaced(_)
        )
    }
}

/// Why a received message was not accepted. The sender hears of it if it asked for a synchronized acknowledgement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A layer refused it.
    #[error("layer {layer} refused the message: {reason}")]
    Refused {
        /// The layer.
        layer: &'static str,
        /// Why.
        reason: String,
    },
    /// A layer panicked over it.
    #[error("layer {layer} panicked over the message: {text}")]
    Panicked {
        /// The layer.
        layer: &'static str,
        /// The panic's text.
        text: String,
    },
    /// The channel is stopped.
    #[error("the channel was stopped")]
    Stopped,
}
