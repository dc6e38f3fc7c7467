//! The receiving half: each sender's stream, who delivers it, and the timer.
//!
//! A sender's messages are delivered by one task at a time, whichever connection or timer brought the message that was due:
//! the others leave theirs with it. No lock is held meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tribes_core::member::MemberTable;
use tribes_core::{AckMode, Handled, Inbound, Lease, Link, Member, Next, Receipt, ReceiveError, Time};

use super::core::{Bounds, Counts, Fate, MEMORY};
use super::sender::{Room, Sender, Turn, Up};
use super::{NAME, OrderConfig};
use crate::seen::{Fingerprint, Span};

/// What a message that waits costs beside its body.
const OVERHEAD: usize = 256;
/// All senders together have so many times the bytes that one has.
const SHARE: usize = 4;

/// All senders.
#[derive(Debug)]
pub(super) struct Receiving {
    config: OrderConfig,
    senders: MemberTable<Arc<Sender>>,
    /// Grows with each message, so that senders can be told by when they were heard.
    clock: AtomicU64,
    /// Bytes that wait, or waited and have not been handled yet.
    held: Arc<AtomicUsize>,
    /// When the timer has something to do.
    wake_at: watch::Sender<Time>,
    /// Nothing is waited for: the layer was stopped.
    stopped: AtomicBool,
    link: OnceLock<Link>,
    pub(super) figures: Figures,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) waited: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) restarts: AtomicU64,
}

impl Receiving {
    pub(super) fn new(config: OrderConfig) -> Self {
        Self {
            config,
            senders: MemberTable::default(),
            clock: AtomicU64::new(0),
            held: Arc::default(),
            wake_at: watch::Sender::new(Time::NEVER),
            stopped: AtomicBool::new(false),
            link: OnceLock::new(),
            figures: Figures::default(),
        }
    }

    /// Begins anew, with a timer.
    pub(super) fn start(self: &Arc<Self>, link: Link) {
        drop(self.senders.take());
        self.stopped.store(false, Ordering::Release);
        self.wake_at.send_replace(Time::NEVER);
        let _ = self.link.set(link.clone());
        let (receiving, env) = (Arc::clone(self), link.env().clone());
        let mut wake_at = self.wake_at.subscribe();
        link.spawn(async move {
            loop {
                let at = *wake_at.borrow_and_update();
                tokio::select! {
                    biased;
                    // The sender lives in what this task holds.
                    _ = wake_at.changed() => {}
                    () = env.sleep_until(at) => receiving.tick(env.now()),
                }
            }
        });
    }

    /// Delivers all that waits, and lets nothing wait from now on.
    pub(super) async fn stop(&self, deadline: Time) {
        self.stopped.store(true, Ordering::Release);
        self.wake_at.send_replace(Time::NEVER);
        let Some(link) = self.link.get() else { return };
        let senders: Vec<_> = self.senders.load().iter().map(|(_, sender)| Arc::clone(sender)).collect();
        let flushed = async {
            for sender in &senders {
                self.flush(sender, Up::Link(link)).await;
            }
        };
        let _ = link.env().until(deadline, flushed).await;
    }

    /// Takes `msg` in, whose number was taken off already, and delivers what is then ready.
    pub(super) async fn receive(&self, number: i32, msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        match self.take_in(number, msg)? {
            Some(turn) => turn.run(Up::Next(next)).await,
            None => Ok(()),
        }
    }

    fn take_in(&self, number: i32, mut msg: Inbound) -> Result<Option<Turn<'_>>, ReceiveError> {
        let sender = self.sender(msg.from());
        sender.heard.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let fingerprint = Fingerprint::of(&msg.message.id);
        if msg.message.options.ack_mode() == AckMode::Handled {
            // A copy is to be answered as the first was, which has perhaps failed.
            let span = Span { entries: MEMORY, since: Time::ZERO };
            let key = fingerprint.numbered(number);
            if !sender.told.look(key, &msg.message, &mut msg.receipt, Time::ZERO, span).first {
                self.figures.duplicates.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
        }
        let bounds = self.bounds();
        let mut parked = None;
        let mut state = sender.lock();
        let now = self.now();
        let fate = state.stream.arrive(number, fingerprint.short(), msg, now, &bounds, |msg| {
            parked = Some((std::mem::take(&mut msg.receipt), self.park(&sender, msg)));
        });
        let (deadline, turn) = (state.stream.deadline(&bounds), state.turn(&sender, self.link.get()));
        let (counts, expired) = state.take();
        drop(state);
        self.count(counts, &expired);
        if let Some((receipt, lease)) = parked {
            self.figures.waited.fetch_add(1, Ordering::Relaxed);
            self.wake(deadline);
            receipt.accept();
            drop(lease);
        }
        match fate {
            Fate::Ready | Fate::Waits => {}
            Fate::Duplicate(msg) => {
                self.figures.duplicates.fetch_add(1, Ordering::Relaxed);
                msg.receipt.accept();
            }
            Fate::Late(msg) => {
                self.figures.late.fetch_add(1, Ordering::Relaxed);
                refuse(msg.receipt, "it came after its place in order had been given up")?;
            }
            Fate::Impossible(msg) => self.malformed(msg, "its number is none that a sender gives")?,
        }
        Ok(turn)
    }

    /// Refuses what cannot be.
    pub(super) fn malformed(&self, msg: Inbound, why: &str) -> Result<(), ReceiveError> {
        self.figures.malformed.fetch_add(1, Ordering::Relaxed);
        refuse(msg.receipt, why)
    }

