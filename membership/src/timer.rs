//! The one timer of a driver.

use std::future::Future;
use std::pin::Pin;

use tribes_core::{Env, Time};

/// A sleep that is made anew only when its deadline changes.
pub(crate) struct Timer {
    env: Env,
    deadline: Time,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Timer {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, deadline: Time::NEVER, sleep: Box::pin(std::future::pending()) }
    }

    /// Completes at `deadline`.
    pub(crate) fn until(&mut self, deadline: Time) -> impl Future<Output = ()> {
        if self.deadline != deadline {
            self.deadline = deadline;
            let env = self.env.clone();
            self.sleep = match deadline {
                Time::NEVER => Box::pin(std::future::pending()),
                at => Box::pin(async move { env.sleep_until(at).await }),
            };
        }
        async {
            self.sleep.as_mut().await;
            // Completed: it must not be polled again.
            self.deadline = Time::NEVER;
            self.sleep = Box::pin(std::future::pending());
        }
    }
}
