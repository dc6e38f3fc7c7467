//! The application of the load program: counts what comes, answers pings, hears pongs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes::{AckMode, BoxError, ChannelListener, Member, Message, SendOptions, WeakChannel, async_trait};

use super::payload::{Header, Kind, pong};
use super::pingpong::Pongs;
use super::receiving::Receiving;

/// The one listener of a member.
#[derive(Debug)]
pub(super) struct Listener {
    channel: WeakChannel,
    receiving: Mutex<Receiving>,
    is_complete: Notify,
    pongs: Pongs,
    answer: SendOptions,
}

impl Listener {
    /// Answers pings through `channel`, whose messages have these options.
    pub(super) fn new(channel: WeakChannel, receiving: Receiving, options: SendOptions) -> Self {
        Self {
            channel,
            receiving: Mutex::new(receiving),
            is_complete: Notify::new(),
            pongs: Pongs::default(),
            answer: answer_to(options),
        }
    }

    /// What was counted so far.
    pub(super) fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything announced has come; for one task, once. Cancel safe.
    pub(super) async fn complete(&self) {
        self.is_complete.notified().await;
    }

    pub(super) const fn pongs(&self) -> &Pongs {
        &self.pongs
    }

    /// Sends the answer to `ping` on its way. Waits only until it is accepted: to wait for its acknowledgement here would
    /// hold up the next message of that sender.
    async fn answer(&self, ping: &Message, header: Header, to: &Arc<Member>) -> Result<(), BoxError> {
        if let Some(channel) = self.channel.upgrade() {
            let accepted = channel.send_with(to, pong(ping.bytes(), header), self.answer).await?;
            accepted.on_complete(|outcome| {
                if let Err(error) = outcome.into_result() {
                    tracing::warn!(%error, "an answer did not arrive");
                }
            });
        }
        Ok(())
    }
}

/// The options of an answer are those of its ping, but an answer never asks for the listener's return: the pinging member
/// may be waiting for this listener to return, which the channel refuses as a deadlock.
fn answer_to(options: SendOptions) -> SendOptions {
    if options.ack_mode() == AckMode::Handled { SendOptions::ACK } else { options }
}

#[async_trait]
impl ChannelListener for Listener {
    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        let Some(header) = Header::of(message.bytes()) else {
            self.receiving().count_foreign();
            return Ok(());
        };
        match header.kind {
            Kind::WarmUp => {}
            Kind::Data | Kind::End => {
                if self.receiving().count(header, message.bytes().len()) {
                    self.is_complete.notify_one();
                }
            }
            Kind::Ping => self.answer(&message, header, from).await?,
            Kind::Pong => self.pongs.came(header.number),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_asks_for_no_more_than_cannot_deadlock() {
        for options in [SendOptions::NONE, SendOptions::ASYNC, SendOptions::ACK] {
            assert_eq!(answer_to(options), options);
        }
        assert_eq!(answer_to(SendOptions::SYNC_ACK), SendOptions::ACK);
    }
}
