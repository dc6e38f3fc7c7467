//! What all RPC channels of one channel share: the table of calls, the way to members of ours and to Java's, and who gets what
//! comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Notify;

use super::desk::Admitted;
use super::frame::{Frame, What, Word};
use super::served::{Job, Served};
use super::stats::Count;
use super::table::{Table, Told};
use super::{Answer, CallId, Payload, RpcError};
use crate::delivery::{Outcome, Pending};
use crate::error::{BoxError, SendError};
use crate::message::ChannelMessage;
use crate::stats::Gauge;
use crate::wire::Limits;
use crate::wire::java::{JavaMessage, MEMBER_CLASS_VERSION};
use crate::{
    Channel, ChannelEndpoint, Departure, EndpointHandle, EndpointSender, Lease, Member, MemberEvent, Message,
    SendOptions, Time,
};

/// The endpoint of all RPC channels.
const ENDPOINT: &str = "tribes.rpc";
/// Bytes of replies of one channel that wait for their callers.
const MAX_REPLIES: usize = 64 << 20;
/// Members that left lately.
const LATELY: usize = 64;

/// See the [module](self).
pub(crate) struct Hub {
    me: Weak<Self>,
    port: OnceLock<EndpointHandle>,
    table: Mutex<Table>,
    left: Mutex<VecDeque<(Arc<Member>, Departure)>>,
    served: ArcSwap<BTreeMap<Bytes, Arc<Served>>>,
    /// First half of the ids of all calls.
    run: OnceLock<u64>,
    next: AtomicU64,
    /// Answers of a member that had answered already.
    duplicates: Count,
    /// Answers of members that were not asked.
    strangers: Count,
    /// Frames that make no sense.
    unreadable: Count,
    /// Requests for which there is no handler.
    unhandled: Count,
    /// Late answers that are no replies, or of a channel that is closed.
    late: Count,
}

