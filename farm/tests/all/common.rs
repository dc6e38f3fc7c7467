//! Members with a farm each, in folders of their own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tribes_core::async_trait;
use tribes_core::{BoxError, Channel, Member, MemberEvent, MembershipContext, MembershipService, Services};
use tribes_farm::{Farm, FarmBuilder, Limits, Trust};
use tribes_interceptors::{MessageDispatch, TcpFailureDetector};
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

/// Generous: a machine at full load must not fail a test that waits for an event.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, or fails the test saying what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// The folders of one member.
#[derive(Debug)]
pub struct Folders(TempDir);

impl Folders {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn of(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn live(&self, name: &str) -> PathBuf {
        self.of("live").join(name)
    }

    /// What is live under a name.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.live(name)).ok()
    }

    /// A farm in these folders, as most tests want it.
    pub fn farm(&self, channel: &Channel) -> FarmBuilder {
        let limits = Limits::default().with_chunk(10_240);
        Farm::builder(channel, "test")
            .staging(self.of("staging"))
            .live(self.of("live"))
            .trust(Trust::Cluster)
            .limits(limits)
    }
}

/// Bytes that a seed decides.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A membership that is told by the test who is there.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Option<MembershipContext>>>);

impl Roster {
    pub fn add(&self, member: &Arc<Member>) {
        let link = self.0.lock().unwrap().as_ref().expect("the channel is started").link.clone();
        link.member_event(MemberEvent::Added(Arc::clone(member)));
    }
}

#[async_trait]
impl MembershipService for Roster {
    fn name(&self) -> &'static str {
        "roster"
    }

    async fn start(&self, _: Services, context: MembershipContext) -> Result<(), BoxError> {
        *self.0.lock().unwrap() = Some(context);
        Ok(())
    }

    async fn stop(&self, _: Services) {}
}

/// A channel over TCP on loopback, not started.
pub fn channel(roster: &Roster) -> Channel {
    Channel::builder()
        .interceptor(MessageDispatch::default())
        .interceptor(TcpFailureDetector::default())
        .sender(PooledParallelSender::new(SenderConfig::default()))
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(roster.clone())
        .build()
        .unwrap()
}

/// A group over TCP on loopback.
#[derive(Default)]
pub struct Group(Vec<(Channel, Roster)>);

impl Group {
    pub async fn of(count: usize) -> Self {
        let mut group = Self::default();
        for _ in 0..count {
            group.join().await;
        }
        group
    }

    /// One more, whom all others know.
    pub async fn join(&mut self) -> Channel {
        let roster = Roster::default();
        let channel = channel(&roster);
        channel.start().await.unwrap();
        for (other, others) in &self.0 {
            others.add(&channel.local());
            roster.add(&other.local());
        }
        self.0.push((channel.clone(), roster));
        channel
    }

    pub fn channel(&self, at: usize) -> &Channel {
        &self.0[at].0
    }
}
