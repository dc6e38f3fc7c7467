//! A message reaches the listeners of all its destinations, or of none (Tribes: `TwoPhaseCommitInterceptor`).
//!
//! Sending, a message goes to all its destinations first, where it is parked below the listeners. When all of them have voted
//! for it, a second frame to each releases it; when one has not within [`timeout`](TwoPhaseCommitConfig::timeout), it is given
//! up everywhere.
//!
//! ```text
//!  sender                    destinations
//!    │── message ─────────────►│ parked, acknowledged at once; the voter is asked
//!    │◄──────────── yes / no ──│
//!    │── commit / abort ──────►│ handed on, or forgotten
//!    │◄──────── ack, outcome ──│
//! ```
//!
//! # Towards Java members
//! They get what Tribes sends: the message, and a confirmation that names it. Java has no votes: that its channel took the
//! first phase counts as its yes. That is asked for with `sync`, whatever the message asks for: Java answers then when it has
//! parked the message, and its receiver cannot take the confirmation first (T2, T48), which loses both. Nothing tells
//! it of an abort; it forgets the message after 60 s. A message to members of both kinds is decided as one. From a Java member,
//! or one with an id that does not mark it as ours, a message is parked until it is confirmed, for at most
//! [`expire`](TwoPhaseCommitConfig::expire).
//!
//! # Votes
//! A destination of our own votes yes, unless its [voter](TwoPhaseCommit::with_voter) says no, there is
//! [no memory](TwoPhaseCommitConfig::max_memory), or the message was given up before. A no, and no vote in time, are told to
//! the sender as the fault of that member ([`FaultKind::RemoteFailure`] with the reason, [`FaultKind::AckTimeout`]), what kept
//! the message from it as what it is; all other destinations then have the fault [`FaultKind::Dropped`] by `two-phase-commit`.
//! If all have voted yes, the outcome of a destination is that of the second frame: with `sync`, that of its listener.
//!
//! # Guarantees between our own nodes
//! 1. No listener gets a message unless every destination of our own has voted for it.
//! 2. Destinations that stay connected with the sender do the same, whatever happens to the others: a decision that is lost is
//!    asked for until it comes.
//! 3. If the sender dies or is cut off, destinations that stay connected *with each other* do the same: when their
//!    membership tells them that it is gone, the one of them with the lowest id collects what all present ones know. One has
//!    committed, or was told to: all commit. Else all abort, and obey that even if the sender's word comes after all. This counts
//!    on connections that keep the order of frames, as TCP does.
//! 4. A message is handed on once. What one task sends to one member is handed on in that order. A message that was given up
//!    delays no other; one that waits for a vote delays those behind it that go to the same members, for at most `timeout`.
//!    Messages without the trigger do not wait for those with it.
//! 5. Memory is bounded, in bytes for all and for each sender, and in time.
//!
//! # What cannot be guaranteed
//! - That all do the same across a partition, or after a death: no protocol can. If the sender dies, or is cut off, after it told
//!   some to commit, and these die or are cut off as well, those who are left abort. The sender sees a fault of the second
//!   phase for each member that it could not tell: *that member may or may not have got the message*, unlike after a fault
//!   [`Dropped`](FaultKind::Dropped) by `two-phase-commit`, which means that nobody has.
//! - Who has voted yes is in doubt until it is told, and cannot end that alone. It asks the sender from `timeout` and a quarter
//!   on, every quarter of `timeout`. It remains in doubt while the sender is in its membership but says nothing (it hangs, and
//!   nothing detects that), or another destination does, or cannot say: it began less than `timeout` before the message, or
//!   has had too much to remember. After `expire` it *gives the message up by
//!   guess*, or commits if it was told to but may not do so: this alone can be wrong among connected members. It is counted
//!   (`guessed_messages`); those in doubt at present are `doubtful_messages`.
//! - After a sender's restart its open messages are forgotten: its destinations see it leave, and settle them as above.
//! - A destination that stops, or dies, after its vote may not have handed on what the others have. Nothing is written to disk.
//! - Towards Java: that it hands on what was confirmed; its answer to the confirmation alone tells. And that members which
//!   Java sends to do the same: it decides by itself, and tells no one.
//!
//! # Bounds
//! A message that waits for its second phase, or for listeners after it, takes its room from
//! [`max_memory`](TwoPhaseCommitConfig::max_memory); when there is none, it is voted against. Votes and decisions are handled before
//! the listener queue, and never wait for it (the transport may stop reading a connection whose room listeners use up: then
//! they wait with it, and `timeout` decides). At most 16,384 messages of a sender wait for votes, and about 1,000 members of our
//! own can be destinations; more is refused. 65,536 decisions are remembered for twice `expire`.
//!
//! # Differences to Tribes, on purpose
//! - Between our own nodes there are votes, aborts and deadlines; Tribes has no agreement (T48).
//! - A confirmation that overtakes its message releases it when it comes (T2, T48); in Tribes both are lost.
//! - The first phase to Java asks for `sync`, so that it is acknowledged when it is parked.
//! - Messages that come twice are handed on once. Memory is bounded (T9).
//! - Multicasts are refused: nobody could vote.
//! - There is no `deepclone`: with it off, Java's own messages are never released.
//!
//! # Place in the stack
//! Above `message-dispatch`, `rate-limit` and `chaos`, which make of a message one for each destination (Tribes' dispatcher does not,
//! and stands above): each would be decided by itself. What comes so while the first of them is open is refused with words to
//! that effect. Above all that changes bytes or order: `gzip`, `compress`, `fragmentation`, `order`, `encrypt`. All members need the layer, in the same place and with the same trigger; a message of ours that says nothing of two phases is
//! refused.
//!
//! # Cancel safety
//! A send that is dropped before all destinations have accepted the first phase is given up everywhere.

