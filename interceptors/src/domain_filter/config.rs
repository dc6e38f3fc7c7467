//! Options of [`DomainFilter`](super::DomainFilter).

use tribes_core::settings::{Kind, Shape, number, optional};

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
}

impl Default for DomainFilterConfig {
    fn default() -> Self {
        Self { domain: None, log_interval: Self::LOG_INTERVAL }
    }
}

/// A domain as text: in ASCII, as other characters are other bytes in Java than here. In code it may be any bytes.
struct Domain;

impl Kind for Domain {
    type Value = Vec<u8>;
    fn parse(&self, text: &str) -> Option<Vec<u8>> {
        text.is_ascii().then(|| text.as_bytes().to_vec())
    }
    fn show(&self, value: &Vec<u8>) -> String {
        String::from_utf8_lossy(value).into_owned()
    }
    fn allows(&self, _: &Vec<u8>) -> bool {
        true
    }
    fn shape(&self) -> Shape {
        Shape::Text { expected: "a text in ASCII" }
    }
}

tribes_core::settings! { DomainFilterConfig {
    domain: optional("(own)", Domain),
        "The domain that members and senders must have; (own) is the one that this channel announces.";
    log_interval: number(1..=u64::MAX), "After the first refused message, one in so many is logged as a warning.";
} }
