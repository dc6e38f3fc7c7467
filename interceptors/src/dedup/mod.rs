//! Drops messages that have been seen already.
//!
//! A message may come twice: a sender that got no answer sends it again over a new connection, Java also after a refusal
//! (T3), and a message may take two ways. This layer remembers, for each sender, the ids of the messages that came, and lets
//! each pass once. Tribes has nothing of the kind.
//!
//! # Guarantees
//! - A message that passed this layer does not pass it again for a [`window`](DedupConfig::window) of time, as long as its
//!   sender sends no more than [`max_entries`](DedupConfig::max_entries) in that time. What was forgotten early is counted
//!   (`crowded_out`).
//! - A duplicate is answered as its first copy: if the listener refused that, so is this; if it is still at it, the answer
//!   comes when it is done. So *at most once* is what the listener sees, also of a message that it failed.
//! - Bounded in time, messages of one sender, messages in all, and senders outside the group. Members of the group do not
//!   suffer from others: under pressure each sender has an equal share.
//! - Order is kept; nothing is delayed.
//!
//! An application that sends something again makes a new message with an id of its own: this layer cannot know.
//!
//! # Place in the stack
//! Above `fragmentation`, whose pieces share the id of their message: no channel is built otherwise. Else anywhere; near the network it spares the
//! layers above the work. It changes no byte and needs nothing of the other members: Java's messages have ids, too.
//!
//! # Cost
//! One lock of the sender's, a look into a hash table, and about 80 bytes for each message in the window. Where the
//! answer is a listener's (`sync`), two small heap allocations besides.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Cx, EventVerdict, Gauge, Inbound, Interest, Link, MemberEvent, Rule, SyncInterceptor, Time, Verdict,
};

pub use self::config::DedupConfig;
use self::core::Windows;

const NAME: &str = "dedup";

/// Drops messages that have been seen already. See the [module](self). One instance serves one channel.
#[derive(Debug)]
pub struct Dedup {
    config: DedupConfig,
    windows: Windows,
}

impl Dedup {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: DedupConfig) -> Self {
        Self { config, windows: Windows::new(config) }
    }
}

impl Default for Dedup {
    fn default() -> Self {
        Self::new(DedupConfig::default())
    }
}

impl Configure for Dedup {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "drops messages that have been seen already";
    type Config = DedupConfig;
    fn configure(config: DedupConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Dedup);

impl SyncInterceptor for Dedup {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::RECEIVE | Interest::MEMBERS | Interest::HEARTBEAT
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[Rule::above(
            "fragmentation",
            "the pieces of a message share its id, so dedup would drop all but the first",
        )];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    fn start(&self, _: Link) -> Result<(), BoxError> {
        self.windows.clear();
        Ok(())
    }

    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        if self.windows.is_first(msg, cx.now()) { Verdict::Pass } else { Verdict::Drop("duplicate") }
    }

    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        match event {
            MemberEvent::Added(member) => self.windows.joined(member),
            MemberEvent::Removed(member, _) => self.windows.left(member),
            _ => {}
        }
        EventVerdict::Pass
    }

    fn heartbeat(&self, now: Time) {
        self.windows.expire(now);
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (entries, senders) = self.windows.depth();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        vec![
            Gauge::new("remembered", count(entries)),
            Gauge::new("senders", count(senders)),
            Gauge::new("duplicates", self.windows.duplicates.load(Ordering::Relaxed)),
            Gauge::new("crowded_out", self.windows.crowded_out.load(Ordering::Relaxed)),
        ]
    }
}
