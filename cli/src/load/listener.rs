//! The application of the load program: counts what comes, answers pings, hears pongs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes::{AckMode, Batch, BoxError, ChannelListener, Member, Message, SendOptions, WeakChannel, async_trait};

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
    takes_batches: bool,
}

impl Listener {
    /// Answers pings through `channel`, whose messages have these options. `takes_batches`: what is there at the same time
    /// comes in one call.
    pub(super) fn new(channel: WeakChannel, receiving: Receiving, options: SendOptions, takes_batches: bool) -> Self {
        Self {
            channel,
            receiving: Mutex::new(receiving),
            is_complete: Notify::new(),
            pongs: Pongs::default(),
            answer: answer_to(options),
            takes_batches,
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

/// What a message is to the listener.
enum Met {
    Counted,
    /// To be answered.
    Ping(Header),
}

impl Listener {
    /// Sees to `message`, but for the answer to a ping.
    fn meet(&self, message: &Message, receiving: &mut Receiving) -> Met {
        let Some(header) = Header::of(message.bytes()) else {
            receiving.count_foreign();
            return Met::Counted;
        };
        match header.kind {
            Kind::WarmUp => {}
            Kind::Data | Kind::End => {
                if receiving.count(header, message.bytes().len()) {
                    self.is_complete.notify_one();
                }
            }
            Kind::Ping => return Met::Ping(header),
            Kind::Pong => self.pongs.came(header.number),
        }
        Met::Counted
    }
}

#[async_trait]
impl ChannelListener for Listener {
    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        let met = self.meet(&message, &mut self.receiving());
        match met {
            Met::Counted => Ok(()),
            Met::Ping(header) => self.answer(&message, header, from).await,
        }
    }

    fn takes_batches(&self) -> bool {
        self.takes_batches
    }

    async fn batch_received(&self, batch: &mut Batch<'_>, from: &Arc<Member>) {
        for (at, message) in batch.messages().iter().enumerate() {
            let met = self.meet(message, &mut self.receiving());
            if let Met::Ping(header) = met
                && let Err(error) = self.answer(message, header, from).await
            {
                batch.fail(at, error);
            }
        }
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
