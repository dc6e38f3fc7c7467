//! Who is to be pinged, and what follows from the results, without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::{FaultKind, Member, MemberEvent};

/// A member whose pings fail one after another is reported at the first of them and then at one in so many: a failure
/// detector has looked into the first, and without one nothing changes.
const REPORT_EACH: u64 = 10;

/// See the [module](self). Holds one entry for each member announced from below.
#[derive(Debug, Default)]
pub(super) struct Core {
    members: BTreeMap<Arc<Member>, Watch>,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Watch {
    /// The ticket of the ping whose outcome is not known yet.
    ticket: Option<u64>,
    /// Pings that failed, one after another.
    failed: u64,
}

/// What an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It got there.
    Alive,
    /// It did not, and this speaks against the member; whether that is to be reported.
    Failed {
        /// Whether.
        report: bool,
    },
    /// It was not sent, for reasons on this side.
    Unknown,
    /// Of a member that has gone, or of an earlier run.
    Stale,
}

impl Core {
    /// The service below says something of a member.
    pub(super) fn event(&mut self, event: &MemberEvent) {
        match event {
            MemberEvent::Added(member) => drop(self.members.entry(Arc::clone(member)).or_default()),
            MemberEvent::Updated(member) => {
                // The newest record is the one to send to.
                if let Some(watch) = self.members.remove(member) {
                    self.members.insert(Arc::clone(member), watch);
                }
            }
            MemberEvent::Removed(member, _) => drop(self.members.remove(member)),
            _ => {}
        }
    }

    /// Whom to ping now, each with a ticket to report the outcome with. One whose last ping is still under way is left alone:
    /// so at most one waits in a queue.
    pub(super) fn due(&mut self) -> Vec<(Arc<Member>, u64)> {
        let mut due = Vec::new();
        for (member, watch) in self.members.iter_mut().filter(|(_, watch)| watch.ticket.is_none()) {
            watch.ticket = Some(self.next_ticket);
            due.push((Arc::clone(member), self.next_ticket));
            self.next_ticket += 1;
        }
        due
    }

    /// A ping ended, with this fault or none.
    pub(super) fn done(&mut self, member: &Arc<Member>, ticket: u64, fault: Option<&FaultKind>) -> Finding {
        let Some(watch) = self.members.get_mut(member).filter(|watch| watch.ticket == Some(ticket)) else {
            return Finding::Stale;
        };
        watch.ticket = None;
        match fault {
            // Whoever refuses it is there.
            None | Some(FaultKind::RemoteFailure(_)) => {
                watch.failed = 0;
                Finding::Alive
            }
            Some(kind) if kind.speaks_against_member() => {
                watch.failed += 1;
                Finding::Failed { report: watch.failed % REPORT_EACH == 1 }
            }
            Some(_) => Finding::Unknown,
        }
    }

    /// Forgets everybody; outcomes that are still to come mean nothing then.
    pub(super) fn clear(&mut self) {
        self.members.clear();
    }

    /// How many members there are, and how many of them did not answer last time.
    pub(super) fn census(&self) -> (usize, usize) {
        (self.members.len(), self.members.values().filter(|watch| watch.failed > 0).count())
    }
}
