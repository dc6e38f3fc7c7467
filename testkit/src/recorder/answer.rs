//! What becomes of a recorded message.

use std::time::Duration;

use tribes_core::error::FaultKind;
use tribes_core::{AckMode, Delivery, SendOptions};

/// What a [`Recorder`](super::Recorder) does with one destination of a message, or for [`Answer::Refuse`] with the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It got there, with the guarantee that its options ask for. The default.
    #[default]
    Deliver,
    /// It got there, in this way.
    As(Delivery),
    /// It did not, for this reason.
    Fault(FaultKind),
    /// Kept, with its room in the channel's budget, until [`Recorder::release`](super::Recorder::release) or one of its
    /// siblings resolves it. What is still held when the sender stops fails with [`FaultKind::Stopped`].
    Hold,
    /// Kept for this long, then as the other answer says.
    After(Duration, Box<Self>),
    /// Its completion is dropped, as by a transport that loses messages.
    Forget,
    /// [`ChannelSender::send`](tribes_core::ChannelSender::send) itself fails, with this text.
    Refuse(&'static str),
}

impl Answer {
    /// [`Answer::Deliver`] after `delay`.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::After(delay, Box::default())
    }
}

/// The delivery that `options` ask for.
pub(crate) const fn asked(options: SendOptions) -> Delivery {
    match options.ack_mode() {
        AckMode::None => Delivery::Sent,
        AckMode::Received => Delivery::Acknowledged,
        AckMode::Handled => Delivery::Handled,
    }
}
