//! A group of replicas in a world that a seed decides: no channel, no runtime, so that a seed takes a few milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::member::REVISION;
use tribes_core::{Member, MemberId, Time};

use crate::core::{Action, Core, Diffs, Now, OpReport, Tuning};
use crate::message::{Envelope, Message};
use crate::store::Keeping;
use crate::version::{Incarnation, Version};

const WALL: u64 = 1_767_225_600_000;
/// How often members are looked after.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// How messages fare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Net {
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    /// How probably a message finds no room in the sender's queue.
    pub(crate) full: f64,
}

/// What is wrong on purpose, so that the checkers have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// A restarted process goes on with the incarnation it had, and counts from one.
    VersionReused,
    /// Whoever is asked for a bucket leaves out its first entry, and says that this was all.
    KeySkipped,
    /// Removals are forgotten as soon as possible, also what they removed.
    RemovalForgotten,
    /// What changed of a value counts as applied, and is not.
    DiffLost,
}

/// Diffs in a world: what is added at the end.
struct Appended {
    lost: bool,
}

impl Diffs for Appended {
    fn apply(&self, base: &Arc<[u8]>, diff: &[u8]) -> Option<Arc<[u8]>> {
        Some(if self.lost { Arc::clone(base) } else { [base, diff].concat().into() })
    }
}

/// A message on its way from one process to another.
#[derive(Clone)]
struct Flight {
    from: usize,
    sender: Arc<Member>,
    to: usize,
    receiver: Arc<Member>,
    bytes: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) core: Option<Core>,
    pub(crate) member: Arc<Member>,
    incarnation: Incarnation,
    wake: Time,
    pub(crate) frozen: bool,
    held_back: Vec<Flight>,
    skew_ms: i64,
    heard: BTreeMap<usize, Time>,
    /// Whom its channel has in its view, and as whom.
    view: BTreeMap<usize, Arc<Member>>,
    starts: u32,
}

/// What a replica told its application.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Changed { node: usize, key: Box<[u8]>, latest: Option<(Version, bool)> },
    Done { node: usize, op: u64, report: OpReport },
}

pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    cut: BTreeSet<(usize, usize)>,
    /// By time and a number.
    flights: BTreeMap<(Time, u64), Flight>,
    last_arrival: BTreeMap<(usize, usize), Time>,
    next: u64,
    next_heartbeat: Time,
    pub(crate) told: Vec<Told>,
    pub(crate) trace: Vec<String>,
    pub(crate) tuning: Tuning,
    pub(crate) keeping: Keeping,
    pub(crate) defect: Defect,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
}

