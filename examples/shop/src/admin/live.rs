//! What a node has and what happens to it, told as it happens, as server-sent events:
//!
//! - `node`, a [`Card`]: first of all, and again whenever something of it is different;
//! - `session`, a [`Happening`]: something happened to a session;
//! - `missed`, a number: so many happenings came faster than they were read. A whole `node` follows.
//!
//! Of a session's id only the first six of its 22 characters are told: enough to tell sessions apart, and too little to be
//! somebody else. Nothing is prepared for those who read slowly: they get what is there when they read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tribes::sessions::{SessionEvent, SessionEvents};

use super::{Node, why};

/// So many sessions are told of; the others are only counted.
const SHOWN: usize = 256;
/// How often the node is looked at: what sessions have in them is not told by events.
const LOOK: Duration = Duration::from_millis(200);
/// Times of last use differ by so much from look to look without a use.
const SAME_USE_MS: u64 = 250;

/// A node, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) name: String,
    /// The id of this process's member.
    pub(crate) member: String,
    /// Those of the others that it sees.
    pub(crate) others: Vec<String>,
    /// Whether it has the state, and so answers requests.
    pub(crate) is_ready: bool,
    /// How many sessions it holds.
    pub(crate) total: usize,
    /// The first 256 of them, by id.
    pub(crate) sessions: Vec<Held>,
}

/// A session that a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The beginning of its id.
    pub(crate) id: String,
    pub(crate) user: Option<String>,
    /// Pieces in its cart.
    pub(crate) cart: usize,
    /// The member that served it last.
    pub(crate) owner: Option<String>,
    /// Whether that is this node. If not, this is a copy.
    pub(crate) is_owner: bool,
    /// How long it has not been used.
    pub(crate) idle_ms: Option<u64>,
}

/// Something happened to a session. Members are told by their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Happening {
    Created { id: String, by: String },
    Ended { id: String, why: String, by: String },
    Renamed { from: String, to: String },
    FailedOver { id: String, from: String, to: String },
    Lost { id: String },
    Conflict { id: String, field: String },
    Other,
}

impl From<&SessionEvent> for Happening {
    fn from(event: &SessionEvent) -> Self {
        // Their `Debug` is the beginning.
        match event {
            SessionEvent::Created { id, by } => Self::Created { id: format!("{id:?}"), by: by.to_string() },
            SessionEvent::Destroyed { id, reason, by } => {
                Self::Ended { id: format!("{id:?}"), why: why(*reason).to_owned(), by: by.to_string() }
            }
            SessionEvent::Renamed { from, to } => Self::Renamed { from: format!("{from:?}"), to: format!("{to:?}") },
            SessionEvent::FailedOver { id, from, to } => {
                Self::FailedOver { id: format!("{id:?}"), from: from.to_string(), to: to.to_string() }
            }
            SessionEvent::Lost { id } => Self::Lost { id: format!("{id:?}") },
            SessionEvent::Conflict { id, field } => Self::Conflict { id: format!("{id:?}"), field: field.clone() },
            _ => Self::Other,
        }
    }
}

pub(super) async fn events(State(node): State<Node>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let teller = Teller::new(node);
    let told = stream::unfold(teller, async |mut teller: Teller| {
        let (kind, data) = teller.next().await?;
        Some((Ok(Event::default().event(kind).data(data)), teller))
    });
    Sse::new(told).keep_alive(KeepAlive::default())
}

/// What one reader is told.
struct Teller {
    node: Node,
    events: SessionEvents,
    stops: watch::Receiver<bool>,
    /// The card that it was told last, and when.
    told: Option<(Card, Instant)>,
    looks: Interval,
}

impl Teller {
    fn new(node: Node) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events: node.store.events(), stops: node.stops.clone(), node, told: None, looks }
    }

    /// The next event's kind and data.
    async fn next(&mut self) -> Option<(&'static str, String)> {
        loop {
            tokio::select! {
                () = async { drop(self.stops.wait_for(|stops| *stops).await) } => return None,
                event = self.events.next() => match event? {
                    Ok(event) => return Some(("session", serde_json::to_string(&Happening::from(&event)).ok()?)),
                    Err(missed) => {
                        self.told = None;
                        return Some(("missed", missed.to_string()));
                    }
                },
                _ = self.looks.tick() => {
                    let card = look(&self.node).await;
                    if !self.told.as_ref().is_some_and(|(told, at)| is_same(told, &card, at.elapsed())) {
                        let data = serde_json::to_string(&card).ok()?;
                        self.told = Some((card, Instant::now()));
                        return Some(("node", data));
                    }
                }
            }
        }
    }
}

