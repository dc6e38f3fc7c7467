//! Agreement without I/O: takes events, messages and the time; says what is to be sent, and what the application is told.
//!
//! | file | what |
//! |---|---|
//! | `mod` | inputs, and what follows from them |
//! | `peers` | what is known of the others, and with whom this member is in touch |
//! | `lead` | proposals: asking all members for a promise, and telling them |
//! | `decide` | what is agreed on when all have promised |
//! | `follow` | promises to others, the installing of views, and whom to follow |
//! | `writing` | when this side may write |
//! | `outbox` | what is to be sent |

mod decide;
mod defects;
mod follow;
mod lead;
mod outbox;
mod peers;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tribes_core::{Departure, Member, MemberEvent, Time};

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
use super::wire::{Kind, Message};
use super::{AgreedView, AgreedViewsConfig, Seat, Standing, StopReason, ViewEvent};

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
    max_token: u64,
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
}

impl Core {
    pub(super) fn new(config: AgreedViewsConfig, policy: Arc<dyn QuorumPolicy>, leased: bool) -> Self {
        Self {
            config,
            policy,
            local: None,
            started: Time::ZERO,
            peers: BTreeMap::new(),
            passed_by: BTreeSet::new(),
            promised: 0,
            promised_to: None,
            view: None,
            chain: Vec::new(),
            max_token: 0,
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
        self.promised = self.promised.max(floor);
        self.local = Some(Seat::new(local, incarnation));
        (self.started, self.next_beat) = (now, now);
        self.assess(now);
    }

    /// The channel stops. Who is to be told, and whether that one gets the vote.
    pub(super) fn stop(&mut self, now: Time) -> Vec<(Arc<Member>, Message)> {
        let mut told = Vec::new();
        if let (Some(local), Some(installed)) = (&self.local, &self.view) {
            let others = || installed.seats.iter().filter(|seat| !seat.is(local));
            // The leader; for the leader itself, the next one that it is in touch with.
            let leads = installed.view.leader == local.member;
            let heir =
                others().find(|seat| (leads && self.is_in_touch(seat, now)) || installed.view.leader == seat.member);
            for seat in others() {
                let kind = Kind::Leave { consent: heir.is_some_and(|heir| heir.is(seat)) };
                told.push((Arc::clone(&seat.member), Message { incarnation: local.incarnation, kind }));
            }
        }
        self.end_writing(StopReason::Stopped);
        let policy = Arc::clone(&self.policy);
        let fresh = Self::new(self.config.clone(), policy, self.writing.is_leased());
        let old = std::mem::replace(self, fresh);
        // The next start is another process to the others; what it promised it keeps all the same.
        (self.promised, self.max_token) = (old.promised, old.max_token);
        (self.events, self.counts, self.defects) = (old.events, old.counts, old.defects);
        self.writing.take_releases(old.writing);
        told
    }

    /// Forgets which views were allowed to write, and with it who has to be there for the next one.
    pub(super) fn forget(&mut self, now: Time) {
        self.chain.clear();
        if let Some(local) = &mut self.local {
            local.remembers = false;
            // Whoever leads has to ask again.
            if self.view.as_ref().is_some_and(|installed| !installed.view.primary) {
                self.promised += 1;
                self.promised_to = None;
                self.tell_all();
            }
        }
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

    fn removed(&mut self, member: &Arc<Member>, peer: &Peer, why: Departure) {
        let Some(installed) = &mut self.view else { return };
        let Some(seat) = installed.seats.iter().find(|seat| seat.member == *member) else { return };
        if why == Departure::Shutdown || peer.left {
            if !installed.left.contains(seat) {
                installed.left.push(seat.clone());
            }
        } else {
            installed.vanished.insert(Arc::clone(member));
        }
    }

    /// A message came from `sender`.
    pub(super) fn received(&mut self, sender: &Member, message: Message, now: Time) {
        let Some(local) = &self.local else { return };
        let me = local.incarnation;
        if let Kind::Leave { consent } = message.kind {
            // Membership may have told already, which leaves nothing of the peer.
            self.left(sender, message.incarnation, consent);
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

    /// A member leaves on purpose, and has stopped writing.
    fn left(&mut self, member: &Member, incarnation: u64, consent: bool) {
        if let Some(peer) = self.peers.get_mut(member).filter(|peer| peer.incarnation == Some(incarnation)) {
            peer.left = true;
        }
        let Some(installed) = &mut self.view else { return };
        let seat = installed.seats.iter().find(|seat| *seat.member == *member && seat.incarnation == incarnation);
        let Some(seat) = seat.cloned() else { return };
        self.counts.received += 1;
        if consent && !installed.voted.contains(&seat) {
            installed.voted.push(seat.clone());
        }
        if !installed.stopped.contains(&seat) {
            installed.stopped.push(seat.clone());
        }
        if !installed.left.contains(&seat) {
            installed.left.push(seat);
        }
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

    /// When something is to be done; [`Time::NEVER`] if nothing is.
    pub(super) fn deadline(&self, now: Time) -> Time {
        if self.local.is_none() {
            return Time::NEVER;
        }
        let wanted = self.wanted_since.map(|since| since + self.config.settle).filter(|at| *at > now);
        [wanted, self.round.as_ref().map(Round::next), self.writing.deadline(now)]
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

    /// Tells once of each member of the view that has vanished.
    fn miss(&mut self, local: &Seat, now: Time) {
        let Some(installed) = &self.view else { return };
        // Who has just come need not have been heard yet.
        let is_fresh = now < installed.at + self.config.silence;
        let lost = installed.seats.iter().filter(|seat| {
            let gone = installed.vanished.contains(&seat.member) || (!is_fresh && !self.is_in_touch(seat, now));
            !seat.is(local) && gone && !installed.left.contains(seat) && !installed.told.contains(&seat.member)
        });
        let missing: Vec<_> = lost.map(|seat| Arc::clone(&seat.member)).collect();
        if missing.is_empty() {
            return;
        }
        let view = installed.view.id;
        if let Some(installed) = &mut self.view {
            installed.told.extend(missing.iter().cloned());
        }
        self.tell(ViewEvent::PartitionSuspected { view, missing });
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
