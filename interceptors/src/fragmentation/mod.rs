//! Cuts long messages into pieces and puts them together again (Tribes: `FragmentationInterceptor`).
//!
//! Sending, a body longer than [`max_size`](FragmentationConfig::max_size) goes out as several messages, one after
//! another; every other message gets one byte at its end. Receiving, the pieces of a message are kept until all have come, in
//! whatever order, and the message goes on up when the last one comes. Every member of the group must have this layer, in
//! the same place; the sizes of pieces may differ.
//!
//! # Guarantees
//! - Pieces are told apart by sender *and* message id: those of two senders never mix.
//! - A message arrives once and whole, or not at all. Pieces that come twice do no harm.
//! - What one task sends to one member arrives in that order, large messages and small ones.
//! - The sender's message has one outcome, not one for each piece (T43). A piece is acknowledged as it comes; the piece that
//!   completes the message carries the message's answer.
//!
//! No piece is sent again by this layer: a message of which one piece is lost is lost.
//!
//! # What a peer can do
//! Each piece is counted with its cost before it is kept, the numbers that it states cost nothing, and all pieces of
//! incomplete messages together stay within [`max_memory`](FragmentationConfig::max_memory) bytes, of which a sender with
//! several incomplete messages has a quarter. Where there is no room, the message is given up and its sender hears of it, if
//! it asked for a synchronized acknowledgement. A message that lacks pieces is given up after
//! [`expire`](FragmentationConfig::expire), by a timer of its own. Messages that are complete take room from a second allowance
//! of that size until they have been handled: when a sender's quarter is used up, its next complete message waits here, and
//! its connection with it.
//!
//! # Differences to Tribes, on purpose
//! - Memory and numbers are bounded (T9); the key has the sender in it; time is that of a monotonic clock (T39).
//! - A piece that comes again after its message was complete does not begin a new one. Java sends the last piece again when it was
//!   refused, and takes the acknowledgement of that for success; here it is refused again. The first piece begins a message anew.
//! - A piece that states another count of pieces than those before it is refused; Tribes overlooks that.
//! - The caller's buffer stays as it is (T4): bodies are immutable, and cut without a copy.
//!
//! # Towards Java
//! A Java member may lose a message that comes in pieces, from whomever: its receiver takes a frame's buffer back after the
//! acknowledgement has gone, while this message is still put together in the frame of its first piece. A synchronized
//! acknowledgement is then negative, which Java's sender takes for a reason to send the piece again, and believes in success.
//! Set `useBufferPool="false"` on Java's `NioReceiver`. Java also handles the next frame of a connection beside the one before,
//! without a lock: unless pieces are sent with a synchronized acknowledgement, the last two may both find the message
//! complete, and it is delivered twice.
//!
//! # Place in the stack
//! Below `order` and `gzip`, above `encrypt`, all of it [advice](tribes_core::Rule::advised): in Tribes, where `order` spoils
//! messages to several members when it stands above (T4), groups have it below. With another layer's messages above it that share one id, only the first of
//! these would arrive, if they are long enough to be cut.
//!
//! # Cancel safety
//! A send that is dropped may have sent some pieces; the receiver gives them up in time.

mod config;
mod core;
mod piece;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_core;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, Budget, BudgetConfig, ChannelInterceptor, Cx, FaultKind, Gauge, Handled, Inbound, Interest, Lease, Link,
    Member, Next, Outbound, OverloadPolicy, Readiness, Receipt, ReceiveError, Rule, SendError, SendOptions, Time,
    WireEffect, async_trait,
};

pub use self::config::FragmentationConfig;
pub use self::core::RefusedPiece;
use self::core::{Core, Taken};
pub use self::piece::MalformedPiece;
use self::piece::{Place, WHOLE, count, cut, take_off};

const NAME: &str = "fragmentation";

/// Room is waited for until there is some: that makes the sender wait, as it should.
const PATIENTLY: OverloadPolicy = OverloadPolicy::Wait(Duration::MAX);

