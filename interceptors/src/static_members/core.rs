//! Which of the fixed members are there, without I/O: what happened goes in, what to do comes out.
//!
//! | a member of the list is | told above | when |
//! |---|---|---|
//! | unresolved | nothing | its name has no address yet |
//! | ignored | nothing | its address is that of the local member, or of one before it in the list |
//! | present | added | from the start on, whether it answers or not: to find that out is a failure detector's affair |
//! | gone | removed | it said good-bye; it is present again when it says so, or can be connected to |
//!
//! A member of the list without an id stands there under a placeholder, with the id of zeros that Java's have, until the process
//! at its address makes itself known.

use std::net::SocketAddr;
use std::sync::Arc;

use tribes_core::{Departure, Member, MemberEvent, MemberId, ProbeResult, Suspicion};

use super::StaticMember;

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the layers above.
    Raise(MemberEvent),
    /// Find the address of `HOST:PORT` and report it for this number.
    Resolve { number: usize, addr: String },
    /// Send the member the notice that this one has started.
    Greet(Arc<Member>),
    /// Find out whether the member can be connected to, and report the result with this ticket.
    Probe { member: Arc<Member>, ticket: u64 },
}

/// The two notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Start,
    Stop,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Core {
    entries: Vec<Entry>,
    local: Option<SocketAddr>,
    next_ticket: u64,
    /// Notices of members that are not in the list.
    strangers: u64,
}

#[derive(Debug)]
struct Entry {
    given: StaticMember,
    state: State,
    /// The last notice to it failed, and it has not been heard of since.
    unreachable: bool,
}

#[derive(Debug)]
enum State {
    Unresolved { asked: bool },
    Ignored,
    Present(Arc<Member>),
    Gone { member: Arc<Member>, ticket: Option<u64> },
}

/// How many members there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) present: usize,
    pub(super) gone: usize,
    pub(super) unresolved: usize,
    pub(super) strangers: u64,
}

impl Core {
    /// Begins with `members`; the channel listens at `local`.
    pub(super) fn start(&mut self, members: &[StaticMember], local: Option<SocketAddr>) -> Vec<Action> {
        let entry = |given: &StaticMember| Entry {
            given: given.clone(),
            state: State::Unresolved { asked: false },
            unreachable: false,
        };
        self.entries = members.iter().map(entry).collect();
        self.local = local;
        let mut out = Vec::new();
        for (number, given) in members.iter().enumerate() {
            if let Ok(addr) = given.addr().parse() {
                out.extend(self.resolved(number, Some(addr)));
            }
        }
        out.extend(self.tick());
        out
    }

    /// Ends: forgets everybody. Those who should be told come back, each with whether it is known to be out of reach.
    pub(super) fn stop(&mut self) -> Vec<(Arc<Member>, bool)> {
        let entries = std::mem::take(&mut self.entries);
        let present = |entry: Entry| match entry.state {
            State::Present(member) => Some((member, entry.unreachable)),
            _ => None,
        };
        entries.into_iter().filter_map(present).collect()
    }

    /// An address was found for a name, or none.
    pub(super) fn resolved(&mut self, number: usize, addr: Option<SocketAddr>) -> Vec<Action> {
        let taken = addr.is_some_and(|addr| Some(addr) == self.local || self.at(addr).is_some());
        let Some(entry) = self.entries.get_mut(number) else { return Vec::new() };
        if !matches!(entry.state, State::Unresolved { .. }) {
            return Vec::new();
        }
        let Some(addr) = addr else {
            entry.state = State::Unresolved { asked: false };
            return Vec::new();
        };
        if taken {
            entry.state = State::Ignored;
            return Vec::new();
        }
        let id = entry.given.id().unwrap_or(MemberId::ZERO);
        entry.appears(Arc::new(Member::new(id, addr)))
    }

    /// The time for another attempt has come.
    pub(super) fn tick(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        for (number, entry) in self.entries.iter_mut().enumerate() {
            match &mut entry.state {
                State::Unresolved { asked } if !*asked => {
                    *asked = true;
                    out.push(Action::Resolve { number, addr: entry.given.addr().to_owned() });
                }
                State::Gone { member, ticket } if ticket.is_none() => {
                    *ticket = Some(self.next_ticket);
                    out.push(Action::Probe { member: Arc::clone(member), ticket: self.next_ticket });
                    self.next_ticket += 1;
                }
                _ => {}
            }
        }
        out
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, ticket: u64, result: ProbeResult) -> Vec<Action> {
        for entry in &mut self.entries {
            let State::Gone { member, ticket: asked } = &mut entry.state else { continue };
            if *asked != Some(ticket) {
                continue;
            }
            *asked = None;
            let member = Arc::clone(member);
            if result.is_alive() {
                return entry.appears(member);
            }
            if result == ProbeResult::Replaced
                && entry.given.id().is_none()
                && let Some(addr) = member.addr()
            {
                // A new process, whose id is not known yet.
                return entry.appears(Arc::new(Member::new(MemberId::ZERO, addr)));
            }
            return Vec::new();
        }
        Vec::new()
    }

