//! Static membership without I/O: takes what was heard and a time, returns what to do.
//!
//! Everything works by calls: a *start* to an address where no member is known, a *ping* to each member once in an
//! interval. A reply is proof that its sender is alive, and the only thing that makes it a member; a call of its own
//! keeps a known member alive and makes an unknown one worth a call.

mod list;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tribes_core::wire::java::MemberMessageKind as Kind;
use tribes_core::{Departure, Member, MemberEvent, MemberId, Time};

use self::list::List;
use super::counters::Counters;
use super::{StaticConfig, StaticPeer};

/// Unlisted addresses that may be called at the same time.
const STRANGERS: usize = 256;
/// Calls without an answer that are remembered.
const CALLS: usize = 1 << 16;

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Find the addresses of `addr`, and report with [`Core::resolved`].
    Resolve {
        /// `HOST:PORT`.
        addr: String,
    },
    /// Send a call; its reply comes to [`Core::reply`] with the same number.
    Call {
        /// Names the call.
        call: u64,
        /// Start or ping.
        kind: Kind,
        /// To whom; the id may be a guess.
        to: Arc<Member>,
        /// Whether to find out first that something listens there; if nothing does, report with [`Core::unreachable`].
        connect_first: bool,
    },
    /// Answer a call.
    Reply {
        /// To whom.
        to: Arc<Member>,
        /// As in the call.
        kind: Kind,
        /// The id of the call.
        id: Bytes,
    },
    /// Tell these that the local member leaves.
    Farewell {
        /// Whom.
        to: Vec<Arc<Member>>,
    },
    /// Tell the stack.
    Raise(MemberEvent),
}

/// A message of the exchange.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// What.
    pub(super) kind: Kind,
    /// The member within the message.
    pub(super) member: Member,
    /// The sender of the message.
    pub(super) sender: Arc<Member>,
}

#[derive(Debug)]
pub(super) struct Core {
    config: StaticConfig,
    counters: Arc<Counters>,
    local: Arc<Member>,
    running: bool,
    list: List,
    members: BTreeMap<Arc<Member>, Entry>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    /// Unlisted addresses that were called, and when.
    strangers: BTreeMap<SocketAddr, Time>,
    /// Who stopped, and when.
    gone: BTreeMap<Arc<Member>, Time>,
    /// The next round of pings and attempts.
    round: Time,
    /// Nobody expires before.
    expiry: Time,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Member>,
    heard: Time,
}

#[derive(Debug)]
struct Call {
    at: Time,
    addr: Option<SocketAddr>,
    /// The peer of the list that was called.
    peer: Option<String>,
    /// The only id that will do.
    id: Option<MemberId>,
}

impl Core {
    pub(super) fn new(config: StaticConfig, local: Arc<Member>, counters: Arc<Counters>) -> Self {
        Self {
            list: List::new(config.peers.clone()),
            config,
            counters,
            local,
            running: false,
            members: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            strangers: BTreeMap::new(),
            gone: BTreeMap::new(),
            round: Time::NEVER,
            expiry: Time::NEVER,
        }
    }

    /// Begins; the first attempts are made now.
    pub(super) fn start(&mut self, now: Time, out: &mut Vec<Action>) {
        self.running = true;
        self.round = now;
        self.tick(now, out);
    }

    /// Ends: the members are told, and forgotten.
    pub(super) fn stop(&mut self, out: &mut Vec<Action>) {
        if !std::mem::take(&mut self.running) {
            return;
        }
        let members = std::mem::take(&mut self.members);
        if !members.is_empty() {
            out.push(Action::Farewell { to: members.values().map(|entry| Arc::clone(&entry.record)).collect() });
        }
        for (_, entry) in members {
            out.push(Action::Raise(MemberEvent::Removed(entry.record, Departure::Stopped)));
        }
        self.round = Time::NEVER;
        self.expiry = Time::NEVER;
        self.calls.clear();
        self.strangers.clear();
        self.gone.clear();
        self.count();
    }

    pub(super) fn set_local(&mut self, local: Arc<Member>, now: Time, out: &mut Vec<Action>) {
        let changed = !self.local.same_content(&local);
        self.local = local;
        if changed && self.running {
            // The next pings carry it: send them now.
            self.round = now;
            self.tick(now, out);
        }
    }

    /// The list changed. Members that are only known from an address no longer in it are removed.
    pub(super) fn set_peers(&mut self, peers: Vec<StaticPeer>, now: Time, out: &mut Vec<Action>) {
        self.list.set(peers, now);
        let excluded: Vec<_> = self.members.keys().filter(|member| self.list.is_excluded(member)).cloned().collect();
        for member in excluded {
            out.push(Action::Farewell { to: vec![Arc::clone(&member)] });
            self.remove(&member, Departure::Excluded, out);
        }
        if self.running {
            self.attempt_peers(now, out);
        }
        self.tick(now, out);
    }

