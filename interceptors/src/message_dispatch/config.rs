//! Options of [`MessageDispatch`](super::MessageDispatch).

use tribes_core::OverloadPolicy;

use super::NAME;
use crate::ConfigError;
use crate::config::duration;

/// Options of [`MessageDispatch`](super::MessageDispatch). How much may be queued is the channel's
/// [`BudgetConfig`](tribes_core::BudgetConfig): one bound serves all queues of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MessageDispatchConfig {
    /// What happens to a message that finds its member's queue full. Default `None`: as the channel's budget says, which is
    /// by default to wait 200 ms once per stalled member. [`OverloadPolicy::DropOldest`] displaces asynchronous messages
    /// only; when there is none left to displace, it acts as `Fail`.
    pub policy: Option<OverloadPolicy>,
}

impl MessageDispatchConfig {
    const KEYS: &'static [&'static str] = &["policy"];

    /// With this policy; `None` for the channel's.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<Option<OverloadPolicy>>) -> Self {
        self.policy = policy.into();
        self
    }

    /// Sets the option `key` from text: `policy` = `wait:200ms` (any duration), `fail`, `drop-oldest`, or `channel` for the
    /// channel's own.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if key != "policy" {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        }
        self.policy = match value.trim() {
            "channel" => None,
            "fail" => Some(OverloadPolicy::Fail),
            "drop-oldest" => Some(OverloadPolicy::DropOldest),
            text => {
                let wait = text.strip_prefix("wait:").and_then(duration).ok_or_else(|| ConfigError::InvalidValue {
                    interceptor: NAME,
                    key: "policy",
                    value: value.to_owned(),
                    expected: "wait:DURATION (such as wait:200ms), fail, drop-oldest or channel",
                })?;
                Some(OverloadPolicy::Wait(wait))
            }
        };
        Ok(())
    }
}
