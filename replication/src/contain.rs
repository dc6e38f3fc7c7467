//! Panics of code that is not the map's, as of listeners, wakers, the channel, the log; and of the map itself, if it has a fault: it
//! is to go on, and nobody is to wait in vain.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `run` gives; if it panics `None`, and `text` is in the log of `map`.
pub(crate) fn contain<T>(map: &str, text: &'static str, run: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(run));
    if result.is_err() {
        // Who writes the log is the application's, too.
        let _ = catch_unwind(|| tracing::error!(map, "{text}"));
    }
    result.ok()
}

/// Of somebody who waits, and panics when it is over.
#[cfg(test)]
pub(crate) fn panicking_waker() -> std::task::Waker {
    struct PanicsWhenWoken;
    impl std::task::Wake for PanicsWhenWoken {
        #[allow(clippy::panic, reason = "that is what it is for")]
        fn wake(self: std::sync::Arc<Self>) {
            panic!("woken");
        }
    }
    std::task::Waker::from(std::sync::Arc::new(PanicsWhenWoken))
}
