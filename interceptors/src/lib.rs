//! The interceptors of `tribes`: one folder and one feature each, none on by default, `full` for all.
//!
//! | name | type | flag | feature | what |
//! |---|---|---|---|---|
//! | `agreed-views` | [`AgreedViews`] | none | `agreed-views` | numbered views that all members of a side agree on, and which side may write |
//! | `audit` | [`Audit`] | none | `audit` | writes down who sent what to whom |
//! | `chaos` | [`Chaos`] | none | `chaos` | delays, loses, doubles and reorders messages by chance, to test applications |
//! | `compress` | [`Compress`] | `0x0200_0000` as a mark, sees all | `compress-lz4`, `compress-zstd` | compresses bodies between our own nodes, by LZ4 or Zstandard |
//! | `coordinator` | [`Coordinator`] | none | `coordinator` | the members agree on one of them to lead |
//! | `dedup` | [`Dedup`] | none | `dedup` | drops messages that have been seen already |
//! | `domain-filter` | [`DomainFilter`] | none | `domain-filter` | hides members of other domains and refuses their messages |
//! | `encrypt` | [`Encrypt`] | none | `encrypt` | encrypts bodies under keys that the group shares |
//! | `fragmentation` | [`Fragmentation`] | none, sees all | `fragmentation` | cuts long messages into pieces and puts them together again |
//! | `gzip` | [`Gzip`] | `0x100` as a mark, sees all | `gzip` | compresses bodies |
//! | `message-dispatch` | [`MessageDispatch`] | `0x08` (`async`), sees all | `message-dispatch` | queues asynchronous messages, one bounded queue for each member |
//! | `order` | [`Order`] | none | `order` | delivers what each member sends in the order in which it was sent |
//! | `rate-limit` | [`RateLimit`] | none | `rate-limit` | no more than so many messages or bytes per second to each destination |
//! | `simple-coordinator` | [`SimpleCoordinator`] | none | `simple-coordinator` | takes the first member for the leader |
//! | `static-members` | [`StaticMembers`] | none | `static-members` | adds members at fixed addresses to the group |
//! | `tcp-failure-detector` | [`TcpFailureDetector`] | none | `tcp-failure-detector` | verifies by a probe what membership says of members |
//! | `tcp-ping` | [`TcpPing`] | none | `tcp-ping` | pings each member through the stack, and has those suspected that do not answer |
//! | `throughput` | [`Throughput`] | none | `throughput` | counts messages and bytes per second and reports them |
//! | `trace` | [`Trace`] | none, `0x0100_0000` on the wire | `trace` | carries a W3C trace id along, a span for each hop |
//! | `two-phase-commit` | [`TwoPhaseCommit`] | none | `two-phase-commit` | a message reaches the listeners of all its destinations, or of none |
//!
//! Bytes on the wire change under `encrypt`, `fragmentation`, `gzip`, `order` and `two-phase-commit`, as Tribes' own layers change
//! them, and under `compress`, `trace` and `two-phase-commit` between our own nodes. The order that Tomcat's cluster has, top to
//! bottom, is `throughput` (where it should count), `message-dispatch`, `tcp-failure-detector`. All of them together stand well in
//! the order `audit`, `throughput`, `trace`, `two-phase-commit`, `rate-limit`, `message-dispatch`, `coordinator`,
//! `simple-coordinator`, `agreed-views`, `dedup`, `order`, `compress`, `gzip`, `fragmentation`, `encrypt`, `chaos`, `tcp-ping`,
//! `tcp-failure-detector`, `static-members`, `domain-filter`; what each one demands or advises says its section on its place, and
//! a channel in another order is not built ([`Rule`](tribes_core::Rule)).
//!
//! Each folder is cut alike: `mod.rs` is the type and its hooks, `config.rs` its options, `core.rs` its state without any
//! I/O, `tests.rs` what holds it to its word.
//!
//! A layer of a name known only at run time (a command line, a file) comes from the
//! [`Registry`](tribes_core::registry::Registry), in which each layer registers itself:
//!
//! ```
//! # #[cfg(feature = "throughput")] {
//! use tribes_core::registry::Registry;
//! # use tribes_interceptors as _;
//!
//! let layer = Registry::interceptor("throughput", [("interval", "1s")])?;
//! assert_eq!(layer.name(), "throughput");
//! let error = Registry::interceptor("throughputt", []).unwrap_err();
//! assert!(error.to_string().contains("did you mean \"throughput\"?"));
//! # }
//! # Ok::<(), tribes_core::registry::RegistryError>(())
//! ```

