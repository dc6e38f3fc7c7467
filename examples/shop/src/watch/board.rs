//! The nodes, what they say, and what is shown of it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use serde::Serialize;
use sse_stream::SseStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tribes::prelude::BoxError;

use crate::admin::live::{Card, Happening};
use crate::nodes::{Node, Nodes};

/// The inactivity timeout: shoppers come much more often.
const IDLE: Duration = Duration::from_secs(120);
/// Lines of what happened that are shown.
const LINES: usize = 40;
/// Members that a node's name stands for, the newest: each start makes another.
const MEMBERS: usize = 64;
/// Between two tries to reach a node that runs.
const AGAIN: Duration = Duration::from_millis(200);

/// All that the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Picture {
    nodes: Vec<NodeShown>,
    sessions: Vec<Chip>,
    /// What happened, the newest last.
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct NodeShown {
    name: String,
    status: Status,
    /// The names of the others that it sees.
    sees: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    #[default]
    Down,
    Starting,
    Ready,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Chip {
    id: String,
    user: Option<String>,
    cart: usize,
    /// The node that served it last, which may be down.
    at: Option<String>,
    /// The nodes that run and hold it.
    held: Vec<String>,
    idle_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// Lines have a number of their own, so that the page knows which are new.
    number: u64,
    kind: &'static str,
    text: String,
}

/// What was asked for is not done.
#[derive(Debug)]
pub(super) enum Refused {
    Unknown,
    IsSo,
    Full,
    NoNode,
    Failed(BoxError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such node"),
            Self::IsSo => f.write_str("it is so already"),
            Self::Full => f.write_str("there are enough shoppers"),
            Self::NoNode => f.write_str("no node is ready"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<BoxError> for Refused {
    fn from(error: BoxError) -> Self {
        Self::Failed(error)
    }
}

/// A node, and what it said.
#[derive(Debug, Default)]
struct Seat {
    status: Status,
    /// How often it was started: what an earlier one said counts no more.
    run: u64,
    url: String,
    card: Option<Card>,
}

#[derive(Debug, Default)]
struct State {
    seats: BTreeMap<String, Seat>,
    /// By id the names of members, also of those that are gone. The newest last.
    members: VecDeque<(String, String)>,
    lines: VecDeque<Line>,
    number: u64,
    /// The node to which the next client goes that belongs to none: its place among those that are ready.
    turn: usize,
}

/// The nodes and what they say.
#[derive(Debug)]
pub(super) struct Board {
    nodes: Nodes,
    http: reqwest::Client,
    /// By name. Locked while a node starts or ends.
    processes: BTreeMap<String, tokio::sync::Mutex<Option<Node>>>,
    state: Mutex<State>,
    picture: watch::Sender<Picture>,
    /// They end with this.
    tasks: Mutex<JoinSet<()>>,
    /// Shoppers that came.
    pub(super) shoppers: std::sync::atomic::AtomicUsize,
}

impl Board {
    pub(super) fn new(count: usize, copies: Option<usize>) -> Result<Self, BoxError> {
        let names: Vec<String> = ('A'..='Z').take(count).map(String::from).collect();
        let mut state = State::default();
        state.seats.extend(names.iter().map(|name| (name.clone(), Seat::default())));
        let board = Self {
            nodes: Nodes::new(copies, IDLE)?,
            http: reqwest::Client::new(),
            processes: names.into_iter().map(|name| (name, tokio::sync::Mutex::default())).collect(),
            state: Mutex::new(state),
            picture: watch::Sender::default(),
            tasks: Mutex::default(),
            shoppers: std::sync::atomic::AtomicUsize::default(),
        };
        board.change(|_| ());
        Ok(board)
    }

    pub(super) fn pictures(&self) -> watch::Receiver<Picture> {
        self.picture.subscribe()
    }

    /// Where a client goes whose cookie names `route`: there if it is ready, else to one after the other of those that are.
    pub(super) fn node_for(&self, route: &str) -> Option<String> {
        let mut state = self.state();
        let ready = |seat: &&Seat| seat.status == Status::Ready;
        if let Some(seat) = state.seats.get(route).filter(ready) {
            return Some(seat.url.clone());
        }
        let urls: Vec<String> = state.seats.values().filter(ready).map(|seat| seat.url.clone()).collect();
        let turn = state.turn.checked_rem(urls.len())?;
        state.turn = turn + 1;
        urls.into_iter().nth(turn)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(super) async fn start_all(self: &Arc<Self>) {
        for name in self.processes.keys() {
            // Somebody may have started it from the page.
            if let Err(error @ Refused::Failed(_)) = Self::start(self, name).await {
                self.change(|state| state.note("bad", format!("{name} does not start: {error}")));
            }
        }
    }

    /// Returns when it listens; it becomes ready by and by.
    pub(super) async fn start(this: &Arc<Self>, name: &str) -> Result<(), Refused> {
        let mut process = this.processes.get(name).ok_or(Refused::Unknown)?.lock().await;
        if process.as_mut().is_some_and(|node| !node.has_ended()) {
            return Err(Refused::IsSo);
        }
        let (run, others) = this.change(|state| {
            let others = state.seats.values().filter(|seat| seat.status != Status::Down).count();
            let seat = state.seats.entry(name.to_owned()).or_default();
            *seat = Seat { status: Status::Starting, run: seat.run + 1, ..Seat::default() };
            (seat.run, others)
        });
        match this.nodes.start(name, others).await {
            Ok(node) => {
                let url = node.url.clone();
                *process = Some(node);
                this.change(|state| {
                    if let Some(seat) = state.seats.get_mut(name) {
                        seat.url.clone_from(&url);
                    }
                });
                this.spawn(Arc::clone(this).follow(name.to_owned(), url, run));
                Ok(())
            }
            Err(error) => {
                this.change(|state| state.down(name, run));
                Err(error.into())
            }
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(&self, name: &str) -> Result<(), Refused> {
        let mut process = self.processes.get(name).ok_or(Refused::Unknown)?.lock().await;
        let node = process.take_if(|node| !node.has_ended()).ok_or(Refused::IsSo)?;
        node.kill().await?;
        self.change(|state| {
            let run = state.seats.get(name).map_or(0, |seat| seat.run);
            state.down(name, run);
            state.note("bad", format!("{name} was killed"));
        });
        Ok(())
    }

    /// Kills all.
    pub(super) async fn end(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        for process in self.processes.values() {
            if let Some(node) = process.lock().await.take() {
                drop(node.kill().await);
            }
        }
    }

    /// Notes what a node says until it is gone.
    async fn follow(self: Arc<Self>, name: String, url: String, run: u64) {
        loop {
            if let Ok(answer) = self.http.get(format!("{url}/admin/events")).send().await {
                let events = SseStream::new(reqwest::Body::from(answer));
                pin_mut!(events);
                while let Some(Ok(event)) = events.next().await {
                    self.told(&name, run, event.event.as_deref(), event.data.as_deref().unwrap_or_default());
                }
            }
            let is_gone = match self.processes.get(&name) {
                Some(process) => process.lock().await.as_mut().is_none_or(Node::has_ended),
                None => true,
            };
            let is_old = self.state().seats.get(&name).is_none_or(|seat| seat.run != run);
            if is_gone || is_old {
                return self.change(|state| {
                    if state.down(&name, run) {
                        state.note("bad", format!("{name} ended"));
                    }
                });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn told(&self, name: &str, run: u64, kind: Option<&str>, data: &str) {
        match kind {
            Some("node") => {
                if let Ok(card) = serde_json::from_str(data) {
                    self.change(|state| state.card(name, run, card));
                }
            }
            Some("session") => {
                if let Ok(happening) = serde_json::from_str(data) {
                    self.change(|state| state.happened(name, &happening));
                }
            }
            // Of what was missed the next card has what came of it.
            _ => {}
        }
    }

    pub(super) fn note(&self, kind: &'static str, text: String) {
        self.change(|state| state.note(kind, text));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let picture = state.picture();
        // With the lock, so that the newest comes last.
        self.picture.send_if_modified(|shown| {
            let is_new = *shown != picture;
            *shown = picture;
            is_new
        });
        result
    }
}

impl State {
    fn note(&mut self, kind: &'static str, text: String) {
        self.number += 1;
        self.lines.push_back(Line { number: self.number, kind, text });
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// The name of a member.
    fn name(&self, member: &str) -> Option<&str> {
        let of = |(id, _): &&(String, String)| id == member;
        self.members.iter().rev().find(of).map(|(_, name)| name.as_str())
    }

    /// A session, with its user if a node tells of it.
    fn who(&self, id: &str) -> String {
        let cards = self.seats.values().filter_map(|seat| seat.card.as_ref());
        let mut held = cards.flat_map(|card| &card.sessions).filter(|held| held.id == id);
        match held.find_map(|held| held.user.as_deref()) {
            Some(user) => format!("{user} ({id})"),
            None => id.to_owned(),
        }
    }

    /// Whether this is new.
    fn down(&mut self, name: &str, run: u64) -> bool {
        match self.seats.get_mut(name) {
            Some(seat) if seat.run == run && seat.status != Status::Down => {
                seat.status = Status::Down;
                seat.card = None;
                true
            }
            _ => false,
        }
    }

    fn card(&mut self, name: &str, run: u64, card: Card) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        if seat.run != run || (seat.status == Status::Down) {
            return;
        }
        let is_ready = card.is_ready && seat.status != Status::Ready;
        if is_ready {
            seat.status = Status::Ready;
        }
        let member = (card.member.clone(), name.to_owned());
        let total = card.total;
        seat.card = Some(card);
        if !self.members.contains(&member) {
            self.members.push_back(member);
            while self.members.len() > MEMBERS {
                self.members.pop_front();
            }
        }
        if is_ready {
            self.note("good", format!("{name} is ready, with {total} sessions"));
        }
    }

    /// Each node tells of everything: only what the one says that did it is noted.
    fn happened(&mut self, name: &str, happening: &Happening) {
        let did = |member: &str| self.name(member) == Some(name);
        let (kind, text) = match happening {
            Happening::Created { id, by } if did(by) => ("good", format!("{name} made {id}")),
            Happening::Ended { id, why, by } if did(by) => ("", format!("{name} ended {}: {why}", self.who(id))),
            Happening::FailedOver { id, from, to } if did(to) => {
                let from = self.name(from).unwrap_or("a node that is gone");
                ("moved", format!("{} moved from {from} to {name}", self.who(id)))
            }
            Happening::Lost { id } => ("bad", format!("{name} finds {id} nowhere")),
            Happening::Conflict { id, field } => {
                ("", format!("{name} saw two writes of {field} of {} meet", self.who(id)))
            }
            _ => return,
        };
        self.note(kind, text);
    }

    fn picture(&self) -> Picture {
        let mut nodes = Vec::new();
        let mut chips: BTreeMap<String, (bool, Chip)> = BTreeMap::new();
        for (name, seat) in &self.seats {
            let card = seat.card.as_ref();
            let mut sees: Vec<String> = card
                .iter()
                .flat_map(|card| &card.others)
                .map(|member| self.name(member).unwrap_or("?").to_owned())
                .collect();
            sees.sort_unstable();
            nodes.push(NodeShown { name: name.clone(), status: seat.status, sees });
            for held in card.iter().flat_map(|card| &card.sessions) {
                let at = held.owner.as_deref().and_then(|member| self.name(member)).map(str::to_owned);
                let chip = Chip {
                    id: held.id.clone(),
                    user: held.user.clone(),
                    cart: held.cart,
                    at,
                    held: Vec::new(),
                    idle_ms: held.idle_ms,
                };
                let (is_owners, shown) = chips.entry(held.id.clone()).or_insert_with(|| (held.is_owner, chip.clone()));
                shown.held.push(name.clone());
                // The owner knows best; of two, or of none, who saw the last use.
                let age = |chip: &Chip| chip.idle_ms.unwrap_or(u64::MAX);
                if (!*is_owners && held.is_owner) || (*is_owners == held.is_owner && age(&chip) < age(shown)) {
                    *is_owners = held.is_owner;
                    *shown = Chip { held: std::mem::take(&mut shown.held), ..chip };
                }
            }
        }
        let sessions = chips.into_values().map(|(_, chip)| chip).collect();
        Picture { nodes, sessions, lines: self.lines.iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::admin::live::Held;

    fn card(name: &str, owner: &str, cart: usize, idle_ms: u64) -> Card {
        let member = format!("member of {name}");
        let owner = format!("member of {owner}");
        let is_owner = owner == member;
        let held = Held { id: "abc".into(), user: None, cart, owner: Some(owner), is_owner, idle_ms: Some(idle_ms) };
        Card { name: name.into(), member, others: Vec::new(), is_ready: true, total: 1, sessions: vec![held] }
    }

    fn state(cards: impl IntoIterator<Item = Card>) -> State {
        let mut state = State::default();
        for card in cards {
            let name = card.name.clone();
            state.seats.insert(name.clone(), Seat { status: Status::Starting, run: 1, ..Seat::default() });
            state.card(&name, 1, card);
        }
        state
    }

    #[test]
    fn a_session_stays_at_a_dead_node_until_another_serves_it() {
        let mut state = state([card("A", "A", 2, 10), card("B", "A", 2, 10)]);
        assert!(state.down("A", 1));
        let picture = state.picture();
        assert_eq!(picture.sessions[0].at.as_deref(), Some("A"));
        assert_eq!(picture.sessions[0].held, ["B"]);
        state.card("B", 1, card("B", "B", 3, 0));
        let picture = state.picture();
        assert_eq!((picture.sessions[0].at.as_deref(), picture.sessions[0].cart), (Some("B"), 3));
    }

    #[test]
    fn clients_go_where_they_belong_and_else_to_one_after_the_other() {
        let board = Board::new(3, None).unwrap();
        assert_eq!(board.node_for("A"), None, "nobody is ready");
        board.change(|state| {
            for (name, seat) in &mut state.seats {
                *seat = Seat { status: Status::Ready, url: name.clone(), ..Seat::default() };
            }
        });
        let to = |route| board.node_for(route).unwrap();
        assert_eq!([to(""), to("B"), to(""), to(""), to("")], ["A", "B", "B", "C", "A"]);
        board.change(|state| state.down("B", 0));
        assert_eq!([to("B"), to("B"), to("B")], ["C", "A", "C"]);
    }

    #[test]
    fn the_owner_knows_best() {
        for (first, second) in [("A", "B"), ("B", "A")] {
            let state = state([card(first, "B", 1, 5), card(second, "B", 1, 5)]);
            assert_eq!(state.picture().sessions[0].at.as_deref(), Some("B"));
        }
        // A's view is older than B's, though it says it was used later.
        let picture = state([card("A", "C", 1, 0), card("B", "B", 4, 900)]).picture();
        assert_eq!((picture.sessions[0].at.as_deref(), picture.sessions[0].cart), (Some("B"), 4));
        assert_eq!(picture.sessions[0].held, ["A", "B"]);
    }

    #[test]
    fn what_an_earlier_process_said_counts_no_more() {
        let mut state = state([card("A", "A", 1, 0)]);
        assert!(state.down("A", 1));
        state.card("A", 1, card("A", "A", 1, 0));
        assert!(state.picture().sessions.is_empty());
        assert!(!state.down("A", 1), "it is down already");
    }

    #[test]
    fn lines_are_few_and_told_by_the_one_that_did_it() {
        let mut state = state([card("A", "A", 1, 0), card("B", "A", 1, 0)]);
        state.lines.clear();
        let made = Happening::Created { id: "abc".into(), by: "member of A".into() };
        state.happened("B", &made);
        assert!(state.lines.is_empty());
        for _ in 0..100 {
            state.happened("A", &made);
        }
        assert_eq!(state.lines.len(), LINES);
    }
}