    /// The notice to `member` arrived, or did not.
    pub(super) fn greeted(&mut self, member: &Member, arrived: bool) {
        let is_it = |entry: &&mut Entry| entry.member().is_some_and(|known| **known == *member);
        if let Some(entry) = self.entries.iter_mut().find(is_it) {
            entry.unreachable = !arrived;
        }
    }

    /// A notice came.
    pub(super) fn notice(&mut self, notice: Notice, sender: &Arc<Member>) -> Vec<Action> {
        let Some(entry) = self.entry_of(sender) else {
            self.strangers += 1;
            return Vec::new();
        };
        match notice {
            Notice::Start => {
                entry.unreachable = false;
                entry.is_there(sender)
            }
            Notice::Stop => entry.leaves(sender),
        }
    }

    /// The service below says something of a member.
    pub(super) fn event(&mut self, event: &MemberEvent) -> Vec<Action> {
        let pass = || vec![Action::Raise(event.clone())];
        let Some(entry) = self.entry_of(event.member()) else { return pass() };
        match event {
            MemberEvent::Added(member) | MemberEvent::Updated(member) if !member.is_leaving() => entry.is_there(member),
            MemberEvent::Removed(member, Departure::Shutdown) => entry.leaves(member),
            MemberEvent::Removed(member, _) if entry.is_present(member) => {
                // The list says that it belongs to the group; the service, that it is silent.
                vec![Action::Raise(MemberEvent::Suspected(Arc::clone(member), Suspicion::Silent))]
            }
            MemberEvent::Suspected(member, _) if entry.is_present(member) => pass(),
            _ => Vec::new(),
        }
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census { strangers: self.strangers, ..Census::default() };
        for entry in &self.entries {
            match entry.state {
                State::Present(_) => census.present += 1,
                State::Gone { .. } => census.gone += 1,
                State::Unresolved { .. } => census.unresolved += 1,
                State::Ignored => {}
            }
        }
        census
    }

    /// The entry that `member` may speak for: it has the address, and the id if one was given.
    fn entry_of(&mut self, member: &Member) -> Option<&mut Entry> {
        let entry = self.at(member.addr()?)?;
        entry.given.id().is_none_or(|id| id == member.id()).then_some(entry)
    }

    fn at(&mut self, addr: SocketAddr) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.member().is_some_and(|member| member.addr() == Some(addr)))
    }
}

impl Entry {
    const fn member(&self) -> Option<&Arc<Member>> {
        match &self.state {
            State::Present(member) | State::Gone { member, .. } => Some(member),
            State::Unresolved { .. } | State::Ignored => None,
        }
    }

    fn is_present(&self, member: &Member) -> bool {
        matches!(&self.state, State::Present(known) if **known == *member)
    }

    /// It is there from now on.
    fn appears(&mut self, member: Arc<Member>) -> Vec<Action> {
        self.state = State::Present(Arc::clone(&member));
        self.unreachable = false;
        vec![Action::Raise(MemberEvent::Added(Arc::clone(&member))), Action::Greet(member)]
    }

    /// It says itself that it is there, or the service does.
    fn is_there(&mut self, member: &Arc<Member>) -> Vec<Action> {
        match &self.state {
            State::Present(known) if known == member => {
                let event = if known.same_content(member) {
                    // Nothing new to those who know it; a failure detector that did not reach it tries again at once.
                    MemberEvent::Added(Arc::clone(member))
                } else {
                    MemberEvent::Updated(Arc::clone(member))
                };
                self.state = State::Present(Arc::clone(member));
                vec![Action::Raise(event)]
            }
            State::Present(known) => {
                // The process behind a placeholder, or one that took the place of another.
                let former = Arc::clone(known);
                let why = if former.id() == MemberId::ZERO { Departure::Excluded } else { Departure::Failed };
                let mut out = vec![Action::Raise(MemberEvent::Removed(former, why))];
                // It may not know this member's id either.
                out.extend(self.appears(Arc::clone(member)));
                out
            }
            State::Gone { .. } => self.appears(Arc::clone(member)),
            State::Unresolved { .. } | State::Ignored => Vec::new(),
        }
    }

    /// It says that it leaves.
    fn leaves(&mut self, member: &Arc<Member>) -> Vec<Action> {
        if !self.is_present(member) {
            return Vec::new();
        }
        self.state = State::Gone { member: Arc::clone(member), ticket: None };
        vec![Action::Raise(MemberEvent::Removed(Arc::clone(member), Departure::Shutdown))]
    }
}
