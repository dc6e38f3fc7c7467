//! Compresses bodies (Tribes: `GzipInterceptor`).
//!
//! Sending, a body longer than [`min_size`](GzipConfig::min_size) is replaced by its gzip form, and the message marked by
//! the option bit `0x100`. Receiving, a marked body is unpacked and the mark taken off. Members understand each other
//! whatever their minimum, level and bounds are; only the mark must be the same.
//!
//! | a message | goes out |
//! |---|---|
//! | with a body of at most `min_size` bytes | as it is |
//! | whose gzip form is not shorter | as it is |
//! | that the application itself marked ([`SendOptions::GZIP`](tribes_core::SendOptions::GZIP)) | compressed, whatever its size |
//! | any other | compressed |
//!
//! With a large minimum, then, just the messages are compressed that the application picks.
//!
//! # Guarantees
//! Order is kept, and each message keeps its outcome. A large body is worked on in steps of 64 KiB, between which other tasks
//! have their turn; the sender waits meanwhile, or with [`Channel::try_send`](tribes_core::Channel::try_send) does all of the
//! work in that call. One body is compressed once for all its destinations.
//!
//! # What a peer can do
//! A body unpacks to at most [`max_size`](GzipConfig::max_size) bytes, and memory is taken only for what it can be by its
//! own length. All unpacked bodies that wait for listeners have [`max_memory`](GzipConfig::max_memory) bytes together: when
//! a sender's quarter is used up, its next message waits here, and its connection with it, until listeners have made
//! room. A body that is damaged, no gzip or too large is refused, and the sender hears of it if it asked for a synchronized
//! acknowledgement.
//!
//! # Differences to Tribes, on purpose
//! - The output is bounded (T9), and a broken body is refused instead of being dropped and acknowledged (T12).
//! - The caller's buffer stays as it is (T4): bodies are immutable.
//! - Bodies that gzip makes longer go out as they are; Tribes compresses them all the same.
//! - A small message that the application marked is compressed; Tribes sends it plain, and its receiver drops it.
//! - The mark is taken off on receipt, and a mark of several bits is recognised by all of them, not by any.
//! - Bytes behind the last gzip member are refused, which Tribes overlooks: no sender writes them, and they are what is seen when
//!   two members have their layers in different orders. Up to 256 members one behind the other are accepted; there, any number.
//!
//! # Place in the stack
//! Above `fragmentation` and `encrypt`: pieces compress badly, and what is encrypted not at all. Both are
//! [advice](tribes_core::Rule::advised).
//!
//! # Cancel safety
//! A send that is dropped while its body is compressed sends nothing.

mod config;
mod core;
#[cfg(test)]
mod tests;

use flate2::{Compress, Decompress};
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, BoxError, ChannelInterceptor, Cx, Gauge, Inbound, Interest, Lease, Link, Next, Outbound, Readiness,
    ReceiveError, Rule, SendError, SendOptions, WireEffect, async_trait,
};

pub use self::config::GzipConfig;
pub use self::core::UnpackError;
use self::core::{NotShorter, Packing, STEP, Step, Unpacking, claimed_size, compressor, decompressor};
use crate::packing::{Counters, Memory, Spare, in_steps};

const NAME: &str = "gzip";

/// Compresses bodies. See the [module](self). One instance serves one channel.
#[derive(Debug)]
pub struct Gzip {
    config: GzipConfig,
    compressors: Spare<Compress>,
    decompressors: Spare<Decompress>,
    memory: Memory,
    counters: Counters,
}

impl Gzip {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: GzipConfig) -> Self {
        Self {
            config,
            compressors: Spare::default(),
            decompressors: Spare::default(),
            memory: Memory::default(),
            counters: Counters::default(),
        }
    }

    /// How long the compressed form of this message may be; `None` if it goes out as it is.
    fn limit(&self, out: &Outbound) -> Option<usize> {
        if out.message.options.contains(self.config.trigger) {
            return Some(usize::MAX);
        }
        // Not longer than what it replaces.
        (out.len() > self.config.min_size).then(|| out.len().saturating_sub(1))
    }

    fn pack_now(&self, out: &mut Outbound, limit: usize) {
        let mut packing = self.packing(out.len(), limit);
        let packed = out.message.body.segments().try_for_each(|segment| packing.feed(segment));
        self.packed(out, packed, packing);
    }

    fn packing(&self, len: usize, limit: usize) -> Packing {
        Packing::new(self.compressors.take().unwrap_or_else(|| compressor(self.config.level)), len, limit)
    }

    /// Ends the work on a body: the message carries what came out, if it is of use.
    fn packed(&self, out: &mut Outbound, fed: Result<(), NotShorter>, mut packing: Packing) {
        if let Ok(packed) = fed.and_then(|()| packing.finish()) {
            self.counters.packed(out.len(), packed.len());
            out.message.body = Body::new(packed);
            out.message.options |= self.config.trigger;
        } else {
            self.counters.plain();
        }
        self.compressors.keep(packing.into_compressor());
    }

    /// Unpacks the body, in memory that the message holds until it has been handled.
    async fn unpack(&self, msg: &mut Inbound) -> Result<(), UnpackError> {
        let packed = msg.message.body.to_bytes();
        let limit = self.config.max_size;
        let claimed = claimed_size(&packed)?;
        if claimed > limit {
            return Err(UnpackError::TooLarge { limit });
        }
        let mut held = self.memory.room(msg, claimed).await.ok_or(UnpackError::Stopped)?;
        let body = match self.inflate(&packed, claimed).await {
            Err(UnpackError::TooLarge { .. }) if claimed < limit => {
                // It has several members: only now is known how large it may be.
                drop(held);
                held = self.memory.room(msg, limit).await.ok_or(UnpackError::Stopped)?;
                let mut body = self.inflate(&packed, limit).await?;
                body.shrink_to_fit();
                held.give_back(limit.saturating_sub(body.len()));
                body
            }
            body => body?,
        };
        self.counters.unpacked(packed.len(), body.len());
        msg.message.body = Body::new(body);
        msg.message.options.remove(self.config.trigger);
        msg.lease.join(Lease::new(held));
        Ok(())
    }

    async fn inflate(&self, packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
        let mut unpacking = Unpacking::new(self.decompressors.take().unwrap_or_else(decompressor), packed, limit);
        while unpacking.step()? == Step::More {
            tokio::task::yield_now().await;
        }
        let (body, decompressor) = unpacking.into_parts();
        self.decompressors.keep(decompressor);
        Ok(body)
    }
}

impl Default for Gzip {
    fn default() -> Self {
        Self::new(GzipConfig::default())
    }
}

impl Configure for Gzip {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "compresses bodies";
    type Config = GzipConfig;
    fn configure(config: GzipConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Gzip);

#[async_trait]
impl ChannelInterceptor for Gzip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::SEES_ALL
    }

    fn trigger(&self) -> SendOptions {
        self.config.trigger
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Tribes
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above("fragmentation", "gzip compresses a whole message better than pieces of it").advised(),
            Rule::above("encrypt", "what encrypt has sealed cannot be compressed").advised(),
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
        match self.limit(out) {
            None => self.counters.plain(),
            Some(limit) if out.len() <= STEP || !out.may_wait => self.pack_now(out, limit),
            Some(_) => return Readiness::Wait,
        }
        Readiness::Pass
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        if let Some(limit) = self.limit(&out) {
            let mut packing = self.packing(out.len(), limit);
            let body = out.message.body.clone();
            let fed = in_steps(&body, |bytes| packing.feed(bytes)).await;
            drop(body);
            self.packed(&mut out, fed, packing);
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
