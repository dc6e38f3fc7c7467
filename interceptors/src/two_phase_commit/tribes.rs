//! Tribes' two phases: the message, and then a confirmation that names it. No votes, no agreement.
//!
//! A confirmation's body is a start marker, the id of the message, an end marker. It is told from other messages by its length
//! and both markers, as Tribes does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Body, Member, MessageId, Time};

const START: [u8; 16] = *b"\x71\x01\xC6\x02\xDE\xC4\x4B\xB2\x9B\xF4\x20\xE3\x20\x6F\xD8\x04";
const END: [u8; 16] = *b"\x36\xF3\x5A\x6E\x2F\xE1\x4B\xE8\xAF\xE3\x24\x34\xC6\x4D\x92\x38";

/// The most messages, of all senders, of which something is remembered that is not parked: the end, or a confirmation that
/// came first.
pub(super) const REMEMBERED: usize = 16_384;

/// So many places in line may be left by messages that were confirmed.
const SPARE: usize = 1024;

/// The body of the confirmation of a message.
pub(super) fn confirmation(id: &MessageId) -> Body {
    Body::new([&START[..], id.as_bytes(), &END].concat())
}

/// The message that `body` confirms, in a message with the id `own`; `None` if it is no confirmation.
pub(super) fn confirmed(body: &Body, own: &MessageId) -> Option<MessageId> {
    if body.len() != START.len() + own.as_bytes().len() + END.len() {
        return None;
    }
    let bytes = body.to_bytes();
    let id = bytes.strip_prefix(&START)?.strip_suffix(&END)?;
    Some(MessageId::from_bytes(Bytes::copy_from_slice(id)))
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came<T> {
    /// It is parked.
    Parked,
    /// It was confirmed already: it is handed on at once.
    Released(T),
    /// It was here already; the text says why it was refused, if it was.
    Again(Option<String>),
}

/// What becomes of a confirmation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Confirmed<T> {
    /// Its message is handed on.
    Released(T, usize),
    /// Its message is not here yet.
    Early,
    /// It came again; the text says why its message was refused, if it was.
    Again(Option<String>),
}

#[derive(Debug)]
enum State<T> {
    Parked { message: T, cost: usize, until: Time },
    Early,
    Ended { refused: Option<String> },
}

type Name = (Arc<Member>, MessageId);

/// Messages of senders that speak Tribes' protocol.
#[derive(Debug)]
pub(super) struct First<T> {
    expire: Duration,
    states: BTreeMap<Name, State<T>>,
    /// In the order in which they expire; some of those that are parked no more stand here in vain.
    parked: VecDeque<(Time, Name)>,
    others: VecDeque<(Time, Name)>,
    waiting: usize,
    pub(super) expired: u64,
}

impl<T> First<T> {
    pub(super) const fn new(expire: Duration) -> Self {
        Self {
            expire,
            states: BTreeMap::new(),
            parked: VecDeque::new(),
            others: VecDeque::new(),
            waiting: 0,
            expired: 0,
        }
    }

    /// A message comes; `room` takes its cost, if it is to be parked.
    pub(super) fn message<E>(
        &mut self,
        from: &Arc<Member>,
        id: &MessageId,
        message: T,
        cost: usize,
        now: Time,
        room: impl FnOnce() -> Result<(), E>,
    ) -> Result<Came<T>, E> {
        let name = (Arc::clone(from), id.clone());
        match self.states.get_mut(&name) {
            None => {
                room()?;
                let until = now + self.expire;
                self.states.insert(name.clone(), State::Parked { message, cost, until });
                self.parked.push_back((until, name));
                self.waiting += 1;
                Ok(Came::Parked)
            }
            Some(State::Parked { .. }) => Ok(Came::Again(None)),
            Some(state @ State::Early) => {
                room()?;
                *state = State::Ended { refused: None };
                Ok(Came::Released(message))
            }
            Some(State::Ended { refused }) => Ok(Came::Again(refused.clone())),
        }
    }

    /// A confirmation comes.
    pub(super) fn confirm(&mut self, from: &Arc<Member>, id: MessageId, now: Time) -> Confirmed<T> {
        let name = (Arc::clone(from), id);
        match self.states.get_mut(&name) {
            None => {
                self.states.insert(name.clone(), State::Early);
                self.remember(name, now);
                Confirmed::Early
            }
            Some(State::Early) => Confirmed::Early,
            Some(State::Ended { refused }) => Confirmed::Again(refused.clone()),
            Some(state @ State::Parked { .. }) => {
                let ended = State::Ended { refused: None };
                let State::Parked { message, cost, .. } = std::mem::replace(state, ended) else {
                    return Confirmed::Early;
                };
                self.waiting -= 1;
                self.remember(name, now);
                self.forget_released();
                Confirmed::Released(message, cost)
            }
        }
    }

    /// Those that are parked no more need not stand in line for all their time; at most as many do as are parked, and some.
    fn forget_released(&mut self) {
        if self.parked.len() > 2 * self.waiting + SPARE {
            let states = &self.states;
            self.parked
                .retain(|(at, name)| matches!(states.get(name), Some(State::Parked { until, .. }) if until == at));
        }
    }

    fn remember(&mut self, name: Name, now: Time) {
        self.others.push_back((now + self.expire, name));
        if self.others.len() > REMEMBERED
            && let Some((_, oldest)) = self.others.pop_front()
        {
            self.states.remove(&oldest);
        }
    }

    /// A message that was handed on has been refused: whoever confirms it again hears the same.
    pub(super) fn refused(&mut self, from: &Arc<Member>, id: &MessageId, why: String) {
        if let Some(State::Ended { refused }) = self.states.get_mut(&(Arc::clone(from), id.clone())) {
            *refused = Some(why);
        }
    }

    /// What was never confirmed, with its sender and cost.
    pub(super) fn tick(&mut self, now: Time) -> Vec<(T, Arc<Member>, usize)> {
        let mut expired = Vec::new();
        while let Some((at, name)) = self.parked.pop_front_if(|(at, _)| *at <= now) {
            // Another one of this name may be parked since.
            let due = |state: &State<T>| matches!(state, State::Parked { until, .. } if *until == at);
            if self.states.get(&name).is_some_and(due)
                && let Some(State::Parked { message, cost, .. }) = self.states.remove(&name)
            {
                self.waiting -= 1;
                self.expired += 1;
                expired.push((message, name.0, cost));
            }
        }
        while let Some((_, name)) = self.others.pop_front_if(|(at, _)| *at <= now) {
            if !matches!(self.states.get(&name), Some(State::Parked { .. })) {
                self.states.remove(&name);
            }
        }
        expired
    }

    pub(super) fn next_tick(&self) -> Time {
        let first = |line: &VecDeque<(Time, Name)>| line.front().map_or(Time::NEVER, |(at, _)| *at);
        first(&self.parked).min(first(&self.others))
    }

    /// Messages that wait for their confirmation.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    /// How many places in line there are.
    #[cfg(test)]
    pub(super) fn line(&self) -> usize {
        self.parked.len()
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<(T, Arc<Member>, usize)> {
        let states = std::mem::take(&mut self.states);
        *self = Self { expired: self.expired, ..Self::new(self.expire) };
        let parked = states.into_iter().filter_map(|((from, _), state)| match state {
            State::Parked { message, cost, .. } => Some((message, from, cost)),
            _ => None,
        });
        parked.collect()
    }
}