impl Hub {
    /// The hub of `channel`, which is being built.
    pub(crate) fn attach(channel: &Channel) -> Arc<Self> {
        let hub = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            port: OnceLock::new(),
            table: Mutex::new(Table::new(MAX_REPLIES)),
            left: Mutex::default(),
            served: ArcSwap::default(),
            run: OnceLock::new(),
            next: AtomicU64::new(0),
            duplicates: Count::default(),
            strangers: Count::default(),
            unreadable: Count::default(),
            unhandled: Count::default(),
            late: Count::default(),
        });
        // Nobody can have taken the name before.
        if let Ok(port) = channel.endpoint(ENDPOINT, Arc::clone(&hub) as Arc<dyn ChannelEndpoint>) {
            let _ = hub.port.set(port);
        }
        hub
    }

    pub(crate) fn gauges(&self) -> Vec<Gauge> {
        let (calls, held) = {
            let table = self.table();
            (table.len() as u64, table.held() as u64)
        };
        vec![
            Gauge::new("rpc_calls", calls),
            Gauge::new("rpc_replies_held_bytes", held),
            Gauge::new("rpc_duplicate_answers", self.duplicates.get()),
            Gauge::new("rpc_answers_of_strangers", self.strangers.get()),
            Gauge::new("rpc_late_answers", self.late.get()),
            Gauge::new("rpc_unreadable", self.unreadable.get()),
            Gauge::new("rpc_unhandled_requests", self.unhandled.get()),
        ]
    }

    pub(super) fn sender(&self) -> Result<&EndpointSender, SendError> {
        self.port.get().map(EndpointHandle::sender).ok_or(SendError::Stopped)
    }

    /// By the clock by which calls have their deadlines.
    fn now(&self) -> Time {
        self.port.get().map_or(Time::ZERO, |port| port.sender().env().now())
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---------------------------------------------------------------- the RPC channels

    pub(super) fn register(&self, served: &Arc<Served>) -> Result<(), RpcError> {
        let mut taken = false;
        self.served.rcu(|channels| {
            let mut channels = channels.as_ref().clone();
            taken = channels.contains_key(&served.id);
            if !taken {
                channels.insert(served.id.clone(), Arc::clone(served));
            }
            channels
        });
        if taken { Err(RpcError::Taken { id: served.id.clone() }) } else { Ok(()) }
    }

    pub(super) fn remove(&self, gone: &Weak<Served>) {
        self.served.rcu(|channels| {
            let mut channels = channels.as_ref().clone();
            channels.retain(|_, served| !std::ptr::eq(Arc::as_ptr(served), gone.as_ptr()));
            channels
        });
    }

    fn served(&self, id: &Bytes) -> Option<Arc<Served>> {
        self.served.load().get(id).cloned()
    }

    // ---------------------------------------------------------------- calls

    /// A fresh name for a call.
    pub(super) fn next_call(&self, random: impl FnOnce() -> u64) -> CallId {
        let run = self.run.get_or_init(random);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        CallId::of(*run, number)
    }

    /// How `member` left, if that was lately.
    pub(super) fn departure_of(&self, member: &Member) -> Departure {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().rev().find(|(known, _)| **known == *member).map_or(Departure::Failed, |(_, why)| *why)
    }

    pub(super) fn fault(&self, call: &CallId, member: &Member, answer: Answer) {
        let now = self.now();
        let waker = self.table().fault(call, member, answer, now);
        waker.inspect(std::task::Waker::wake_by_ref);
    }

    /// Has the faults of a request that was sent told to its call.
    pub(super) fn watch(&self, call: CallId, pending: Pending) {
        let hub = Weak::clone(&self.me);
        pending.on_complete(move |outcome: Outcome| {
            let Some(hub) = hub.upgrade().filter(|_| !outcome.faults.is_empty()) else { return };
            for fault in outcome.faults {
                hub.fault(&call, &fault.member, Answer::Unreachable(fault.kind));
            }
        });
    }

    // ---------------------------------------------------------------- what comes

    /// A request came.
    fn request(&self, from: &Arc<Member>, call: CallId, id: &Bytes, (payload, left, answered): Asked) {
        let Ok(sender) = self.sender() else { return };
        let Some(served) = self.served(id).filter(|served| served.answers()) else {
            self.unhandled.add();
            if answered {
                self.answer_at_once(from, call, id, &Word::NoHandler);
            }
            return;
        };
        let env = sender.env();
        let deadline = left.map_or(Time::NEVER, |left| env.now() + left);
        let job = Job { key: (Arc::clone(from), call), payload, deadline, answered, stop: Arc::new(Notify::new()) };
        match served.admit(job) {
            Admitted::Run(job) => sender.spawn(served.work(Weak::clone(&self.me), env.clone(), job)),
            Admitted::Full if answered => self.answer_at_once(from, call, id, &Word::Overloaded),
            Admitted::Full | Admitted::Waits | Admitted::Again => {}
        }
    }

    /// An answer came.
    fn heard(&self, from: &Arc<Member>, call: &CallId, id: &Bytes, word: Word) {
        let answer = match word {
            Word::Reply(payload) => Answer::Replied(payload),
            Word::Failed(text) => Answer::Failed(text),
            Word::NoHandler => Answer::NoHandler,
            Word::Overloaded => Answer::Overloaded,
            Word::NoReply => Answer::NoReply,
        };
        let now = self.now();
        let (told, waker) = self.table().answer(call, from, answer, now);
        waker.inspect(std::task::Waker::wake_by_ref);
        match told {
            Told::Noted => {}
            Told::Duplicate => self.duplicates.add(),
            Told::Stranger => self.strangers.add(),
            Told::Late(Answer::Replied(reply)) => match self.served(id) {
                Some(served) => served.left_over(from, reply),
                None => self.late.add(),
            },
            Told::Late(_) => self.late.add(),
        }
    }

    // ---------------------------------------------------------------- answers

    /// Sends an answer in the form that `to` understands.
    pub(super) async fn answer(
        &self,
        to: &Arc<Member>,
        call: CallId,
        served: &Arc<Served>,
        word: Word,
        options: SendOptions,
    ) {
        let Ok(sender) = self.sender() else { return };
        let sent = if sender.reaches(to) {
            let frame = Frame { call, id: served.id.clone(), what: What::Answer(word) };
            sender.send(to, frame.encode(), options).await
        } else {
            let body = java_answer(call, &served.id, &word);
            match sender.channel() {
                Some(channel) => channel.send_opaque(to, body, options).await,
                None => Err(SendError::Stopped),
            }
        };
        match sent {
            Ok(pending) => {
                let served = Arc::downgrade(served);
                pending.on_complete(move |outcome| {
                    if let Some(served) = served.upgrade().filter(|_| !outcome.is_complete()) {
                        served.counts.lost_replies.add();
                    }
                });
            }
            Err(_) => served.counts.lost_replies.add(),
        }
    }

    /// As [`answer`](Self::answer), where nothing may wait: what finds no room is not sent, and its caller waits in vain.
    fn answer_at_once(&self, to: &Arc<Member>, call: CallId, id: &Bytes, word: &Word) {
        let Ok(sender) = self.sender() else { return };
        let sent = if sender.reaches(to) {
            let frame = Frame { call, id: id.clone(), what: What::Answer(word.clone()) };
            sender.try_send(to, frame.encode(), SendOptions::NONE)
        } else {
            let Some(channel) = sender.channel() else { return };
            channel.try_send_opaque(to, java_answer(call, id, word), SendOptions::NONE)
        };
        if let Ok(pending) = sent {
            pending.on_complete(drop);
        }
    }

    // ---------------------------------------------------------------- Java

    /// Takes a message in Java's form that one of the RPC channels waits for. Others are left to the membership service, to
    /// which RPC serves as well, and then to [`unclaimed`](Self::unclaimed).
    pub(crate) fn claim(&self, message: &ChannelMessage) -> bool {
        let Some(decoded) = decode(message) else { return false };
        let from = &message.sender;
        let channel = |id: &Bytes| self.served(id).is_some();
        match decoded {
            JavaMessage::Rpc { reply, id: call, rpc_id, body } if channel(&rpc_id) => {
                let Some(call) = CallId::from_slice(&call) else { return false };
                let Some(payload) = Payload::from_java(body) else { return false };
                if reply {
                    self.heard(from, &call, &rpc_id, Word::Reply(payload));
                } else {
                    self.request(from, call, &rpc_id, (payload, None, true));
                }
                true
            }
            JavaMessage::NoRpcChannel { id: call, rpc_id } if channel(&rpc_id) => {
                let Some(call) = CallId::from_slice(&call) else { return false };
                self.heard(from, &call, &rpc_id, Word::NoHandler);
                true
            }
            _ => false,
        }
    }

    /// A message in Java's form that nobody claimed: a request is answered so that its caller need not wait (an answer never
    /// is). Whether it was one.
    pub(crate) fn unclaimed(&self, message: &ChannelMessage) -> bool {
        match decode(message) {
            Some(JavaMessage::Rpc { reply: false, id, rpc_id, .. }) => {
                self.unhandled.add();
                if let Some(call) = CallId::from_slice(&id) {
                    self.answer_at_once(&message.sender, call, &rpc_id, &Word::NoHandler);
                }
                true
            }
            Some(JavaMessage::Rpc { .. } | JavaMessage::NoRpcChannel { .. }) => {
                self.late.add();
                true
            }
            _ => false,
        }
    }
}