/// Of a refusal, so much is remembered for a piece that comes again.
const REMEMBERED_CHARS: usize = 200;

/// Cuts long messages into pieces. See the [module](self). One instance serves one channel.
#[derive(Debug)]
pub struct Fragmentation {
    config: FragmentationConfig,
    shelf: Arc<Shelf>,
    /// Memory for complete messages, by their senders.
    memory: OnceLock<Budget>,
    cut_messages: AtomicU64,
    cut_pieces: AtomicU64,
    malformed: AtomicU64,
}

/// The pieces, shared with the timer and with what waits for an answer.
#[derive(Debug)]
struct Shelf {
    core: Mutex<Core>,
    /// Tells the timer that there is something to wait for.
    wake: Notify,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cost of a complete message, until others keep it.
#[derive(Debug)]
struct Held {
    shelf: Arc<Shelf>,
    from: Arc<Member>,
    cost: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shelf.lock().release(&self.from, self.cost);
    }
}

impl Fragmentation {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: FragmentationConfig) -> Self {
        Self {
            shelf: Arc::new(Shelf { core: Mutex::new(Core::new(config.bounds())), wake: Notify::new() }),
            config,
            memory: OnceLock::new(),
            cut_messages: AtomicU64::new(0),
            cut_pieces: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
        }
    }

    /// Keeps the piece that `msg` is, or makes it the whole message and hands that on.
    async fn receive_piece(&self, mut msg: Inbound, place: Place, next: Next<'_>) -> Result<(), ReceiveError> {
        msg.detach();
        let piece = std::mem::take(&mut msg.message.body).into_bytes();
        let now = next.link().map_or(Time::ZERO, |link| link.env().now());
        let taken = {
            let mut core = self.shelf.lock();
            let idle = core.next_tick() == Time::NEVER;
            let taken = core.take(msg.from(), &msg.message.id, place, piece, now);
            let wake = idle && core.next_tick() != Time::NEVER;
            drop(core);
            if wake {
                self.shelf.wake.notify_one();
            }
            taken
        };
        let (body, cost) = match taken {
            Ok(Taken::Complete { body, cost }) => (body, cost),
            // Its room goes back with it: the connection must go on, for the others to come.
            Ok(Taken::Kept | Taken::Again) => {
                msg.receipt.accept();
                return Ok(());
            }
            Err(error) => return refuse(msg, &error),
        };
        let held = Held { shelf: Arc::clone(&self.shelf), from: Arc::clone(msg.from()), cost };
        let memory = self.memory.get().ok_or(ReceiveError::Stopped)?;
        let room = memory.admit_with(msg.from(), body.len(), PATIENTLY).await.ok_or(ReceiveError::Stopped)?;
        drop(held);
        msg.message.body = body;
        msg.lease.join(Lease::new(room));
        self.watch(&mut msg);
        next.receive(msg).await
    }

    /// Has the answer remembered, if it is a refusal.
    fn watch(&self, msg: &mut Inbound) {
        if !msg.receipt.is_awaited() {
            return;
        }
        let receipt = std::mem::take(&mut msg.receipt);
        let (shelf, from, id) = (Arc::clone(&self.shelf), Arc::clone(msg.from()), msg.message.id.clone());
        msg.receipt = Receipt::new(move |handled| {
            if let Handled::Failed(why) = &handled {
                shelf.lock().refused(&from, &id, why.chars().take(REMEMBERED_CHARS).collect());
            }
            receipt.resolve(handled);
        });
    }
}

fn refuse(msg: Inbound, why: &(dyn std::error::Error + Sync)) -> Result<(), ReceiveError> {
    tracing::debug!(from = %msg.from(), id = %msg.message.id, %why, "a message was refused");
    let error = ReceiveError::Refused { layer: NAME, reason: why.to_string() };
    msg.receipt.resolve(Handled::Failed(error.to_string()));
    Err(error)
}

