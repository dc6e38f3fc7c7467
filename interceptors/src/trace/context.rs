//! The context of a trace, as W3C's Trace Context defines it.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use tribes_core::Env;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Where one is in a trace: its id, the span that is the parent of what comes next, and flags. The text form is the header
/// `traceparent` of [W3C's Trace Context](https://www.w3.org/TR/trace-context/).
///
/// A task has one while it runs within [`scope`](Self::scope); [`Trace`](super::Trace) puts what it receives into such a scope,
/// and continues it in what is sent there.
///
/// ```
/// use tribes_interceptors::TraceContext;
///
/// let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(context.is_sampled());
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let inside = context.scope(async { TraceContext::current() }).await;
/// assert_eq!(inside, Some(context));
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

const SAMPLED: u8 = 1;

/// Size of the binary form: version, trace id, span id, flags.
pub(super) const ENCODED: usize = 26;

impl TraceContext {
    /// A context of these ids; `None` if either is all zero, which W3C does not allow.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, flags: if sampled { SAMPLED } else { 0 } })
    }

    /// A new trace, sampled.
    #[must_use]
    pub(super) fn fresh(env: &Env) -> Self {
        let mut trace_id = [0; 16];
        for half in trace_id.chunks_exact_mut(8) {
            half.copy_from_slice(&nonzero(env).to_be_bytes());
        }
        Self { trace_id, span_id: nonzero(env).to_be_bytes(), flags: SAMPLED }
    }

    /// A new span of the same trace.
    #[must_use]
    pub(super) fn child(self, env: &Env) -> Self {
        Self { span_id: nonzero(env).to_be_bytes(), ..self }
    }

    /// The id of the whole trace.
    #[must_use]
    pub const fn trace_id(&self) -> &[u8; 16] {
        &self.trace_id
    }

    /// The id of the present span.
    #[must_use]
    pub const fn span_id(&self) -> &[u8; 8] {
        &self.span_id
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// That of the running task, if it runs within [`scope`](Self::scope).
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }

    /// Runs `future` with this context as the [`current`](Self::current) one. Tasks that it spawns do not inherit it. Cancel
    /// safe as far as `future` is.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The binary form that goes into the extension trailer.
    pub(super) fn encode(&self) -> [u8; ENCODED] {
        let mut bytes = [0; ENCODED];
        // Version 0 comes first.
        bytes[1..17].copy_from_slice(&self.trace_id);
        bytes[17..25].copy_from_slice(&self.span_id);
        bytes[25] = self.flags;
        bytes
    }

    /// Reads the binary form. What a later version has behind it is left alone, as W3C wants it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (trace_id, rest) = rest.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let (flags, more) = rest.split_first()?;
        let known = match version {
            0 => more.is_empty(),
            version => *version != u8::MAX,
        };
        Self::new(*trace_id, *span_id, false).filter(|_| known).map(|context| Self { flags: *flags, ..context })
    }
}

fn nonzero(env: &Env) -> u64 {
    env.random().max(1)
}

/// Bytes in lower-case hexadecimal digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for TraceContext {
    /// The header `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", Hex(&self.trace_id), Hex(&self.span_id), self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is VERSION-TRACE_ID-SPAN_ID-FLAGS in lower-case hexadecimal digits: 2, 32 (not all 0), 16 (not all 0), 2"
)]
pub struct ParseTraceContextError;

impl FromStr for TraceContext {
    type Err = ParseTraceContextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.trim()).ok_or(ParseTraceContextError)
    }
}

impl TraceContext {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut bytes = [0; ENCODED];
        let mut rest = bytes.as_mut_slice();
        for len in [1, 16, 8, 1] {
            let part = parts.next().filter(|part| part.len() == 2 * len)?.as_bytes();
            let (field, others) = std::mem::take(&mut rest).split_at_mut_checked(len)?;
            for (byte, pair) in field.iter_mut().zip(part.chunks_exact(2)) {
                *byte = (digit(*pair.first()?)? << 4) | digit(*pair.last()?)?;
            }
            rest = others;
        }
        let is_later = bytes.first().is_some_and(|version| *version > 0);
        Self::decode(&bytes).filter(|_| is_later || parts.next().is_none())
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
