//! Questions to the group: requests to one member, some, or all, and their replies (Tribes: `RpcChannel`).
//!
//! ```
//! # use std::time::Duration;
//! # use tribes_core::rpc::{Reply, Request, RpcChannel, Wait};
//! # use tribes_core::{BoxError, Channel, To};
//! # async fn ask(channel: Channel) -> Result<(), BoxError> {
//! let rpc = RpcChannel::builder("inventory")
//!     .handler(|request: Request| async move { Ok(Reply::from(format!("{} bytes", request.bytes().len()))) })
//!     .open(&channel)?;
//! let replies = rpc.call(To::All, "how many?").wait(Wait::Majority).within(Duration::from_secs(1)).await?;
//! for (member, answer) in &replies {
//!     println!("{member}: {answer}");
//! }
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - **One answer each.** A call ends with exactly one [`Answer`] for each member asked, by its deadline. What one member does
//!   never takes the answers of others away (T51).
//! - **No waiting in vain.** A member that leaves, restarts, cannot be reached, has no handler or too much to do ends its share
//!   at once; a call that cannot be satisfied any more ends at once.
//! - **At most once.** A handler is called at most once for a call, as far as the last 4,096 requests go. Whether it was called
//!   is known for those that answered; for the others ([`TimedOut`](Answer::TimedOut), [`Left`](Answer::Left),
//!   [`Unreachable`](Answer::Unreachable), [`NotAwaited`](Answer::NotAwaited)) it is not.
//! - **Never behind a listener.** Requests and answers go past the queues before the listeners (an
//!   [endpoint](crate::channel::endpoint)), and handlers run as tasks of their own, never where messages are received (T8).
//! - **Bounded.** An RPC channel handles and keeps so many requests and bytes at most, and turns the rest away
//!   ([`Answer::Overloaded`]); replies that wait for their callers are bounded to 64 MiB a channel.
//!
//! Not guaranteed: an order among requests or replies, and that a dropped call did nothing.
//!
//! # Java
//! Members of Tribes' own, and those of which no more than the address is known, are asked and answered in Tribes' form.
//! Requests and replies may be null, a `String`, a `byte[]` or a `ByteMessage` ([`Form`]); no other object is read. Tribes knows
//! no errors: towards it, every answer that is no reply is "no RPC channel", upon which its call does not wait for this
//! member any more. It says nothing of how long it waits, and is told of no cancellation.
//!
//! | here | Tribes |
//! |---|---|
//! | [`RpcChannel`], any number by id | `RpcChannel(id, channel, callback)` |
//! | [`RpcHandler`] | `RpcCallback.replyRequest` |
//! | [`RpcBuilder::left_over`] | `RpcCallback.leftOver` |
//! | [`RpcStats::lost_replies`] | `ExtendedRpcCallback.replyFailed` |
//! | [`Wait`] | `FIRST_REPLY`, `MAJORITY_REPLY`, `ALL_REPLY`, `NO_REPLY` |
//! | [`Replies`] | `Response[]` |

mod answer;
mod builder;
mod call;
mod desk;
mod frame;
mod handler;
mod hub;
mod payload;
mod served;
mod stats;
mod table;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use answer::{Answer, Replies, Wait};
pub use builder::RpcBuilder;
pub use call::{Call, ReplyStream};
pub use handler::{Reply, Request, RpcHandler};
pub(crate) use hub::Hub;
pub use payload::{Form, Payload};
use served::Served;
pub use stats::RpcStats;

use crate::{SendOptions, To};

/// Names a call; 16 bytes that no other call of the group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CallId([u8; 16]);

impl CallId {
    const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn of(run: u64, number: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&run.to_be_bytes());
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

/// Why an RPC channel was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The channel has one of this id.
    #[error(
        "there is an RPC channel {id:?} on this channel already; take another id, or drop all handles of that one first"
    )]
    Taken {
        /// The id.
        id: Bytes,
    },
    /// The id is too long.
    #[error("the id of an RPC channel has at most 255 bytes; {len} were given")]
    Id {
        /// Its length.
        len: usize,
    },
    /// A bound is zero.
    #[error("{setting} must be more than zero")]
    Zero {
        /// Which.
        setting: &'static str,
    },
}

/// Asks members, and answers them (Tribes: `RpcChannel`). A cheap handle; all clones are the same. When the last one is
/// dropped, the RPC channel closes: requests for it are answered with "no handler".
///
/// It survives stop and start of its channel. See the [module](self) for what is guaranteed.
#[derive(Clone)]
pub struct RpcChannel(Arc<Opened>);

/// Keeps an RPC channel open. Weak: a handler may hold the handle of its own channel.
struct Opened {
    hub: Weak<Hub>,
    served: Weak<Served>,
    timeout: Duration,
    options: SendOptions,
}

impl RpcChannel {
    /// An RPC channel with this id, to be configured and [opened](RpcBuilder::open). Members answer each other if their ids
    /// are the same, byte by byte.
    pub fn builder(id: impl Into<Bytes>) -> RpcBuilder {
        RpcBuilder::new(id.into())
    }

    /// A call to `to` with this request: see [`Call`]. The local member is not among [`To::All`]; members need not be in the
    /// group.
    pub fn call(&self, to: impl Into<To>, request: impl Into<Payload>) -> Call {
        Call::new(self.clone(), to.into(), Ok(request.into()), Ok)
    }

    /// As [`call`](Self::call) with types: the request is written as MessagePack by field name, and so are the replies read.
    /// A reply of another shape is [`Answer::Mismatch`]; for the [`Wait`] it counts as a reply.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tribes_core::{To, rpc::{Replies, RpcChannel}};
    /// #[derive(Serialize, Deserialize)]
    /// struct Query { article: u32 }
    /// #[derive(Serialize, Deserialize)]
    /// struct Stock { pieces: u32 }
    ///
    /// # async fn ask(rpc: RpcChannel) -> Result<u32, Box<dyn std::error::Error>> {
    /// let replies: Replies<Stock> = rpc.ask(To::All, &Query { article: 7 }).await?;
    /// Ok(replies.replied().map(|(_, stock)| stock.pieces).sum())
    /// # }
    /// ```
    pub fn ask<Q, A>(&self, to: impl Into<To>, request: &Q) -> Call<A>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        let read = |payload: Payload| payload.decode().map_err(|error| error.to_string());
        Call::new(self.clone(), to.into(), Payload::encode(request), read)
    }

    /// What it counts; zeros once its channel is gone.
    #[must_use]
    pub fn stats(&self) -> RpcStats {
        self.0.served.upgrade().map(|served| served.stats()).unwrap_or_default()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Bytes {
        self.0.served.upgrade().map(|served| served.id.clone()).unwrap_or_default()
    }

    fn parts(&self) -> Option<(Arc<Hub>, Arc<Served>)> {
        self.0.hub.upgrade().zip(self.0.served.upgrade())
    }

    fn defaults(&self) -> (Duration, SendOptions) {
        (self.0.timeout, self.0.options)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.remove(&self.served);
        }
    }
}

impl fmt::Debug for RpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcChannel").field("id", &self.id()).field("stats", &self.stats()).finish()
    }
}