/// What is asked, how long the caller waits, and whether it wants an answer.
type Asked = (Payload, Option<Duration>, bool);

fn decode(message: &ChannelMessage) -> Option<JavaMessage> {
    let is_object = !message.options.contains(SendOptions::BYTE_MESSAGE);
    is_object.then(|| JavaMessage::decode(&message.body.to_bytes(), &Limits::default())).flatten()
}

/// An answer in Java's form, which has two: a reply, and that there is none to be expected.
fn java_answer(call: CallId, rpc_id: &Bytes, word: &Word) -> Bytes {
    let (id, rpc_id) = (call.to_bytes(), rpc_id.clone());
    let message = match word {
        Word::Reply(payload) => JavaMessage::Rpc { reply: true, id, rpc_id, body: payload.to_java() },
        _ => JavaMessage::NoRpcChannel { id, rpc_id },
    };
    message.encode(MEMBER_CLASS_VERSION)
}

impl ChannelEndpoint for Hub {
    fn receive(&self, mut message: Message, from: &Arc<Member>, lease: Lease) -> Result<(), BoxError> {
        // What is kept from here on counts against the bounds of whoever keeps it.
        message.detach();
        drop(lease);
        let Some(Frame { call, id, what }) = Frame::decode(message.bytes()) else {
            self.unreadable.add();
            return Err("not a frame of RPC".into());
        };
        match what {
            What::Request { payload, left, answered } => self.request(from, call, &id, (payload, left, answered)),
            What::Answer(word) => self.heard(from, &call, &id, word),
            What::Cancel => {
                if let Some(served) = self.served(&id) {
                    served.cancel(&(Arc::clone(from), call));
                }
            }
        }
        Ok(())
    }

    fn member_event(&self, event: &MemberEvent) {
        let MemberEvent::Removed(member, why) = event else { return };
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push_back((Arc::clone(member), *why));
            if left.len() > LATELY {
                left.pop_front();
            }
        }
        let now = self.now();
        let wakers = self.table().removed(member, *why, now);
        wakers.iter().for_each(std::task::Waker::wake_by_ref);
    }
}
