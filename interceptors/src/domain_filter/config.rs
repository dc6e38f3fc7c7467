//! Options of [`DomainFilter`](super::DomainFilter).

use super::NAME;
use crate::ConfigError;

/// Options of [`DomainFilter`](super::DomainFilter).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainFilterConfig {
    /// The domain that members and senders must have, byte for byte; empty is a domain, too, that of everybody who has set
    /// none. Default `None`: the one that this channel announces, also when that changes (Tribes: `domain`, empty).
    pub domain: Option<Vec<u8>>,
    /// The first refused message is logged as a warning, and then one in so many (Tribes: `logInterval`). At least 1. Default
    /// [`LOG_INTERVAL`](Self::LOG_INTERVAL).
    pub log_interval: u64,
}

impl DomainFilterConfig {
    /// The default of [`log_interval`](Self::log_interval), 100 messages.
    pub const LOG_INTERVAL: u64 = 100;

    const KEYS: &'static [&'static str] = &["domain", "log_interval"];

    /// With this domain.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Vec<u8>>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// With one warning in so many refused messages.
    #[must_use]
    pub const fn with_log_interval(mut self, messages: u64) -> Self {
        self.log_interval = messages;
        self
    }

    /// Sets an option from text: its name in snake_case; `domain` in ASCII, as other characters are other bytes in Java than
    /// here; `log_interval` as a number of messages.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "domain" if value.is_ascii() => self.domain = Some(value.as_bytes().to_vec()),
            "domain" => return Err(invalid("domain", value, "a text in ASCII")),
            "log_interval" => {
                let number = value.trim().parse().ok().filter(|number| *number > 0);
                self.log_interval = number.ok_or_else(|| invalid("log_interval", value, AT_LEAST_1))?;
            }
            _ => {
                let (key, known) = (key.to_owned(), Self::KEYS);
                return Err(ConfigError::UnknownKey { interceptor: NAME, key, known });
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.log_interval == 0 { Err(invalid("log_interval", "0", AT_LEAST_1)) } else { Ok(()) }
    }
}

const AT_LEAST_1: &str = "a number of messages, at least 1";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for DomainFilterConfig {
    fn default() -> Self {
        Self { domain: None, log_interval: Self::LOG_INTERVAL }
    }
}
