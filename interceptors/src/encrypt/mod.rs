//! Encryption of message bodies under keys that the group shares (Tribes: `EncryptInterceptor`).
//!
//! Heartbeats, members' addresses and the envelopes of messages stay in clear. All members have the same keys: whoever has one
//! can write in the name of every member.
//!
//! # Two formats
//!
//! | | [`Mode::Tribes`] (default) | [`Mode::Authenticated`] |
//! |---|---|---|
//! | understood by | everybody, Java included | our own nodes |
//! | vouches for | the body (AES-GCM); nothing in legacy algorithms | body, message id and time, sender, destinations, options of layers at or above |
//! | against replays | time inside and a memory of IVs; clocks must agree within 10 s; another member, or the same one restarted, takes a copy | a counter for each sender and a window of 8,192; no clock; other members refuse a copy |
//! | bytes added | 36 (GCM), 24 to 40 (others); 8 fewer in the old layout, as far as padding allows | 47, and 16 for each destination |
//!
//! **Tribes** (wire section 11.4): IV, then ciphertext of (time, body), byte for byte as Tribes has it from 9.0.119, 10.1.56
//! and 11.0.23 on; [`Layout::BeforeTimestamps`] is what was before. Different on purpose:
//! - What cannot be opened under AES-GCM is refused, and so is a replay: the sender of a synchronized message hears of it, from
//!   Java Tribes it hears of success (T12). In legacy algorithms such messages are dropped without a word, as Java does: an
//!   answer that depends on padding gives the plaintext away (CVE-2026-29146).
//! - The time inside is that of the sealing, not that at which the application sent: what waited in a queue above is as good as
//!   new to any receiver (T15). And 65,536 messages are remembered, not 8,192, and none for longer than its time is good: see
//!   [`EncryptConfig::replay_window_message_count`].
//! - Nothing that could not be opened ever goes up, nor does anything go down in clear (CVE-2026-34486).
//! - A key of a size that AES does not have is noticed at the start, not at the first message.
//! - DES, DESede and Blowfish, which Java accepts, are not there.
//!
//! **Authenticated**: a message is sealed once, whatever the number of its members, which stand inside; a receiver that is not
//! among them refuses it. What is bound of the options are the bits of layers at or above this one: all but the triggers of the
//! layers below, so members need the same stack. Where the mark of the extension trailer is set, it is sealed and not on the wire.
//! Counters may have gaps and come out of order; what is more than 8,191 behind its sender's highest is refused. A receiver
//! knows the last 65,536 sessions of senders, windows of the 4,096 latest; an older session goes on above its highest counter.
//! A multicast cannot be sealed so. Java members: see [`TowardsJava`]. A peer that is known by its address alone is no
//! destination that could be bound: under static membership list peers with their ids, `HOST:PORT@ID`, and give each channel
//! its id. A node whose id lacks our mark does not start.
//! Not noticed: that a message was kept back, and copies shown to a receiver that was restarted under the same *configured* id
//! (leave ids to chance, as they are by default).
//!
//! # Change of keys
//! The first key seals, any of them opens. So a group changes its key without a pause, one member after the other: give all of
//! them `old+new`; when all have it, `new+old`; when nobody seals with the old one any more, `new`. A member that was away in
//! between and comes back with `old+new` loses nothing and is understood, as long as the others still have `old`. While the
//! channel runs, [`Encrypt::set_keys`] does it, and [`Encrypt::reload`] reads files and variables again.
//!
//! # Place in the stack
//! Below whatever reads or changes bodies (`Gzip`, `Order`, `Fragmentation`), above `TcpFailureDetector`, whose probes bypass
//! the layers above it on their way down and would not be understood on their way up; Java refuses to start otherwise, and here
//! no channel is built. The rest is [advice](tribes_core::Rule::advised), as groups exist that have it otherwise: a layer below
//! that changes bytes has nothing to vouch for what it adds. Below `MessageDispatch` messages are
//! sealed when they leave the queue, each destination of an asynchronous one for itself.
//!
//! A message is copied once in each direction. Random bytes (IVs, names of sessions) are those of the channel's
//! [`Env::unique`](tribes_core::Env::unique): the operating system's, unless an environment of one's own was given. Where there
//! are none, messages are refused.

