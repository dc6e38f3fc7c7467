//! The contexts of the messages last received.

use std::collections::{BTreeMap, VecDeque};

use tribes_core::MessageId;

use super::TraceContext;

/// A bounded memory; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    contexts: BTreeMap<MessageId, TraceContext>,
    order: VecDeque<MessageId>,
}

impl Recent {
    /// Remembers the context of a message, and at most `max` of them.
    pub(super) fn remember(&mut self, id: &MessageId, context: TraceContext, max: usize) {
        if max == 0 {
            return;
        }
        // A message that comes twice, or in pieces, keeps its place.
        if self.contexts.insert(id.clone(), context).is_none() {
            self.order.push_back(id.clone());
        }
        while self.order.len() > max {
            if let Some(oldest) = self.order.pop_front() {
                self.contexts.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, id: &MessageId) -> Option<TraceContext> {
        self.contexts.get(id).copied()
    }
}
