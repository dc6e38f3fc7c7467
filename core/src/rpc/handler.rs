//! Who answers: handlers, what they are given, and what they return.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Payload;
use crate::error::BoxError;
use crate::message::{DecodeError, EncodeError};
use crate::{Env, Member, Time};

/// Answers requests (Tribes: `RpcCallback.replyRequest`). Closures are handlers, see
/// [`RpcBuilder::handler`](super::RpcBuilder::handler).
///
/// Each request is handled by a task of its own, many at the same time and in no order; so a handler may take its time, and
/// may ask other members, the caller too. When the caller gives the call up, its deadline passes, or the channel stops, the
/// handler's future is dropped.
#[async_trait]
pub trait RpcHandler: Send + Sync + 'static {
    /// Handles a request.
    ///
    /// # Errors
    /// The error's text, like that of a panic, goes to the caller as [`Answer::Failed`](super::Answer::Failed).
    async fn request(&self, request: Request) -> Result<Reply, BoxError>;
}

/// A request, as its handler gets it.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) payload: Payload,
    pub(super) from: Arc<Member>,
    pub(super) deadline: Time,
    pub(super) env: Env,
}

impl Request {
    /// What was asked.
    #[must_use]
    pub const fn payload(&self) -> &Payload {
        &self.payload
    }

    /// What was asked, owned.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// The bytes of what was asked.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        self.payload.bytes()
    }

    /// What was asked as text; `None` if it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.payload.text()
    }

    /// What was asked as MessagePack.
    ///
    /// # Errors
    /// If it is not MessagePack of this type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.payload.decode()
    }

    /// Who asks, as it says of itself.
    #[must_use]
    pub const fn sender(&self) -> &Arc<Member> {
        &self.from
    }

    /// How long the caller still waits, not counting the way back; `None` if it did not say, as Java's do not.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        (self.deadline != Time::NEVER).then(|| self.deadline - self.env.now())
    }
}

/// What a handler returns. Text, bytes and a [`Payload`] convert into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(pub(super) Option<Payload>);

impl Reply {
    /// No reply: the caller hears [`Answer::NoReply`](super::Answer::NoReply). (Tribes promises that for null, and sends a null,
    /// T53; here a null is a reply: [`Payload::null`].)
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// `value` as MessagePack by field name.
    ///
    /// # Errors
    /// If the type's `Serialize` refuses.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Payload::encode(value).map(Self::from)
    }
}

impl<T: Into<Payload>> From<T> for Reply {
    fn from(payload: T) -> Self {
        Self(Some(payload.into()))
    }
}

/// A closure as a handler.
pub(super) struct FnHandler<F>(pub(super) F);

#[async_trait]
impl<F, R> RpcHandler for FnHandler<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    async fn request(&self, request: Request) -> Result<Reply, BoxError> {
        (self.0)(request).await
    }
}

/// A closure over types as a handler.
pub(super) struct TypedHandler<F, Q>(pub(super) F, pub(super) PhantomData<fn(Q)>);

#[async_trait]
impl<F, Q, R, A> RpcHandler for TypedHandler<F, Q>
where
    F: Fn(Q, Request) -> R + Send + Sync + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Future<Output = Result<A, BoxError>> + Send + 'static,
    A: Serialize + Send + Sync + 'static,
{
    async fn request(&self, request: Request) -> Result<Reply, BoxError> {
        let query = request.decode()?;
        Ok(Reply::encode(&(self.0)(query, request).await?)?)
    }
}

impl fmt::Debug for dyn RpcHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RpcHandler")
    }
}
