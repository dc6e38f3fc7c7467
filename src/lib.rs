//! Group messaging: processes find each other, form a group and talk, wire-compatible with Apache Tribes, the channel under
//! Tomcat's clustering.
//!
//! Two members in one process, as they might be in two on different machines:
//!
//! ```
//! use tribes::prelude::*;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let group = "228.0.0.4:45564"; // whoever has the same is in the group
//!     # let group = format!("228.0.0.4:{}", std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port());
//!     let anna = tribes::channel().bind("127.0.0.1:0").multicast(&group).build()?;
//!     let bert = tribes::channel().bind("127.0.0.1:0").multicast(&group).build()?;
//!     bert.on_message(|message, from| async move {
//!         println!("{from} says {}", String::from_utf8_lossy(message.bytes()));
//!         Ok(())
//!     })
//!     .forever();
//!     bert.start().await?;
//!     anna.start_and_wait(1, std::time::Duration::from_secs(5)).await?;
//!     anna.send(To::All, "hello", SendOptions::SYNC_ACK).await?; // returns when the listener has
//!     anna.stop().await;
//!     bert.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! # The stack
//! A [`Channel`] joins a process to a group of equal peers, tells it who is there, and carries messages to one member, some,
//! or all. Between the application and the network stand **interceptors**: small parts that look at, change, split, delay, queue
//! or drop messages, and decide for each by its [option bits](SendOptions) whether they act.
//!
//! ```text
//!  application     ChannelListener · MembershipListener · streams
//!  ─────────────   Channel (a cheap handle)          one bounded FIFO per sender stands before the listeners
//!  interceptors    1  nearest to the application     send runs 1 → N, receive and member events run N → 1
//!                  …
//!                  N  nearest to the network
//!  ─────────────
//!  IO layer        ChannelSender          MembershipService        ChannelReceiver
//!                  pooled parallel TCP    multicast | static | …   epoll TCP, UDP
//! ```
//!
//! | to | see |
//! |---|---|
//! | make a channel with Tomcat's defaults | [`channel()`], [`GroupBuilder`] |
//! | make one of your own parts | [`Channel::builder`], [`transport`] |
//! | send, listen, start and stop | [`Channel`] |
//! | choose a guarantee | [`SendOptions`] |
//! | ask members, and answer them | [`rpc::RpcChannel`] |
//! | know who is there | [`Channel::view`], [`Channel::member_events`], [`MembershipListener`] |
//! | build on a channel, past its listeners | [`Channel::endpoint`], [`ChannelEndpoint`] |
//! | write an interceptor | [`SyncInterceptor`] if it never waits, [`ChannelInterceptor`] if it does |
//! | use those that there are | [`interceptors`] |
//! | know what goes on | [`Channel::stats`]; events of the crate `tracing` |
//!
//! # Guarantees
//! | options | the send returns when | arrives |
//! |---|---|---|
//! | [`NONE`](SendOptions::NONE) | the operating system took it for each member | at most once |
//! | [`ACK`](SendOptions::ACK) | each member has received it | exactly once, or the member is named in the error |
//! | [`SYNC_ACK`](SendOptions::SYNC_ACK) | each member's listener has returned without an error | the same |
//! | [`ASYNC`](SendOptions::ASYNC), alone or with these | it is queued; the outcome comes later | the same as without it |
//!
//! - **Order**: what one task sends to one member arrives in that order, across all options but `udp` and `multicast`.
//! - **Independence**: a slow or dead member delays no other.
//! - **Outcome**: each accepted message ends in one [`Outcome`] that names each member that failed, and why.
//! - **Memory**: bounded everywhere, see [`BudgetConfig`] and
//!   [`ReceiverConfig`](transports::ReceiverConfig).
//! - **Death**: a killed process is noticed by its connection, a frozen one by an unanswered probe, within seconds.
//! - **Java**: towards Tomcat's own nodes a message is sent again once after a broken connection, so a duplicate is possible.
//!
//! Not guaranteed: order between different senders; that members agree at every moment on who is in the group; that several
//! members get a message or none. Nothing is encrypted or authenticated: without configuration a channel listens on 127.0.0.1.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `throughput` | yes | the interceptor [`Throughput`](interceptors) |
//! | `full` | no | all interceptors, `replication`, `persist`, `sessions` and `farm` |
//! | `replication` | no | maps that every member holds: `replication::ReplicatedMap` |
//! | `sessions` | no | web sessions that survive the crash of a server: `sessions::ReplicatedStore` |
//! | `actix-session` | no | `sessions`, for actix-web, too |
//! | `tower-sessions-0-14` | no | `sessions`, for axum-login 0.18, too |
//! | `persist` | no | `replication`, and maps that are kept in files |
//! | `farm` | no | `replication`, and a folder of files that every member has: `farm::Farm` |
//! | `config` | no | channels from `tribes.toml` or Tomcat's `server.xml`: `config`, `Channel::from_config` |
//!
//! [`MessageDispatch`](interceptors::MessageDispatch) and
//! [`TcpFailureDetector`](interceptors::TcpFailureDetector) are always there: they are the default stack.

