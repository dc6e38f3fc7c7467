//! The trait of actix-session.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use serde_json::Value;
use tokio::runtime::Handle;

use super::requests::RecordEnd;
use super::{Inner, ReplicatedStore, Shortfall};
use crate::error::SessionError;
use crate::request::{self, RequestContext};
use crate::{EndReason, SessionId};

/// The fields of a session as actix-session has them: JSON as text.
type State = HashMap<String, String>;

/// The only key of a value that stands for a text that is no JSON, or more than fits into a value.
const OPAQUE: &str = "\0text";
/// An integer of fewer digits fits.
const DIGITS: usize = 20;

thread_local! {
    /// The session that was deleted last on this thread, if it was there. A session that is to get another id is deleted and
    /// saved anew by its request, and nothing else runs on the thread in between.
    static DELETED: Cell<Option<SessionId>> = const { Cell::new(None) };
}

/// The store for `actix-session` 0.11: put it where `RedisSessionStore` was. Its feature is `actix-session`.
///
/// - **Keys** are made by the store: 128 random bits.
/// - **Fields are replicated**, not sessions. What a request was given travels in the state, under a key that begins with a zero
///   byte; `Session::entries` shows it, and nothing else.
/// - **A session that has ended stays ended.** `update` writes nothing then, and gives the key back as it is: the client gets the
///   handler's answer, and a cookie that names no session. If a request renews a session that has ended meanwhile
///   (`Session::renew`), the new one has what this request wrote, and nothing of what it was given.
/// - **Uses** are what actix-session's `TtlExtensionPolicy` says: writes, or all requests with `OnEveryRequest`. With
///   [`inactivity`](crate::StoreBuilder::inactivity) every request is one that comes with the session's cookie.
/// - **[`durability`](crate::StoreBuilder::durability)** is waited for here, before the response goes out: there is no layer.
/// - **Threads**: all workers may use it. What runs beside requests runs in the runtime in which the store was opened, and has to
///   be there as long as they are.
///
/// # Errors
/// The middleware answers them with 500, and the handler's answer is lost: something is too large; nobody that holds the
/// session answers ([`Mode::Backup`](crate::Mode::Backup)); a write, though made, falls short, and [`Shortfall::Fail`] was asked
/// for. A deletion that falls short is only counted.
///
/// # Cancel safety
/// What was to be written may be.
impl SessionStore for ReplicatedStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = id_of(key) else { return Ok(None) };
        let context = self.0.request(self.0.inactivity.is_none(), None);
        let loaded = self.0.handle(&context, self.0.load(id)).await.map_err(|error| LoadError::Other(error.into()))?;
        Ok(loaded.map(|loaded| loaded.data.into_iter().map(|(name, value)| (name, text_of(value))).collect()))
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        let context = self.0.request(false, DELETED.take());
        let mut data = data_of(state);
        let created = self.0.handle(&context, self.0.create(&mut data, self.0.end_after(ttl))).await;
        let id = created.map_err(|error| {
            if is_unfit(&error) { SaveError::Serialization(error.into()) } else { SaveError::Other(error.into()) }
        })?;
        SessionKey::try_from(id.to_string()).map_err(|error| SaveError::Other(error.into()))
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &time::Duration) -> Result<SessionKey, UpdateError> {
        let Some(id) = id_of(&key) else { return Ok(key) };
        let context = self.0.request(false, None);
        let data = data_of(state);
        let saved = self.0.handle(&context, self.0.save(id, &data, self.0.end_after(ttl))).await;
        saved.map_err(|error| {
            if is_unfit(&error) { UpdateError::Serialization(error.into()) } else { UpdateError::Other(error.into()) }
        })?;
        Ok(key)
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> Result<(), anyhow::Error> {
        let Some(id) = id_of(key) else { return Ok(()) };
        let context = self.0.request(false, None);
        Ok(self.0.handle(&context, self.0.put_off(id, self.0.end_after(ttl))).await?)
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        DELETED.set(None);
        let Some(id) = id_of(key) else { return Ok(()) };
        let context = self.0.request(false, None);
        let mut was_there = false;
        let end = async {
            was_there = self.0.end(id, EndReason::Invalidated).await?;
            Ok(())
        };
        match self.0.handle(&context, end).await {
            // It is over here, and on its way to the others; and its request may have to make another yet.
            Err(_) if was_there => {}
            outcome => outcome?,
        }
        // From here to the request's next step there is no wait.
        DELETED.set(Some(id).filter(|_| was_there));
        Ok(())
    }
}

