//! What is to be sent: to each member at most one message of each kind, and one under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tribes_core::Member;

use crate::agreed_views::wire::Kind;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    slots: BTreeMap<Arc<Member>, Slots>,
    /// Members for whom something waits, in the order in which it came.
    queue: VecDeque<Arc<Member>>,
}

#[derive(Debug, Default)]
struct Slots {
    answer: Option<Kind>,
    proposal: Option<Kind>,
    beat: bool,
    queued: bool,
    under_way: bool,
}

impl Outbox {
    fn put(&mut self, member: &Arc<Member>, change: impl FnOnce(&mut Slots)) {
        let slots = self.slots.entry(Arc::clone(member)).or_default();
        change(slots);
        if !slots.queued && !slots.under_way {
            slots.queued = true;
            self.queue.push_back(Arc::clone(member));
        }
    }

    /// It is to hear what this member holds.
    pub(super) fn beat(&mut self, member: &Arc<Member>) {
        self.put(member, |slots| slots.beat = true);
    }

    /// Of a proposal, what it is to hear now instead of what came before.
    pub(super) fn propose(&mut self, member: &Arc<Member>, kind: Kind) {
        self.put(member, |slots| slots.proposal = Some(kind));
    }

    /// To its own proposal.
    pub(super) fn answer(&mut self, member: &Arc<Member>, kind: Kind) {
        self.put(member, |slots| slots.answer = Some(kind));
    }

    /// The next message and to whom; `None` for the kind means a beat, which is made when it is sent.
    pub(super) fn pop(&mut self) -> Option<(Arc<Member>, Option<Kind>)> {
        while let Some(member) = self.queue.pop_front() {
            let Some(slots) = self.slots.get_mut(&member) else { continue };
            slots.queued = false;
            let kind = slots.answer.take().or_else(|| slots.proposal.take());
            if kind.is_none() && !std::mem::take(&mut slots.beat) {
                self.slots.remove(&member);
                continue;
            }
            slots.under_way = true;
            return Some((member, kind));
        }
        None
    }

    /// What was under way to it is no more.
    pub(super) fn sent(&mut self, member: &Arc<Member>) {
        let Some(slots) = self.slots.get_mut(member) else { return };
        slots.under_way = false;
        if slots.beat || slots.answer.is_some() || slots.proposal.is_some() {
            if !slots.queued {
                slots.queued = true;
                self.queue.push_back(Arc::clone(member));
            }
        } else if !slots.queued {
            self.slots.remove(member);
        }
    }

    /// It is gone.
    pub(super) fn forget(&mut self, member: &Member) {
        self.slots.remove(member);
    }
}
