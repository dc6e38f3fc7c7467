//! Options of [`Trace`](super::Trace).

use tribes_core::settings::{flag, number};

use super::TraceContext;

/// Options of [`Trace`](super::Trace).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TraceConfig {
    /// Asked for the context that a message continues, when the sending task has none of its own: such as that of the
    /// current `tracing` span, which only whoever has set up the subscriber can tell. Must not block. Default `None`.
    pub source: Option<fn() -> Option<TraceContext>>,
    /// Whether a message that nothing traces begins a trace. Without it such messages carry nothing. Default on.
    pub begin: bool,
    /// How many of the messages last received keep their context for [`Trace::context_of`](super::Trace::context_of), 0 to
    /// 1,048,576. Default [`TraceConfig::REMEMBER`].
    pub remember: usize,
}

impl TraceConfig {
    /// The default of [`remember`](Self::remember), 1,024.
    pub const REMEMBER: usize = 1024;

    /// With this source of contexts. With OpenTelemetry, for instance, a function that reads trace id and span id of
    /// `tracing::Span::current().context()`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Option<fn() -> Option<TraceContext>>>) -> Self {
        self.source = source.into();
        self
    }

    /// With or without traces of its own.
    #[must_use]
    pub const fn with_begin(mut self, begin: bool) -> Self {
        self.begin = begin;
        self
    }

    /// With this many contexts remembered.
    #[must_use]
    pub const fn with_remember(mut self, messages: usize) -> Self {
        self.remember = messages;
        self
    }
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { source: None, begin: true, remember: Self::REMEMBER }
    }
}

tribes_core::settings! { TraceConfig {
    begin: flag(), "Whether a message that nothing traces begins a trace.";
    remember: number(0..=1 << 20), "How many of the messages last received keep their context for the application.";
} }
