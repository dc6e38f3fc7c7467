//! Compresses bodies between our own nodes, by LZ4 or Zstandard: several times as fast as `gzip`, which Java members need.
//!
//! Sending, a body longer than [`min_size`](CompressConfig::min_size) is replaced by its compressed form; the message is marked
//! by the option bit `0x0200_0000` ([`SendOptions::COMPRESSED`]), and an entry of the extension trailer
//! ([`ExtensionKind::COMPRESS`]) tells the algorithm and the length. Receiving, a marked body is unpacked and the mark taken
//! off. Members understand each other whatever their algorithm, level and bounds are, as far as their builds have the
//! algorithm; a message compressed by another one is refused with an error that names the feature to enable.
//!
//! | a message | goes out |
//! |---|---|
//! | with a body of at most `min_size` bytes | as it is |
//! | that would not become shorter, the 17 bytes of the entry included | as it is |
//! | with a body of more than `max_size` bytes | as it is |
//! | to a Java member, or as a multicast, or from a member with an id that does not mark it as ours | as it is |
//! | that the application itself marked | compressed if it becomes shorter, whatever its size |
//! | any other | compressed |
//!
//! With a large minimum, then, just the messages are compressed that the application picks. To a group of both kinds the
//! message goes out in both forms; Java members are counted as `passed_by`.
//!
//! # Guarantees
//! Order is kept, and each message keeps its outcome. A large body is worked on in steps of 64 KiB, between which other tasks
//! have their turn; the sender waits meanwhile, or with [`Channel::try_send`](tribes_core::Channel::try_send) does all of the
//! work in that call. One body is compressed once for all its destinations.
//!
//! # What a peer can do
//! A body unpacks to just the length that it claims, and to at most [`max_size`](CompressConfig::max_size) bytes. All unpacked
//! bodies that wait for listeners have [`max_memory`](CompressConfig::max_memory) bytes together: when a sender's quarter is
//! used up, its next message waits here, and its connection with it, until listeners have made room. The window of Zstandard
//! takes up to 8 MiB beside, while a body is unpacked. A body that is damaged or too large is refused, and the sender hears of
//! it if it asked for a synchronized acknowledgement.
//!
//! # Place in the stack
//! Above `fragmentation` and `encrypt`: pieces compress badly, and what is encrypted not at all. Instead of `gzip`, not with it.
//!
//! # Cancel safety
//! A send that is dropped while its body is compressed sends nothing.
//!
//! Tribes has nothing like it.

mod config;
mod core;
#[cfg(feature = "compress-lz4")]
mod lz4;
#[cfg(test)]
mod tests;
#[cfg(feature = "compress-zstd")]
mod zstd;

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::ExtensionKind;
use tribes_core::{
    Body, BoxError, ChannelInterceptor, Cx, Gauge, Inbound, Interest, Lease, Link, Next, Outbound, Readiness,
    ReceiveError, Rule, SendError, SendOptions, WireEffect, async_trait,
};

pub use self::config::{Algorithm, CompressConfig, ParseAlgorithmError};
pub use self::core::UnpackError;
use self::core::{Entry, NotShorter, Packer, Packing, Step, Unpacking};
use crate::packing::{Counters, Memory, STEP, Spare, in_steps};

const NAME: &str = "compress";
const MARK: SendOptions = SendOptions::COMPRESSED;

/// Compresses bodies between our own nodes. See the [module](self). One instance serves one channel.
#[derive(Debug)]
pub struct Compress {
    config: CompressConfig,
    /// Those of large bodies are not kept: they may have taken much memory.
    packers: Spare<Packer>,
    memory: Memory,
    counters: Counters,
}

impl Compress {
    /// A layer with these options. Those out of bounds are refused when the channel starts.
    #[must_use]
    pub fn new(config: CompressConfig) -> Self {
        Self { config, packers: Spare::default(), memory: Memory::default(), counters: Counters::default() }
    }

    /// How long the compressed form of this message may be; `None` if it goes out as it is. Takes an application's mark off.
    fn limit(&self, out: &mut Outbound) -> Option<usize> {
        let asked = out.message.options.contains(MARK);
        out.message.options.remove(MARK);
        // A multicast has no destinations, and Java members hear it. Under an id that does not mark us as one of ours, others
        // take us for a Java member and would not look for an entry.
        let ours = !out.to.is_empty() && out.message.sender.id().is_ours();
        let wanted = asked || out.len() > self.config.min_size;
        if !ours || !wanted || out.len() > self.config.max_size {
            return None;
        }
        // Shorter than what it replaces.
        out.len().checked_sub(Entry::COST + 1)
    }

