//! A message on its way, and what becomes of it.
//!
//! Downward a layer hands on an [`Outbound`]: the message and its destinations, each with a [`Completion`] that must be
//! resolved exactly once. Upward it hands on an [`Inbound`], whose [`Receipt`] answers the sender. Both resolve
//! themselves when they are dropped, so no message can end without an outcome.

mod inbound;
mod outbound;
mod outcome;

pub use inbound::{Handled, Inbound, Lease, Receipt, ReceiptSink, Route};
pub use outbound::{Completion, Destination, Outbound};
pub(crate) use outcome::{Observer, OutcomeObserver};
pub use outcome::{Delivery, Outcome, Pending};