mod config;
mod frame;
mod open;
mod outbox;
mod parked;
mod receive;
mod records;
mod room;
mod shell;
#[cfg(test)]
mod tests;
mod tribes;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, ChannelInterceptor, ChannelMessage, FaultKind, Gauge, Handled, Inbound, Interest, Link, MemberEvent,
    Next, Outbound, ReceiveError, Rule, SendError, SendOptions, Time, WireEffect, async_trait,
};

pub use self::config::TwoPhaseCommitConfig;
use self::frame::Key;
pub use self::room::NoMemory;
use self::shell::Shell;
use crate::join::join_all;

const NAME: &str = "two-phase-commit";
const NOT_HERE: &str = "the message is not here, or was given up by those who were left";

/// What a destination says to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It may be handed on, if all others say so.
    Yes,
    /// Nobody is to get it, for this reason, of which the sender is told 200 bytes.
    No(String),
}

type Voter = Arc<dyn Fn(&ChannelMessage) -> Vote + Send + Sync>;

/// Hands a message on at all its destinations, or at none. See the [module](self) for what that means, and what not. One
/// instance serves one channel.
///
/// ```
/// use tribes_interceptors::{TwoPhaseCommit, Vote};
///
/// let layer = TwoPhaseCommit::default().with_voter(|message| {
///     if message.body.len() > 1000 { Vote::No("too long for me".to_owned()) } else { Vote::Yes }
/// });
/// ```
pub struct TwoPhaseCommit {
    shell: Arc<Shell>,
    link: Mutex<Option<Link>>,
}

impl TwoPhaseCommit {
    /// A layer with these options. Those out of bounds are refused when the channel starts.
    #[must_use]
    pub fn new(config: TwoPhaseCommitConfig) -> Self {
        Self { shell: Arc::new(Shell::new(config, None)), link: Mutex::default() }
    }

    /// Asks `voter` about each message that is received, as it came from the layers below; without one, all are voted for. It
    /// must not block. Messages of Java members that it votes against are refused, which their senders hear of only if they
    /// asked for a synchronized acknowledgement, and which keeps them from nobody else.
    #[must_use]
    pub fn with_voter(self, voter: impl Fn(&ChannelMessage) -> Vote + Send + Sync + 'static) -> Self {
        let shell = Shell::new(self.shell.config, Some(Arc::new(voter)));
        Self { shell: Arc::new(shell), ..self }
    }
}

impl Default for TwoPhaseCommit {
    fn default() -> Self {
        Self::new(TwoPhaseCommitConfig::default())
    }
}

impl fmt::Debug for TwoPhaseCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwoPhaseCommit").field("config", &self.shell.config).finish_non_exhaustive()
    }
}

/// Answers that a message is refused.
fn refuse(msg: Inbound, why: &str) {
    tracing::debug!(from = %msg.from(), id = %msg.message.id, why, "a message was refused");
    msg.receipt.resolve(Handled::Failed(format!("layer {NAME} refused the message: {why}")));
}

/// Gives a message up whose sending is dropped before it has been accepted.
struct Begun<'a> {
    shell: &'a Arc<Shell>,
    link: &'a Link,
    key: Key,
    accepted: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.accepted {
            self.shell.abandon(self.link, self.key);
        }
    }
}

