//! Being told of changes.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use super::listeners::{Listener, Listeners};
use crate::conflict::Conflicts;
use crate::core::Author;

/// So many changes wait for a stream.
const WAITING: usize = 1024;

/// A key whose value changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change<K, V> {
    /// The key.
    pub key: K,
    /// Its value before; `None` if it had none.
    pub old: Option<V>,
    /// Its value now; `None` if it was removed.
    pub new: Option<V>,
    /// Where the change was made.
    pub by: By,
}

/// Where a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// Here.
    Local,
    /// By another member, or it came with its state.
    Peer,
}

pub(crate) fn listen<K, V>(
    listeners: &Arc<Listeners>,
    conflicts: Conflicts<V>,
    listener: impl Fn(Change<K, V>) + Send + Sync + 'static,
) -> ChangeHandle
where
    K: DeserializeOwned + 'static,
    V: DeserializeOwned + 'static,
{
    listen_all(listeners, move |change| {
        let Change { key, old, new, by } = change;
        let value = |values: Option<Vec<V>>| conflicts.resolve(values.into_iter().flatten());
        listener(Change { key, old: value(old), new: value(new), by });
    })
}

/// Tells of all values that a key has, oldest first.
pub(crate) fn listen_all<K, V>(
    listeners: &Arc<Listeners>,
    listener: impl Fn(Change<K, Vec<V>>) + Send + Sync + 'static,
) -> ChangeHandle
where
    K: DeserializeOwned + 'static,
    V: DeserializeOwned + 'static,
{
    listen_by(
        listeners,
        (|listeners: &Listeners, bytes: &Arc<[u8]>| listeners.decode(bytes), |_: &Arc<[u8]>| {}),
        listener,
    )
}

/// As [`listen_all`], with values that are made as `decode` does; `forget` is told of what is no longer there.
pub(crate) fn listen_by<K, V>(
    listeners: &Arc<Listeners>,
    (decode, forget): (
        impl Fn(&Listeners, &Arc<[u8]>) -> Option<V> + Send + Sync + 'static,
        impl Fn(&Arc<[u8]>) + Send + Sync + 'static,
    ),
    listener: impl Fn(Change<K, Vec<V>>) + Send + Sync + 'static,
) -> ChangeHandle
where
    K: DeserializeOwned + 'static,
    V: 'static,
{
    let weak = Arc::downgrade(listeners);
    let typed: Listener = Arc::new(move |key, change, by| {
        let Some(listeners) = weak.upgrade() else { return };
        if is_no_news(&change.before, &change.after) {
            return;
        }
        let values = |raw: &[Arc<[u8]>]| {
            let values: Vec<V> = raw.iter().filter_map(|bytes| decode(&listeners, bytes)).collect();
            Some(values).filter(|values| !values.is_empty())
        };
        let Some(key) = listeners.decode(key) else { return };
        let by = if by == Author::Here { By::Local } else { By::Peer };
        let (old, new) = (values(&change.before), values(&change.after));
        if old.is_some() || new.is_some() {
            listener(Change { key, old, new, by });
        }
        let is_gone = |bytes: &&Arc<[u8]>| !change.after.iter().any(|held| Arc::ptr_eq(held, bytes));
        change.before.iter().filter(is_gone).for_each(&forget);
    });
    ChangeHandle { listeners: Arc::downgrade(listeners), number: listeners.add(&typed) }
}

/// The values are the very same: a removal came that none of them had to go for.
fn is_no_news(before: &[Arc<[u8]>], after: &[Arc<[u8]>]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// Keeps a listener registered; dropping it unsubscribes.
#[must_use = "the listener is unsubscribed when this is dropped; call `forever` to keep it for the life of the map"]
pub struct ChangeHandle {
    listeners: Weak<Listeners>,
    number: u64,
}

impl ChangeHandle {
    /// Keeps the listener for the life of the map.
    pub fn forever(mut self) {
        self.listeners = Weak::new();
    }
}

impl Drop for ChangeHandle {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.remove(self.number);
        }
    }
}

impl fmt::Debug for ChangeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeHandle").finish_non_exhaustive()
    }
}

/// Changes as a stream; see [`ReplicatedMap::changes`](crate::ReplicatedMap::changes).
pub struct Changes<K, V> {
    receiver: broadcast::Receiver<Arc<Change<K, V>>>,
    _handle: ChangeHandle,
    map: PhantomData<fn() -> V>,
}

impl<K, V> Changes<K, V>
where
    K: Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn of(listeners: &Arc<Listeners>, conflicts: Conflicts<V>) -> Self {
        let (sender, receiver) = broadcast::channel(WAITING);
        let handle = listen(listeners, conflicts, move |change| {
            // Nobody listens any more: the handle is about to go.
            let _ = sender.send(Arc::new(change));
        });
        Self { receiver, _handle: handle, map: PhantomData }
    }

    /// The next change; `None` when the map is gone.
    ///
    /// # Errors
    /// How many were missed because too many waited. The next call goes on with the oldest that is there.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Arc<Change<K, V>>, u64>> {
        match self.receiver.recv().await {
            Ok(change) => Some(Ok(change)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl<K, V> fmt::Debug for Changes<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}
