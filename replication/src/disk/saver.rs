//! The thread that saves: a disk may take its time, and no task is to wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tribes_core::BoxError;

use super::File;
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
    /// The number of the last change that is saved.
    done: watch::Receiver<u64>,
}

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
    /// Starts the thread.
    pub(crate) fn start(file: File, every: Duration, source: Arc<dyn Source>) -> Result<Self, BoxError> {
        let signal = Arc::new(Signal::default());
        let (sender, done) = watch::channel(0);
        let theirs = Arc::clone(&signal);
        let work = move || run(&file, every, &*source, &theirs, &sender);
        let thread = std::thread::Builder::new().name("tribes-map-saver".to_owned()).spawn(work)?;
        Ok(Self { signal, thread: Some(thread), done })
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Tells when the change of this number is saved.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.done.clone()
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

fn run(file: &File, every: Duration, source: &dyn Source, signal: &Signal, done: &watch::Sender<u64>) {
    let mut last = 0;
    loop {
        let (wanted, stop) = {
            let mut state = signal.lock();
            while state.wanted == last && !state.stop {
                state = signal.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Others may come along.
            (state, _) = signal
                .changed
                .wait_timeout_while(state, every, |state| !state.stop)
                .unwrap_or_else(PoisonError::into_inner);
            (state.wanted, state.stop)
        };
        let batch = source.take_batch();
        let result = file.save(&batch);
        let saved = result.is_ok();
        source.saved(batch, result);
        if saved {
            last = wanted;
            done.send_replace(last);
        }
        if stop {
            return;
        }
    }
}
