//! Who leads the group, as the coordinators tell the application.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tribes_core::Member;

/// Who leads, and whom: what a coordinator layer found last. Cheap to clone.
///
/// Two members may hold different opinions for a while, and for as long as the network is split each side has a coordinator
/// of its own, unless a quorum is configured (T6). Whoever protects something outside of the group against a coordinator that
/// does not know yet that it has been replaced lets it check the [`term`](Self::term).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leadership {
    /// The coordinator; `None` before the first election, and from the moment at which it is known to be gone until another
    /// one has been agreed on.
    pub coordinator: Option<Arc<Member>>,
    /// Whether that is the local member.
    pub is_local: bool,
    /// The members that the election was among, the local one included, in absolute order (see [`Member`]); empty before the
    /// first election. It may differ from the channel's view while members come and go.
    pub view: Arc<[Arc<Member>]>,
    /// The number of this leadership. Later ones of the same members have higher numbers, not consecutive ones. `None` while
    /// nobody leads, if a Java member leads, for Tribes' protocol has no such number, and with
    /// `SimpleCoordinator`, which agrees on nothing.
    pub term: Option<u64>,
}

/// What a layer tells; as many subscribers as there are.
#[derive(Default)]
pub(crate) struct Publisher(watch::Sender<Leadership>);

/// The changes of a coordinator layer's [`Leadership`], for one subscriber; clones are independent.
///
/// Only the latest state counts: who looks rarely misses what was in between. Ends when the layer is gone.
#[derive(Clone)]
pub struct LeadershipChanges(watch::Receiver<Leadership>);

impl Publisher {
    /// Tells, if it is news; whether it was.
    pub(crate) fn publish(&self, leadership: Leadership) -> bool {
        self.0.send_if_modified(|told| {
            let news = *told != leadership;
            if news {
                *told = leadership;
            }
            news
        })
    }

    pub(crate) fn current(&self) -> Leadership {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> LeadershipChanges {
        LeadershipChanges(self.0.subscribe())
    }
}

impl LeadershipChanges {
    /// The latest state, which then counts as seen.
    pub fn current(&mut self) -> Leadership {
        self.0.borrow_and_update().clone()
    }

    /// The next state that has not been seen; `None` when the layer is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Leadership> {
        self.0.changed().await.ok()?;
        Some(self.current())
    }

    /// The first state, the present one included, that `wanted` accepts; `None` when the layer is gone. Cancel safe.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&Leadership) -> bool) -> Option<Leadership> {
        self.0.wait_for(wanted).await.ok().map(|leadership| leadership.clone())
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&*self.0.borrow()).finish()
    }
}

impl fmt::Debug for LeadershipChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeadershipChanges").field(&*self.0.borrow()).finish()
    }
}
