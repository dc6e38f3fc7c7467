//! Ping-pong: one message to all, the answers of all, the next message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock;
use super::control::Control;
use super::listener::Listener;
use super::payload::Kind;
use super::sending::{Numbers, Source, Tally};

/// An answer that takes longer does not come.
const LIMIT: Duration = Duration::from_secs(5);

/// A ping that was not answered by everyone.
#[derive(Debug, thiserror::Error)]
#[error("{missing} of {peers} answers did not come within {LIMIT:?}")]
struct Unanswered {
    missing: usize,
    peers: usize,
}

/// The one caller of a part.
pub(super) async fn call(
    source: Arc<Source>,
    listener: Arc<Listener>,
    peers: usize,
    numbers: Arc<Numbers>,
    control: Control,
) -> Tally {
    let pongs = listener.pongs();
    let (mut tally, mut maker) = (Tally::default(), source.maker());
    let mut now = clock::monotonic_ns();
    while !control.has_advanced() && numbers.take(now).is_some() {
        let sent = source.send(&mut maker, Kind::Ping, pongs.expect(peers)).await;
        tally.messages += 1;
        tally.send.add(sent.ended_ns.saturating_sub(sent.begun_ns));
        now = sent.ended_ns;
        if let Err(error) = sent.result {
            tally.fail(&error);
            continue;
        }
        let all_in = tokio::time::timeout(LIMIT, pongs.all_in()).await;
        now = clock::monotonic_ns();
        match all_in {
            Ok(()) => tally.rtt.add(now.saturating_sub(sent.begun_ns)),
            Err(_) => tally.fail(&Unanswered { missing: pongs.missing(), peers }),
        }
    }
    tally
}

/// The answers to one ping, in rounds.
#[derive(Debug, Default)]
pub(super) struct Pongs {
    round: Mutex<Round>,
    all_in: Notify,
}

#[derive(Debug, Default)]
struct Round {
    number: u64,
    missing: usize,
}

impl Pongs {
    /// Begins a round of so many answers and returns its number. Answers of earlier rounds count no more.
    fn expect(&self, answers: usize) -> u64 {
        let mut round = self.lock();
        *round = Round { number: round.number + 1, missing: answers };
        round.number
    }

    /// An answer to the ping of this round came.
    pub(super) fn came(&self, number: u64) {
        let mut round = self.lock();
        if round.number == number && round.missing > 0 {
            round.missing -= 1;
            if round.missing == 0 {
                self.all_in.notify_one();
            }
        }
    }

    fn missing(&self) -> usize {
        self.lock().missing
    }

    /// Waits until all answers of this round are in. Cancel safe.
    async fn all_in(&self) {
        // The last answer of a round that was given up may have left its notice.
        while self.missing() > 0 {
            self.all_in.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_round_ends_with_its_own_answers() {
        let pongs = Pongs::default();
        let first = pongs.expect(2);
        pongs.came(first);
        pongs.came(first - 1);
        assert_eq!(pongs.missing(), 1);
        // Given up, and then the answer comes all the same.
        pongs.came(first);
        let second = pongs.expect(1);
        pongs.came(first);
        assert_eq!(pongs.missing(), 1);
        let all_in = pongs.all_in();
        tokio::pin!(all_in);
        tokio::select! {
            biased;
            () = &mut all_in => panic!("one is missing"),
            () = tokio::task::yield_now() => pongs.came(second),
        }
        all_in.await;
    }
}
