//! The task that writes behind.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tribes_core::Env;

use super::super::{Inner, task};
use super::Backing;
use super::queue::{Job, Queue};
use super::record::to_record;
use crate::SessionId;
use crate::document::{Document, Session};
use crate::shared::{ForeignError, ForeignRecord};

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes behind for as long as the store is there.
pub(in crate::store) fn begin(inner: &Arc<Inner>) {
    if let Some(backing) = &inner.backing {
        inner.env.spawn(write_all(Arc::downgrade(inner), Arc::clone(backing), inner.env.clone()));
    }
}

async fn write_all(inner: Weak<Inner>, backing: Arc<Backing>, env: Env) {
    loop {
        let (jobs, next) = {
            // What is closed has been written before.
            let Some(inner) = inner.upgrade().filter(|inner| !inner.is_closed()) else { return };
            drop(inner);
            let mut queue = backing.queue();
            (queue.take(env.now()), queue.next())
        };
        if jobs.is_empty() {
            backing.written.notify_waiters();
            env.until(next, backing.woken.notified()).await;
            continue;
        }
        for (id, job) in jobs {
            let (inner, backing) = (Weak::clone(&inner), Arc::clone(&backing));
            env.spawn(async move {
                if let Some(inner) = inner.upgrade() {
                    perform(&inner, &backing, id, job).await;
                }
            });
        }
    }
}

/// What came of a job.
enum Done {
    Written,
    Removed,
    /// There is no such session to write.
    Nothing,
    /// Those that hold it do not answer.
    Later,
}

/// A job that is being done: if it does not come to its end, as the store panics, it has failed.
struct Doing<'a> {
    backing: &'a Backing,
    env: &'a Env,
    id: SessionId,
    job: Job,
    is_done: bool,
}

impl Doing<'_> {
    fn end(&mut self, note: impl FnOnce(&mut Queue, SessionId, bool)) {
        self.is_done = true;
        self.backing.note(|queue| note(queue, self.id, self.job == Job::Remove));
    }

    fn fail(&mut self, why: &dyn std::fmt::Display) {
        let now = self.env.now();
        let was_failing = self.backing.stats().is_failing;
        self.end(|queue, id, ended| queue.failed(id, ended, now));
        if !was_failing {
            tracing::warn!(%why, "the sessions' backing fails; it is written to when it is there again");
        }
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.fail(&"it panicked");
        }
    }
}

async fn perform(inner: &Arc<Inner>, backing: &Backing, id: SessionId, job: Job) {
    let env = &inner.env;
    let mut doing = Doing { backing, env, id, job, is_done: false };
    let done = env.until(env.now() + PATIENCE, perform_now(inner, backing, id, job)).await;
    let now = env.now();
    match done {
        Some(Ok(Done::Written)) => doing.end(|queue, id, _| queue.done(id, false, now)),
        Some(Ok(Done::Removed)) => {
            doing.end(|queue, id, _| queue.done(id, true, now));
            // Nothing is left that could come back.
            if inner.keeper().is_forgettable(id, inner.now()) {
                task::forget(inner, id);
            }
        }
        Some(Ok(Done::Nothing)) => doing.end(|queue, id, _| queue.needless(id)),
        Some(Ok(Done::Later)) => doing.end(|queue, id, ended| queue.later(id, ended, now)),
        Some(Err(ForeignError::Encode(why))) => {
            doing.end(|queue, id, _| queue.impossible(id));
            tracing::warn!(?id, why, "a session cannot be written to the backing: it is on the nodes only");
        }
        Some(Err(error)) => doing.fail(&error),
        None => doing.fail(&"it does not answer"),
    }
}

async fn perform_now(inner: &Inner, backing: &Backing, id: SessionId, job: Job) -> Result<Done, ForeignError> {
    let known = match job {
        Job::Remove => return backing.store.delete(id).await.map(|()| Done::Removed),
        Job::Write { known } => known,
    };
    match inner.table.get(id).await {
        Ok(Some(session)) => match &*session {
            Session::Live(document) => write(inner, backing, id, document, known).await,
            Session::Dead(_) => backing.store.delete(id).await.map(|()| Done::Removed),
        },
        // Those that held it are gone: what is in the backing is all there is.
        Ok(None) => Ok(Done::Nothing),
        Err(_) => Ok(Done::Later),
    }
}

async fn write(
    inner: &Inner,
    backing: &Backing,
    id: SessionId,
    document: &Document,
    known: bool,
) -> Result<Done, ForeignError> {
    let now = inner.now();
    let idle = inner.keeper().idle(id, now).unwrap_or_default();
    let record = to_record((id, &inner.name), document, idle, now.wall_ms)
        .ok_or_else(|| ForeignError::Encode("a session".to_owned()))?;
    let store = &backing.store;
    // Some stores save only what they have, and some make only what they have not.
    let is_there = |loaded: Result<Option<ForeignRecord>, ForeignError>| match loaded {
        Ok(found) => Ok(found.is_some()),
        // Whatever it is, it is in the way.
        Err(ForeignError::Decode(_)) => Ok(true),
        Err(error) => Err(error),
    };
    if known || is_there(store.load(id).await)? {
        store.save(record).await?;
    } else {
        let made = store.create(record.clone()).await?;
        if made != id {
            // Another node was faster.
            store.delete(made).await?;
            store.save(record).await?;
        }
    }
    Ok(Done::Written)
}

impl Backing {
    /// Writes all that waits; how much of it is left after `within`.
    pub(in crate::store) async fn flush(&self, env: &Env, within: Duration) -> usize {
        let until = env.now() + within;
        self.note(|queue| queue.hurry(env.now()));
        loop {
            let written = self.written.notified();
            if self.queue().is_empty() {
                return 0;
            }
            if env.until(until, written).await.is_none() {
                return self.stats().pending;
            }
        }
    }
}

#[cfg(all(test, feature = "tower-sessions"))]
mod tests {
    #![allow(clippy::panic, reason = "it is what is tested")]

    use tower_sessions::MemoryStore;

    use super::*;
    use crate::SharedStore;

    #[tokio::test]
    async fn a_job_that_panics_has_failed_and_is_done_again() {
        let (backing, env) = (Backing::new(SharedStore::new(MemoryStore::default()), Duration::ZERO), Env::real());
        let id = SessionId::from_bits(1);
        backing.note(|queue| queue.ended(id, env.now()));
        assert_eq!(backing.queue().take(env.now()), [(id, Job::Remove)]);
        let doing = Doing { backing: &backing, env: &env, id, job: Job::Remove, is_done: false };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _doing = doing;
            panic!("a fault of the store");
        }));
        assert!(panicked.is_err());
        assert!(backing.stats().is_failing && backing.queue().is_ending(id));
        let next = backing.queue().next();
        assert_eq!(backing.queue().take(next), [(id, Job::Remove)]);
    }
}
