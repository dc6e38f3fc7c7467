//! The task that writes behind.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tribes_core::Env;

use super::super::Inner;
use super::Backing;
use super::queue::Job;
use super::record::to_record;
use crate::SessionId;
use crate::document::{Document, Session};
use crate::shared::ForeignError;

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
                    backing.woken.notify_one();
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
}

async fn perform(inner: &Inner, backing: &Backing, id: SessionId, job: Job) {
    let env = &inner.env;
    let done = env.until(env.now() + PATIENCE, perform_now(inner, backing, id, job)).await;
    let mut queue = backing.queue();
    match done {
        Some(Ok(Done::Written)) => queue.done(id, false, env.now()),
        Some(Ok(Done::Removed)) => queue.done(id, true, env.now()),
        Some(Ok(Done::Nothing)) => queue.needless(id),
        Some(Err(error)) => {
            let was_failing = queue.stats().is_failing;
            queue.failed(id, job == Job::Remove, env.now());
            drop(queue);
            if !was_failing {
                tracing::warn!(%error, "the sessions' backing fails; it is written to when it is there again");
            }
        }
        None => {
            let was_failing = queue.stats().is_failing;
            queue.failed(id, job == Job::Remove, env.now());
            drop(queue);
            if !was_failing {
                tracing::warn!("the sessions' backing does not answer; it is written to when it does again");
            }
        }
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
        // Those that hold it do not answer: later.
        Err(error) => Err(ForeignError::Backend(error.to_string())),
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
    let record =
        to_record(id, document, idle, now.wall_ms).ok_or_else(|| ForeignError::Encode("a session".to_owned()))?;
    let store = &backing.store;
    // Some stores save only what they have, and some make only what they have not.
    if known || store.load(id).await?.is_some() {
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
