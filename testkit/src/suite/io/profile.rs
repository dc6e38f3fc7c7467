//! How a part of the IO layer is tested, and what it does on purpose.

use std::time::Duration;

/// How a part of the IO layer is tested, and what it does on purpose. What it does not declare is tested.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct IoProfile {
    pub(super) name: &'static str,
    pub(super) virtual_time: bool,
    pub(super) patience: Duration,
    pub(super) whole: bool,
    pub(super) anonymous: bool,
}

impl IoProfile {
    /// For parts in virtual time, over the simulated network of their [`Site`](super::Site). Nothing may take longer than a
    /// minute of that.
    pub const fn simulated() -> Self {
        Self {
            name: "simulated",
            virtual_time: true,
            patience: Duration::from_secs(60),
            whole: false,
            anonymous: false,
        }
    }

    /// For parts over real sockets, in real time. Nothing may take longer than 15 s.
    pub const fn sockets() -> Self {
        Self { name: "sockets", virtual_time: false, patience: Duration::from_secs(15), ..Self::simulated() }
    }

    /// The name in reports.
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How long anything may take.
    pub const fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// A membership service that cannot listen without announcing, or the other way round. Relaxed: `halves`.
    pub const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// A membership service that cannot tell one that left on purpose from one that died. Relaxed: the departure in
    /// `leaving`.
    pub const fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    pub(super) fn declared(&self) -> Vec<&'static str> {
        [(self.whole, "whole"), (self.anonymous, "anonymous")]
            .into_iter()
            .filter_map(|(declared, name)| declared.then_some(name))
            .collect()
    }
}
