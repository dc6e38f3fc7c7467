//! A transport that takes its time to accept a message.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tribes_core::{
    BoxError, ChannelMessage, ChannelSender, Env, Link, Member, MemberEvent, Outbound, ProbeResult, SendError, Time,
};

use crate::{Recorder, RecorderSender};

/// The sender of a recorder, a few milliseconds late: those above have to wait, and may be dropped meanwhile.
#[derive(Debug)]
pub(super) struct SlowSender {
    inner: RecorderSender,
    env: OnceLock<Env>,
    millis: u32,
}

impl SlowSender {
    pub(super) fn new(below: &Recorder, millis: u32) -> Self {
        Self { inner: below.sender(), env: OnceLock::new(), millis }
    }
}

#[async_trait]
impl ChannelSender for SlowSender {
    async fn start(&self, local: Arc<Member>, up: Link) -> Result<(), BoxError> {
        let _ = self.env.set(up.env().clone());
        self.inner.start(local, up).await
    }

    async fn stop(&self, deadline: Time) {
        self.inner.stop(deadline).await;
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        for _ in 0..self.millis {
            if let Some(env) = self.env.get() {
                env.sleep(Duration::from_millis(1)).await;
            }
        }
        self.inner.send(out).await
    }

    async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        self.inner.probe(member, frame, deadline).await
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.inner.is_connected(member)
    }

    fn member_event(&self, event: &MemberEvent) {
        self.inner.member_event(event);
    }
}
