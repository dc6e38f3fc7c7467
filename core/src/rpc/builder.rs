//! Opening an RPC channel.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::desk::Bounds;
use super::frame::MAX_ID;
use super::handler::{FnHandler, TypedHandler};
use super::served::{Served, Settings};
use super::{Opened, Payload, Reply, Request, RpcChannel, RpcError, RpcHandler};
use crate::error::BoxError;
use crate::{Channel, Member, SendOptions};

/// Configures an [`RpcChannel`]. Without a handler it only asks.
#[must_use = "call `open`"]
pub struct RpcBuilder {
    id: Bytes,
    settings: Settings,
    timeout: Duration,
    options: SendOptions,
}

impl RpcBuilder {
    pub(super) const fn new(id: Bytes) -> Self {
        let bounds = Bounds { running: 64, waiting: 1024, bytes: 16 << 20 };
        Self {
            id,
            settings: Settings {
                handler: None,
                left_over: None,
                bounds,
                limit: Duration::from_secs(60),
                reply_options: SendOptions::NONE,
            },
            timeout: Duration::from_secs(5),
            options: SendOptions::NONE,
        }
    }

    /// Answers requests with a closure; see [`RpcHandler`].
    pub fn handler<F, R>(self, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, BoxError>> + Send + 'static,
    {
        self.handler_shared(Arc::new(FnHandler(handler)))
    }

    /// Answers requests with a closure over types: requests are read as MessagePack, and so are replies written, by field
    /// name. A request of another shape is answered with an error.
    pub fn typed_handler<F, Q, R, A>(self, handler: F) -> Self
    where
        F: Fn(Q, Request) -> R + Send + Sync + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Future<Output = Result<A, BoxError>> + Send + 'static,
        A: Serialize + Send + Sync + 'static,
    {
        self.handler_shared(Arc::new(TypedHandler(handler, PhantomData)))
    }

    /// Answers requests with this handler.
    pub fn handler_shared(mut self, handler: Arc<dyn RpcHandler>) -> Self {
        self.settings.handler = Some(handler);
        self
    }

    /// Has a hook called with replies that come after their call has ended (Tribes: `RpcCallback.leftOver`). It must not block:
    /// it is called where replies arrive. Default: they are counted only.
    pub fn left_over(mut self, hook: impl Fn(&Arc<Member>, Payload) + Send + Sync + 'static) -> Self {
        self.settings.left_over = Some(Box::new(hook));
        self
    }

    /// How many requests are handled at the same time; default 64. A handler that asks others keeps its place meanwhile.
    pub const fn concurrency(mut self, requests: usize) -> Self {
        self.settings.bounds.running = requests;
        self
    }

    /// How many requests wait for their turn; default 1,024. Zero: none.
    pub const fn queue(mut self, requests: usize) -> Self {
        self.settings.bounds.waiting = requests;
        self
    }

    /// How many bytes the requests that are handled or wait have together; default 16 MiB. A larger one is admitted alone.
    pub const fn memory(mut self, bytes: usize) -> Self {
        self.settings.bounds.bytes = bytes;
        self
    }

    /// How long a handler may take, if the caller's deadline is not sooner; default 60 s. Then its future is dropped, and the
    /// caller hears of it.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.settings.limit = limit;
        self
    }

    /// How long calls wait unless they [say otherwise](super::Call::within); default 5 s.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// With which options requests are sent unless a call [says otherwise](super::Call::options); default none: the reply is
    /// the acknowledgement. Tribes has no default.
    pub const fn options(mut self, options: SendOptions) -> Self {
        self.options = options;
        self
    }

    /// With which options replies are sent; default none, as in Tribes.
    /// [`SYNCHRONIZED_ACK`](SendOptions::SYNCHRONIZED_ACK) is taken off.
    pub fn reply_options(mut self, options: SendOptions) -> Self {
        self.settings.reply_options = options - SendOptions::SYNCHRONIZED_ACK;
        self
    }

    /// Opens it on `channel`, which need not be started.
    ///
    /// # Errors
    /// If the id is in use on this channel or longer than 255 bytes, or a bound is zero.
    pub fn open(self, channel: &Channel) -> Result<RpcChannel, RpcError> {
        let Self { id, settings, timeout, options } = self;
        if id.len() > MAX_ID {
            return Err(RpcError::Id { len: id.len() });
        }
        for (zero, setting) in [
            (settings.bounds.running == 0, "concurrency"),
            (settings.bounds.bytes == 0, "memory"),
            (settings.limit.is_zero(), "limit"),
        ] {
            if zero {
                return Err(RpcError::Zero { setting });
            }
        }
        let hub = channel.rpc_hub();
        let served = Served::new(id, settings);
        hub.register(&served)?;
        Ok(RpcChannel(Arc::new(Opened { hub: Arc::downgrade(hub), served: Arc::downgrade(&served), timeout, options })))
    }
}

impl fmt::Debug for RpcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcBuilder")
            .field("id", &self.id)
            .field("answers", &self.settings.handler.is_some())
            .field("bounds", &self.settings.bounds)
            .finish_non_exhaustive()
    }
}
