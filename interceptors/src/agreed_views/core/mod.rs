//! Agreement without I/O: takes events, messages and the time; says what is to be sent, and what the application is told.
//!
//! | file | what |
//! |---|---|
//! | `mod` | inputs, and what follows from them |
//! | `peers` | what is known of the others, and with whom this member is in touch |
//! | `lead` | proposals: asking all members for a promise, and telling them |
//! | `decide` | what is agreed on when all have promised |
//! | `follow` | promises to others, the installing of views, and whom to follow |
//! | `leaving` | who leaves, and who vanishes |
//! | `writing` | when this side may write |
//! | `outbox` | what is to be sent |

mod decide;
mod defects;
mod follow;
mod lead;
mod leaving;
mod outbox;
mod peers;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tribes_core::{Member, MemberEvent, Time};

pub(super) use self::decide::{MAX_CHAIN, Primary};
#[cfg(test)]
pub(super) use self::defects::Defect;
use self::defects::Defects;
use self::lead::Round;
use self::outbox::Outbox;
use self::peers::Peer;
pub(super) use self::writing::LeaseAction;
use self::writing::Writing;
use super::quorum::QuorumPolicy;
use super::wire::{EPOCH_LIMIT, Kind, Message};
use super::{AgreedView, AgreedViewsConfig, Seat, Standing, ViewEvent};

/// How far an epoch may be beyond the wall clock's milliseconds, where they begin: farther than any clock is wrong (142,000 years),
/// and not near the end.
const FAR: u64 = 1 << 52;
const _: () = assert!(FAR < EPOCH_LIMIT / 4);

/// Events that nobody has fetched: far more than any one input makes.
const MAX_EVENTS: usize = 4096;

/// See the [module](self). Bounded: one entry for each member announced from below, a view with at most
/// [`MAX_MEMBERS`](super::MAX_MEMBERS), a few earlier ones, and one message of each kind to each member.
#[derive(Debug)]
pub(super) struct Core {
    config: AgreedViewsConfig,
    policy: Arc<dyn QuorumPolicy>,
    /// While the channel runs.
    local: Option<Seat>,
    started: Time,
    /// When this member last looked at what follows from what it knows. What was due by then and has not been done waits for something
    /// else than time.
    assessed: Time,
    /// The others of our own kind, as announced from below.
    peers: BTreeMap<Arc<Member>, Peer>,
    /// Those of another kind, which are never part of a view.
    passed_by: BTreeSet<Arc<Member>>,
    /// The highest epoch that this member has promised, and to whose process.
    promised: u64,
    promised_to: Option<Seat>,
    view: Option<Installed>,
    /// The views that may have written, as far as this member knows: the last confirmed one, and those that came after it.
    chain: Vec<Primary>,
    /// An operator has said that they do not count any more.
    forgets: bool,
    max_token: u64,
    /// The highest epoch of a view that somebody was heard to have installed, whether it is still there or not.
    seen: u64,
    /// The wall clock when this process started, in milliseconds.
    floor: u64,
    /// The proposal of this member's own.
    round: Option<Round>,
    /// Whom it told that it follows.
    follows: Option<Arc<Member>>,
    /// Since when a view is wanted by this member, which leads, or missed by it, which follows.
    wanted_since: Option<Time>,
    unled_since: Option<Time>,
    next_beat: Time,
    writing: Writing,
    outbox: Outbox,
    events: VecDeque<ViewEvent>,
    counts: Counts,
    defects: Defects,
}

/// The view that was installed last.
#[derive(Debug)]
struct Installed {
    view: Arc<AgreedView>,
    seats: Arc<[Seat]>,
    consents: Arc<[Seat]>,
    at: Time,
    /// Of its members: who left on purpose, who has vanished from membership, and of whom the application was told that.
    left: Vec<Seat>,
    vanished: BTreeSet<Arc<Member>>,
    told: BTreeSet<Arc<Member>>,
    /// Those of `left` who have said themselves that they do not write any more, and those who gave this member their vote.
    stopped: Vec<Seat>,
    voted: Vec<Seat>,
}

/// For statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) views: u64,
    pub(super) proposals: u64,
    pub(super) promises: u64,
    pub(super) refusals: u64,
    pub(super) unanswered: u64,
    pub(super) merges: u64,
    pub(super) received: u64,
    pub(super) stray: u64,
    pub(super) far: u64,
}

