//! Options of [`MessageDispatch`](super::MessageDispatch).

use tribes_core::OverloadPolicy;
use tribes_core::settings::{optional, parsed};

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
    /// With this policy; `None` for the channel's.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<Option<OverloadPolicy>>) -> Self {
        self.policy = policy.into();
        self
    }
}

tribes_core::settings! { MessageDispatchConfig {
    policy: optional("channel", parsed(OverloadPolicy::EXPECTED)),
        "What happens to a message that finds its member's queue full; channel is the policy of the channel's budget.";
} }
