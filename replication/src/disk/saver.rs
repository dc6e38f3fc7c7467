//! The thread that saves: a disk may take its time, and no task is to wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tribes_core::BoxError;

use crate::core::Batch;

/// What the thread asks for what is to be saved.
pub(crate) trait Source: Send + Sync + 'static {
    /// What changed since the last one.
    fn take_batch(&self) -> Batch;
    /// What became of it.
    fn saved(&self, batch: Batch, result: Result<(), BoxError>);
}

/// Saves what changes, at most so often. Dropping it saves the rest and waits for that.
pub(crate) struct Saver {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
    progress: watch::Receiver<Progress>,
}

/// How far the thread has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of the last change that is saved.
    pub(crate) saved: u64,
    /// The number of the last change that could not be saved, if nothing was saved since.
    pub(crate) failed: Option<u64>,
}

/// How long the thread waits before it tries again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How the thread is told that there is something to save.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Counts changes, and calls for saving.
    wanted: u64,
    stop: bool,
}

impl Signal {
    /// Something changed; which change that is.
    pub(crate) fn changed(&self) -> u64 {
        let mut state = self.lock();
        state.wanted += 1;
        self.changed.notify_one();
        state.wanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Saver {
    /// Starts the thread, which saves by `save`.
    pub(crate) fn start(
        save: impl FnMut(&Batch) -> Result<(), BoxError> + Send + 'static,
        every: Duration,
        source: Arc<dyn Source>,
    ) -> Result<Self, BoxError> {
        let signal = Arc::new(Signal::default());
        let (sender, progress) = watch::channel(Progress::default());
        let theirs = Arc::clone(&signal);
        let work = move || run(save, every, &*source, &theirs, &sender);
        let thread = std::thread::Builder::new().name("tribes-map-saver".to_owned()).spawn(work)?;
        Ok(Self { signal, thread: Some(thread), progress })
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Tells how far it is; ends when the thread does.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.signal.lock().stop = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it was told by the panic.
            let _ = thread.join();
        }
    }
}

fn run(
    mut save: impl FnMut(&Batch) -> Result<(), BoxError>,
    every: Duration,
    source: &dyn Source,
    signal: &Signal,
    told: &watch::Sender<Progress>,
) {
    let mut progress = Progress::default();
    let mut pause = Duration::ZERO;
    loop {
        let (wanted, stop) = {
            let mut state = signal.lock();
            while state.wanted == progress.saved && !state.stop {
                state = signal.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Others may come along; and a disk that failed may recover.
            (state, _) = signal
                .changed
                .wait_timeout_while(state, every.max(pause), |state| !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            (state.wanted, state.stop)
        };
        let batch = source.take_batch();
        let result = save(&batch);
        if result.is_ok() {
            progress = Progress { saved: wanted, failed: None };
            pause = Duration::ZERO;
        } else {
            progress.failed = Some(wanted);
            pause = (pause * 2).clamp(PAUSE.0, PAUSE.1);
        }
        source.saved(batch, result);
        told.send_replace(progress);
        if stop {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::time::Instant;

    use super::*;
    use crate::context::Context;

    struct Nothing;

    impl Source for Nothing {
        fn take_batch(&self) -> Batch {
            Batch { entries: Vec::new(), seen: Context::default(), time: 0 }
        }

        fn saved(&self, _: Batch, _: Result<(), BoxError>) {}
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_tried_again_and_again_but_not_at_once() {
        let tries = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&tries);
        let save = move |_: &Batch| {
            let mut tries = theirs.lock().unwrap();
            tries.push(Instant::now());
            if tries.len() < 4 { Err("full".into()) } else { Ok(()) }
        };
        let saver = Saver::start(save, Duration::ZERO, Arc::new(Nothing)).unwrap();
        let change = saver.signal().changed();
        let mut progress = saver.progress();
        assert_eq!(
            *progress.wait_for(|progress| progress.saved >= change).await.unwrap(),
            Progress { saved: change, failed: None }
        );
        let tries = tries.lock().unwrap();
        let pauses: Vec<u128> = tries.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
        assert!(pauses.iter().zip([100, 200, 400]).all(|(pause, least)| *pause >= least), "{pauses:?}");
    }

    /// Also while it waits for a disk to recover.
    #[tokio::test]
    async fn it_ends_at_once_and_tries_once_more() {
        let tries = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&tries);
        let save = move |_: &Batch| {
            *theirs.lock().unwrap() += 1;
            Err("full".into())
        };
        let saver = Saver::start(save, Duration::ZERO, Arc::new(Nothing)).unwrap();
        saver.signal().changed();
        let mut progress = saver.progress();
        progress.wait_for(|progress| progress.failed.is_some()).await.unwrap();
        let before = *tries.lock().unwrap();
        drop(saver);
        assert_eq!(*tries.lock().unwrap(), before + 1);
        progress.changed().await.unwrap();
        assert!(progress.changed().await.is_err());
    }

    #[tokio::test]
    async fn that_the_thread_has_died_is_seen() {
        let saver = Saver::start(|_: &Batch| panic!("on purpose"), Duration::ZERO, Arc::new(Nothing)).unwrap();
        let change = saver.signal().changed();
        assert!(saver.progress().wait_for(|progress| progress.saved >= change).await.is_err());
    }
}