/// Whether nothing happened but that `passed` is over.
fn is_same(told: &Card, now: &Card, passed: Duration) -> bool {
    let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    let is_used = |told: &Held, now: &Held| match (told.idle_ms, now.idle_ms) {
        (Some(told), Some(now)) => now.saturating_add(SAME_USE_MS) < told.saturating_add(passed),
        (told, now) => told != now,
    };
    let mut aged = now.clone();
    for (session, told) in aged.sessions.iter_mut().zip(&told.sessions) {
        if !is_used(told, session) {
            session.idle_ms = told.idle_ms;
        }
    }
    aged == *told
}

async fn look(node: &Node) -> Card {
    let local = node.channel.local().id();
    let mut ids = node.store.ids();
    let total = ids.len();
    ids.sort_unstable_by_key(ToString::to_string);
    ids.truncate(SHOWN);
    let mut sessions = Vec::with_capacity(ids.len());
    for id in ids {
        let (Ok(Some(fields)), Ok(owner)) = (node.store.get(id).await, node.store.owner(id).await) else { continue };
        sessions.push(Held {
            id: format!("{id:?}"),
            user: text(&fields, "user"),
            cart: fields.get("cart").and_then(Value::as_array).map_or(0, Vec::len),
            is_owner: owner == Some(local),
            owner: owner.map(|owner| owner.to_string()),
            idle_ms: node.store.idle(id).and_then(|idle| u64::try_from(idle.as_millis()).ok()),
        });
    }
    Card {
        name: node.name.clone(),
        member: local.to_string(),
        others: node.channel.view().members().iter().map(|member| member.id().to_string()).collect(),
        is_ready: node.store.is_ready(),
        total,
        sessions,
    }
}

fn text(fields: &HashMap<String, Value>, name: &str) -> Option<String> {
    fields.get(name).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tribes::sessions::ReplicatedStore;

    use super::super::Ended;
    use super::*;

    fn card(idle_ms: u64, cart: usize) -> Card {
        let held = Held { id: "abc".into(), user: None, cart, owner: None, is_owner: false, idle_ms: Some(idle_ms) };
        Card { name: "A".into(), member: "m".into(), others: vec![], is_ready: true, total: 1, sessions: vec![held] }
    }

    #[test]
    fn growing_older_is_no_change_and_a_use_is() {
        let passed = Duration::from_secs(2);
        assert!(is_same(&card(500, 1), &card(2500, 1), passed));
        assert!(!is_same(&card(500, 1), &card(100, 1), passed), "it was used");
        assert!(!is_same(&card(500, 1), &card(2500, 2), passed), "something was put into the cart");
        let gone = Card { sessions: vec![], total: 0, ..card(500, 1) };
        assert!(!is_same(&card(500, 1), &gone, passed));
    }

    #[tokio::test]
    async fn who_reads_slowly_misses_events_and_then_has_a_whole_card() {
        let channel = tribes::channel().bind("127.0.0.1:0").build().unwrap();
        channel.start().await.unwrap();
        let store = ReplicatedStore::builder("shop").open(&channel).unwrap();
        store.ready().await;
        let (_stopping, stops) = watch::channel(false);
        let node =
            Node { name: "A".into(), channel: channel.clone(), store: store.clone(), ended: Ended::default(), stops };
        let mut teller = Teller::new(node);
        assert_eq!(teller.next().await.unwrap().0, "node");
        let made = 1500;
        for _ in 0..made {
            store.create_session(&HashMap::new(), Duration::from_secs(60)).await.unwrap();
        }
        // A look may come before what was missed; what is told of that is whole too.
        let mut told = Vec::new();
        while !told.contains(&"missed") {
            told.push(teller.next().await.unwrap().0);
        }
        assert!(!told.contains(&"session"), "{told:?}");
        let card = loop {
            let (kind, data) = teller.next().await.unwrap();
            if kind == "node" {
                break serde_json::from_str::<Card>(&data).unwrap();
            }
        };
        assert_eq!((card.total, card.sessions.len()), (made, SHOWN));
        channel.stop().await;
    }
}