mod algorithm;
mod cipher;
mod config;
mod core;
mod error;
mod key;
mod replay;
mod report;
mod sealed;
mod sessions;
#[cfg(test)]
mod tests;
mod window;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tribes_core::error::Unsupported;
use tribes_core::registry::Configure;
use tribes_core::settings::{SettingFault, Settings as _};
use tribes_core::{
    BoxError, Cx, FaultKind, Gauge, Inbound, Interest, Link, Member, Outbound, Rule, SendOptions, SyncInterceptor,
    Verdict, WireEffect,
};

pub use self::algorithm::Algorithm;
pub use self::config::{EncryptConfig, Layout, Mode, TowardsJava};
use self::core::Core;
pub use self::error::EncryptError;
pub use self::key::{Key, KeyError, KeySource, MAX_KEYS};
use self::report::Report;

const NAME: &str = "encrypt";

/// Encrypts bodies; see the [module](self) for what it protects and what not. One instance serves one channel. Keep an `Arc` of
/// it to [change keys](Self::set_keys) while the channel runs.
///
/// Each message stands for itself: order and delivery are those of the layers around. It never waits; a message of many
/// megabytes keeps its thread for some milliseconds.
#[derive(Debug)]
pub struct Encrypt {
    config: EncryptConfig,
    core: Core,
    /// Keys came from [`Encrypt::set_keys`]: a start does not read the configured ones.
    are_keys_given: AtomicBool,
    /// Options that no layer below changes.
    bound: OnceLock<SendOptions>,
    report: Report,
}

impl Encrypt {
    /// A layer with these options. What is wrong with them is said when the channel is built, and what is
    /// wrong with keys in files and variables when it starts.
    #[must_use]
    pub fn new(config: EncryptConfig) -> Self {
        Self {
            core: Core::new(&config),
            config,
            are_keys_given: AtomicBool::new(false),
            bound: OnceLock::new(),
            report: Report::default(),
        }
    }

    /// From now on the first of `keys` seals, and any of them opens; those of the configuration count no more. Messages under
    /// way are not affected, and what is remembered against replays stays. Without keys in the configuration, call it before the
    /// channel is built.
    ///
    /// # Errors
    /// No key, too many, or several where it cannot be told which one fits; the keys are then unchanged.
    pub fn set_keys(&self, keys: impl IntoIterator<Item = Key>) -> Result<(), KeyError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.config.check_keys(&keys)?;
        self.are_keys_given.store(true, Ordering::Relaxed);
        self.core.set_keys(keys, &self.config);
        Ok(())
    }

    /// Reads the configured keys again, files and environment variables included, and uses them from now on. Blocks for as
    /// long as reading the files takes.
    ///
    /// # Errors
    /// A key is missing or wrong; the keys are then unchanged.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = self.config.load_keys()?;
        self.are_keys_given.store(false, Ordering::Relaxed);
        self.core.set_keys(keys, &self.config);
        Ok(())
    }

    fn warn_of_options(&self) {
        if self.config.algorithm.is_legacy() {
            let algorithm = self.config.algorithm.name();
            tracing::warn!(
                algorithm,
                "nothing vouches for messages under this algorithm: use AES/GCM/NoPadding as soon as all members can"
            );
        }
        let speaks_tribes = self.config.mode == Mode::Tribes || self.config.towards_java == TowardsJava::Tribes;
        if speaks_tribes && (self.config.replay_window_time.is_none() || self.config.layout != Layout::Current) {
            tracing::warn!("messages are not looked at for replays");
        }
    }

    /// Fails the destinations that cannot read authenticated messages.
    fn refuse_java(&self, out: &mut Outbound) {
        if let Some(java) = out.extract(|member| !is_ours(member)) {
            self.report.java_refused(java.to.len());
            java.fail(&FaultKind::Unsupported(Unsupported::Other(
                "the member is not known as one of our nodes, and only those read authenticated messages: list static \
                 peers of ours as HOST:PORT@ID; for members of Tribes' own see towards_java of encrypt",
            )));
        }
    }

    fn seal(&self, out: &mut Outbound, link: &Link) -> Result<Option<Outbound>, EncryptError> {
        let env = link.env();
        let mut chance = || env.unique().map_err(|_no_source| EncryptError::NoRandomness);
        if self.config.mode == Mode::Tribes {
            out.message.body = self.core.seal_tribes(&out.message.body, env.wall_ms(), &mut chance)?;
            return Ok(None);
        }
        if out.to.is_empty() {
            return Err(EncryptError::Multicast);
        }
        let mut java = None;
        if self.config.towards_java == TowardsJava::Tribes {
            java = out.extract(|member| !is_ours(member));
            if let Some(java) = &mut java {
                java.message.body = self.core.seal_tribes(&java.message.body, env.wall_ms(), &mut chance)?;
            }
        } else {
            self.refuse_java(out);
        }
        if !out.to.is_empty() {
            let ids = out.members().map(|member| member.id()).collect();
            self.core.seal_for(&mut out.message, ids, &mut chance)?;
        }
        Ok(java)
    }
}

