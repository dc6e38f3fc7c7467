//! A lease outside of the group that decides which side may write.

use std::time::Duration;

use tribes_core::{BoxError, MemberId, async_trait};

use crate::agreed_views::ViewId;

/// What a leader asks an external lease for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseRequest {
    /// The leader.
    pub holder: MemberId,
    /// Tells its process from earlier ones with the same id: a lease of an earlier one is not to be taken for its own.
    pub incarnation: u64,
    /// The view that it leads.
    pub view: ViewId,
    /// The group's own token.
    pub token: u64,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseGrant {
    /// For how long, counted from when it was asked for. It is renewed when a third of that is over.
    pub valid_for: Duration,
    /// The store's own fencing token, which then takes the place of the group's: it has to grow with each new holder.
    pub token: Option<u64>,
}

impl LeaseGrant {
    /// For so long.
    #[must_use]
    pub const fn new(valid_for: Duration) -> Self {
        Self { valid_for, token: None }
    }

    /// With the store's own token.
    #[must_use]
    pub const fn with_token(mut self, token: u64) -> Self {
        self.token = Some(token);
        self
    }
}

/// A lease outside of the group, in a database, in etcd, in Kubernetes: the side whose leader holds it may write. Given to
/// [`AgreedViews::with_lease`](crate::agreed_views::AgreedViews::with_lease).
///
/// At most one side writes at a time if the store grants the lease to one holder at a time, and if no clock gains more than a
/// fourth while a lease runs. The token grows from one holder to the next only if it is the store's own.
///
/// Calls are made one at a time, by the leader alone, and dropped when the channel stops or they take longer than
/// [`timeout`](crate::agreed_views::AgreedViewsConfig::timeout): then nobody knows whether it was granted, and it is asked for again.
#[async_trait]
pub trait Lease: std::fmt::Debug + Send + Sync + 'static {
    /// Acquires the lease, or renews it if this holder has it. `None`: somebody else has it.
    ///
    /// # Errors
    /// The store cannot be asked. Asked again after a [`heartbeat`](crate::agreed_views::AgreedViewsConfig::heartbeat), as after a
    /// refusal.
    async fn acquire(&self, request: &LeaseRequest) -> Result<Option<LeaseGrant>, BoxError>;

    /// Gives the lease up, when this holder does not lead any more, and nobody can be writing on it. Best effort: it runs out by itself.
    async fn release(&self, request: &LeaseRequest);
}
