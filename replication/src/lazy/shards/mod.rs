//! The shards of one member without I/O: which it is to hold, a replica of each that it holds, and when it may let one go.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | what is kept, and the ways in |
//! | `others` | who else has the map |
//! | `taking` | taking shards over, a few at a time |
//! | `release` | letting one go when those that are to hold it have all of it |
//!
//! Each shard at each member that holds it is a [replica](crate::core) of its own, and the holders of a shard are a group
//! of replicas like that of a map that everybody holds. So a write at any holder is right, whoever is taken for the
//! primary; that the primary writes only keeps conflicts rare.

mod others;
mod release;
mod taking;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, MemberId, Time};

use self::others::Other;
use super::message::Notice;
use super::placement::SHARDS;
use crate::core::{Action, Core, Diffs, Now, Tuning};
use crate::message::{Envelope, Message};
use crate::store::Keeping;
use crate::version::Incarnation;

/// What a member's shards go by.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) keeping: Keeping,
    pub(crate) tuning: Tuning,
    pub(crate) diffs: Arc<dyn Diffs>,
    /// Members that hold a key, the primary counted.
    pub(crate) copies: usize,
    /// Shards that are fetched at the same time.
    pub(crate) fetches: usize,
    /// Bytes of shards fetched in a second, about.
    pub(crate) fetch_rate: u64,
    /// How long it waits for company before it looks who is to hold what.
    pub(crate) settle: Duration,
}

/// What to do, in this order.
#[derive(Debug)]
pub(crate) enum Out {
    /// For members, from the replica of a shard.
    Replica {
        shard: usize,
        to: Vec<Arc<Member>>,
        envelope: Envelope,
    },
    Notice {
        to: Arc<Member>,
        notice: Notice,
    },
    /// As [`Notice::Here`] from this member: whoever has no such map says so.
    Greet {
        to: Arc<Member>,
        notice: Notice,
    },
    /// What else a replica wants.
    Of {
        shard: usize,
        action: Action,
    },
    /// This member holds what it is to hold.
    Ready,
    /// This member, which is leaving, holds nothing any more.
    Released,
}

/// See the [module](self).
pub(crate) struct Shards {
    me: MemberId,
    /// The incarnations of replicas come from it.
    seed: u64,
    opened: u64,
    rules: Rules,
    others: BTreeMap<Arc<Member>, Other>,
    shards: Vec<Shard>,
    leaving: bool,
    closed: bool,
    /// Whether it was looked once who is to hold what.
    placed: bool,
    /// Whether it was said that this member is ready, and that all is released.
    said_ready: bool,
    said_released: bool,
    /// When it is looked again who is to hold what.
    place_at: Time,
    /// Until then it waits for members to appear, and for those that are there to answer.
    alone_until: Time,
    until: Time,
    /// Before that no shard is fetched.
    fetch_at: Time,
    /// When those that are to hold what this member does not are asked again.
    release_at: Time,
    /// When all are told again that this member has the map, and whether it is leaving.
    say_at: Time,
    /// Shards that something happened to, a bit each.
    touched: u64,
    out: VecDeque<Out>,
    pub(crate) counts: Counts,
}

/// One shard, as this member sees it.
#[derive(Default)]
pub(crate) struct Shard {
    /// Who is to hold it apart from this member, the first the primary if this member is not.
    pub(crate) holders: Vec<Arc<Member>>,
    /// Whether this member is to hold it, and as the how-manieth.
    pub(crate) rank: Option<usize>,
    pub(crate) core: Option<Core>,
    was_ready: bool,
    wake: Option<Time>,
    /// Who holds all that this replica had seen at a turn of its, and at which.
    granted: BTreeMap<Arc<Member>, u64>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Shards taken over, with their bytes.
    pub(crate) taken: u64,
    pub(crate) taken_bytes: u64,
    /// Shards let go after others had them.
    pub(crate) released: u64,
    pub(crate) ignored: u64,
}