impl Inner {
    fn request(&self, passes_by: bool, ended: Option<SessionId>) -> Arc<RequestContext> {
        let context = RequestContext::new(self.address(), passes_by, None);
        Arc::new(context.that_ended(ended))
    }

    /// Does a part of a request's work, and waits for what that wrote.
    async fn handle<T>(
        &self,
        context: &Arc<RequestContext>,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        let work = async {
            let outcome = request::scope(Arc::clone(context), work).await?;
            let done = context.done();
            for id in done.take_over {
                self.take_over(id).await;
            }
            let short = self.settle(done.commits).await;
            match short.into_iter().next() {
                Some(error) if self.shortfall == Shortfall::Fail => Err(error.into()),
                _ => Ok(outcome),
            }
        };
        at_home(&self.home, work).await
    }

    fn end_after(&self, ttl: &time::Duration) -> RecordEnd {
        RecordEnd::after(Duration::try_from(*ttl).unwrap_or_default(), self.now().wall_ms)
    }
}

/// Runs `work` here, with its tasks and timers in the runtime `home`: a worker's runtime ends with the worker, and with it what
/// was begun there, as a connection to another node.
async fn at_home<T>(home: &Handle, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _entered = home.enter();
        work.as_mut().poll(cx)
    })
    .await
}

fn id_of(key: &SessionKey) -> Option<SessionId> {
    key.as_ref().parse().ok()
}

const fn is_unfit(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::FieldTooLarge { .. } | SessionError::SessionTooLarge { .. } | SessionError::TooDeep { .. }
    )
}

fn data_of(state: State) -> HashMap<String, Value> {
    state.into_iter().map(|(name, text)| (name, value_of(text))).collect()
}

/// The value of a text, so that it can be merged and looked for; what would not come out as it went in is kept as text.
fn value_of(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value) if is_whole(&value, &text) && opaque(&value).is_none() => value,
        _ => Value::Object(serde_json::Map::from_iter([(OPAQUE.to_owned(), Value::String(text))])),
    }
}

fn text_of(value: Value) -> String {
    opaque(&value).map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn opaque(value: &Value) -> Option<&str> {
    value.as_object().filter(|object| object.len() == 1)?.get(OPAQUE)?.as_str()
}

/// Whether all of `text` is in its value: the order of names does not matter, but a large integer would become a float.
fn is_whole(value: &Value, text: &str) -> bool {
    let mut runs = text.split(|letter: char| !letter.is_ascii_digit());
    if runs.all(|run| run.len() < DIGITS) {
        return true;
    }
    let again = value.to_string();
    again == text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_comes_out_as_it_went_in() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let large = ["18446744073709551615", "340282366920938463463374607431768211455", "[1234567890123456700000]"];
        let odd = ["no JSON", "", "{\"\\u0000text\":\"x\"}", &deep, "\"\\u0000\"", "1.5", "[1,\"a\",null]"];
        for text in large.into_iter().chain(odd) {
            assert_eq!(text_of(value_of(text.to_owned())), text);
        }
        assert_eq!(value_of("7".into()), json!(7), "what can be looked for");
        assert_eq!(value_of(large[0].into()), json!(u64::MAX));
        let sorted: Value = serde_json::from_str(&text_of(value_of("{\"b\":1,\"a\":2}".into()))).unwrap();
        assert_eq!(sorted, json!({"a": 2, "b": 1}));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tasks of the test")]
    fn what_a_worker_begins_outlives_its_runtime() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (home, worker) = (runtime(), runtime());
        let (tell, told) = tokio::sync::oneshot::channel();
        let begin = async {
            tokio::task::yield_now().await;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                tell.send(Handle::current().id()).unwrap();
            });
        };
        worker.block_on(at_home(home.handle(), begin));
        drop(worker);
        assert_eq!(home.block_on(told).unwrap(), home.handle().id());
    }
}
