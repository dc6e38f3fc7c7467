//! What comes from below.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tribes_core::wire::ExtensionKind;
use tribes_core::{Handled, Inbound, Lease, Link, MemberId, Receipt, ReceiveError, SendOptions};

use super::frame::{Frame, Key};
use super::parked::Refused;
use super::room::{MESSAGE_COST, NoMemory};
use super::shell::Shell;
use super::tribes::{Came, Confirmed, confirmed};
use super::{NAME, Vote, refuse, voted_no};

const STOPPED: &str = "its channel is stopping, or has not started yet";

/// Of a refusal, so much is remembered for a confirmation that comes again.
const REMEMBERED_CHARS: usize = 200;

type Received = Result<Vec<Inbound>, ReceiveError>;

impl Shell {
    /// Takes a message that came from below; those that are to be handed on now.
    pub(super) fn receive(self: &Arc<Self>, link: &Link, mut msg: Inbound) -> Received {
        if !msg.is_from_ours() {
            return self.from_java(link, msg);
        }
        let Some(entry) = msg.message.take_extension(ExtensionKind::TWO_PHASE_COMMIT) else {
            return refused(
                msg,
                "it says nothing of two phases: is the sender without two-phase-commit, or in another order?",
            );
        };
        let frame = match Frame::decode(&entry) {
            Ok(frame) => frame,
            Err(malformed) => return refused(msg, &malformed.to_string()),
        };
        let (now, from) = (link.env().now(), Arc::clone(msg.from()));
        let acts = match frame {
            Frame::Prepare { added_ack, vote, parties } => {
                if added_ack {
                    msg.message.options.remove(SendOptions::USE_ACK);
                }
                return self.prepare(link, msg, vote, &parties);
            }
            Frame::Decide(decision, key) => self.change(|state| state.shelf.decide(from.id(), key, decision, msg, now)),
            other => {
                msg.receipt.accept();
                match other {
                    Frame::Vote { id, no } => {
                        if let Some(local) = link.local() {
                            let key = Key { coordinator: local.id(), id };
                            self.vote(link, key, &from, no.map_or(Ok(()), |why| Err(voted_no(&why))));
                        }
                        return Ok(Vec::new());
                    }
                    // This member's own message, and not decided yet: whoever asks will be told.
                    Frame::Ask(key, _) | Frame::Collect(key, _) if self.lock().open.contains(&key) => Vec::new(),
                    Frame::Ask(key, age) => self.change(|state| state.shelf.ask(&from, key, age, now)),
                    Frame::Collect(key, age) => self.change(|state| state.shelf.collect(&from, key, age, now)),
                    Frame::Answer(known, key) => self.change(|state| state.shelf.answer(from.id(), key, known, now)),
                    Frame::Prepare { .. } | Frame::Decide(..) => Vec::new(),
                }
            }
        };
        Ok(self.perform(link, acts))
    }

    /// Votes for the message, or against it.
    fn prepare(self: &Arc<Self>, link: &Link, mut msg: Inbound, vote: Duration, parties: &[MemberId]) -> Received {
        let from = Arc::clone(msg.from());
        let Some(key) = Key::new(from.id(), &msg.message.id) else { return refused(msg, "its id has not 16 bytes") };
        let given_up = || "it was given up before".to_owned();
        let known = self.lock().shelf.known(&key);
        let said = match known {
            Some(known) => known.map_err(|Refused::GivenUp| given_up()),
            // Not under the lock: it is the application's.
            None => match self.voter.as_ref().map(|voter| voter(&msg.message)) {
                None | Some(Vote::Yes) => Ok(()),
                Some(Vote::No(why)) => Err(why),
            },
        };
        // The vote is not this answer, but a message.
        msg.receipt.park();
        // The connection must go on, for the second phase to come.
        msg.lease = Lease::none();
        msg.detach();
        let cost = msg.message.body.len() + MESSAGE_COST + size_of_val(parties);
        let now = link.env().now();
        let parked = said.and_then(|()| {
            self.change(|state| {
                if let Some(known) = state.shelf.known(&key) {
                    return known.map_err(|Refused::GivenUp| given_up());
                }
                if !self.is_running() {
                    return Err(STOPPED.to_owned());
                }
                state.room.take(&from, cost).map_err(|none: NoMemory| none.to_string())?;
                state.shelf.park(key, &from, parties.iter().copied(), vote, msg, cost, now);
                Ok(())
            })
        });
        let no = parked.err();
        if no.is_some() {
            self.votes_against.fetch_add(1, Ordering::Relaxed);
            self.change(|state| state.shelf.reject(key, now));
        }
        self.tell(link, &from, &Frame::Vote { id: key.id, no });
        Ok(Vec::new())
    }