/// Whom to ask about a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The members that are to hold it and are there, the primary first; `None` is this one.
    pub(crate) holders: Vec<Option<Arc<Member>>>,
    /// Whether a replica is here that has all.
    pub(crate) here: bool,
    /// Another that has, as far as is known.
    pub(crate) elsewhere: Option<Arc<Member>>,
    /// All others that have the map: one of them may not have let the shard go yet.
    pub(crate) others: Vec<Arc<Member>>,
}

impl Shards {
    pub(crate) fn new(me: MemberId, seed: u64, rules: Rules, now: Now) -> Self {
        let (company, greeting) = (rules.tuning.company, rules.tuning.greeting);
        Self {
            me,
            seed,
            opened: 0,
            rules,
            others: BTreeMap::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            leaving: false,
            closed: false,
            placed: false,
            said_ready: false,
            said_released: false,
            place_at: now.time,
            alone_until: now.time + company.min(greeting),
            until: now.time + greeting,
            fetch_at: Time::ZERO,
            release_at: Time::ZERO,
            say_at: now.time,
            touched: 0,
            out: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The shards, by number.
    pub(crate) fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// The replica of a shard, if it is here.
    pub(crate) fn core(&mut self, shard: usize) -> Option<&mut Core> {
        self.touched |= 1 << shard;
        self.shards.get_mut(shard)?.core.as_mut()
    }

    /// The replica of a shard, if it is here and has all.
    pub(crate) fn ready_core(&mut self, shard: usize) -> Option<&mut Core> {
        self.core(shard).filter(|core| core.is_ready())
    }

    /// For a look only.
    pub(crate) fn look(&self, shard: usize) -> Option<&Core> {
        self.shards.get(shard)?.core.as_ref().filter(|core| core.is_ready())
    }

    pub(crate) fn route(&self, shard: usize) -> Route {
        let Some(shard) = self.shards.get(shard) else {
            return Route { holders: Vec::new(), here: false, elsewhere: None, others: Vec::new() };
        };
        let present = shard.holders.iter().filter(|member| self.others.get(*member).is_some_and(Other::has));
        let mut holders: Vec<_> = present.cloned().map(Some).collect();
        if let Some(rank) = shard.rank {
            holders.insert(rank.min(holders.len()), None);
        }
        let core = shard.core.as_ref();
        let elsewhere = core.and_then(Core::ready_peer);
        let has = |other: &Other| matches!(other, Other::Has { .. });
        let others = self.others.iter().filter(|(_, other)| has(other)).map(|(member, _)| Arc::clone(member)).collect();
        Route { holders, here: core.is_some_and(Core::is_ready), elsewhere, others }
    }

    /// The member of this id, if it is there.
    pub(crate) fn member(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.others.keys().find(|member| member.id() == id)
    }

    /// A notice of `from` came.
    pub(crate) fn received(&mut self, from: &Arc<Member>, notice: Notice, now: Now) {
        if self.closed {
            return;
        }
        // Not of the group, or no more: if it comes back, it says so again. Nobody would take back what is done on its word.
        if !self.others.contains_key(from) {
            self.counts.ignored += 1;
            return;
        }
        match notice {
            Notice::Here { reply, leaving } => self.here(from, reply, leaving, now),
            Notice::Bye => self.has_not(from, Time::NEVER, now),
            Notice::Replica { shard, envelope } => self.replica_said(from, shard, envelope, now),
            Notice::NotHeld { shard } => {
                if let Some(core) = self.core(shard) {
                    core.has_no_map(from, Time::NEVER, now);
                    core.member_removed(from, true, now);
                }
                if let Some(shard) = self.shards.get_mut(shard) {
                    shard.granted.remove(from);
                }
            }
            Notice::Release { shard, asker, number, seen } => {
                self.asked_for(from, shard, (asker, number), &seen, now);
            }
            Notice::Granted { shard, asker, number } => {
                let to_go = self.is_to_go(shard);
                if let Some(shard) = self.shards.get_mut(shard).filter(|_| to_go)
                    && shard.core.as_ref().is_some_and(|core| core.me() == asker)
                {
                    shard.granted.insert(Arc::clone(from), number);
                }
                self.release(now);
            }
        }
    }

    fn replica_said(&mut self, from: &Arc<Member>, shard: usize, envelope: Envelope, now: Now) {
        if let Some(core) = self.core(shard) {
            return core.received(from, envelope, now);
        }
        // Answered once: whoever opens a replica here says so by itself.
        if matches!(envelope.message, Message::Hello(_)) {
            self.notice(from, Notice::NotHeld { shard });
        } else if !matches!(envelope.message, Message::Bye) {
            self.counts.ignored += 1;
            self.notice(from, Notice::NotHeld { shard });
        }
    }

    /// Hands everything over to the others, and takes nothing any more; [`Out::Released`] says when it is done.
    pub(crate) fn leave(&mut self, now: Now) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.say_at = now.time;
            self.place_at = now.time;
            self.tick(now);
        }
    }

