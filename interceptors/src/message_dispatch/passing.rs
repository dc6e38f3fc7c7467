//! The short way of asynchronous messages: where no layer below may wait, nothing needs to be queued here. A message whose
//! room is reserved goes straight down into the queue of the transport; one without room waits for it, as the policy says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tribes_core::{Destination, FaultKind, Link, Next, Outbound, OverloadPolicy, SendError, Time};

use super::lanes::{Lanes, OVERHEAD, Waiting, join_all};

impl Lanes {
    /// Whether messages go this way: only what is queued here can make room for newer messages, and only where nothing
    /// below waits may a message be passed on by a sender that does not.
    pub(super) fn passes(&self, link: &Link, below_waits: bool) -> bool {
        !below_waits && self.policy(link) != OverloadPolicy::DropOldest
    }

    /// Whether the transport does with a message that finds no room what is to be done with it: then it need not be asked for
    /// here.
    pub(super) const fn leaves_room_to_transport(&self) -> bool {
        self.policy.is_none()
    }

    /// Reserves room for all destinations of `out`, so that it may go on at once; those for whom nobody would wait, and who
    /// have none, fail. `false`: there is one to wait for.
    pub(super) fn admit_now(&self, link: &Link, out: &mut Outbound) -> bool {
        if self.anyone_waits(&out.to) {
            return false;
        }
        let bytes = out.len() + OVERHEAD;
        if link.budget().try_admit_each(&mut out.to, bytes) {
            return true;
        }
        self.fail_hopeless(link, out);
        !out.to.is_empty() && out.to.iter().all(|destination| destination.reservation.is_some())
    }

    /// Fails destinations that have no room and for whom nobody waits: they do not hold up the others.
    fn fail_hopeless(&self, link: &Link, out: &mut Outbound) {
        let nobody_waits = !out.may_wait || !matches!(self.policy(link), OverloadPolicy::Wait(_));
        let hopeless = |destination: &Destination| {
            destination.reservation.is_none() && (nobody_waits || link.budget().is_stalled(destination.member()))
        };
        if !out.to.iter().any(hopeless) {
            return;
        }
        let (failed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut out.to).into_iter().partition(hopeless);
        out.to = rest;
        failed.into_iter().for_each(|destination| destination.completion.fail(FaultKind::QueueFull));
    }

    /// Passes `out` on to the destinations that have room, and to each of the others as soon as it has, or fails it.
    pub(super) async fn pass(
        self: &Arc<Self>,
        link: &Link,
        mut out: Outbound,
        next: Next<'_>,
    ) -> Result<(), SendError> {
        let bytes = out.len() + OVERHEAD;
        if self.anyone_waits(&out.to) {
            for destination in &mut out.to {
                if destination.reservation.is_none() && !self.waits(destination.member()) {
                    destination.reservation = link.budget().try_admit(destination.member(), bytes);
                }
            }
        } else {
            link.budget().try_admit_each(&mut out.to, bytes);
        }
        self.fail_hopeless(link, &mut out);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut out.to).into_iter().partition(|destination| destination.reservation.is_some());
        if waiting.is_empty() {
            out.to = ready;
            return if out.to.is_empty() { Ok(()) } else { next.send(out).await };
        }
        let now = (!ready.is_empty()).then(|| out.with_destinations(ready));
        out.to = waiting;
        let (now, later) = tokio::join!(
            biased;
            async {
                match now {
                    Some(now) => next.send(now).await,
                    None => Ok(()),
                }
            },
            self.pass_later(link, out, bytes, next)
        );
        now.and(later)
    }

    async fn pass_later(
        self: &Arc<Self>,
        link: &Link,
        out: Outbound,
        bytes: usize,
        next: Next<'_>,
    ) -> Result<(), SendError> {
        let limit = match self.policy(link) {
            OverloadPolicy::Wait(limit) => limit,
            _ => Duration::ZERO,
        };
        let deadline = link.env().now() + limit;
        if out.to.len() == 1 {
            return self.pass_when_admitted(link, out, bytes, deadline, next).await;
        }
        let refused = Mutex::new(None);
        let refusal = |error| {
            refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        join_all(out.into_singles().map(|single| async {
            if let Err(error) = self.pass_when_admitted(link, single, bytes, deadline, next).await {
                refusal(error);
            }
        }))
        .await;
        refused.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Waits in turn for the room of the one destination of `single`, by `deadline`.
    async fn pass_when_admitted(
        self: &Arc<Self>,
        link: &Link,
        mut single: Outbound,
        bytes: usize,
        deadline: Time,
        next: Next<'_>,
    ) -> Result<(), SendError> {
        let Some(destination) = single.to.first_mut() else { return Ok(()) };
        let Some(lane) = self.lane(link, destination.member()) else {
            single.fail(&FaultKind::Stopped);
            return Ok(());
        };
        let waiting = Waiting::new(self, &lane);
        let turn = link.env().until(deadline, lane.turn.acquire()).await;
        if let Some(Ok(_)) = &turn {
            let left = OverloadPolicy::Wait(deadline - link.env().now());
            destination.reservation = link.budget().admit_with(&lane.member, bytes, left).await;
        }
        if lane.left.load(std::sync::atomic::Ordering::Acquire) {
            single.fail(&FaultKind::Left);
            return Ok(());
        }
        if destination.reservation.is_none() {
            single.fail(&FaultKind::QueueFull);
            return Ok(());
        }
        // Still in turn: whoever waits comes behind.
        let result = next.send(single).await;
        drop((turn, waiting));
        result
    }
}
