//! What a store does by itself: takes the state over, ends what is over, tells of uses.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tribes_core::Env;

use super::Inner;
use crate::SessionId;
use crate::document::EndReason;
use crate::keeper::Action;
use crate::stats::StateResult;

/// A member that did not say all is asked again after so long.
const AGAIN: Duration = Duration::from_millis(200);
/// For so long the store is held while it waits for its state.
const SLICE: Duration = Duration::from_millis(200);
/// The keeper's time does not run finer than that.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

pub(super) fn begin(inner: &Arc<Inner>, timeout: Duration) {
    let env = inner.env.clone();
    env.spawn(take_over_state(Arc::downgrade(inner), env.clone(), timeout));
    env.spawn(keep(Arc::downgrade(inner), env.clone()));
}

/// Until the sessions of the group are here, and when they were used last.
async fn take_over_state(inner: Weak<Inner>, env: Env, timeout: Duration) {
    let began = env.now();
    let deadline = began + timeout;
    let came = env.until(deadline, state_came(&inner, &env)).await;
    let Some(inner) = inner.upgrade() else { return };
    let result = match came {
        Some(result) if env.now() < deadline => result,
        _ => StateResult::Timeout,
    };
    let took = env.now() - began;
    if result == StateResult::Timeout {
        tracing::error!(
            store = inner.name,
            ?took,
            "the sessions of the group did not come in time; those that are missing come later"
        );
    } else {
        tracing::info!(store = inner.name, ?result, ?took, sessions = inner.keeper().live(), "ready");
    }
    inner.set_ready();
    inner.state.send_replace(Some((result, took)));
}

async fn state_came(inner: &Weak<Inner>, env: &Env) -> StateResult {
    loop {
        // Let go of now and then: nobody may be waiting for the store any more.
        let Some(inner) = inner.upgrade() else { return StateResult::Timeout };
        if env.until(env.now() + SLICE, inner.table.ready()).await.is_none() {
            continue;
        }
        if inner.others().is_empty() {
            return StateResult::Alone;
        }
        break;
    }
    let mut said = Vec::new();
    loop {
        let Some(inner) = inner.upgrade() else { return StateResult::Timeout };
        let left: Vec<_> = inner.others().into_iter().filter(|member| !said.contains(&member.id())).collect();
        if left.is_empty() {
            return StateResult::Complete;
        }
        for member in left {
            if inner.learn_ages(&member).await {
                said.push(member.id());
            } else {
                env.sleep(AGAIN).await;
            }
        }
    }
}

/// Does what the keeper wants done, when it is time. Does not keep the store alive while it waits.
async fn keep(inner: Weak<Inner>, env: Env) {
    let Some(earlier) = inner.upgrade().map(|inner| Arc::clone(&inner.earlier)) else { return };
    loop {
        let (actions, wake) = {
            let Some(inner) = inner.upgrade().filter(|inner| !inner.is_closed()) else { return };
            let mut keeper = inner.keeper();
            let actions = keeper.tick(inner.now());
            (actions, keeper.sleep())
        };
        if actions.is_empty() {
            env.until(wake.max(env.now() + SHORTEST_SLEEP), earlier.notified()).await;
        } else {
            perform(&inner, actions);
        }
    }
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    End(SessionId),
    Forget(SessionId),
    /// The same of one that is gone from the backing, too.
    ForgetForGood(SessionId),
}

/// Forgets the end of a session of which there is nothing in the backing any more.
pub(super) fn forget(inner: &Arc<Inner>, id: SessionId) {
    begin_ending(inner, BTreeSet::from([Ending::ForgetForGood(id)]));
}

fn begin_ending(inner: &Arc<Inner>, mut ending: BTreeSet<Ending>) {
    let mut queue = inner.ending.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *queue {
        // Who is at it does it; what it has not come to yet is in there once.
        Some(queue) => queue.append(&mut ending),
        None => {
            *queue = Some(ending);
            inner.env.spawn(end_all(Arc::downgrade(inner)));
        }
    }
}

fn perform(inner: &Weak<Inner>, actions: Vec<Action>) {
    let Some(inner) = inner.upgrade() else { return };
    let (mut ending, mut told) = (BTreeSet::new(), Vec::new());
    for action in actions {
        match action {
            Action::End(id) => drop(ending.insert(Ending::End(id))),
            Action::Forget(id) => drop(ending.insert(Ending::Forget(id))),
            Action::Touch(ages) => told.push(ages),
        }
    }
    // The one is not to wait for the other.
    if !ending.is_empty() {
        begin_ending(&inner, ending);
    }
    if !told.is_empty() {
        let weak = Arc::downgrade(&inner);
        inner.env.spawn(async move {
            for ages in told {
                let Some(inner) = weak.upgrade() else { return };
                inner.tell_uses(ages, Duration::MAX).await;
            }
        });
    }
}

/// Ends and forgets what there is until there is nothing more.
async fn end_all(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let next = {
            let mut queue = inner.ending.lock().unwrap_or_else(PoisonError::into_inner);
            let next = queue.as_mut().and_then(BTreeSet::pop_first);
            if next.is_none() {
                *queue = None;
            }
            next
        };
        let Some(next) = next else { return };
        end(&inner, next).await;
    }
}

async fn end(inner: &Inner, what: Ending) {
    let result = match what {
        // It may have been used since.
        Ending::End(id) if inner.keeper().is_over(id, inner.now()) => inner.end(id, EndReason::Timeout).await.map(drop),
        Ending::End(_) => Ok(()),
        // As long as it may be in the backing, it is to be known that it is over. Others are not to wait for that.
        Ending::Forget(id) if inner.backing.is_some() => {
            inner.write_behind(|queue, now| queue.clear(id, now));
            Ok(())
        }
        Ending::Forget(id) | Ending::ForgetForGood(id) => {
            let forgotten = inner.table.forget(id).await;
            if forgotten.is_ok() {
                inner.keeper().gone(id);
            }
            forgotten.map_err(Into::into)
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a session could not be ended, and will be later");
    }
}