mod builder;

pub use builder::{GroupBuilder, channel};
#[cfg(feature = "config")]
pub use tribes_core::config;
pub use tribes_core::{
    AckMode, Batch, Body, BoxError, BoxFuture, Budget, BudgetConfig, BuildError, Channel, ChannelBuilder,
    ChannelEndpoint, ChannelInterceptor, ChannelListener, ChannelMessage, ChannelReceiver, ChannelSender, ChannelStats,
    Completion, Cx, Delivery, Departure, Destination, Endpoint, EndpointError, EndpointHandle, EndpointSender, Env,
    EnvProvider, EventVerdict, Fault, FaultKind, Gauge, Handled, Inbound, Interest, IntoLayer, Layer, Lease, Link,
    ListenerHandle, Member, MemberEvent, MemberEvents, MemberId, MembershipContext, MembershipListener,
    MembershipService, Message, MessageId, Messages, Next, Outbound, Outcome, OverloadPolicy, ParseSendOptionsError,
    Pending, ProbeResult, Receipt, ReceiveError, Route, Rule, SendError, SendOptions, Services, StartError, Suspicion,
    SyncInterceptor, TaskHandle, Time, To, Verdict, View, WeakChannel, WireEffect, async_trait,
};
pub use tribes_core::{
    budget, delivery, error, interceptor, member, message, pipeline, registry, rpc, settings, stats, transport, wire,
};
#[doc(inline)]
pub use tribes_core::{register_interceptor, register_membership, register_receiver, register_sender};

/// Ready-made interceptors; by name, they come from the [`registry`].
pub mod interceptors {
    #[doc(inline)]
    pub use tribes_interceptors::*;
}

/// Sender and receiver for TCP and UDP.
pub mod transports {
    #[doc(inline)]
    pub use tribes_transports::*;
}

/// Membership services: multicast and static.
pub mod membership {
    #[doc(inline)]
    pub use tribes_membership::*;
}

/// Maps that every member of a group holds.
#[cfg(feature = "replication")]
pub mod replication {
    #[doc(inline)]
    pub use tribes_replication::*;
}

/// Web sessions that survive the crash of a server.
#[cfg(feature = "sessions")]
pub mod sessions {
    #[doc(inline)]
    pub use tribes_sessions::*;
}

/// A folder of files that every member of a group has.
#[cfg(feature = "farm")]
pub mod farm {
    #[doc(inline)]
    pub use tribes_farm::*;
}

/// What most programs use: `use tribes::prelude::*;`
pub mod prelude {
    pub use tribes_core::{
        BoxError, Channel, ChannelListener, Departure, ListenerHandle, Member, MemberEvent, MembershipListener,
        Message, SendError, SendOptions, To, View,
    };
}

/// Guides; their code is compiled.
pub mod guides {
    #[doc = include_str!("../guides/your-own-interceptor.md")]
    pub mod your_own_interceptor {}
    #[doc = include_str!("../guides/rpc.md")]
    pub mod rpc {}
    // Its code uses all of them.
    #[cfg(feature = "full")]
    #[doc = include_str!("../guides/interceptors.md")]
    pub mod interceptors {}
    #[cfg(feature = "agreed-views")]
    #[doc = include_str!("../guides/views.md")]
    pub mod views {}
    #[cfg(feature = "replication")]
    #[doc = include_str!("../guides/maps.md")]
    pub mod maps {}
    #[cfg(feature = "sessions")]
    #[doc = include_str!("../guides/sessions.md")]
    pub mod sessions {}
    #[cfg(feature = "farm")]
    #[doc = include_str!("../guides/farm.md")]
    pub mod farm {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
