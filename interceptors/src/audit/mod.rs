//! Writes down who sent what to whom: an append-only file of JSON lines.
//!
//! ```text
//! {"n":0,"at_ms":1763809200123,"event":"started","from":{"addr":"10.0.0.1:4000","id":"5c…"}}
//! {"n":1,"at_ms":1763809200456,"event":"sent","id":"9f…","from":{…},"to":[{…},{…}],"options":"use_ack, byte","bytes":512}
//! {"n":2,"at_ms":1763809200460,"event":"failed","id":"9f…","to":[{…}],"why":"no acknowledgement within 3s"}
//! {"n":3,"at_ms":1763809200789,"event":"received","id":"04…","from":{…},"to":[{…}],"options":"byte","bytes":12}
//! {"n":9,"at_ms":1763809200999,"event":"lost","count":5}
//! ```
//!
//! `n` counts records since the start of the channel; `at_ms` is the wall clock's Unix time in milliseconds: when a message
//! was made, came in or failed. `from` of a received message is what its sender claims. With
//! [`body`](AuditConfig::body) set, `head` holds the first bytes of the body in hexadecimal digits.
//!
//! # Guarantees
//! - The pipeline never waits for the disk: records go through a bounded queue to a thread of the layer's own. For a record
//!   that finds the queue full there is a gap in `n`, a `lost` line before the next record, and the gauge `lost`.
//! - A record says that a message passed *here*; a layer below may still refuse it. What fails for a member has a `failed`
//!   line. A message that the application's channel never handed to this layer has none.
//! - Lines are whole, and never change. A torn last line, as a crash leaves it, is ended before the next one is written. The
//!   file is handed to the operating system whenever the queue runs empty, and is not synced to the disk.
//! - Files stay below [`max_size`](AuditConfig::max_size), but for a line that alone is larger; the oldest beyond
//!   [`files`](AuditConfig::files) is overwritten. They are readable for their owner only (Unix).
//! - What the disk refuses is counted (`unwritten`) and logged; later records are tried anew.
//! - The start fails if the file cannot be opened. The stop waits for the writer, for at most a second.
//!
//! # Place
//! At the top it records the application's messages, in the clear; below `encrypt` what goes over the network. Only failures
//! of messages of the application have a `failed` line.
//!
//! Tribes has nothing like it.

mod config;
mod core;
mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tribes_core::message::ChannelMessage;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{BoxError, Cx, Gauge, Inbound, Interest, Link, Outbound, Outcome, SyncInterceptor, Verdict};

pub use self::config::AuditConfig;
use self::core::{Event, Message};
use self::file::Log;
use self::writer::{Counters, Tap, Writer};

const NAME: &str = "audit";

/// How long a stop waits for the writer.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Writes down who sent what to whom. See the [module](self) for what it guarantees. One instance serves one channel, and one
/// file one instance.
#[derive(Debug, Default)]
pub struct Audit {
    config: AuditConfig,
    counters: Arc<Counters>,
    /// `None` while the channel does not run. Written at start and stop only.
    tap: RwLock<Option<Tap>>,
    writer: Mutex<Option<Writer>>,
    link: OnceLock<Link>,
}

impl Audit {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: AuditConfig) -> Self {
        Self { config, ..Self::default() }
    }

    fn record(&self, at_ms: i64, event: impl FnOnce() -> Event) {
        if let Some(tap) = &*self.tap.read().unwrap_or_else(PoisonError::into_inner) {
            tap.record(at_ms, event());
        }
    }

    fn message(&self, message: &ChannelMessage) -> Message {
        let mut head = Vec::new();
        for segment in message.body.segments() {
            let wanted = self.config.body - head.len();
            head.extend(segment.iter().take(wanted));
        }
        Message {
            id: message.id.clone(),
            from: Arc::clone(&message.sender),
            options: message.options,
            bytes: message.body.len(),
            head,
        }
    }
}

impl Configure for Audit {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "writes down who sent what to whom";
    type Config = AuditConfig;
    fn configure(config: AuditConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Audit);

impl SyncInterceptor for Audit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::FAULTS
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    fn start(&self, link: Link) -> Result<(), BoxError> {
        let AuditConfig { path, max_size, files, queue, .. } = &self.config;
        let log = Log::open(path, *max_size, *files)
            .map_err(|error| format!("the audit file {} cannot be opened: {error}", path.display()))?;
        self.counters.taken.store(0, Ordering::Relaxed);
        let (tap, records) = Tap::new(*queue, Arc::clone(&self.counters));
        if let Some(local) = link.local() {
            tap.record(link.env().wall_ms(), Event::Started(local));
        }
        let writer = Writer::spawn(records, log, Arc::clone(&self.counters))?;
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        *self.tap.write().unwrap_or_else(PoisonError::into_inner) = Some(tap);
        let _ = self.link.set(link);
        Ok(())
    }

    fn stop(&self) {
        let tap = self.tap.write().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(tap), Some(link)) = (tap, self.link.get()) {
            tap.record(link.env().wall_ms(), Event::Stopped);
        }
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && !writer.join(STOP_LIMIT)
        {
            tracing::warn!("the disk is slow: the audit file is written on after the stop");
        }
    }

    fn send(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        self.record(out.message.timestamp_ms, || Event::Sent {
            to: out.members().cloned().collect(),
            message: self.message(&out.message),
        });
        Verdict::Pass
    }

    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        self.record(cx.link().env().wall_ms(), || Event::Received {
            to: cx.link().local(),
            message: self.message(&msg.message),
        });
        Verdict::Pass
    }

    fn outcome(&self, outcome: &Outcome) {
        let Some(link) = self.link.get().filter(|_| !outcome.faults.is_empty()) else { return };
        let at_ms = link.env().wall_ms();
        for fault in &outcome.faults {
            self.record(at_ms, || Event::Failed {
                id: outcome.id.clone(),
                to: Arc::clone(&fault.member),
                why: fault.kind.clone(),
            });
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Gauge::new("written", read(&self.counters.written)),
            Gauge::new("lost", read(&self.counters.lost)),
            Gauge::new("unwritten", read(&self.counters.unwritten)),
            Gauge::new("rotations", read(&self.counters.rotations)),
        ]
    }
}