impl Core {
    pub(super) fn new(config: AgreedViewsConfig, policy: Arc<dyn QuorumPolicy>, leased: bool) -> Self {
        Self {
            config,
            policy,
            local: None,
            started: Time::ZERO,
            assessed: Time::ZERO,
            peers: BTreeMap::new(),
            passed_by: BTreeSet::new(),
            promised: 0,
            promised_to: None,
            view: None,
            chain: Vec::new(),
            forgets: false,
            max_token: 0,
            seen: 0,
            floor: 0,
            round: None,
            follows: None,
            wanted_since: None,
            unled_since: None,
            next_beat: Time::NEVER,
            writing: Writing::new(leased),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            counts: Counts::default(),
            defects: Defects::default(),
        }
    }

    /// The channel starts, as a process that is told from earlier ones at the same address by `incarnation`. Epochs begin above
    /// `floor`. A member whose id does not mark it as one of ours stays outside, for others take it for a Java member.
    pub(super) fn start(&mut self, local: Arc<Member>, incarnation: u64, floor: u64, now: Time) {
        if !local.id().is_ours() {
            return;
        }
        self.floor = floor;
        self.promised = self.promised.max(floor);
        self.local = Some(Seat::new(local, incarnation));
        (self.started, self.next_beat) = (now, now);
        self.assess(now);
    }

    /// Messages with epochs beyond are not heard: one that had no successor, or as good as none, would stop the group for ever. It
    /// grows faster than views come, so whatever a peer says it is left behind in the end.
    fn ceiling(&self, now: Time) -> u64 {
        let up_for = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
        FAR.saturating_add(self.floor).saturating_add(up_for)
    }

    /// The next view does not depend on those that were allowed to write before.
    pub(super) fn forget(&mut self, now: Time) {
        let may_write = self.view.as_ref().is_some_and(|installed| installed.view.primary);
        if self.local.is_none() || may_write {
            return;
        }
        self.forgets = true;
        // Whoever leads has to ask again.
        self.promised += 1;
        self.promised_to = None;
        self.tell_all();
        self.assess(now);
    }

    pub(super) fn event(&mut self, event: &MemberEvent, now: Time) {
        match event {
            MemberEvent::Added(member) if !member.id().is_ours() => {
                self.passed_by.insert(Arc::clone(member));
                return;
            }
            MemberEvent::Added(member) | MemberEvent::Updated(member) => {
                if let Some((key, peer)) = self.peers.remove_entry(member) {
                    drop(key);
                    self.peers.insert(Arc::clone(member), peer);
                    return;
                }
                if matches!(event, MemberEvent::Updated(_)) {
                    return;
                }
                self.peers.insert(Arc::clone(member), Peer::default());
                self.outbox.beat(member);
            }
            MemberEvent::Removed(member, why) => {
                self.passed_by.remove(member);
                let Some(peer) = self.peers.remove(member) else { return };
                self.outbox.forget(member);
                self.removed(member, &peer, *why);
            }
            _ => return,
        }
        self.assess(now);
    }

    /// A message came from `sender`.
    pub(super) fn received(&mut self, sender: &Member, message: Message, now: Time) {
        let Some(local) = &self.local else { return };
        let me = local.incarnation;
        if message.highest_epoch() > self.ceiling(now) {
            self.counts.far += 1;
            return;
        }
        if let Kind::Leave { consent, votes } = message.kind {
            // Membership may have told already, which leaves nothing of the peer.
            self.left(sender, message.incarnation, consent, &votes);
            return self.assess(now);
        }
        let Some((member, peer)) =
            self.peers.get_key_value(sender).map(|(member, _)| Arc::clone(member)).zip(self.peers.get_mut(sender))
        else {
            // Membership will tell of it, and it will say that again.
            self.counts.stray += 1;
            return;
        };
        let Some(is_new) = peer.heard(message.incarnation, now, self.config.silence) else {
            self.counts.stray += 1;
            return;
        };
        self.counts.received += 1;
        let from = Seat::new(member, message.incarnation);
        match message.kind {
            Kind::Beat(beat) => {
                self.seen = self.seen.max(beat.state.installed.map_or(0, |view| view.epoch));
                let view = self.view.as_ref().map(|installed| installed.view.id);
                peer.beat(&beat, me, view, now);
                if is_new || beat.to != me {
                    self.outbox.beat(&from.member);
                }
            }
            Kind::Propose { epoch, seats } => self.proposed(&from, epoch, &seats, now),
            Kind::Promise { epoch, report } => self.promise(&from, epoch, report, now),
            Kind::Refuse { epoch, promised } => self.refused(epoch, promised, now),
            Kind::Install(install) => self.told(&from, &install, now),
            Kind::Leave { .. } => {}
        }
        self.assess(now);
    }

