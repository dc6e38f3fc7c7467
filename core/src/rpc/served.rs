//! One RPC channel's side that answers: admits requests and has them handled, each by a task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::desk::{Admitted, Bounds, Cancelled, Desk, Key};
use super::frame::Word;
use super::hub::Hub;
use super::stats::{Counts, RpcStats};
use super::{Payload, Request, RpcHandler};
use crate::pipeline::{catch, catch_now};
use crate::{Env, Member, SendOptions, Time};

/// Told of replies that came too late.
pub(super) type LeftOver = dyn Fn(&Arc<Member>, Payload) + Send + Sync;

/// What the builder settled.
pub(super) struct Settings {
    pub(super) handler: Option<Arc<dyn RpcHandler>>,
    pub(super) left_over: Option<Box<LeftOver>>,
    pub(super) bounds: Bounds,
    /// How long a handler may run.
    pub(super) limit: Duration,
    pub(super) reply_options: SendOptions,
}

/// See the [module](self).
pub(super) struct Served {
    pub(super) id: Bytes,
    pub(super) counts: Counts,
    settings: Settings,
    desk: Mutex<Desk<Job, Arc<Notify>>>,
}

/// A request that was admitted.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) payload: Payload,
    pub(super) deadline: Time,
    /// Whether anybody wants an answer.
    pub(super) answered: bool,
    pub(super) stop: Arc<Notify>,
}

impl Served {
    pub(super) fn new(id: Bytes, settings: Settings) -> Arc<Self> {
        let desk = Mutex::new(Desk::new(settings.bounds));
        Arc::new(Self { id, counts: Counts::default(), settings, desk })
    }

    pub(super) const fn answers(&self) -> bool {
        self.settings.handler.is_some()
    }

    pub(super) const fn wants_left_over(&self) -> bool {
        self.settings.left_over.is_some()
    }

    fn desk(&self) -> MutexGuard<'_, Desk<Job, Arc<Notify>>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> RpcStats {
        let stats = self.counts.stats();
        let desk = self.desk();
        RpcStats { running: desk.running(), waiting: desk.waiting(), held: desk.held(), ..stats }
    }

    /// Admits a request; what is to be run now is returned.
    pub(super) fn admit(&self, job: Job) -> Admitted<Job> {
        self.counts.requests.add();
        let (key, bytes) = (job.key.clone(), job.payload.bytes().len());
        let admitted = self.desk().request(key, bytes, job, |job| Arc::clone(&job.stop));
        match &admitted {
            Admitted::Again => self.counts.repeated.add(),
            Admitted::Full => self.counts.overloaded.add(),
            Admitted::Run(_) | Admitted::Waits => {}
        }
        admitted
    }

    /// The caller gave the request up.
    pub(super) fn cancel(&self, key: &Key) {
        let cancelled = self.desk().cancel(key);
        match cancelled {
            Cancelled::Waiting(_) => self.counts.cancelled.add(),
            Cancelled::Running(stop) => stop.notify_one(),
            Cancelled::Unknown => {}
        }
    }

    pub(super) fn left_over(&self, from: &Arc<Member>, reply: Payload) {
        self.counts.late.add();
        if let Some(left_over) = &self.settings.left_over
            && let Err(panic) = catch_now(|| left_over(from, reply))
        {
            tracing::error!(panic, "the hook for left over replies panicked");
        }
    }

    /// Handles `first` and then what waits for its turn, until there is nothing. The first turn begins here, not when the
    /// future is polled: it may never be.
    pub(super) fn work(self: Arc<Self>, hub: Weak<Hub>, env: Env, first: Job) -> impl Future<Output = ()> {
        let first = Turn::of(&self, first);
        async move {
            let mut next = Some(first);
            while let Some((turn, job)) = next.take() {
                let (from, call, answered, deadline) = (Arc::clone(&job.key.0), job.key.1, job.answered, job.deadline);
                let word = self.handle(&env, job).await;
                if let (Some(word), Some(hub)) = (word, hub.upgrade().filter(|_| answered)) {
                    let answering = hub.answer(&from, call, &self, word, self.settings.reply_options);
                    // Whoever has no room for it until nobody waits for it keeps no place for longer.
                    env.until(deadline, answering).await;
                }
                next = turn.end().map(|job| Turn::of(&self, job));
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    /// What the handler says; `None` if nobody wants to know any more.
    async fn handle(&self, env: &Env, job: Job) -> Option<Word> {
        let now = env.now();
        if job.deadline <= now {
            self.counts.expired.add();
            return None;
        }
        let handler = self.settings.handler.as_ref()?;
        let limit = job.deadline.min(now + self.settings.limit);
        let request =
            Request { payload: job.payload, from: Arc::clone(&job.key.0), deadline: job.deadline, env: env.clone() };
        let handling = async {
            match catch_now(|| handler.request(request)) {
                Ok(handling) => catch(handling).await,
                Err(panic) => Err(panic),
            }
        };
        let done = tokio::select! {
            biased;
            () = job.stop.notified() => {
                self.counts.cancelled.add();
                return None;
            }
            done = env.until(limit, handling) => done,
        };
        if done.is_none() && limit == job.deadline {
            self.counts.expired.add();
            return None;
        }
        self.counts.handled.add();
        let failed = match done {
            Some(Ok(Ok(reply))) => return Some(reply.0.map_or(Word::NoReply, Word::Reply)),
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(panic)) => format!("panicked: {panic}"),
            None => format!("not done within {:?}, the limit there", self.settings.limit),
        };
        self.counts.failed.add();
        Some(Word::Failed(failed))
    }
}

/// A request's turn. Dropped before its end, the channel has stopped.
struct Turn {
    served: Arc<Served>,
    key: Option<Key>,
}

impl Turn {
    fn of(served: &Arc<Served>, job: Job) -> (Self, Job) {
        (Self { served: Arc::clone(served), key: Some(job.key.clone()) }, job)
    }

    fn end(mut self) -> Option<Job> {
        let key = self.key.take()?;
        self.served.desk().finished(&key, |job| Arc::clone(&job.stop))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waiting = self.served.desk().abandoned(&key);
            drop(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberId;
    use crate::rpc::CallId;

    /// The channel may stop between a request's admission and the first poll of its handling.
    #[test]
    fn a_handling_that_is_never_polled_gives_its_place_back() {
        let settings = Settings {
            handler: None,
            left_over: None,
            bounds: Bounds { running: 1, waiting: 1, bytes: 100 },
            limit: Duration::from_secs(1),
            reply_options: SendOptions::NONE,
        };
        let served = Served::new(Bytes::from_static(b"id"), settings);
        let from = Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 1).into()));
        let job = Job {
            key: (from, CallId::new([1; 16])),
            payload: Payload::from("x"),
            deadline: Time::NEVER,
            answered: true,
            stop: Arc::new(Notify::new()),
        };
        let Admitted::Run(job) = served.admit(job) else { panic!("there is room") };
        assert_eq!((served.stats().running, served.stats().held), (1, 1));
        drop(Arc::clone(&served).work(Weak::new(), Env::real(), job));
        assert_eq!((served.stats().running, served.stats().held), (0, 0));
    }
}
