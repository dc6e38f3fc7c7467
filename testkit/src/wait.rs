//! Waiting for what was recorded, with a deadline.

use std::time::Duration;

use tokio::sync::watch;

/// How long a helper waits before it gives the test up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tells waiters that something was recorded.
#[derive(Debug, Default)]
pub(crate) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(crate) fn tell(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until `look` finds something; panics with `missing` when that takes too long.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>, missing: impl FnOnce() -> String) -> T {
        let mut changes = self.0.subscribe();
        let found = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                // The sending half lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_elapsed) => panic!("waited {PATIENCE:?} for {}", missing()),
        }
    }
}