    /// Time has passed; call it at [`deadline`](Self::deadline).
    pub(super) fn tick(&mut self, now: Time) {
        if self.local.is_none() {
            return;
        }
        if self.next_beat <= now {
            self.next_beat = now + self.config.heartbeat;
            self.tell_all();
        }
        self.assess(now);
    }

    /// When something is to be done, which may be past already; [`Time::NEVER`] if nothing is.
    pub(super) fn deadline(&self) -> Time {
        if self.local.is_none() {
            return Time::NEVER;
        }
        let done = self.assessed;
        let wanted = |wait| self.wanted_since.map(|since| since + wait).filter(|at| *at > done);
        let (ready, anyway) = (wanted(self.config.settle), wanted(self.config.timeout));
        [ready, anyway, self.round.as_ref().map(Round::next), self.writing.deadline(done)]
            .into_iter()
            .flatten()
            .fold(self.next_beat, Time::min)
    }

    /// Everybody is to hear from this member.
    fn tell_all(&mut self) {
        for member in self.peers.keys() {
            self.outbox.beat(member);
        }
    }

    /// What follows from what is known now.
    fn assess(&mut self, now: Time) {
        let Some(local) = self.local.clone() else { return };
        self.assessed = now;
        self.miss(&local, now);
        self.judge(&local, now);
        let first = self.first(&local, now);
        if self.follows.as_ref() != Some(&first) {
            self.follows = Some(Arc::clone(&first));
            self.unled_since = None;
            self.tell_all();
        }
        if first == local.member {
            self.unled_since = None;
            self.lead(&local, now);
        } else {
            (self.round, self.wanted_since) = (None, None);
            self.follow(&first, now);
        }
        self.judge(&local, now);
    }

    fn tell(&mut self, event: ViewEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    /// What the application is to be told next.
    pub(super) fn next_event(&mut self) -> Option<ViewEvent> {
        self.events.pop_front()
    }

    /// The next message to send, and to whom; that member gets no other until [`sent`](Self::sent) says so.
    pub(super) fn next_send(&mut self, now: Time) -> Option<(Arc<Member>, Message)> {
        let local = self.local.clone()?;
        let (member, slot) = self.outbox.pop()?;
        let kind = match slot {
            Some(kind) => kind,
            None => Kind::Beat(self.beat_for(&member, now)),
        };
        Some((member, Message { incarnation: local.incarnation, kind }))
    }

    /// The transport has taken, or refused, what was to be sent to this member.
    pub(super) fn sent(&mut self, member: &Arc<Member>) {
        self.outbox.sent(member);
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Views that may have written, as far as this member knows.
    pub(super) fn unconfirmed(&self) -> usize {
        self.chain.iter().filter(|primary| !primary.confirmed).count()
    }

    pub(super) fn passed_by(&self) -> usize {
        self.passed_by.len()
    }

    /// What holds now.
    pub(super) fn standing(&self) -> Standing {
        let (Some(local), Some(installed)) = (&self.local, &self.view) else { return Standing::default() };
        let token = self.writing.token();
        Standing {
            view: Some(Arc::clone(&installed.view)),
            may_write: token.is_some(),
            is_leader: token.is_some() && installed.view.leader == local.member,
            token,
        }
    }

    /// The token, if this side may write now, whatever was told last.
    pub(super) fn may_write(&self, now: Time) -> Option<u64> {
        self.writing.token().filter(|_| now < self.writing.until())
    }

    #[cfg(test)]
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.local.as_ref().map(|local| local.incarnation)
    }

    #[cfg(test)]
    pub(super) fn break_it(&mut self, defect: Defect) {
        self.defects.plant(defect);
    }
}
