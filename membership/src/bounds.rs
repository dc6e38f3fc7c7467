//! Bounds of times that both services have.

use std::time::Duration;

/// A duration above zero.
pub(crate) const SHORTEST: Duration = Duration::from_micros(1);
pub(crate) const MS_10: Duration = Duration::from_millis(10);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
