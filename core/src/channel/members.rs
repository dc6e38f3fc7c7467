//! Membership events, from where they are raised to the view and those who listen.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::mpsc;

use super::Inner;
use crate::Member;
use crate::delivery::Audience;
use crate::member::{Departure, MemberEvent};
use crate::pipeline::{Raised, catch};

/// The members that the membership service has told of and not taken back, whatever the layers made of that.
#[derive(Debug, Default)]
struct Listed(BTreeSet<Arc<Member>>);

impl Listed {
    fn note(&mut self, event: &MemberEvent) {
        match event {
            MemberEvent::Added(member) | MemberEvent::Updated(member) => drop(self.0.replace(Arc::clone(member))),
            MemberEvent::Removed(member, _) => drop(self.0.remove(member)),
            MemberEvent::Suspected(..) => {}
        }
    }
}

impl Inner {
    /// A membership event has come all the way up: the view changes first, then everyone is told.
    pub(super) fn member_event(&self, event: MemberEvent) {
        let changed = self.view.load().apply(&event).map(Arc::new);
        match (&changed, &event) {
            (Some(view), _) => {
                self.view.store(Arc::clone(view));
                self.everyone.store(Audience::new(Arc::clone(view.members()), self.stack.observer()));
            }
            (None, MemberEvent::Suspected(member, _)) if self.view.load().contains(member) => {}
            // Nothing that anybody above could see.
            (None, _) => return,
        }
        self.stack.sender.member_event(&event);
        self.stack.receiver.member_event(&event);
        if let MemberEvent::Removed(member, _) = &event {
            self.stack.budget.forget(member);
        }
        let view = self.view.load_full();
        self.view_number.send_replace(view.number());
        self.endpoints.member_event(&event);
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).retain(|stream| {
            let alive = stream.upgrade();
            alive.inspect(|stream| stream.push(event.clone(), Arc::clone(&view))).is_some()
        });
        // Gone only when the channel is.
        let _ = self.member_calls.send(event);
    }

    /// Empties the view: this channel does not listen for members any more.
    fn forget_members(&self) {
        for member in self.view.load_full().members().iter() {
            self.member_event(MemberEvent::Removed(Arc::clone(member), Departure::Stopped));
        }
    }

    /// Starts the two tasks that carry membership events, once in the life of the channel: they outlast stop and start.
    pub(super) fn carry_events(self: &Arc<Self>) {
        let Some((mut raised, calls)) = self.event_ends.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let channel = Arc::downgrade(self);
        let mut layers_started = self.layers_started.subscribe();
        self.stack.env.spawn(async move {
            let mut listed = Listed::default();
            while let Some(raised) = raised.recv().await {
                // A layer may raise events in its start, when those above have not been started. An error: the channel is gone.
                let started = layers_started.wait_for(|started| *started).await.is_ok();
                let Some(channel) = channel.upgrade().filter(|_| started) else { return };
                let stack = &channel.stack;
                match raised {
                    Raised::Event { place, event } => {
                        if place == stack.bottom() {
                            listed.note(&event);
                        }
                        stack.event_from(place, event).await;
                    }
                    Raised::Stopped { layers_too, seen } => {
                        let listed = std::mem::take(&mut listed);
                        if layers_too {
                            channel.forget_members();
                        } else {
                            // The layers hear of it as well: what they know of these members holds no more, and some have
                            // members of their own, who stay.
                            for member in listed.0 {
                                stack
                                    .event_from(stack.bottom(), MemberEvent::Removed(member, Departure::Stopped))
                                    .await;
                            }
                        }
                        // Behind what layers have raised upon that.
                        stack.raise_seen(seen);
                    }
                    // The stop may have gone on without it.
                    Raised::Seen(seen) => drop(seen.send(())),
                }
            }
        });
        self.stack.env.spawn(Self::call_member_listeners(Arc::downgrade(self), calls));
    }

    /// Tells the membership listeners; on a task of its own, so that a slow one delays no membership.
    async fn call_member_listeners(channel: Weak<Self>, mut events: mpsc::UnboundedReceiver<MemberEvent>) {
        while let Some(event) = events.recv().await {
            let Some(channel) = channel.upgrade() else { return };
            for (_, listener) in channel.member_listeners.load_full().iter() {
                let call = Box::pin(async {
                    match &event {
                        MemberEvent::Added(member) => listener.member_added(member),
                        MemberEvent::Updated(member) => listener.member_updated(member),
                        MemberEvent::Suspected(member, why) => listener.member_suspected(member, *why),
                        MemberEvent::Removed(member, why) => listener.member_removed(member, *why),
                    }
                });
                if let Err(panic) = catch(call).await {
                    channel.application.up.failed("membership listener panicked");
                    tracing::error!(panic, "a membership listener panicked");
                }
            }
        }
    }
}
