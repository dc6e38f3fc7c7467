//! Link sessions at run time: results find the connection that continues their session, whichever carried the message.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tribes_core::wire::Control;
use tribes_core::{Env, Handled, ReceiptSink};

use super::outbox::Outbox;
use super::session::{Claim, SessionCore, SessionKey, SessionTable, code_of};

/// One session. Lock order: the session, then an outbox.
#[derive(Debug, Default)]
pub(super) struct Session(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    core: SessionCore,
    /// Of the connection that continues the session now.
    current: Option<Arc<Outbox>>,
    /// Frames whose result is still to come.
    open: usize,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `outbox` is that of the session's connection from now on; it gets `welcome`, made of what was taken, and all results
    /// that are remembered.
    pub(super) fn attach(&self, outbox: &Arc<Outbox>, welcome: impl FnOnce(u64) -> Control) {
        let mut state = self.state();
        outbox.push(&welcome(state.core.taken()));
        for (seq, result) in state.core.results() {
            outbox.push(&Control::Handled { seq: *seq, result: result.clone() });
        }
        outbox.expect(state.open);
        state.current = Some(Arc::clone(outbox));
    }

    /// How many frames have been taken so far; the connection that owns the session counts on from here.
    pub(super) fn taken(&self) -> u64 {
        self.state().core.taken()
    }

    /// So many frames have been taken now, and of the last ones so many have a result to come. Told before any of them goes
    /// up.
    pub(super) fn advance(&self, taken: u64, results: usize) {
        let mut state = self.state();
        state.core.set_taken(taken);
        state.open += results;
        if let Some(outbox) = &state.current {
            outbox.taken(taken, results);
        }
    }

    fn detach(&self) {
        self.state().current = None;
    }
}

impl ReceiptSink for Session {
    fn handled(&self, seq: u64, handled: Handled) {
        let result = code_of(handled);
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        if let Some(outbox) = &state.current {
            outbox.result(seq, result.clone());
        }
        state.core.handled(seq, result);
    }
}

type Table = SessionTable<Arc<Session>, oneshot::Sender<Ownership>>;

/// The sessions of a receiver; they outlast stop and start.
#[derive(Debug)]
pub(super) struct Sessions(Mutex<Table>);

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The session is the connection's.
    Granted {
        ownership: Ownership,
        /// Whether it was known before.
        known: bool,
    },
    /// This connection has to end first; then the ownership comes.
    Wait { owner: u64 },
}

impl Sessions {
    pub(super) const fn new(keep: Duration, max: usize) -> Self {
        Self(Mutex::new(SessionTable::new(keep, max)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a session for connection `connection`; if it has to wait, `waiter` gets the ownership, or is dropped when a
    /// still newer connection claims it.
    pub(super) fn claim(
        self: &Arc<Self>,
        key: SessionKey,
        connection: u64,
        waiter: oneshot::Sender<Ownership>,
        env: &Env,
    ) -> Claimed {
        let claim = self.table().claim(&key, connection, waiter, env.now(), Arc::default);
        match claim {
            Claim::Granted { session, known } => {
                let ownership = Ownership { sessions: Arc::clone(self), session, key, connection, env: env.clone() };
                Claimed::Granted { ownership, known }
            }
            // The older claim is void when its sender is dropped, here, with no lock held.
            Claim::Wait { owner, superseded: _ } => Claimed::Wait { owner },
        }
    }

    pub(super) fn forget_orphans(&self) {
        self.table().forget_orphans();
    }

    pub(super) fn len(&self) -> usize {
        self.table().len()
    }
}

/// A connection's hold on a session, until dropped. Then the connection that waits for it gets it.
pub(super) struct Ownership {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    key: SessionKey,
    connection: u64,
    env: Env,
}

impl Ownership {
    pub(super) const fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.session.detach();
        let next = self.sessions.table().release(&self.key, self.connection, self.env.now());
        if let Some((connection, waiter)) = next {
            let ownership = Self {
                sessions: Arc::clone(&self.sessions),
                session: Arc::clone(&self.session),
                key: self.key.clone(),
                connection,
                env: self.env.clone(),
            };
            // If it has gone meanwhile, what comes back is dropped and releases the session in turn.
            drop(waiter.send(ownership));
        }
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership")
            .field("key", &self.key)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tribes_core::wire::HandledCode;
    use tribes_core::{Member, MemberId};

    use super::*;
    use crate::receiver::outbox::Drained;

    fn key() -> SessionKey {
        SessionKey { member: Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 1).into())), session: 1 }
    }

    #[tokio::test]
    async fn a_waiter_that_has_gone_gives_the_session_on() {
        let env = Env::real();
        let sessions = Arc::new(Sessions::new(Duration::from_secs(60), 10));
        let claim = |connection| {
            let (sender, receiver) = oneshot::channel();
            (sessions.claim(key(), connection, sender, &env), receiver)
        };
        let (Claimed::Granted { ownership, known: false }, _) = claim(1) else { panic!() };
        let (Claimed::Wait { owner: 1 }, gone) = claim(2) else { panic!() };
        drop(gone);
        drop(ownership);
        let (Claimed::Granted { ownership, known: true }, _) = claim(3) else { panic!() };
        let (Claimed::Wait { owner: 3 }, mut superseded) = claim(4) else { panic!() };
        let (Claimed::Wait { owner: 3 }, granted) = claim(5) else { panic!() };
        assert!(superseded.try_recv().is_err());
        drop(ownership);
        assert_eq!(granted.await.unwrap().connection, 5);
        let (Claimed::Granted { known: true, .. }, _) = claim(6) else { panic!() };
    }

    #[test]
    fn a_result_goes_to_the_connection_that_continues() {
        let session = Arc::new(Session::default());
        let welcome = |taken| Control::Pong { nonce: taken };
        let first = Arc::new(Outbox::default());
        session.attach(&first, welcome);
        session.advance(3, 2);
        session.handled(0, Handled::Accepted);
        session.detach();
        let second = Arc::new(Outbox::default());
        session.attach(&second, welcome);
        second.finish(true);
        let mut bytes = bytes::BytesMut::new();
        assert_eq!(second.drain(&mut bytes), Drained::Some);
        let mut late = bytes::BytesMut::new();
        // The other one is still to come.
        assert_eq!(second.drain(&mut late), Drained::Nothing);
        session.handled(1, Handled::NoTaker);
        assert_eq!(second.drain(&mut late), Drained::Some);
        assert_eq!(second.drain(&mut bytes::BytesMut::new()), Drained::Over);
        bytes.extend_from_slice(&late);
        let mut expected = bytes::BytesMut::new();
        Control::Pong { nonce: 3 }.encode(&mut expected);
        Control::Handled { seq: 0, result: HandledCode::Ok }.encode(&mut expected);
        Control::Handled { seq: 1, result: HandledCode::NoTaker }.encode(&mut expected);
        assert_eq!(bytes, expected);
    }
}
