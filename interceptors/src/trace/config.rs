//! Options of [`Trace`](super::Trace).

use super::{NAME, TraceContext};
use crate::ConfigError;

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

const REMEMBERED: std::ops::RangeInclusive<usize> = 0..=1 << 20;
const REMEMBERED_TEXT: &str = "a number of messages from 0 to 1048576";

impl TraceConfig {
    /// The default of [`remember`](Self::remember), 1,024.
    pub const REMEMBER: usize = 1024;

    const KEYS: &'static [&'static str] = &["begin", "remember"];

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

    /// Sets an option from text: `begin` = `true` or `false`, `remember` = a number. A source has no text form.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "begin" => {
                self.begin = value.trim().parse().map_err(|_not_a_bool| invalid("begin", value, "true or false"))?;
            }
            "remember" => {
                let number = value.trim().parse().ok().filter(|number| REMEMBERED.contains(number));
                self.remember = number.ok_or_else(|| invalid("remember", value, REMEMBERED_TEXT))?;
            }
            _ => return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS }),
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if REMEMBERED.contains(&self.remember) {
            return Ok(());
        }
        Err(invalid("remember", &self.remember.to_string(), REMEMBERED_TEXT))
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { source: None, begin: true, remember: Self::REMEMBER }
    }
}
