//! Finding somebody who holds a key: who is asked, in which order, and what is done about those that do not answer.
//!
//! A member that does not answer may be frozen, and find the question when it wakes. By then another has been asked, and others
//! have written since: so each question to write says by when it is to be carried out, by the clock of the one that is asked,
//! which its last answer told; a member that has never answered is asked for that first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tribes_core::rpc::{Answer, RpcChannel};
use tribes_core::{Env, FaultKind, Member, MemberId, Time};

use super::message::{self, Reply, Request};
use super::node::Node;
use super::shards::Route;
use crate::durability::Durability;
use crate::error::MapError;

/// How often a member is asked anew because it says that the question came late.
const LATE: usize = 3;
/// For so long what a clock showed is good for: clocks do not run alike.
const CLOCK_AGE: Duration = Duration::from_secs(60);
/// So many clocks are known; beyond, they are asked for again.
const CLOCKS: usize = 1024;
/// How long one member may take to answer, apart from what a write waits for.
const ANSWER: Duration = Duration::from_secs(1);
/// The first pause when nobody could be asked, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Asks for what is not here.
pub(super) struct Asker {
    pub(super) node: Arc<Node>,
    pub(super) rpc: RpcChannel,
    pub(super) env: Env,
    /// How long it looks for somebody who answers.
    patience: Duration,
    /// The clocks of members: what they showed, and when that was heard here.
    clocks: Mutex<BTreeMap<MemberId, (Time, Time)>>,
}

/// What became of asking one member.
enum Asked {
    Reply(Reply),
    /// It cannot have done anything.
    Not(String),
    /// It may have.
    Perhaps(String),
}

impl Asker {
    pub(super) const fn new(node: Arc<Node>, rpc: RpcChannel, env: Env, patience: Duration) -> Self {
        Self { node, rpc, env, patience, clocks: Mutex::new(BTreeMap::new()) }
    }

    fn clocks(&self) -> MutexGuard<'_, BTreeMap<MemberId, (Time, Time)>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the clock of `member` shows `within` from now, at the latest.
    fn by_clock_of(&self, member: &Member, within: Duration) -> Option<Time> {
        let (theirs, ours) = *self.clocks().get(&member.id())?;
        let age = self.env.now() - ours;
        (age < CLOCK_AGE).then(|| theirs + age + within)
    }