    /// This member has the map no more.
    pub(crate) fn close(&mut self, now: Now) {
        for number in 0..SHARDS {
            if let Some(core) = self.core(number) {
                core.close(now);
            }
        }
        self.collect(now);
        let others: Vec<_> = self.others.iter().filter(|(_, other)| other.may_have()).map(|(o, _)| o.clone()).collect();
        others.iter().for_each(|other| self.notice(other, Notice::Bye));
        self.closed = true;
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) {
        if self.closed {
            return;
        }
        self.greet_others(now);
        for number in 0..SHARDS {
            let due = self.shards.get(number).and_then(|shard| shard.wake).is_some_and(|wake| wake <= now.time);
            if let Some(core) = self.core_if(number, due) {
                core.tick(now);
            }
        }
        self.place(now);
        self.collect(now);
        self.take_over(now);
        self.release(now);
    }

    fn core_if(&mut self, number: usize, condition: bool) -> Option<&mut Core> {
        if condition { self.core(number) } else { None }
    }

    /// When [`tick`](Self::tick) has something to do, at the latest.
    pub(crate) fn next_wake(&self) -> Time {
        if self.closed {
            return Time::NEVER;
        }
        let shards = self.shards.iter().filter_map(|shard| shard.wake);
        let others = self.others.values().map(Other::due);
        let own = [self.placement_due(), self.taking_due(), self.release_due(), self.say_at];
        shards.chain(others).chain(own).min().unwrap_or(Time::NEVER)
    }

    /// What is to be done; asked for until it is empty.
    pub(crate) fn actions(&mut self, now: Now) -> VecDeque<Out> {
        self.collect(now);
        self.say_how_far();
        std::mem::take(&mut self.out)
    }

    /// Takes out of the replicas what they want done.
    fn collect(&mut self, now: Now) {
        let touched = std::mem::take(&mut self.touched);
        for number in (0..SHARDS).filter(|number| touched >> number & 1 == 1) {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            let Some(core) = &mut shard.core else { continue };
            for action in core.actions(false) {
                self.out.push_back(match action {
                    Action::Send { to, envelope } => Out::Replica { shard: number, to, envelope },
                    action => Out::Of { shard: number, action },
                });
            }
            shard.wake = Some(core.next_wake());
            if core.is_ready() && !std::mem::replace(&mut shard.was_ready, true) {
                let bytes = core.store.census().bytes as u64;
                self.fetched(bytes, now);
            }
        }
    }

    /// Says so when this member is ready, or has nothing any more.
    fn say_how_far(&mut self) {
        if !self.said_ready && self.placed && self.shards.iter().all(|shard| shard.rank.is_none() || shard.was_ready) {
            self.said_ready = true;
            self.out.push_back(Out::Ready);
        }
        if self.leaving && !self.said_released && self.has_nothing() {
            self.said_released = true;
            self.out.push_back(Out::Released);
        }
    }

    fn notice(&mut self, to: &Arc<Member>, notice: Notice) {
        self.out.push_back(Out::Notice { to: Arc::clone(to), notice });
    }

    /// A name for a replica that none had before.
    fn incarnation(&mut self) -> Incarnation {
        self.opened += 1;
        let number = xxhash_rust::xxh3::xxh3_64_with_seed(&self.opened.to_be_bytes(), self.seed);
        Incarnation::new(number.max(1))
    }
}