    /// A name was resolved; no addresses if it could not be.
    pub(super) fn resolved(&mut self, name: &str, addrs: Vec<SocketAddr>, now: Time, out: &mut Vec<Action>) {
        let own_until = now + self.config.expiration;
        let (addrs, id) = self.list.resolved(name, addrs, self.local.addr(), own_until, &self.members);
        if self.running {
            for addr in addrs {
                let to = Arc::new(Member::new(id.unwrap_or(MemberId::ZERO), addr));
                self.call(Kind::Start, to, Some(name.to_owned()), id, now, out);
            }
        }
    }

    /// Nothing listens where a call was to go.
    pub(super) fn unreachable(&mut self, call: u64) {
        if let Some(addr) = self.calls.remove(&call).and_then(|call| call.addr) {
            self.strangers.remove(&addr);
        }
        self.counters.unreachable.add();
    }

    /// A call came.
    pub(super) fn request(&mut self, said: Said, id: Bytes, now: Time, out: &mut Vec<Action>) {
        if !self.running || !self.is_honest(&said) || said.sender == self.local {
            return;
        }
        if self.list.is_excluded(&said.sender) {
            return self.counters.refused.add();
        }
        if said.kind == Kind::Start {
            // A new life under an old id, as Java's static members have it.
            self.gone.remove(&said.sender);
        } else if self.gone.contains_key(&said.sender) {
            return;
        }
        out.push(Action::Reply { to: Arc::clone(&said.sender), kind: said.kind, id });
        if self.members.contains_key(&said.sender) {
            self.alive(Arc::new(said.member), now, out);
        } else {
            self.stranger(&said.sender, now, out);
        }
        self.tick(now, out);
    }

    /// A reply came, to the call with this number if it was one of this run.
    pub(super) fn reply(&mut self, call: Option<u64>, said: Said, now: Time, out: &mut Vec<Action>) {
        if !self.running || !self.is_honest(&said) {
            return;
        }
        let Some(call) = call.and_then(|call| self.calls.remove(&call)) else {
            return self.counters.late_replies.add();
        };
        self.replied(call, said, now, out);
        self.tick(now, out);
    }

    fn replied(&mut self, call: Call, said: Said, now: Time, out: &mut Vec<Action>) {
        let member = Arc::new(said.member);
        if member == self.local {
            // Another spelling of this very process.
            if let Some(name) = call.peer {
                self.list.is_own(&name, now + self.config.expiration);
            }
            return;
        }
        if call.id.is_some_and(|id| id != member.id()) {
            return self.counters.wrong_id.add();
        }
        if self.gone.get(&member).is_some_and(|left| *left >= call.at) {
            return self.counters.late_replies.add();
        }
        if let Some(name) = &call.peer {
            self.list.answered(name, &member);
        }
        if !self.members.contains_key(&member) {
            if self.list.is_excluded(&member) {
                return;
            }
            // Whoever had the address before is gone: another process answered there.
            if member.addr().is_some() && call.addr == member.addr() {
                for former in self.at_address_of(&member) {
                    self.remove(&former, Departure::Failed, out);
                }
            }
            if self.members.len() >= self.config.max_members {
                return self.counters.refused.add();
            }
        }
        self.gone.remove(&member);
        self.alive(member, now, out);
    }

    /// A member said that it stops.
    pub(super) fn stopped(&mut self, said: &Said, now: Time, out: &mut Vec<Action>) {
        if self.running && self.is_honest(said) {
            self.departed(&said.sender, now, out);
        }
    }

    /// A member left on purpose: believed at once, and reported once, however often it is said.
    pub(super) fn departed(&mut self, member: &Arc<Member>, now: Time, out: &mut Vec<Action>) {
        if let Some((member, _)) = self.members.get_key_value(member) {
            let member = Arc::clone(member);
            self.gone.insert(Arc::clone(&member), now);
            self.remove(&member, Departure::Shutdown, out);
        }
        self.tick(now, out);
    }

    /// Something speaks against a member: ask it now. It stays until it has expired; the failure detector is quicker.
    pub(super) fn suspected(&mut self, member: &Member, now: Time, out: &mut Vec<Action>) {
        if let Some(entry) = self.members.get(member) {
            self.call(Kind::Ping, Arc::clone(&entry.record), None, None, now, out);
        }
        self.tick(now, out);
    }

    /// A process connected and named itself.
    pub(super) fn heard_of(&mut self, member: &Arc<Member>, now: Time, out: &mut Vec<Action>) {
        let known = self.members.contains_key(member) || self.gone.contains_key(member);
        if self.running && !known && *member != self.local {
            self.stranger(member, now, out);
        }
        self.tick(now, out);
    }

    /// When [`tick`](Self::tick) is to be called next, at the latest.
    pub(super) fn deadline(&self) -> Time {
        self.round.min(self.expiry)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        if !self.running {
            return;
        }
        if self.expiry <= now {
            self.expire(now, out);
        }
        if self.round <= now {
            self.round = now + self.config.ping_interval;
            for member in self.members.values().map(|entry| Arc::clone(&entry.record)).collect::<Vec<_>>() {
                self.call(Kind::Ping, member, None, None, now, out);
            }
            self.attempt_peers(now, out);
        }
        self.count();
    }

