//! Carrying out a `call` command, and answering the calls of others.

use std::time::Duration;

use tribes::rpc::{Answer, Form, Payload, Replies, Reply, Request, RpcChannel, RpcError};
use tribes::{BoxError, Channel, SendError, To};

use super::commands::CallCommand;
use super::events::{AnswerInfo, Event, Output, sha256};
use super::send::{NoMember, named};
use crate::units::hex;

/// Why a call was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    NoMember(#[from] NoMember),
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("there is no RPC channel; start with --rpc ID, or name one with rpc=ID")]
    NoChannel,
}

/// Opens the RPC channel of `--rpc`: it answers each request with itself, but a text `null` with null, `fail` with an error,
/// and `nothing` not at all. The Java peer does the same.
pub(crate) fn open(channel: &Channel, id: &str, output: &Output) -> Result<RpcChannel, RpcError> {
    let (asked, late) = (output.clone(), output.clone());
    let handler = move |request: Request| {
        let output = asked.clone();
        async move {
            let (from, info) = (request.sender().id().to_string(), AnswerInfo::of_payload(request.payload()));
            output.tell(Event::Request { from, payload: info }).await;
            answer(request)
        }
    };
    let left_over = move |from: &std::sync::Arc<tribes::Member>, reply: Payload| {
        late.try_tell(Event::LeftOver { from: from.id().to_string(), payload: AnswerInfo::of_payload(&reply) });
    };
    RpcChannel::builder(id.to_owned()).handler(handler).left_over(left_over).open(channel)
}

fn answer(request: Request) -> Result<Reply, BoxError> {
    match request.text().filter(|_| request.payload().form() == Form::Text) {
        Some("null") => Ok(Payload::null().into()),
        Some("nothing") => Ok(Reply::none()),
        Some("fail") => Err("as the request wishes".into()),
        _ => Ok(request.into_payload().into()),
    }
}

/// Asks, and returns [`Event::Called`] when all answers are known.
pub(crate) async fn call(
    channel: &Channel,
    rpc: Option<&RpcChannel>,
    command: &CallCommand,
) -> Result<Event, CallError> {
    let to = match &command.to {
        None => To::All,
        Some(ids) => named(channel, ids)?.into(),
    };
    let other = command.rpc.as_ref().map(|id| RpcChannel::builder(id.clone()).open(channel)).transpose()?;
    let rpc = other.as_ref().or(rpc).ok_or(CallError::NoChannel)?;
    let body = command.payload.body(0, false);
    let request = match command.form {
        Form::Null => Payload::null(),
        Form::ByteMessage => Payload::byte_message(body),
        Form::Bytes => Payload::from(body),
        _ => Payload::from(String::from_utf8(body.to_vec()).unwrap_or_else(|_not_text| hex(&body))),
    };
    let begin = tokio::time::Instant::now();
    let replies = rpc.call(to, request).wait(command.wait).within(command.within).await?;
    Ok(called(&replies, begin.elapsed()))
}

fn called(replies: &Replies, took: Duration) -> Event {
    let answers = replies.iter().map(|(member, answer)| {
        let info = match answer {
            Answer::Replied(reply) => AnswerInfo::of_payload(reply),
            other => AnswerInfo { answer: other.to_string(), ..AnswerInfo::default() },
        };
        AnswerInfo { member: Some(member.id().to_string()), ..info }
    });
    Event::Called { ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX), answers: answers.collect() }
}

impl AnswerInfo {
    fn of_payload(payload: &Payload) -> Self {
        let form = match payload.form() {
            Form::Null => "null",
            Form::Text => "text",
            Form::ByteMessage => "message",
            _ => "bytes",
        };
        Self {
            member: None,
            answer: "replied".to_owned(),
            form: Some(form),
            len: Some(payload.bytes().len()),
            sha256: Some(sha256(payload.bytes())),
        }
    }
}
