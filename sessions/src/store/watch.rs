//! What happens in the table.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use tribes_core::{Channel, Departure, ListenerHandle, Member, MemberId, MembershipListener};
use tribes_replication::{By, Change, ChangeHandle};

use super::Inner;
use super::table::Table;
use crate::SessionId;
use crate::document::{Document, NodeId, Session};
use crate::event::SessionEvent;
use crate::keeper::News;

/// Watches the table and the members for as long as the handles are there.
pub(super) fn begin(inner: &Arc<Inner>) -> (ChangeHandle, ListenerHandle) {
    let weak = Arc::downgrade(inner);
    let changes = inner.table.watch(move |change, by| {
        if let Some(inner) = weak.upgrade() {
            inner.session_changed(change, by);
        }
    });
    let members = inner.channel.listen_members(Members(Arc::downgrade(inner)));
    // What was there before.
    inner.members_changed(&inner.channel);
    for (id, session) in inner.table.held() {
        inner.noticed(id, &session, News::Came);
        inner.index().changed(id, None, Some(&session), &inner.policies);
    }
    (changes, members)
}

struct Members(Weak<Inner>);

impl Members {
    fn changed(&self) {
        if let Some(inner) = self.0.upgrade() {
            inner.members_changed(&inner.channel);
        }
    }
}

impl MembershipListener for Members {
    fn member_added(&self, _: &Arc<Member>) {
        self.changed();
    }

    fn member_removed(&self, _: &Arc<Member>, _: Departure) {
        self.changed();
    }
}

impl Inner {
    fn members_changed(&self, channel: &Channel) {
        let view = channel.view();
        let present: BTreeSet<NodeId> = view.members().iter().map(|member| *member.id().as_bytes()).collect();
        self.keep(|keeper| keeper.present(present));
        self.write_behind(|queue, now| {
            let keeper = self.keeper();
            for id in queue.recent() {
                match keeper.is_orphan(id) {
                    // Who changed it is gone, and has perhaps not written it.
                    Some(true) => queue.changed(id, now),
                    Some(false) => {}
                    None => queue.gone(id),
                }
            }
        });
    }

    fn session_changed(&self, change: &Change<SessionId, Vec<Arc<Session>>>, by: By) {
        let id = change.key;
        let (old, new) = (merged(change.old.as_deref()), merged(change.new.as_deref()));
        let is_ready = *self.ready.borrow();
        // What comes while the state is taken over was made at some time; how long ago it was used is said by others.
        match &new {
            // A shard that this node takes over is no news either.
            Some(session) if by == By::Peer && old.is_none() && matches!(self.table, Table::Backup(_)) => {
                self.noticed(id, session, News::Came);
            }
            Some(session) if by == By::Local || is_ready => self.noticed(id, session, News::Written),
            Some(session) => self.noticed(id, session, News::Came),
            None => {
                self.keeper().gone(id);
                self.write_behind(|queue, _| queue.gone(id));
            }
        }
        if let (By::Peer, Some(session)) = (by, &new) {
            let (is_over, have_met) = (session.live().is_none(), change.new.as_ref().is_some_and(|new| new.len() > 1));
            self.write_behind(|queue, now| {
                queue.heard(id, is_over, now);
                // Writes that did not know of each other: what they come to nobody has written yet.
                if have_met && !is_over {
                    queue.changed(id, now);
                }
            });
        }
        self.index().changed(id, old.as_deref(), new.as_deref(), &self.policies);
        // Who begins to wait now looks at the table after that, and finds the change there.
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        let created = new.as_deref().and_then(Session::live).filter(|_| old.is_none() && is_ready);
        if let (Some(document), Table::All(_)) = (created, &self.table) {
            self.tell_created(id, document);
        }
        self.tell_conflicts(id, change);
    }

    /// This node learns how a session is now.
    pub(super) fn noticed(&self, id: SessionId, session: &Session, news: News) {
        let now = self.now();
        let (transition, failed_over) = self.keep(|keeper| {
            let transition = keeper.changed(id, session, news, now);
            (transition, transition.owners.filter(|(from, _)| !keeper.is_present(*from)))
        });
        if let Session::Dead(death) = session
            && transition.ended
        {
            self.write_behind(|queue, now| queue.heard(id, true, now));
            let by = MemberId::from_bytes(death.by);
            self.events.tell(SessionEvent::Destroyed { id, reason: death.reason, by });
        }
        if let Some((from, to)) = failed_over {
            let (from, to) = (MemberId::from_bytes(from), MemberId::from_bytes(to));
            self.events.tell(SessionEvent::FailedOver { id, from, to });
        }
    }

    /// There is a new session.
    pub(super) fn tell_created(&self, id: SessionId, document: &Document) {
        self.events.tell(SessionEvent::Created { id, by: MemberId::from_bytes(document.owner.1) });
        if let Some(from) = document.previous {
            self.events.tell(SessionEvent::Renamed { from, to: id });
        }
    }

    /// Tells of writes that did not know of each other and meet now.
    fn tell_conflicts(&self, id: SessionId, change: &Change<SessionId, Vec<Arc<Session>>>) {
        fn documents(sessions: &Option<Vec<Arc<Session>>>) -> impl Iterator<Item = &Document> {
            sessions.iter().flatten().filter_map(|session| session.live())
        }
        let old: Vec<&Document> = documents(&change.old).collect();
        let arrived = documents(&change.new).filter(|document| !old.iter().any(|held| std::ptr::eq(*held, *document)));
        let mut told = BTreeSet::new();
        for document in arrived {
            for (name, field) in &document.fields {
                let held = || old.iter().filter_map(|document| document.fields.get(name));
                // A write that is here already has met all others.
                if held().any(|held| Arc::ptr_eq(held, field) || held.stamp() == field.stamp()) {
                    continue;
                }
                if held().any(|held| held.conflicts_with(field)) && told.insert(name.clone()) {
                    self.counters.conflicts.one();
                    self.events.tell(SessionEvent::Conflict { id, field: name.to_string() });
                }
            }
        }
    }
}

/// What the values of a key come to.
fn merged(sessions: Option<&[Arc<Session>]>) -> Option<Arc<Session>> {
    match sessions? {
        [only] => Some(Arc::clone(only)),
        several => several.iter().map(|session| session.as_ref().clone()).reduce(Session::merge).map(Arc::new),
    }
}