    /// Looks for the peers of the list that are not there.
    fn attempt_peers(&mut self, now: Time, out: &mut Vec<Action>) {
        for addr in self.list.attempts(&self.members, now) {
            out.push(Action::Resolve { addr });
        }
    }

    /// Somebody unknown called or connected: call back, since only a reply from the address it claims makes a member.
    fn stranger(&mut self, member: &Arc<Member>, now: Time, out: &mut Vec<Action>) {
        let Some(addr) = member.addr().filter(|addr| Some(*addr) != self.local.addr()) else {
            return self.counters.refused.add();
        };
        let entry = self.list.entry_of(addr).map(|(name, id)| (name.to_owned(), id));
        let (name, id) = entry.map(|(name, id)| (Some(name), id)).unwrap_or_default();
        let unwelcome = name.is_none() && (!self.config.accept_unlisted || self.list.is_excluded(member));
        if unwelcome || self.members.len() >= self.config.max_members {
            return self.counters.refused.add();
        }
        if id.is_some_and(|id| id != member.id()) {
            return self.counters.wrong_id.add();
        }
        let pause = self.config.ping_interval / 2;
        if self.strangers.get(&addr).is_some_and(|called| now.since(*called) < pause) {
            return;
        }
        if self.strangers.len() >= STRANGERS {
            self.strangers.retain(|_, called| now.since(*called) < pause);
            if self.strangers.len() >= STRANGERS {
                return self.counters.refused.add();
            }
        }
        self.strangers.insert(addr, now);
        self.call(Kind::Start, Arc::clone(member), name, Some(member.id()), now, out);
    }

    fn call(
        &mut self,
        kind: Kind,
        to: Arc<Member>,
        peer: Option<String>,
        id: Option<MemberId>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        if self.calls.len() >= CALLS {
            self.calls.pop_first();
        }
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, Call { at: now, addr: to.addr(), peer, id });
        self.expiry = self.expiry.min(now + self.config.expiration);
        let connect_first = kind == Kind::Start;
        out.push(Action::Call { call, kind, to, connect_first });
    }

    /// `member` is alive, and this is its newest record.
    fn alive(&mut self, member: Arc<Member>, now: Time, out: &mut Vec<Action>) {
        let Some(entry) = self.members.get_mut(&member) else {
            let entry = Entry { record: Arc::clone(&member), heard: now };
            self.members.insert(Arc::clone(&member), entry);
            self.expiry = self.expiry.min(now + self.config.expiration);
            return out.push(Action::Raise(MemberEvent::Added(member)));
        };
        entry.heard = now;
        if !entry.record.same_content(&member) {
            entry.record = Arc::clone(&member);
            out.push(Action::Raise(MemberEvent::Updated(member)));
        }
    }

    fn remove(&mut self, member: &Member, why: Departure, out: &mut Vec<Action>) {
        if let Some(entry) = self.members.remove(member) {
            if let Some(addr) = member.addr() {
                self.strangers.remove(&addr);
            }
            out.push(Action::Raise(MemberEvent::Removed(entry.record, why)));
        }
    }

    fn expire(&mut self, now: Time, out: &mut Vec<Action>) {
        let limit = self.config.expiration;
        if now.since(self.expiry) >= limit / 2 {
            // This process itself stood still: nobody could be heard.
            self.members.values_mut().for_each(|entry| entry.heard = now);
        }
        let silent = |entry: &&Entry| now.since(entry.heard) >= limit;
        let expired: Vec<_> = self.members.values().filter(silent).map(|entry| Arc::clone(&entry.record)).collect();
        for member in expired {
            self.remove(&member, Departure::Expired, out);
        }
        self.calls.retain(|_, call| now.since(call.at) < limit);
        self.gone.retain(|_, at| now.since(*at) < limit);
        let heard = self.members.values().map(|entry| entry.heard);
        let others = self.calls.values().map(|call| call.at).chain(self.gone.values().copied());
        self.expiry = heard.chain(others).min().map_or(Time::NEVER, |at| at + limit);
    }

    fn at_address_of(&self, member: &Member) -> Vec<Arc<Member>> {
        let bound = |id| Member::from_parts(MemberId::from_bytes(id), member.host().clone(), member.port());
        self.members.range(bound([0; 16])..=bound([0xFF; 16])).map(|(known, _)| Arc::clone(known)).collect()
    }

    /// Whether the member in the message is its sender: nobody speaks for others.
    fn is_honest(&self, said: &Said) -> bool {
        let honest = said.member == *said.sender;
        if !honest {
            self.counters.dishonest.add();
        }
        honest
    }

    fn count(&self) {
        self.counters.members.set(self.members.len());
        self.counters.calls_open.set(self.calls.len());
    }
}