fn is_ours(member: &Member) -> bool {
    member.id().is_ours()
}

impl Configure for Encrypt {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "encrypts bodies under keys that the group shares";
    type Config = EncryptConfig;
    fn configure(config: EncryptConfig) -> Result<Self, BoxError> {
        // Nobody can hand keys to a layer of a configuration later.
        if config.keys.is_empty() {
            return Err(SettingFault::together("key", KeyError::None.to_string()).into());
        }
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Encrypt);

impl SyncInterceptor for Encrypt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }

    /// [`WireEffect::Tribes`] in either mode: as [`WireEffect::Ours`] the pipeline would have messages to and from Java members
    /// pass by this layer, in clear.
    fn wire(&self) -> WireEffect {
        WireEffect::Tribes
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::below_all_that_change_bytes(
                "encrypt vouches only for what the layers above it make of a message, and leaves nothing to \
                compress",
            )
            .advised(),
            Rule::below(
                "message-dispatch",
                "a message that waits in the queue of message-dispatch should be sealed after that, or it may be \
                too old when it is opened",
            )
            .advised(),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        self.config.validate()?;
        if !self.are_keys_given.load(Ordering::Relaxed) {
            self.config.check_inline_keys()?;
        }
        Ok(())
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        if !self.are_keys_given.load(Ordering::Relaxed) || !self.core.has_keys() {
            self.core.set_keys(self.config.load_keys()?, &self.config);
        }
        if self.config.mode == Mode::Authenticated && link.local().is_some_and(|local| !is_ours(&local)) {
            return Err(
                "the id of this member lacks the mark of our nodes: the others would take it for a Java member; \
                have the channel make the id, or use mode = tribes with encrypt"
                    .into(),
            );
        }
        self.core.open_window(&self.config, link.env().wall_ms());
        let _ = self.bound.set(!link.triggers_below());
        self.warn_of_options();
        Ok(())
    }

    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Verdict<Outbound> {
        match self.seal(out, cx.link()) {
            Err(error) => {
                self.report.not_sealed(&error);
                Verdict::Refuse(error.into())
            }
            Ok(java) => {
                self.report.sealed();
                match java {
                    // A multicast in Tribes' mode has no members either.
                    None if out.to.is_empty() && self.config.mode == Mode::Authenticated => {
                        Verdict::Drop("no member can read it")
                    }
                    None => Verdict::Pass,
                    Some(java) if out.to.is_empty() => Verdict::Replace(java),
                    Some(java) => {
                        let to = std::mem::take(&mut out.to);
                        Verdict::Many(vec![out.with_destinations(to), java])
                    }
                }
            }
        }
    }

    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        let link = cx.link();
        let Some(local) = link.local() else { return Verdict::Refuse(EncryptError::NotStarted.into()) };
        let bound = self.bound.get().copied().unwrap_or(SendOptions::all());
        let from_ours = msg.is_from_ours();
        match self.core.open(&mut msg.message, from_ours, local.id(), bound, link.env().wall_ms()) {
            Ok(()) => {
                self.report.opened();
                Verdict::Pass
            }
            Err(error) => {
                self.report.not_opened(&error, msg.from());
                if self.config.algorithm.is_legacy() {
                    // Whoever sent it learns nothing from the answer.
                    Verdict::Drop(error.reason())
                } else {
                    Verdict::Refuse(error.into())
                }
            }
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.report.gauges(self.core.remembered())
    }
}