impl Default for Fragmentation {
    fn default() -> Self {
        Self::new(FragmentationConfig::default())
    }
}

impl Configure for Fragmentation {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "cuts long messages into pieces and puts them together again";
    type Config = FragmentationConfig;
    fn configure(config: FragmentationConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Fragmentation);

#[async_trait]
impl ChannelInterceptor for Fragmentation {
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
        const RULES: &[Rule] = &[Rule::below(
            "order",
            "order would number pieces: its bounds count them, and a piece that it gives up costs the message",
        )
        .advised()];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let env = link.env().clone();
        self.memory.get_or_init(|| {
            let bounds = BudgetConfig::with_total(self.config.max_memory).with_policy(PATIENTLY);
            Budget::new(bounds, env.clone())
        });
        let shelf = Arc::clone(&self.shelf);
        link.spawn(async move {
            loop {
                let next = shelf.lock().next_tick();
                tokio::select! {
                    biased;
                    () = shelf.wake.notified() => {}
                    () = env.sleep_until(next) => shelf.lock().tick(env.now()),
                }
            }
        });
        Ok(())
    }

    async fn stop(&self, _: Time) {
        self.shelf.lock().clear();
    }

    fn send_now(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Readiness {
        if cx.matches() && out.len() > self.config.max_size {
            return Readiness::Wait;
        }
        out.message.body.push_trailer(WHOLE);
        Readiness::Pass
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        let (len, size) = (out.len(), self.config.max_size);
        if !next.matches() || len <= size {
            out.message.body.push_trailer(WHOLE);
            return next.send(out).await;
        }
        let allowed = |pieces: &u32| self.config.bounds().cost(len, *pieces).is_some();
        let Some(pieces) = count(len, size).filter(allowed) else {
            let FragmentationConfig { max_message, max_memory, .. } = self.config;
            let source = match len > max_message {
                true => RefusedPiece::TooLong { limit: max_message },
                false => RefusedPiece::TooManyPieces { pieces: len.div_ceil(size), limit: max_memory },
            };
            return Err(SendError::Layer { layer: NAME, source: source.into() });
        };
        self.cut_messages.fetch_add(1, Ordering::Relaxed);
        self.cut_pieces.fetch_add(u64::from(pieces), Ordering::Relaxed);
        let bodies = cut(&out.message.body, size, pieces);
        let mut result = Ok(());
        for part in out.split(bodies) {
            if result.is_ok() {
                result = next.send(part).await;
            } else {
                part.fail(&FaultKind::Dropped { by: NAME, reason: "an earlier piece of the message was refused" });
            }
        }
        result
    }

    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        match take_off(&mut msg.message.body) {
            Ok(None) => next.receive(msg).await,
            Ok(Some(place)) => self.receive_piece(msg, place, next).await,
            Err(malformed) => {
                self.malformed.fetch_add(1, Ordering::Relaxed);
                refuse(msg, &malformed)
            }
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let core = self.shelf.lock();
        let (counts, (held, incomplete)) = (core.counts(), core.census());
        drop(core);
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        vec![
            Gauge::new("cut_messages", self.cut_messages.load(Ordering::Relaxed)),
            Gauge::new("cut_pieces", self.cut_pieces.load(Ordering::Relaxed)),
            Gauge::new("completed_messages", counts.completed),
            Gauge::new("expired_messages", counts.expired),
            Gauge::new("refused_pieces", counts.refused_pieces),
            Gauge::new("repeated_pieces", counts.repeated_pieces),
            Gauge::new("malformed_messages", self.malformed.load(Ordering::Relaxed)),
            Gauge::new("incomplete_messages", number(incomplete)),
            Gauge::new("incomplete_bytes", number(held)),
            Gauge::new("unhandled_bytes", number(self.memory.get().map_or(0, Budget::used))),
        ]
    }
}
