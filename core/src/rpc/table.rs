//! The calls of one channel that wait for answers. No I/O and no clock: inputs are what was heard of a member, and the time;
//! outputs are wakers of those who wait.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::{Answer, CallId, Wait};
use crate::{Departure, Member, MemberId, Time};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Table {
    calls: BTreeMap<CallId, Entry>,
    /// Bytes of replies that wait for their callers, and how many there may be.
    held: usize,
    max_held: usize,
}

#[derive(Debug)]
struct Entry {
    asked: Vec<(Arc<Member>, Option<Answer>)>,
    wait: Wait,
    deadline: Time,
    /// Members without an answer.
    open: usize,
    replied: usize,
    done: bool,
    held: usize,
    /// Answers in the order in which they came, as far as nobody has looked at them.
    fresh: VecDeque<usize>,
    waker: Option<Waker>,
}

/// What became of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// It is that member's answer.
    Noted,
    /// That member has one already.
    Duplicate,
    /// The call is over, or waits for none.
    Late(Answer),
    /// That member was not asked.
    Stranger,
}

/// A call that was taken off the table.
#[derive(Debug, PartialEq)]
pub(super) struct Closed {
    pub(super) answers: Vec<(Arc<Member>, Answer)>,
    pub(super) satisfied: bool,
    /// Whether it was given up before it was done.
    pub(super) cancelled: bool,
}