    /// The member is in the group: what is known of it stays.
    pub(super) fn joined(&self, member: &Arc<Member>) {
        self.senders.get_or_insert_with(member, Arc::default).in_group.store(true, Ordering::Relaxed);
    }

    /// The member is gone, and with it what it has not sent: the rest is delivered. Its number is remembered, for it may not
    /// know that it was gone.
    pub(super) async fn left(&self, member: &Arc<Member>, next: Next<'_>) {
        let Some(sender) = self.senders.get(member) else { return };
        sender.in_group.store(false, Ordering::Relaxed);
        self.flush(&sender, Up::Next(next)).await;
        self.forget_half(member);
    }

    /// How many messages wait, how many bytes are held, and of how many senders something is known.
    pub(super) fn depth(&self) -> (usize, usize, usize) {
        let senders = self.senders.load();
        let waiting = senders.iter().map(|(_, sender)| sender.lock().stream.waiting()).sum();
        (waiting, self.held.load(Ordering::Relaxed), senders.len())
    }

    fn sender(&self, member: &Arc<Member>) -> Arc<Sender> {
        if let Some(sender) = self.senders.get(member) {
            return sender;
        }
        let sender = self.senders.get_or_insert_with(member, Arc::default);
        self.forget_half(member);
        sender
    }

    /// With too many outsiders, forgets the half of them that was not heard for longest, but never `spared`.
    fn forget_half(&self, spared: &Arc<Member>) {
        let outsider = |sender: &Sender| !sender.in_group.load(Ordering::Relaxed);
        let mut heard: Vec<_> = {
            let senders = self.senders.load();
            if senders.len() <= self.config.max_outsiders {
                return;
            }
            let outsiders = senders.iter().filter(|(_, sender)| outsider(sender));
            outsiders.map(|(_, sender)| sender.heard.load(Ordering::Relaxed)).collect()
        };
        if heard.len() > self.config.max_outsiders {
            heard.sort_unstable();
            let middle = heard.get(heard.len() / 2).copied().unwrap_or(0);
            // The new one has not been heard yet.
            self.senders.retain(|other, known| {
                other == spared || !outsider(known) || known.heard.load(Ordering::Relaxed) > middle || known.is_busy()
            });
        }
    }

    /// Prepares a message to wait; what is to be let go of.
    ///
    /// The receiver does not read on from a connection whose room is used up, and what is missing may come over that
    /// connection: so what waits has room of its own. Only when that is used up, too, it keeps the receiver's.
    fn park(&self, sender: &Sender, msg: &mut Inbound) -> Lease {
        msg.detach();
        let bytes = msg.message.body.len().saturating_add(OVERHEAD);
        let fits = |used: &AtomicUsize, bound: usize| used.load(Ordering::Relaxed).saturating_add(bytes) <= bound;
        let max = self.config.max_bytes;
        if !fits(&sender.held, max) || !fits(&self.held, max.saturating_mul(SHARE)) {
            return Lease::none();
        }
        sender.held.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, of_sender: Arc::clone(&sender.held), of_all: Arc::clone(&self.held) };
        std::mem::replace(&mut msg.lease, Lease::new(room))
    }

    async fn flush(&self, sender: &Arc<Sender>, up: Up<'_>) {
        let turn = {
            let mut state = sender.lock();
            state.stream.flush();
            self.count(state.take().0, &[]);
            state.turn(sender, self.link.get())
        };
        if let Some(turn) = turn {
            // Each has answered for itself.
            let _ = turn.run(up).await;
        }
    }

    /// Releases what has waited for long enough.
    fn tick(&self, now: Time) {
        self.wake_at.send_replace(Time::NEVER);
        let bounds = self.bounds();
        let senders: Vec<_> = self.senders.load().iter().map(|(_, sender)| Arc::clone(sender)).collect();
        for sender in senders {
            let mut state = sender.lock();
            state.stream.tick(now, &bounds);
            let (deadline, turn) = (state.stream.deadline(&bounds), state.turn(&sender, self.link.get()));
            let (counts, expired) = state.take();
            drop(state);
            self.count(counts, &expired);
            self.wake(deadline);
            if let Some(turn) = turn {
                turn.run_later();
            }
        }
    }

    /// Has the timer wake up at `at` at the latest.
    fn wake(&self, at: Time) {
        self.wake_at.send_if_modified(|known| {
            let sooner = at < *known;
            *known = at.min(*known);
            sooner
        });
    }

    fn bounds(&self) -> Bounds {
        let bounds = self.config.bounds();
        // With a queue of one nothing waits.
        if self.stopped.load(Ordering::Acquire) {
            Bounds { max_queue: 1, forward_expired: true, ..bounds }
        } else {
            bounds
        }
    }

    fn now(&self) -> Time {
        self.link.get().map_or(Time::ZERO, |link| link.env().now())
    }

    fn count(&self, counts: Counts, expired: &[Inbound]) {
        if counts != Counts::default() {
            self.figures.given_up.fetch_add(counts.given_up, Ordering::Relaxed);
            self.figures.restarts.fetch_add(counts.restarts, Ordering::Relaxed);
        }
        if !expired.is_empty() {
            self.figures.expired.fetch_add(u64::try_from(expired.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            tracing::debug!(messages = expired.len(), "dropped: they waited too long for those before them");
        }
    }
}

fn refuse(receipt: Receipt, why: &str) -> Result<(), ReceiveError> {
    let error = ReceiveError::Refused { layer: NAME, reason: why.to_owned() };
    receipt.resolve(Handled::Failed(error.to_string()));
    Err(error)
}
