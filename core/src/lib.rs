//! The core of `tribes`: the [`Channel`] with its pipeline of interceptors, members, messages and the wire codec. It opens
//! no socket; transports and membership services are given to the [`ChannelBuilder`].
//!
//! Applications depend on the facade `tribes`; this crate is for those who write interceptors, transports or membership
//! services.
//!
//! | read | for |
//! |---|---|
//! | [`channel`] | sending, listening, starting and stopping |
//! | [`interceptor`] | the two forms of a layer |
//! | [`pipeline`] | how a message walks through the layers |
//! | [`rpc`] | questions to members, and their answers |
//! | [`delivery`] | what becomes of a message |
//! | [`transport`] | the traits of sender, receiver and membership service |
//! | `config` (feature `config`) | channels from `tribes.toml`, the environment, or Tomcat's `server.xml` |
//! | [`settings`](mod@settings), [`registry`] | what can be set and named in a configuration |
//! | [`wire`] | the bytes, without I/O |

pub mod budget;
pub mod channel;
#[cfg(feature = "config")]
pub mod config;
pub mod delivery;
mod env;
pub mod error;
pub mod interceptor;
pub mod member;
pub mod message;
mod options;
pub mod pipeline;
pub mod registry;
pub mod rpc;
mod services;
pub mod settings;
pub mod stats;
mod time;
pub mod transport;
pub mod wire;

/// What implementations of the asynchronous traits are annotated with; here so that they need no dependency of their own.
pub use async_trait::async_trait;
pub use budget::{Budget, BudgetConfig, OverloadPolicy};
pub use channel::{
    Batch, Channel, ChannelBuilder, ChannelEndpoint, ChannelListener, EndpointError, EndpointHandle, EndpointSender,
    ListenerHandle, MemberEvents, MembershipListener, Messages, To, WeakChannel,
};
pub use delivery::{
    Completion, Delivery, Destination, Handled, Inbound, Lease, LeasePool, Outbound, Outcome, Pending, Receipt,
    ReceiptSink, Route,
};
pub use env::{BoxFuture, Env, EnvProvider, TaskHandle};
pub use error::{BoxError, BuildError, Fault, FaultKind, ReceiveError, SendError, StartError};
pub use interceptor::{
    ChannelInterceptor, Cx, EventVerdict, Interest, IntoLayer, Layer, Readiness, Rule, SyncInterceptor, Verdict,
    WireEffect,
};
pub use member::{Departure, Member, MemberEvent, MemberId, Suspicion, View};
pub use message::{Body, ChannelMessage, Message, MessageId};
pub use options::{AckMode, ParseSendOptionsError, SendOptions};
pub use pipeline::{Link, Next};
pub use services::Services;
pub use stats::{ChannelStats, Gauge};
pub use time::Time;
pub use transport::{ChannelReceiver, ChannelSender, Endpoint, MembershipContext, MembershipService, ProbeResult};
