//! The sessions of all senders, as a receiver knows them. None is forgotten before very many others came: what was seen of a
//! session must never pass again.

use std::collections::HashMap;
use std::sync::Arc;

use tribes_core::MemberId;

use super::sealed::{SessionId, SessionKey};
use super::window::Window;

/// Sessions whose window is kept. The others keep their highest counter.
pub(super) const OPEN: usize = 4096;
/// Sessions that are known at all.
pub(super) const KNOWN: usize = 65_536;

/// A session, told apart from all others.
pub(super) type Name = (SessionId, MemberId);

#[derive(Debug)]
pub(super) struct Sessions {
    by_name: HashMap<Name, Session>,
    max_open: usize,
    max_known: usize,
    open: usize,
    /// Goes up with each use, to find the session that has been idle for longest.
    uses: u64,
}

#[derive(Debug)]
struct Session {
    window: Window,
    last_use: u64,
    /// The key, and the key ring from which it was derived.
    key: Option<(u64, Arc<SessionKey>)>,
}

/// What is known of a message before it is opened.
#[derive(Debug)]
pub(super) enum Known {
    /// It was here before, or is too far behind.
    Seen,
    /// Its session is known, with its key.
    Key(Arc<SessionKey>),
    /// Nothing.
    Nothing,
}

impl Sessions {
    pub(super) fn new(max_open: usize, max_known: usize) -> Self {
        Self { by_name: HashMap::new(), max_open, max_known, open: 0, uses: 0 }
    }

    /// What is known of the message with this counter; keys of other rings do not count.
    pub(super) fn look(&self, name: &Name, counter: u64, ring: u64) -> Known {
        match self.by_name.get(name) {
            Some(session) if !session.window.is_new(counter) => Known::Seen,
            Some(Session { key: Some((of, key)), .. }) if *of == ring => Known::Key(Arc::clone(key)),
            _ => Known::Nothing,
        }
    }

    /// Takes note of a message that was opened with `key`; whether it is the first with this counter. Only messages that could
    /// be opened come here, so that strangers have no part in what is remembered.
    pub(super) fn accept(&mut self, name: Name, counter: u64, ring: u64, key: &Arc<SessionKey>) -> bool {
        self.uses += 1;
        let uses = self.uses;
        let fresh = || Session { window: Window::default(), last_use: uses, key: None };
        let session = self.by_name.entry(name).or_insert_with(fresh);
        let was_open = session.window.is_open();
        let new = session.window.accept(counter);
        session.last_use = uses;
        if session.key.as_ref().is_none_or(|(of, _)| *of != ring) {
            session.key = Some((ring, Arc::clone(key)));
        }
        self.open += usize::from(session.window.is_open() && !was_open);
        if self.open > self.max_open {
            self.close_idlest();
        }
        if self.by_name.len() > self.max_known {
            self.forget_idlest();
        }
        new
    }

    /// How many sessions are known.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn close_idlest(&mut self) {
        let open = self.by_name.values_mut().filter(|session| session.window.is_open());
        if let Some(idlest) = open.min_by_key(|session| session.last_use) {
            idlest.key = None;
            self.open -= usize::from(idlest.window.close());
        }
    }

    fn forget_idlest(&mut self) {
        let idlest = self.by_name.iter().min_by_key(|(_, session)| session.last_use).map(|(name, _)| *name);
        if let Some(session) = idlest.and_then(|name| self.by_name.remove(&name)) {
            self.open -= usize::from(session.window.is_open());
        }
    }
}