impl World {
    pub(crate) fn new(seed: u64, tuning: Tuning, keeping: Keeping) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now: Time::from_millis(1_000_000),
            nodes: Vec::new(),
            net: Net::default(),
            cut: BTreeSet::new(),
            flights: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            next: 0,
            next_heartbeat: Time::from_millis(1_000_000),
            told: Vec::new(),
            trace: Vec::new(),
            tuning,
            keeping,
            defect: Defect::None,
            sent: 0,
            sent_bytes: 0,
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.trace.push(format!("{:>12} {text}", self.now.as_nanos() / 1_000));
    }

    /// A process that has not started.
    pub(crate) fn add(&mut self, skew_ms: i64) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node {
            core: None,
            member: member(number, 0),
            incarnation: Incarnation::new(0),
            wake: Time::NEVER,
            frozen: false,
            held_back: Vec::new(),
            skew_ms,
            heard: BTreeMap::new(),
            view: BTreeMap::new(),
            starts: 0,
        });
        number
    }

    fn now_at(&self, node: usize) -> Now {
        let ms = i64::try_from(self.now.as_nanos() / 1_000_000).unwrap();
        Now { time: self.now, wall_ms: (WALL as i64 + ms + self.nodes[node].skew_ms) as u64 }
    }

    /// Opens the map at `node`, empty. With `same_id` the process is known by the id it had.
    pub(crate) fn start(&mut self, node: usize, same_id: bool) {
        let now = self.now_at(node);
        let drawn = Incarnation::new(self.rng.u64(1..));
        let state = &mut self.nodes[node];
        state.starts += 1;
        if !same_id {
            state.member = member(node, state.starts);
        }
        if self.defect != Defect::VersionReused || state.starts == 1 {
            state.incarnation = drawn;
        }
        let diffs = Arc::new(Appended { lost: self.defect == Defect::DiffLost });
        let core = Core::new(state.incarnation, self.keeping, self.tuning.clone(), diffs, now);
        state.core = Some(core);
        state.heard.clear();
        state.view.clear();
        state.held_back.clear();
        state.wake = self.now;
        self.note(&format!("start {node}"));
        self.settle(node);
    }

    /// The process is gone, with all it knew.
    pub(crate) fn crash(&mut self, node: usize) {
        self.note(&format!("crash {node}"));
        let state = &mut self.nodes[node];
        state.core = None;
        state.view.clear();
        state.heard.clear();
        state.held_back.clear();
        state.frozen = false;
    }

    pub(crate) fn freeze(&mut self, node: usize, frozen: bool) {
        self.note(&format!("{} {node}", if frozen { "freeze" } else { "thaw" }));
        self.nodes[node].frozen = frozen;
        if !frozen {
            for flight in std::mem::take(&mut self.nodes[node].held_back) {
                self.deliver(flight);
            }
            self.nodes[node].wake = self.now;
        }
    }

    /// Messages from one of `from` to one of `to` vanish.
    pub(crate) fn cut(&mut self, from: &[usize], to: &[usize]) {
        self.note(&format!("cut {from:?} -> {to:?}"));
        for &a in from {
            self.cut.extend(to.iter().filter(|b| **b != a).map(|&b| (a, b)));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.note("heal");
        self.cut.clear();
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// Has the application at `node` do something.
    pub(crate) fn at<T>(&mut self, node: usize, act: impl FnOnce(&mut Core, Now) -> T) -> T {
        let now = self.now_at(node);
        let result = act(self.nodes[node].core.as_mut().unwrap(), now);
        self.settle(node);
        result
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            let flight = self.flights.keys().next().map_or(Time::NEVER, |(at, _)| *at);
            let awake = |node: &&Node| node.core.is_some() && !node.frozen;
            let wake = self.nodes.iter().filter(awake).map(|node| node.wake).min().unwrap_or(Time::NEVER);
            let next = flight.min(wake).min(self.next_heartbeat);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if next == self.next_heartbeat {
                self.next_heartbeat = self.now + HEARTBEAT;
                self.heartbeat();
            } else if next == flight {
                let Some((_, flight)) = self.flights.pop_first() else { continue };
                self.deliver(flight);
            } else {
                for node in 0..self.nodes.len() {
                    if self.nodes[node].wake <= self.now && self.is_up(node) && !self.nodes[node].frozen {
                        self.at(node, Core::tick);
                    }
                }
            }
        }
        self.now = until;
    }

    fn heartbeat(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.is_up(at) || self.nodes[at].frozen {
                continue;
            }
            for other in 0..self.nodes.len() {
                if other == at {
                    continue;
                }
                let heard = self.is_up(other) && !self.nodes[other].frozen && !self.cut.contains(&(other, at));
                let member = Arc::clone(&self.nodes[other].member);
                let known = self.nodes[at].view.get(&other).cloned();
                if heard {
                    self.nodes[at].heard.insert(other, self.now);
                    if known.as_ref() == Some(&member) {
                        continue;
                    }
                    if let Some(gone) = known {
                        self.at(at, |core, now| core.member_removed(&gone, false, now));
                    }
                    if self.rng.f64() < 0.5 {
                        self.nodes[at].view.insert(other, Arc::clone(&member));
                        self.at(at, |core, now| core.member_added(&member, now));
                    } else {
                        self.nodes[at].view.remove(&other);
                    }
                } else if let Some(gone) = known {
                    let silent = self.now - self.nodes[at].heard.get(&other).copied().unwrap_or(Time::ZERO);
                    if silent > Duration::from_millis(1000 + self.rng.u64(0..2000)) {
                        self.nodes[at].view.remove(&other);
                        self.at(at, |core, now| core.member_removed(&gone, false, now));
                    }
                }
            }
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let (from, to) = (flight.from, flight.to);
        if !self.is_up(to) || self.cut.contains(&(from, to)) || self.nodes[to].member != flight.receiver {
            return;
        }
        if self.nodes[to].frozen {
            self.nodes[to].held_back.push(flight);
            return;
        }
        let mut envelope = Envelope::decode(&flight.bytes).unwrap();
        if self.defect == Defect::KeySkipped
            && let Message::Chunk { chunk, .. } = &mut envelope.message
            && chunk.entries.len() > 1
        {
            chunk.entries.remove(0);
        }
        // As a channel: only who is in the view is heard.
        let Some(sender) = self.nodes[to].view.get(&from).cloned() else { return };
        if sender != flight.sender {
            return;
        }
        self.at(to, |core, now| core.received(&sender, envelope, now));
    }

    /// Does what the replica wants done.
    fn settle(&mut self, node: usize) {
        loop {
            let now = self.now_at(node);
            let Some(core) = self.nodes[node].core.as_mut() else { return };
            let actions = core.actions(false);
            if actions.is_empty() {
                if self.defect == Defect::RemovalForgotten {
                    core.store.forget_removals(Time::NEVER, now.time);
                }
                self.nodes[node].wake = core.next_wake().max(self.now + Duration::from_micros(10));
                return;
            }
            for action in actions {
                match action {
                    Action::Send { to, envelope } => self.send(node, &to, &envelope),
                    Action::Changed { key, .. } => {
                        let entry = self.nodes[node].core.as_ref().unwrap().store.get(&key);
                        let latest = entry.map(|entry| entry.latest_value().unwrap_or_else(|| entry.latest()));
                        let latest = latest.map(|latest| (latest.version, latest.is_live()));
                        let text = String::from_utf8_lossy(&key).into_owned();
                        self.note(&format!("{node} has {latest:?} at {text}"));
                        self.told.push(Told::Changed { node, key, latest });
                    }
                    Action::Done { op, report } => self.told.push(Told::Done { node, op, report }),
                    Action::Ready => self.note(&format!("ready {node}")),
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: &[Arc<Member>], envelope: &Envelope) {
        let bytes = envelope.encode();
        let counters = envelope.own_writes();
        for member in to {
            let full = self.rng.f64() < self.net.full;
            let now = self.now_at(from);
            let core = self.nodes[from].core.as_mut().unwrap();
            core.queued(member, &counters, !full);
            if full {
                core.unsent(member, now);
                continue;
            }
            self.sent += 1;
            self.sent_bytes += bytes.len() as u64;
            let Some(target) = self.nodes.iter().position(|node| node.member == *member) else { continue };
            if self.cut.contains(&(from, target)) || self.rng.f64() < self.net.loss {
                continue;
            }
            let copies = if self.rng.f64() < self.net.duplicate { 2 } else { 1 };
            for _ in 0..copies {
                let mut at = self.now + Duration::from_micros(self.rng.u64(500..3000));
                if self.rng.f64() < self.net.reorder {
                    at = at + Duration::from_millis(self.rng.u64(0..200));
                } else {
                    let last = self.last_arrival.entry((from, target)).or_insert(Time::ZERO);
                    at = at.max(*last);
                    *last = at;
                }
                self.next += 1;
                let flight = Flight {
                    from,
                    sender: Arc::clone(&self.nodes[from].member),
                    to: target,
                    receiver: Arc::clone(member),
                    bytes: bytes.clone(),
                };
                self.flights.insert((at, self.next), flight);
            }
            if self.trace.len() < 100_000 {
                let text = format!("{from} -> {target} {} bytes, kind {:?}", bytes.len(), bytes.get(17));
                self.note(&text);
            }
        }
    }
}

pub(crate) fn member(node: usize, start: u32) -> Arc<Member> {
    let mut id = [node as u8, 0, 0, 0, 0, 0, 0x80 | REVISION, 0, 0x80, b'T', b'R', b'S', 0, 0, 0, 0];
    id[12..].copy_from_slice(&start.to_be_bytes());
    Arc::new(Member::new(MemberId::from_bytes(id), SocketAddr::from(([127, 0, 0, 1], 4000 + node as u16))))
}