    /// The reply of a member that holds `shard`; this one, if it does and may.
    pub(super) async fn ask(&self, shard: usize, request: &Request) -> Result<Reply, MapError> {
        let within = match request {
            Request::Write { durability, .. } => durability.within(),
            Request::Get { .. } | Request::List { .. } => Duration::ZERO,
        };
        let deadline = self.env.now() + self.patience + within;
        let (mut pause, mut why) = (PAUSE.0, String::new());
        // Who may have done it without saying so.
        let mut perhaps: Option<(Arc<Member>, String)> = None;
        loop {
            let mut tried: Vec<Option<Arc<Member>>> = Vec::new();
            let mut next = order(self.node.route(shard), request);
            while let Some(whom) = next.pop_front() {
                if tried.contains(&whom) {
                    continue;
                }
                tried.push(whom.clone());
                let left = deadline - self.env.now();
                if self.node.is_closed() {
                    return Err(MapError::Closed);
                }
                if left.is_zero() {
                    return Err(given_up(request, perhaps, why));
                }
                let asked = match &whom {
                    None => Asked::Reply(self.node.answer(request.clone()).await),
                    Some(member) => self.ask_one(member, request, (within + ANSWER).min(left)).await,
                };
                let name = || whom.as_ref().map_or_else(|| "this member".to_owned(), |member| member.to_string());
                match asked {
                    Asked::Reply(Reply::Elsewhere { at }) => {
                        why = format!("{} does not hold it", name());
                        if let Some(hint) = at.and_then(|id| self.node.member(id)) {
                            next.push_front(Some(hint));
                        }
                    }
                    Asked::Reply(reply) => {
                        return match perhaps {
                            // It may have been done before by the other.
                            Some((member, why)) if is_refusal(&reply) => Err(MapError::Unanswered { member, why }),
                            _ => Ok(reply),
                        };
                    }
                    Asked::Not(text) => why = format!("{}: {text}", name()),
                    Asked::Perhaps(text) => {
                        why = format!("{}: {text}", name());
                        perhaps = whom.map(|member| (member, text));
                        if !request.is_repeatable()
                            && let Some((member, why)) = perhaps
                        {
                            return Err(MapError::Unanswered { member, why });
                        }
                    }
                }
            }
            if why.is_empty() {
                "nobody has opened the map yet".clone_into(&mut why);
            }
            // Somebody is gone, or has not taken over yet: those that are to hold it change soon.
            let until = (self.env.now() + pause).min(deadline);
            self.env.sleep_until(until).await;
            if self.env.now() >= deadline {
                return Err(given_up(request, perhaps, why));
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn ask_one(&self, member: &Arc<Member>, request: &Request, within: Duration) -> Asked {
        let deadline = self.env.now() + within;
        for _ in 0..LATE {
            let left = deadline - self.env.now();
            let until = self.by_clock_of(member, left);
            // Without a time, it is not carried out.
            let cannot = until.is_none() && matches!(request, Request::Write { .. });
            let question = message::question(until, request);
            let replies = match self.rpc.call(member, question).within(left).await {
                Ok(replies) => replies,
                Err(error) => return Asked::Not(error.to_string()),
            };
            let Some((_, answer)) = replies.iter().next() else { return Asked::Not("it is not asked".to_owned()) };
            match answer {
                Answer::Replied(payload) => match message::read_answer(payload.bytes()) {
                    Ok((theirs, reply)) => {
                        let mut clocks = self.clocks();
                        if clocks.len() >= CLOCKS {
                            clocks.clear();
                        }
                        clocks.insert(member.id(), (theirs, self.env.now()));
                        if reply != Reply::Late {
                            return Asked::Reply(reply);
                        }
                    }
                    Err(error) => return Asked::Perhaps(format!("its reply is not one: {error}")),
                },
                Answer::NoHandler | Answer::Overloaded => return Asked::Not(answer.to_string()),
                Answer::Unreachable(
                    FaultKind::QueueFull | FaultKind::Stopped | FaultKind::Unsupported(_) | FaultKind::Dropped { .. },
                ) => return Asked::Not(answer.to_string()),
                _ if cannot => return Asked::Not(answer.to_string()),
                _ => return Asked::Perhaps(answer.to_string()),
            }
        }
        Asked::Not("it always finds the question late".to_owned())
    }
}

const fn is_refusal(reply: &Reply) -> bool {
    matches!(reply, Reply::Nothing | Reply::Changed | Reply::ValueTooLarge { .. } | Reply::Full { .. })
}

fn given_up(request: &Request, perhaps: Option<(Arc<Member>, String)>, why: String) -> MapError {
    match perhaps {
        Some((member, why)) if matches!(request, Request::Write { .. }) => MapError::Unanswered { member, why },
        _ => MapError::NoHolder { why },
    }
}

/// Whom to ask, first to last. What is here is read here; writes go to the primary, so that they meet there, and to others
/// only when it cannot be asked. In the end everybody: while those that are to hold it are still fetching it, who held it before
/// has it, and only such are good for more than a hint.
fn order(route: Route, request: &Request) -> VecDeque<Option<Arc<Member>>> {
    let Route { holders, here, elsewhere, others } = route;
    let by_the_first = matches!(request, Request::Write { .. } | Request::Get { first: true, .. });
    let first = (here && !by_the_first).then_some(None);
    let last = here.then_some(None);
    let hinted = elsewhere.into_iter().chain(others).map(Some);
    first.into_iter().chain(holders).chain(last).chain(hinted).collect()
}

/// How long a write asked for by another may wait here.
pub(super) fn bounded(durability: Durability, most: Duration) -> Durability {
    match durability {
        Durability::Copies { copies, within } => Durability::copies(copies, within.min(most)),
        Durability::Majority { within } => Durability::majority(within.min(most)),
        Durability::All { within } => Durability::all(within.min(most)),
        Durability::Local | Durability::Queued => durability,
    }
}