impl Table {
    /// A table that holds so many bytes of replies at most; one reply is always admitted.
    pub(super) const fn new(max_held: usize) -> Self {
        Self { calls: BTreeMap::new(), held: 0, max_held }
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// A call to `asked` begins.
    pub(super) fn open(&mut self, id: CallId, asked: Vec<Arc<Member>>, wait: Wait, deadline: Time) {
        let mut entry = Entry {
            open: asked.len(),
            asked: asked.into_iter().map(|member| (member, None)).collect(),
            wait,
            deadline,
            replied: 0,
            done: false,
            held: 0,
            fresh: VecDeque::new(),
            waker: None,
        };
        if entry.asked.is_empty() || wait != Wait::None {
            entry.judge();
        }
        self.calls.insert(id, entry);
    }

    /// `from` answered. After the deadline that is too late, also if nobody has looked at the clock since.
    pub(super) fn answer(
        &mut self,
        id: &CallId,
        from: &Member,
        mut answer: Answer,
        now: Time,
    ) -> (Told, Option<Waker>) {
        if let Some(waker) = self.tick(id, now) {
            return (Told::Late(answer), Some(waker));
        }
        let is_awaited = |entry: &&mut Entry| !entry.done && entry.wait != Wait::None;
        let Some(entry) = self.calls.get_mut(id).filter(is_awaited) else { return (Told::Late(answer), None) };
        let Some(at) = entry.find(from) else { return (Told::Stranger, None) };
        if entry.asked.get(at).is_none_or(|(_, known)| known.is_some()) {
            return (Told::Duplicate, None);
        }
        if let Answer::Replied(reply) = &answer {
            let bytes = reply.bytes().len();
            if self.held > 0 && self.held.saturating_add(bytes) > self.max_held {
                answer = Answer::NoRoom;
            } else {
                self.held += bytes;
                entry.held += bytes;
            }
        }
        (Told::Noted, entry.note(at, answer))
    }

    /// Something is known of one member asked, other than by its word.
    pub(super) fn fault(&mut self, id: &CallId, member: &Member, answer: Answer, now: Time) -> Option<Waker> {
        if let Some(waker) = self.tick(id, now) {
            return Some(waker);
        }
        let entry = self.calls.get_mut(id).filter(|entry| !entry.done)?;
        let at = entry.asked.iter().position(|(asked, known)| **asked == *member && known.is_none())?;
        entry.note(at, answer)
    }

    /// `member` is not in the group any more: it ends its share of all calls.
    pub(super) fn removed(&mut self, member: &Member, why: Departure, now: Time) -> Vec<Waker> {
        let ids: Vec<_> = self.calls.keys().copied().collect();
        ids.iter().filter_map(|id| self.fault(id, member, Answer::Left(why), now)).collect()
    }

    /// The request is on its way to everybody: a call that waits for nothing is done.
    pub(super) fn sent(&mut self, id: &CallId) -> Option<Waker> {
        let entry = self.calls.get_mut(id).filter(|entry| entry.wait == Wait::None && !entry.done)?;
        entry.end(&Answer::NotAwaited);
        entry.waker.take()
    }

    /// Time has passed: at its deadline the call is over.
    pub(super) fn tick(&mut self, id: &CallId, now: Time) -> Option<Waker> {
        let entry = self.calls.get_mut(id).filter(|entry| !entry.done && entry.deadline <= now)?;
        entry.end(&Answer::TimedOut);
        entry.waker.take()
    }

    /// Whether the call is done; if not, `waker` is told when it is.
    pub(super) fn is_done(&mut self, id: &CallId, waker: &Waker) -> bool {
        let Some(entry) = self.calls.get_mut(id) else { return true };
        if !entry.done {
            entry.wait_for(waker);
        }
        entry.done
    }

    /// The next answer that nobody has looked at. Without one `waker` is told when there is, or the call is done; `Err` if it
    /// is done already.
    pub(super) fn next(&mut self, id: &CallId, waker: &Waker) -> Result<Option<(Arc<Member>, Answer)>, ()> {
        let Some(entry) = self.calls.get_mut(id) else { return Err(()) };
        let Some(at) = entry.fresh.pop_front() else {
            if entry.done {
                return Err(());
            }
            entry.wait_for(waker);
            return Ok(None);
        };
        let Some((member, Some(answer))) = entry.asked.get_mut(at) else { return Err(()) };
        // The table keeps that there was a reply, not what it was.
        let answer = match answer {
            Answer::Replied(reply) => {
                let bytes = reply.bytes().len();
                entry.held -= bytes;
                self.held -= bytes;
                Answer::Replied(std::mem::take(reply))
            }
            answer => answer.clone(),
        };
        Ok(Some((Arc::clone(member), answer)))
    }

    /// Takes a call off the table, done or not.
    pub(super) fn close(&mut self, id: &CallId) -> Option<Closed> {
        let entry = self.calls.remove(id)?;
        self.held -= entry.held;
        let satisfied = entry.is_satisfied();
        let cancelled = !entry.done;
        let answers = entry.asked.into_iter();
        let answers = answers.map(|(member, answer)| (member, answer.unwrap_or(Answer::NotAwaited))).collect();
        Some(Closed { answers, satisfied, cancelled })
    }
}

impl Entry {
    /// Which of those asked `from` is. A member of which only the address is known answers with its id.
    fn find(&self, from: &Member) -> Option<usize> {
        let is = |asked: &Member| *asked == *from;
        let is_at =
            |asked: &Member| asked.id() == MemberId::ZERO && asked.port() == from.port() && asked.host() == from.host();
        let position = |test: &dyn Fn(&Member) -> bool| self.asked.iter().position(|(asked, _)| test(asked));
        position(&is).or_else(|| position(&is_at))
    }

    fn wait_for(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            known => *known = Some(waker.clone()),
        }
    }

    fn note(&mut self, at: usize, answer: Answer) -> Option<Waker> {
        self.open -= 1;
        self.replied += usize::from(answer.is_reply());
        if let Some((_, known)) = self.asked.get_mut(at) {
            *known = Some(answer);
        }
        self.fresh.push_back(at);
        if self.wait != Wait::None {
            self.judge();
        }
        self.waker.take()
    }

    /// Ends the call if it is satisfied, or cannot be any more.
    fn judge(&mut self) {
        let over = match self.wait.replies(self.asked.len()) {
            Some(needed) => self.replied >= needed || self.replied + self.open < needed,
            None => self.open == 0,
        };
        if over {
            self.end(&Answer::NotAwaited);
        }
    }

    /// The call is over; who has no answer gets this one.
    fn end(&mut self, answer: &Answer) {
        self.done = true;
        self.open = 0;
        for (at, (_, known)) in self.asked.iter_mut().enumerate() {
            if known.is_none() {
                *known = Some(answer.clone());
                self.fresh.push_back(at);
            }
        }
    }

    fn is_satisfied(&self) -> bool {
        match self.wait {
            Wait::None => true,
            wait => self.replied >= wait.replies(self.asked.len()).unwrap_or(self.asked.len()),
        }
    }
}
