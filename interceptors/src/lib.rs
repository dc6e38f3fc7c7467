//! The interceptors of `tribes`: one folder and one feature each, none on by default, `full` for all.
//!
//! | name | type | flag | feature | what |
//! |---|---|---|---|---|
//! | `message-dispatch` | [`MessageDispatch`] | `0x08` (`async`), sees all | `message-dispatch` | queues asynchronous messages, one bounded queue for each member |
//! | `tcp-failure-detector` | [`TcpFailureDetector`] | none | `tcp-failure-detector` | verifies by a probe what membership says of members |
//! | `throughput` | [`Throughput`] | none | `throughput` | counts messages and bytes per second and reports them |
//!
//! None of the three changes a byte on the wire. The order that Tomcat's cluster has, top to bottom, is `throughput`
//! (where it should count), `message-dispatch`, `tcp-failure-detector`.
//!
//! Each folder is cut alike: `mod.rs` is the type and its hooks, `config.rs` its options, `core.rs` its state without any
//! I/O, `tests.rs` what holds it to its word.
//!
//! A layer of a name known only at run time (a command line, a file) comes from [`by_name`]:
//!
//! ```
//! # #[cfg(feature = "throughput")] {
//! let layer = tribes_interceptors::by_name("throughput", [("interval".to_owned(), "1s".to_owned())])?;
//! assert_eq!(layer.name(), "throughput");
//! # }
//! let error = tribes_interceptors::by_name("throughputt", []).unwrap_err();
//! assert!(error.to_string().starts_with("there is no interceptor \"throughputt\""));
//! # Ok::<(), tribes_interceptors::ConfigError>(())
//! ```

mod by_name;
mod config;
#[cfg(feature = "message-dispatch")]
pub mod message_dispatch;
#[cfg(feature = "tcp-failure-detector")]
pub mod tcp_failure_detector;
#[cfg(test)]
#[cfg(any(feature = "message-dispatch", feature = "tcp-failure-detector", feature = "throughput"))]
#[allow(dead_code, reason = "each layer's tests use a part of it")]
mod testing;
#[cfg(feature = "throughput")]
pub mod throughput;

pub use by_name::{NAMES, by_name};
pub use config::ConfigError;
#[cfg(feature = "message-dispatch")]
pub use message_dispatch::{MessageDispatch, MessageDispatchConfig};
#[cfg(feature = "tcp-failure-detector")]
pub use tcp_failure_detector::{TcpFailureDetector, TcpFailureDetectorConfig};
#[cfg(feature = "throughput")]
pub use throughput::{FlowRate, ReportInterval, Throughput, ThroughputConfig, ThroughputSnapshot};
