//! What requests have saved that may save again.

use std::collections::{HashMap, VecDeque};

use crate::document::Base;

/// So many are remembered, the latest. Of one that is forgotten a second save in the same request counts from what it was given.
const MOST: usize = 1024;

/// What requests were given, and have written since, by the nonce of their base.
#[derive(Debug, Default)]
pub(super) struct Saved {
    bases: HashMap<u64, Base>,
    order: VecDeque<u64>,
}

impl Saved {
    /// Takes what is remembered; it is to be put back.
    pub(super) fn take(&mut self, nonce: u64) -> Option<Base> {
        self.bases.remove(&nonce)
    }

    pub(super) fn put(&mut self, base: Option<Base>) {
        let Some(base) = base else { return };
        let nonce = base.nonce;
        if self.bases.insert(nonce, base).is_none() {
            self.order.push_back(nonce);
        }
        // Those that were taken and put back are in there twice: then the earlier place counts.
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.bases.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;
    use crate::conflict::Policies;
    use crate::document::{Document, Hashes, Lifetime};
    use crate::stamp::Stamp;

    #[test]
    fn it_is_bounded() {
        let document = Document::new(Stamp(1, 1), Lifetime::Unlimited, [0; 16]);
        let base =
            |nonce| Base::of((SessionId::from_bits(1), nonce), &document, &Policies::default(), Hashes::new(1)).1;
        let mut saved = Saved::default();
        (0..5000).for_each(|nonce| saved.put(Some(base(nonce))));
        assert!(saved.bases.len() <= MOST && saved.order.len() <= MOST);
        assert!(saved.take(0).is_none());
        assert_eq!(saved.take(4999), Some(base(4999)));
        (0..5000).for_each(|_| {
            let taken = saved.take(4998);
            saved.put(taken);
        });
        assert!(saved.order.len() <= MOST);
    }
}