    /// A message of a member that speaks Tribes' protocol.
    fn from_java(self: &Arc<Self>, link: &Link, mut msg: Inbound) -> Received {
        let (now, from) = (link.env().now(), Arc::clone(msg.from()));
        if let Some(id) = confirmed(&msg.message.body, &msg.message.id) {
            return match self.change(|state| state.first.confirm(&from, id, now)) {
                Confirmed::Released(message, cost) => {
                    let mut message = self.release(message, from, cost, Some(msg));
                    self.watch(&mut message);
                    Ok(vec![message])
                }
                Confirmed::Early => {
                    tracing::debug!(%from, "a confirmation came before its message");
                    msg.receipt.accept();
                    Ok(Vec::new())
                }
                Confirmed::Again(why) => again(msg, why),
            };
        }
        if let Some(Vote::No(why)) = self.voter.as_ref().map(|voter| voter(&msg.message)) {
            self.votes_against.fetch_add(1, Ordering::Relaxed);
            return refused(msg, &why);
        }
        msg.detach();
        let cost = msg.message.body.len() + MESSAGE_COST;
        let id = msg.message.id.clone();
        // Only a message that waits lets go of its answer and its room, and one that is refused needs them.
        let (receipt, lease) = (std::mem::take(&mut msg.receipt), std::mem::take(&mut msg.lease));
        let came = self.change(|state| {
            let room = &mut state.room;
            let room = || match self.is_running() {
                true => room.take(&from, cost).map_err(|none| none.to_string()),
                false => Err(STOPPED.to_owned()),
            };
            state.first.message(&from, &id, msg, cost, now, room)
        });
        match came {
            Ok(Came::Parked) => {
                receipt.accept();
                Ok(Vec::new())
            }
            Ok(Came::Released(mut message)) => {
                (message.receipt, message.lease) = (receipt, lease);
                let mut message = self.hold(message, from, cost);
                self.watch(&mut message);
                Ok(vec![message])
            }
            Ok(Came::Again(why)) => {
                answer_again(receipt, why.as_deref());
                Ok(Vec::new())
            }
            Err(reason) => {
                let error = ReceiveError::Refused { layer: NAME, reason };
                receipt.resolve(Handled::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    /// Has a refusal remembered: Java sends a confirmation that was refused once more, and believes the answer to that.
    fn watch(self: &Arc<Self>, msg: &mut Inbound) {
        if !msg.receipt.is_awaited() {
            return;
        }
        let receipt = std::mem::take(&mut msg.receipt);
        let (shell, from, id) = (Arc::clone(self), Arc::clone(msg.from()), msg.message.id.clone());
        msg.receipt = Receipt::new(move |handled| {
            if let Handled::Failed(why) = &handled {
                shell.lock().first.refused(&from, &id, why.chars().take(REMEMBERED_CHARS).collect());
            }
            receipt.resolve(handled);
        });
    }
}

fn again(msg: Inbound, why: Option<String>) -> Received {
    answer_again(msg.receipt, why.as_deref());
    match why {
        None => Ok(Vec::new()),
        Some(reason) => Err(ReceiveError::Refused { layer: NAME, reason }),
    }
}

fn answer_again(receipt: Receipt, why: Option<&str>) {
    receipt.resolve(why.map_or(Handled::Accepted, |why| Handled::Failed(why.to_owned())));
}

fn refused(msg: Inbound, why: &str) -> Received {
    refuse(msg, why);
    Err(ReceiveError::Refused { layer: NAME, reason: why.to_owned() })
}