#[cfg(feature = "agreed-views")]
pub mod agreed_views;
#[cfg(feature = "audit")]
pub mod audit;
#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "compress")]
pub mod compress;
#[cfg(feature = "coordinator")]
pub mod coordinator;
#[cfg(feature = "dedup")]
pub mod dedup;
#[cfg(feature = "domain-filter")]
pub mod domain_filter;
#[cfg(feature = "encrypt")]
pub mod encrypt;
#[cfg(feature = "fragmentation")]
pub mod fragmentation;
#[cfg(feature = "gzip")]
pub mod gzip;
#[cfg(any(feature = "chaos", feature = "order", feature = "rate-limit", feature = "two-phase-commit"))]
mod join;
#[cfg(any(feature = "coordinator", feature = "simple-coordinator"))]
mod leadership;
#[cfg(feature = "message-dispatch")]
pub mod message_dispatch;
#[cfg(feature = "order")]
pub mod order;
#[cfg(any(feature = "compress", feature = "gzip"))]
mod packing;
#[cfg(any(feature = "domain-filter", feature = "static-members"))]
mod raiser;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(any(feature = "dedup", feature = "order"))]
mod seen;
#[cfg(feature = "simple-coordinator")]
pub mod simple_coordinator;
#[cfg(feature = "static-members")]
pub mod static_members;
#[cfg(feature = "tcp-failure-detector")]
pub mod tcp_failure_detector;
#[cfg(feature = "tcp-ping")]
pub mod tcp_ping;
#[cfg(test)]
#[cfg(feature = "_any")]
#[allow(dead_code, reason = "each layer's tests use a part of it")]
mod testing;
#[cfg(feature = "throughput")]
pub mod throughput;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(feature = "two-phase-commit")]
pub mod two_phase_commit;
#[cfg(test)]
#[cfg(feature = "_any")]
#[path = "../../core/tests/vectors/mod.rs"]
mod vectors;

#[cfg(feature = "agreed-views")]
pub use agreed_views::{AgreedViews, AgreedViewsConfig};
#[cfg(feature = "audit")]
pub use audit::{Audit, AuditConfig};
#[cfg(feature = "chaos")]
pub use chaos::{Chaos, ChaosConfig};
#[cfg(feature = "compress")]
pub use compress::{Algorithm, Compress, CompressConfig};
#[cfg(feature = "coordinator")]
pub use coordinator::{Coordinator, CoordinatorConfig};
#[cfg(feature = "dedup")]
pub use dedup::{Dedup, DedupConfig};
#[cfg(feature = "domain-filter")]
pub use domain_filter::{DomainFilter, DomainFilterConfig};
#[cfg(feature = "encrypt")]
pub use encrypt::{Encrypt, EncryptConfig};
#[cfg(feature = "fragmentation")]
pub use fragmentation::{Fragmentation, FragmentationConfig};
#[cfg(feature = "gzip")]
pub use gzip::{Gzip, GzipConfig};
#[cfg(any(feature = "coordinator", feature = "simple-coordinator"))]
pub use leadership::{Leadership, LeadershipChanges};
#[cfg(feature = "message-dispatch")]
pub use message_dispatch::{MessageDispatch, MessageDispatchConfig};
#[cfg(feature = "order")]
pub use order::{Order, OrderConfig};
#[cfg(feature = "rate-limit")]
pub use rate_limit::{OnLimit, RateLimit, RateLimitConfig};
#[cfg(feature = "simple-coordinator")]
pub use simple_coordinator::{SimpleCoordinator, SimpleCoordinatorConfig};
#[cfg(feature = "static-members")]
pub use static_members::{StaticMember, StaticMembers, StaticMembersConfig};
#[cfg(feature = "tcp-failure-detector")]
pub use tcp_failure_detector::{TcpFailureDetector, TcpFailureDetectorConfig};
#[cfg(feature = "tcp-ping")]
pub use tcp_ping::{TcpPing, TcpPingConfig};
#[cfg(feature = "throughput")]
pub use throughput::{FlowRate, ReportInterval, Throughput, ThroughputConfig, ThroughputSnapshot};
#[cfg(feature = "trace")]
pub use trace::{Trace, TraceConfig, TraceContext};
#[cfg(feature = "two-phase-commit")]
pub use two_phase_commit::{TwoPhaseCommit, TwoPhaseCommitConfig, Vote};
