//! What came of a call: one answer for each member asked.

use std::fmt;
use std::sync::Arc;

use super::Payload;
use crate::error::FaultKind;
use crate::{Departure, Member};

/// For how many replies a call waits (Tribes: the options of `RpcChannel.send`).
///
/// A call ends as soon as its wait is satisfied, or as soon as nothing that could still come would satisfy it, at the latest
/// at its deadline. Only [replies](Answer::Replied) count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// One reply (`FIRST_REPLY`).
    First,
    /// Strictly more than half of those asked (`MAJORITY_REPLY`; Tribes is content with half, T52).
    Majority,
    /// Until there is an answer of every member, whatever it is (`ALL_REPLY`). The default.
    #[default]
    All,
    /// So many replies.
    Quorum(usize),
    /// None: only until the request is on its way (`NO_REPLY`). Replies go to the
    /// [`left_over`](super::RpcBuilder::left_over) hook, if there is one.
    None,
}

impl Wait {
    /// How many replies of `asked` members satisfy it; `None` if it is not a matter of replies.
    #[must_use]
    pub const fn replies(self, asked: usize) -> Option<usize> {
        match self {
            Self::First => Some(1),
            Self::Majority => Some(asked / 2 + 1),
            Self::Quorum(count) => Some(count),
            Self::All | Self::None => None,
        }
    }
}

/// What came of a call at one member: exactly one of these for each member asked, at the latest at the deadline.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer<T = Payload> {
    /// It replied.
    Replied(T),
    /// Its handler returned this error, panicked, or was cut off at its time limit there.
    Failed(String),
    /// It replied, and the reply is not of the type asked for.
    Mismatch(String),
    /// Its handler chose not to reply.
    NoReply,
    /// It has no RPC channel of this id, or one that only asks. A member of Tribes' own says so; one of ours says it to a
    /// member of Tribes' own also for every answer that is not a reply, since Tribes has no word for those.
    NoHandler,
    /// It has as many requests under way or waiting as it admits.
    Overloaded,
    /// It replied, and there was no room left here for replies that wait for their callers.
    NoRoom,
    /// The request did not reach it, or may not have.
    Unreachable(FaultKind),
    /// It left the group, or is taken to have; it may have handled the request.
    Left(Departure),
    /// Nothing came by the deadline; it may have handled the request.
    TimedOut,
    /// The call ended without it: the wait was satisfied, or could not be any more. A reply that still comes goes to the
    /// [`left_over`](super::RpcBuilder::left_over) hook.
    NotAwaited,
}

impl<T> Answer<T> {
    /// The reply.
    #[must_use]
    pub const fn reply(&self) -> Option<&T> {
        match self {
            Self::Replied(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether it is a reply.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        matches!(self, Self::Replied(_))
    }

    /// The same with the reply read by `read`.
    pub(super) fn read<U>(self, read: fn(Payload) -> Result<U, String>) -> Answer<U>
    where
        T: Into<Payload>,
    {
        match self {
            Self::Replied(reply) => match read(reply.into()) {
                Ok(reply) => Answer::Replied(reply),
                Err(why) => Answer::Mismatch(why),
            },
            Self::Failed(text) => Answer::Failed(text),
            Self::Mismatch(text) => Answer::Mismatch(text),
            Self::NoReply => Answer::NoReply,
            Self::NoHandler => Answer::NoHandler,
            Self::Overloaded => Answer::Overloaded,
            Self::NoRoom => Answer::NoRoom,
            Self::Unreachable(fault) => Answer::Unreachable(fault),
            Self::Left(why) => Answer::Left(why),
            Self::TimedOut => Answer::TimedOut,
            Self::NotAwaited => Answer::NotAwaited,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replied(reply) => write!(f, "{reply}"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::Mismatch(text) => write!(f, "not the reply that was asked for: {text}"),
            Self::NoReply => f.write_str("does not reply"),
            Self::NoHandler => f.write_str("has no RPC channel of this id that answers"),
            Self::Overloaded => f.write_str("is overloaded"),
            Self::NoRoom => f.write_str("replied, with no room left here for its reply"),
            Self::Unreachable(fault) => write!(f, "unreachable: {fault}"),
            Self::Left(why) => write!(f, "left the group: {why}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::NotAwaited => f.write_str("not waited for"),
        }
    }
}

/// The answers to a call, one for each member asked, in the order in which they were asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Replies<T = Payload> {
    answers: Vec<(Arc<Member>, Answer<T>)>,
    satisfied: bool,
}

impl<T> Replies<T> {
    pub(super) const fn new(answers: Vec<(Arc<Member>, Answer<T>)>, satisfied: bool) -> Self {
        Self { answers, satisfied }
    }

    /// Whether as many replied as the call waited for; with [`Wait::All`] everybody.
    #[must_use]
    pub const fn is_satisfied(&self) -> bool {
        self.satisfied
    }

    /// How many members were asked.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether nobody was asked: the group has no other member.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Each member with its answer.
    pub fn iter(&self) -> std::slice::Iter<'_, (Arc<Member>, Answer<T>)> {
        self.answers.iter()
    }

    /// The answer of `member`, if it was asked.
    #[must_use]
    pub fn of(&self, member: &Member) -> Option<&Answer<T>> {
        self.answers.iter().find(|(asked, _)| **asked == *member).map(|(_, answer)| answer)
    }

    /// Those who replied, with their replies.
    pub fn replied(&self) -> impl Iterator<Item = (&Arc<Member>, &T)> {
        self.answers.iter().filter_map(|(member, answer)| answer.reply().map(|reply| (member, reply)))
    }

    /// Some reply, the first in the order of those asked.
    #[must_use]
    pub fn into_reply(self) -> Option<T> {
        self.answers.into_iter().find_map(|(_, answer)| match answer {
            Answer::Replied(reply) => Some(reply),
            _ => None,
        })
    }
}

impl<T> IntoIterator for Replies<T> {
    type Item = (Arc<Member>, Answer<T>);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.answers.into_iter()
    }
}

/// `for (member, answer) in &replies`.
impl<'a, T> IntoIterator for &'a Replies<T> {
    type Item = &'a (Arc<Member>, Answer<T>);
    type IntoIter = std::slice::Iter<'a, (Arc<Member>, Answer<T>)>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
