//! Carries a W3C trace id along with messages, and opens a `tracing` span for each hop.
//!
//! A message that is sent continues the context of the sending task ([`TraceContext::scope`]), or else the one that the
//! [source](TraceConfig::source) gives, such as that of the current span of a subscriber; without any it begins a trace. It
//! carries a span id of its own, in an entry of the extension trailer
//! ([`ExtensionKind::TRACE`]): 38 bytes for a message that has no other entry. Where it is received, the layers above and a
//! listener that runs inline are within the context of that message, so what they send continues the trace. A
//! listener that runs as a task of its own asks for the context by [`Trace::context_of`].
//!
//! The spans are `send` and `receive` with the target `tribes::trace`, at level info, with the fields `trace_id`, `span_id`,
//! `parent_id`, `id` (the message's), `bytes`, and `to` (how many members) or `from`. The first lasts until the layers below
//! have accepted the message, the second until those above have; what those log is within.
//!
//! # Guarantees
//! - Only our own nodes get the entry: Java members get the message as it was (the pipeline counts those as `passed_by`), and
//!   so does everybody who hears a multicast.
//! - The message never suffers: an entry that is malformed is left out and counted, one that does not fit into the trailer is
//!   not added and counted. One of our nodes without this layer skips it.
//! - Memory is bounded by [`remember`](TraceConfig::remember).
//! - Order, outcomes and receipts are those of the other layers.
//!
//! # Place
//! At the top: `message-dispatch` hands messages on from tasks of its own, which know nothing of the sender's context.
//! Below it no channel is built.
//!
//! Tribes has nothing like it.

mod config;
mod context;
mod core;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tracing::Instrument as _;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::wire::ExtensionKind;
use tribes_core::{
    BoxError, ChannelInterceptor, Env, Gauge, Inbound, Interest, Link, MessageId, Next, Outbound, ReceiveError, Rule,
    SendError, WireEffect,
};

pub use self::config::TraceConfig;
use self::context::Hex;
pub use self::context::{ParseTraceContextError, TraceContext};
use self::core::Recent;

const NAME: &str = "trace";
const TARGET: &str = "tribes::trace";

/// Carries a W3C trace id along and opens a span for each hop. See the [module](self) for what it guarantees. Keep an `Arc`
/// of it to ask for [contexts](Self::context_of). One instance serves one channel.
///
/// ```
/// # use std::sync::Arc;
/// # use tribes_core::{BoxError, Channel, Member, Message, SendOptions};
/// # use tribes_interceptors::Trace;
/// async fn answer(trace: &Trace, channel: &Channel, question: Message, from: Arc<Member>) -> Result<(), BoxError> {
///     let answer = async { channel.send(&from, "yes", SendOptions::ACK).await };
///     match trace.context_of(question.id()) {
///         Some(context) => context.scope(answer).await?,
///         None => answer.await?,
///     };
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Trace {
    config: TraceConfig,
    recent: Mutex<Recent>,
    continued: AtomicU64,
    begun: AtomicU64,
    received: AtomicU64,
    malformed: AtomicU64,
    too_large: AtomicU64,
}

impl Trace {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: TraceConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The context of a message that was received lately; `None` if it carried none, or is too long ago.
    #[must_use]
    pub fn context_of(&self, id: &MessageId) -> Option<TraceContext> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    /// The context that a message sent now continues, and its own.
    fn outgoing(&self, env: &Env) -> Option<(Option<TraceContext>, TraceContext)> {
        match TraceContext::current().or_else(|| self.config.source.and_then(|source| source())) {
            Some(parent) => {
                count(&self.continued);
                Some((Some(parent), parent.child(env)))
            }
            None if self.config.begin => {
                count(&self.begun);
                Some((None, TraceContext::fresh(env)))
            }
            None => None,
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Configure for Trace {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "carries a W3C trace id along, a span for each hop";
    type Config = TraceConfig;
    fn configure(config: TraceConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Trace);

#[async_trait]
impl ChannelInterceptor for Trace {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Ours
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[Rule::above(
            "message-dispatch",
            "message-dispatch hands queued messages on from tasks of its own, where trace does not find the \
                context of their sender",
        )];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, _: Link) -> Result<(), BoxError> {
        Ok(())
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        // A multicast has no destinations, and Java members hear it. Under an id that does not mark us as one of ours, others
        // take us for a Java member and would not look for a trailer.
        let link = next.link().filter(|_| !out.to.is_empty() && out.message.sender.id().is_ours());
        let Some((parent, context)) = link.and_then(|link| self.outgoing(link.env())) else {
            return next.send(out).await;
        };
        let span = tracing::info_span!(
            target: TARGET,
            "send",
            trace_id = %Hex(context.trace_id()),
            span_id = %Hex(context.span_id()),
            parent_id = parent.as_ref().map(|parent| tracing::field::display(Hex(parent.span_id()))),
            id = %out.message.id,
            bytes = out.len(),
            to = out.to.len(),
        );
        if out.message.add_extension(ExtensionKind::TRACE, context.encode().to_vec()).is_err() {
            count(&self.too_large);
        }
        next.send(out).instrument(span).await
    }

    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        let Some(entry) = msg.message.take_extension(ExtensionKind::TRACE) else {
            return next.receive(msg).await;
        };
        let (Some(parent), Some(link)) = (TraceContext::decode(&entry), next.link()) else {
            count(&self.malformed);
            return next.receive(msg).await;
        };
        count(&self.received);
        let context = parent.child(link.env());
        let span = tracing::info_span!(
            target: TARGET,
            "receive",
            trace_id = %Hex(context.trace_id()),
            span_id = %Hex(context.span_id()),
            parent_id = %Hex(parent.span_id()),
            id = %msg.message.id,
            bytes = msg.message.body.len(),
            from = %msg.from(),
        );
        let remember = |recent: &mut Recent| recent.remember(&msg.message.id, context, self.config.remember);
        remember(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner));
        context.scope(next.receive(msg).instrument(span)).await
    }

    fn gauges(&self) -> Vec<Gauge> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Gauge::new("continued", read(&self.continued)),
            Gauge::new("begun", read(&self.begun)),
            Gauge::new("received", read(&self.received)),
            Gauge::new("malformed", read(&self.malformed)),
            Gauge::new("too_large", read(&self.too_large)),
        ]
    }
}
