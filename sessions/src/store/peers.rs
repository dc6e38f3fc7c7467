//! What stores say to each other besides sessions: when these were used, and what one of them lacks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tribes_core::rpc::{Answer, Replies, RpcChannel, RpcError, Wait};
use tribes_core::{BoxError, Channel, Member, MemberId, SendOptions, To};

use super::Inner;
use crate::SessionId;
use crate::document::{Death, Session};
use crate::error::SessionError;
use crate::keeper::News;
use crate::stamp::Stamp;

/// How long the others may take to hear of uses before they are told again.
const TELL: Duration = Duration::from_secs(2);
/// How long one part of the ages may take.
const PART: Duration = Duration::from_secs(5);
/// How long ending the sessions of a value may take elsewhere.
const KILL: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// These were used so many milliseconds ago.
    Used(Vec<(SessionId, u64)>),
    /// When were those after this one used?
    Ages(Option<SessionId>),
    /// Have you this session, with this write?
    Pull(SessionId, Stamp),
    /// End those that you hold and whose field has this value (as JSON).
    Kill(String, String),
    /// This session is over: for those that served it and do not hold it.
    Ended(SessionId, Death),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Noted,
    /// And whether there are more.
    Ages(Vec<(SessionId, u64)>, bool),
    Session(Option<Session>),
    Ended(u64),
}

pub(super) fn open(inner: &Arc<Inner>, channel: &Channel) -> Result<RpcChannel, RpcError> {
    let weak = Arc::downgrade(inner);
    RpcChannel::builder(format!("sessions:{}", inner.name))
        .options(SendOptions::ACK)
        .reply_options(SendOptions::ACK)
        .typed_handler(move |question: Question, _| {
            let weak = Weak::clone(&weak);
            async move {
                let inner = weak.upgrade().ok_or("the store is closed")?;
                inner.answer(question).await
            }
        })
        .open(channel)
}

impl Inner {
    async fn answer(&self, question: Question) -> Result<Reply, BoxError> {
        Ok(match question {
            Question::Used(ages) => {
                self.counters.touches_received.one();
                self.heard(&ages);
                Reply::Noted
            }
            Question::Ages(after) => {
                let (ages, more) = self.keeper().ages(after, self.now());
                Reply::Ages(ages, more)
            }
            Question::Pull(id, wanted) => {
                let found = self.table.get(id).await?;
                let has = |session: &Arc<Session>| session.live().is_none_or(|document| document.has(wanted));
                match found.filter(has) {
                    Some(session) => Reply::Session(Some(session.as_ref().clone())),
                    // Others may have it: the first that has is waited for.
                    None => return Err("not here".into()),
                }
            }
            Question::Kill(field, value) => {
                let value: Value = serde_json::from_str(&value)?;
                Reply::Ended(self.kill_here(&field, &value).await? as u64)
            }
            Question::Ended(id, death) => {
                if self.keeper().knows(id) {
                    self.noticed(id, &Session::Dead(death), News::Came);
                }
                Reply::Noted
            }
        })
    }

    fn ask(&self, to: impl Into<To>, question: &Question) -> Option<tribes_core::rpc::Call<Reply>> {
        self.rpc.get().map(|rpc| rpc.ask(to, question))
    }

    fn heard(&self, ages: &[(SessionId, u64)]) {
        let now = self.now();
        self.keep(|keeper| {
            for (id, idle) in ages {
                keeper.heard(*id, Duration::from_millis(*idle), now);
            }
        });
    }

    /// Tells the others when these were used; they are told again if one of them may not have heard.
    pub(super) async fn tell_uses(&self, ages: Vec<(SessionId, u64)>, within: Duration) {
        let ids: Vec<SessionId> = ages.iter().map(|(id, _)| *id).collect();
        let Some(call) = self.ask(To::All, &Question::Used(ages)) else { return };
        self.counters.touches_sent.one();
        let missed = match call.wait(Wait::All).within(within.min(TELL)).await {
            Ok(replies) => replies.iter().any(|(_, answer)| {
                matches!(answer, Answer::TimedOut | Answer::Overloaded | Answer::Unreachable(_) | Answer::Failed(_))
            }),
            Err(_) => false,
        };
        if missed {
            let now = self.now();
            self.keep(|keeper| keeper.untold(ids, now));
        }
    }

    /// Tells the others of all that they have not been told of.
    pub(super) async fn tell_all_uses(&self, within: Duration) {
        let actions = self.keeper().touch_all(self.now());
        for action in actions {
            if let crate::keeper::Action::Touch(ages) = action {
                self.tell_uses(ages, within).await;
            }
        }
    }

    /// Learns from `member` when sessions were used; whether it has said all.
    pub(super) async fn learn_ages(&self, member: &Arc<Member>) -> bool {
        let mut after = None;
        loop {
            let Some(call) = self.ask(member, &Question::Ages(after)) else { return false };
            let Ok(replies) = call.within(PART).await else { return false };
            // One that has no such store has nothing to say, and one that is gone never will.
            let is_nobody = |answer: &Answer<Reply>| matches!(answer, Answer::NoHandler | Answer::Left(_));
            if replies.iter().all(|(_, answer)| is_nobody(answer)) {
                return true;
            }
            let Some(Reply::Ages(ages, more)) = replies.into_reply() else { return false };
            self.heard(&ages);
            after = ages.last().map(|(id, _)| *id);
            if !more || after.is_none() {
                return true;
            }
        }
    }

    /// Tells those that may know a session and do not hold it that it is over. Whoever misses that finds out when its time is over.
    pub(super) async fn tell_end(&self, id: SessionId, death: Death) {
        let Some(call) = self.ask(To::All, &Question::Ended(id, death)) else { return };
        if let Err(error) = call.wait(Wait::None).within(TELL).await {
            tracing::debug!(?id, %error, "the others were not told that a session is over");
        }
    }

    /// Fetches a session from whoever has this write of it.
    pub(super) async fn pull(&self, id: SessionId, wanted: Stamp, within: Duration) -> Option<Session> {
        let call = self.ask(To::All, &Question::Pull(id, wanted))?;
        let replies = call.wait(Wait::First).within(within).await.ok()?;
        match replies.into_reply()? {
            Reply::Session(session) => session,
            _ => None,
        }
    }

    /// Has the others end the sessions that they hold; how many those were.
    pub(super) async fn kill_elsewhere(&self, field: &str, value: &Value) -> Result<usize, SessionError> {
        let question = Question::Kill(field.to_owned(), value.to_string());
        let Some(call) = self.ask(To::All, &question) else { return Ok(0) };
        let replies: Replies<Reply> = match call.wait(Wait::All).within(KILL).await {
            Ok(replies) => replies,
            Err(error) => return Err(SessionError::Elsewhere { why: error.to_string() }),
        };
        let mut ended = 0;
        for (member, answer) in &replies {
            match answer {
                Answer::Replied(Reply::Ended(count)) => ended += usize::try_from(*count).unwrap_or_default(),
                Answer::NoHandler | Answer::Left(_) => {}
                other => return Err(SessionError::Elsewhere { why: format!("{member}: {other:?}") }),
            }
        }
        Ok(ended)
    }

    /// Whether this is the only member that could have the store.
    pub(super) fn others(&self) -> Vec<Arc<Member>> {
        let me: MemberId = self.me;
        self.channel.view().members().iter().filter(|member| member.id() != me).cloned().collect()
    }
}