impl Configure for TwoPhaseCommit {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "lets a message reach the listeners of all its destinations, or of none";
    type Config = TwoPhaseCommitConfig;
    fn configure(config: TwoPhaseCommitConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(TwoPhaseCommit);

#[async_trait]
impl ChannelInterceptor for TwoPhaseCommit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::MEMBERS
    }

    fn trigger(&self) -> SendOptions {
        self.shell.config.trigger
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Tribes
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[
            Rule::above(
                "message-dispatch",
                "message-dispatch makes of a message one for each member, and two-phase-commit would decide each alone",
            ),
            Rule::above(
                "rate-limit",
                "rate-limit makes of a message one for each member, and two-phase-commit would decide each alone",
            ),
            Rule::above(
                "chaos",
                "chaos makes of a message one for each member, and two-phase-commit would decide each alone",
            ),
            Rule::above("gzip", "two-phase-commit would take what gzip has changed for its own phases"),
            Rule::above("compress", "two-phase-commit would take what compress has changed for its own phases"),
            Rule::above("fragmentation", "two-phase-commit would vote on each piece that fragmentation makes"),
            Rule::above("order", "order would hand over in another order than two-phase-commit decides"),
            Rule::above("encrypt", "two-phase-commit must read what encrypt seals"),
        ];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.shell.config.validate()?)
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        self.shell.start(&link);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        // Kept until all is done: a stop that is dropped half-way is called again.
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(link) = link {
            self.shell.stop(&link, deadline).await;
            self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    async fn send(&self, out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        let link = next.link().ok_or(SendError::Stopped)?;
        let (key, phases) = self.shell.begin(&link, out)?;
        let mut begun = Begun { shell: &self.shell, link: &link, key, accepted: false };
        let sending = phases.into_iter().map(|phase| Box::pin(next.send(phase)) as _).collect();
        join_all(sending).await?;
        begun.accepted = true;
        Ok(())
    }

    async fn receive(&self, msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        let link = next.link().ok_or(ReceiveError::Stopped)?;
        let mut result = Ok(());
        for message in self.shell.receive(&link, msg)? {
            let handed_on = next.receive(message).await;
            if result.is_ok() {
                result = handed_on;
            }
        }
        result
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        let (shell, link) = (&self.shell, next.link());
        let mut released = Vec::new();
        if let Some(link) = link {
            match &event {
                MemberEvent::Added(member) | MemberEvent::Updated(member) if member.id().is_ours() => {
                    shell.change(|state| state.shelf.added(member));
                }
                MemberEvent::Removed(member, _) => {
                    shell.end(&link, |state| state.open.left(member), None);
                    let now = link.env().now();
                    let acts = shell.change(|state| state.shelf.removed(member, now));
                    released = shell.perform(&link, acts);
                }
                _ => {}
            }
        }
        for message in released {
            if let Err(error) = next.receive(message).await {
                tracing::debug!(%error, "a message that was committed is refused");
            }
        }
        next.member_event(event).await;
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (read, number) = (
            |counter: &AtomicU64| counter.load(Ordering::Relaxed),
            |number: usize| u64::try_from(number).unwrap_or(u64::MAX),
        );
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = link.map_or(Time::ZERO, |link| link.env().now());
        let state = self.shell.lock();
        let (open, parked, doubtful) =
            (state.open.len(), state.shelf.len() + state.first.len(), state.shelf.in_doubt(now));
        let (counts, expired, held) = (state.shelf.counts, state.first.expired, state.room.held());
        let records = state.shelf.records.len();
        drop(state);
        vec![
            Gauge::new("open_messages", number(open)),
            Gauge::new("sent_commits", read(&self.shell.sent_commits)),
            Gauge::new("sent_aborts", read(&self.shell.sent_aborts)),
            Gauge::new("parked_messages", number(parked)),
            Gauge::new("held_bytes", number(held)),
            Gauge::new("doubtful_messages", number(doubtful)),
            Gauge::new("votes_against", read(&self.shell.votes_against)),
            Gauge::new("committed_messages", counts.committed),
            Gauge::new("aborted_messages", counts.aborted),
            Gauge::new("settled_messages", counts.settled),
            Gauge::new("guessed_messages", counts.guessed),
            Gauge::new("conflicting_decisions", counts.conflicts),
            Gauge::new("unconfirmed_messages", expired),
            Gauge::new("remembered_decisions", number(records)),
        ]
    }
}

/// What a destination that voted no is reported as.
fn voted_no(why: &str) -> FaultKind {
    FaultKind::RemoteFailure(Some(format!("it voted against the message: {why}")))
}