    fn packing(&self, len: usize, limit: usize) -> Option<Packing> {
        let packer = self.packers.take().or_else(|| Packer::new(self.config.algorithm, self.config.level))?;
        Some(Packing::new(packer, len, limit))
    }

    fn pack_now(&self, out: &mut Outbound, limit: usize) {
        let Some(mut packing) = self.packing(out.len(), limit) else { return self.counters.plain() };
        let fed = out.message.body.segments().try_for_each(|segment| packing.feed(segment));
        self.packed(out, fed, packing);
    }

    /// Ends the work on a body: the message carries what came out, if it is of use.
    fn packed(&self, out: &mut Outbound, fed: Result<(), NotShorter>, mut packing: Packing) {
        let len = out.len();
        let packed = fed.and_then(|()| packing.finish());
        if len <= STEP {
            self.packers.keep(packing.into_packer());
        }
        let (Ok(packed), Ok(claim)) = (packed, u32::try_from(len)) else { return self.counters.plain() };
        let entry = Entry { algorithm: self.config.algorithm, len: claim };
        let size = packed.len();
        let plain = std::mem::replace(&mut out.message.body, Body::new(packed));
        // A trailer that is there already is inside of the compressed body now: this makes a new one around it.
        if out.message.add_extension(ExtensionKind::COMPRESS, entry.encode()).is_err() {
            out.message.body = plain;
            return self.counters.plain();
        }
        out.message.options |= MARK;
        self.counters.packed(len, size);
    }

    /// Unpacks the body, in memory that the message holds until it has been handled.
    async fn unpack(&self, msg: &mut Inbound) -> Result<(), UnpackError> {
        let entry = msg.message.take_extension(ExtensionKind::COMPRESS).ok_or(UnpackError::NoEntry)?;
        let entry = Entry::decode(&entry)?;
        let packed = msg.message.body.to_bytes();
        let (limit, claimed) = (self.config.max_size, usize::try_from(entry.len).unwrap_or(usize::MAX));
        if claimed > limit {
            return Err(UnpackError::TooLarge { claimed, limit });
        }
        let mut unpacking = Unpacking::new(entry, &packed)?;
        let held = self.memory.room(msg, claimed).await.ok_or(UnpackError::Stopped)?;
        while unpacking.step()? == Step::More {
            tokio::task::yield_now().await;
        }
        let body = unpacking.into_body();
        self.counters.unpacked(packed.len(), body.len());
        msg.message.body = Body::new(body);
        msg.message.options.remove(MARK);
        msg.lease.join(Lease::new(held));
        Ok(())
    }
}

impl Default for Compress {
    fn default() -> Self {
        Self::new(CompressConfig::default())
    }
}

impl Configure for Compress {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "compresses bodies between our own nodes, by LZ4 or Zstandard";
    type Config = CompressConfig;
    fn configure(config: CompressConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Compress);

#[async_trait]
impl ChannelInterceptor for Compress {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::SEES_ALL
    }

    fn trigger(&self) -> SendOptions {
        MARK
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Ours
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above("fragmentation", "compress does better with a whole message than with pieces of it").advised(),
            Rule::above("encrypt", "what encrypt has sealed, compress cannot make shorter").advised(),
            Rule::above("gzip", "what gzip has compressed, compress cannot make shorter").advised(),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        self.memory.start(self.config.max_memory, link.env());
        Ok(())
    }

    fn send_now(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Readiness {
        let asked = out.message.options & MARK;
        match self.limit(out) {
            None => self.counters.plain(),
            Some(limit) if out.len() <= STEP || !out.may_wait => self.pack_now(out, limit),
            Some(_) => {
                out.message.options |= asked;
                return Readiness::Wait;
            }
        }
        Readiness::Pass
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        match self.limit(&mut out).and_then(|limit| self.packing(out.len(), limit)) {
            Some(mut packing) => {
                let body = out.message.body.clone();
                let fed = in_steps(&body, |bytes| packing.feed(bytes)).await;
                drop(body);
                self.packed(&mut out, fed, packing);
            }
            None => self.counters.plain(),
        }
        next.send(out).await
    }

    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        if !next.matches() {
            return next.receive(msg).await;
        }
        match self.unpack(&mut msg).await {
            Ok(()) => next.receive(msg).await,
            Err(error) => self.counters.refuse(NAME, msg, &error),
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.counters.gauges(&self.memory)
    }
}
