//! Sessions on groups of whole nodes, on the testkit's network: real channels, real tower-sessions, virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stderr, reason = "figures are part of what tests show")]

#[cfg(feature = "actix-session")]
mod actix;
#[cfg(feature = "tower-sessions-0-14")]
mod axum_login;
mod backing;
mod beyond;
mod context;
mod nine_steps;
mod parallel;
#[cfg(all(unix, feature = "tower-sessions-0-14"))]
mod redis;
mod session_layer;
mod single_sign_on;
mod site;
