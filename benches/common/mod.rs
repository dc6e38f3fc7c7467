//! What the benches share.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod group;
pub(crate) mod interceptors;
pub(crate) mod layers;
pub(crate) mod null;
pub(crate) mod payload;

use std::time::Duration;

use criterion::Criterion;
use tokio::runtime::{Builder, Runtime};

/// For what takes microseconds or less: all of `cargo bench` is to take minutes.
pub(crate) fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .nresamples(10_000)
}

/// For what goes through sockets and changes from run to run.
pub(crate) fn thorough() -> Criterion {
    quick().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

/// A runtime without a thread of its own: what is measured is not moved between cores.
pub(crate) fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A runtime as an application has it, with two threads on any machine, so that figures can be compared.
pub(crate) fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
