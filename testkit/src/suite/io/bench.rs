//! The group in which a case runs.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{BudgetConfig, Channel, ChannelBuilder, Env, Member, MemberEvent, Outcome, Pending, SendOptions};

use super::super::run::Verdict;
use super::{Site, Subject};
use crate::net::SimNet;
use crate::{Recorder, RecordingListener, SimEnv};

/// What a case works with.
pub(super) struct Bench {
    pub(super) subject: Subject,
    pub(super) seed: u64,
    pub(super) env: Env,
    net: SimNet,
    rng: RefCell<fastrand::Rng>,
    made: Cell<u64>,
}

/// One member of the group.
pub(super) struct Station {
    pub(super) channel: Channel,
    pub(super) heard: RecordingListener,
    /// Says who is there, where no membership service is tested.
    pub(super) below: Recorder,
    pub(super) site: Site,
}

/// Runs a case in a runtime of its own.
pub(super) fn run(subject: &Subject, seed: u64, case: impl AsyncFnOnce(&Bench) -> Verdict) -> Verdict {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(subject.profile.virtual_time);
    let runtime = builder.build().map_err(|error| format!("no runtime: {error}"))?;
    let verdict = runtime.block_on(async {
        let world = SimEnv::new(seed);
        let env = if subject.profile.virtual_time { world.env() } else { Env::real() };
        let net = SimNet::quietly_within(&world, seed, crate::net::NetConfig::default());
        let rng = RefCell::new(fastrand::Rng::with_seed(seed ^ 0x10));
        let bench = Bench { subject: subject.clone(), seed, env, net, rng, made: Cell::new(0) };
        let verdict = case(&bench).await.map_err(|error| error + &last_lines(&bench.net.trace()));
        match world.panics().first() {
            Some(panic) if verdict.is_ok() => Err(format!("a task panicked: {panic}")),
            _ => verdict,
        }
    });
    // A thread that blocks is not waited for.
    runtime.shutdown_background();
    verdict
}

/// The end of a trace, if there is one.
fn last_lines(trace: &[String]) -> String {
    let from = trace.iter().position(|line| line.contains("good-bye")).unwrap_or(0);
    trace.iter().skip(from).take(60).fold(String::new(), |text, line| text + "\n           " + line)
}

impl Bench {
    /// A random number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        self.rng.borrow_mut().usize(..end.max(1))
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&self, of: &[T]) -> T {
        let at = self.below(of.len());
        of.get(at).copied().unwrap_or_else(|| panic!("there is nothing to pick from"))
    }

    /// A body of this length, or a few bytes more, that is like no other.
    pub(super) fn body(&self, len: usize) -> Bytes {
        self.made.set(self.made.get() + 1);
        super::super::interceptor::body((self.seed << 24) + self.made.get(), len)
    }

    /// Places for a group of `count`.
    pub(super) fn sites(&self, count: usize) -> Result<Vec<Site>, String> {
        let nodes: Vec<_> = (0..count).map(|_| self.net.node()).collect();
        let free = |error: std::io::Error| format!("no free port: {error}");
        let (mut addresses, mut shared_port) = (nodes.iter().map(crate::net::Node::addr).collect::<Vec<_>>(), 45_564);
        if !self.subject.profile.virtual_time {
            let taken: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
            let taken = taken.map_err(free)?;
            addresses = taken.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(free)?;
            let shared = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
            shared_port = shared.map_err(free)?.port();
        }
        let site = |(number, node)| Site { node, number, addresses: addresses.clone(), shared_port };
        Ok(nodes.into_iter().enumerate().map(site).collect())
    }

    /// A station that is not started.
    pub(super) fn station(
        &self,
        site: Site,
        configure: impl Fn(ChannelBuilder) -> ChannelBuilder,
    ) -> Result<Station, String> {
        let Subject { sender, receiver, membership, profile } = &self.subject;
        let below = Recorder::new();
        let builder = Channel::builder();
        let builder = if profile.virtual_time { builder.env(site.node().env()) } else { builder };
        let builder = receiver(&site, sender(&site, configure(builder)));
        let builder = match membership {
            Some(membership) => membership(&site, builder),
            None => builder.membership(below.membership()),
        };
        let channel = builder.build().map_err(|error| error.to_string())?;
        let heard = RecordingListener::new();
        channel.listen(heard.clone()).forever();
        channel.listen_members(heard.clone()).forever();
        Ok(Station { channel, heard, below, site })
    }

    /// Started stations that know each other.
    pub(super) async fn group(&self, count: usize) -> Result<Vec<Station>, String> {
        self.group_with(count, |builder| builder).await
    }

    pub(super) async fn group_with(
        &self,
        count: usize,
        configure: impl Fn(ChannelBuilder) -> ChannelBuilder,
    ) -> Result<Vec<Station>, String> {
        let mut stations = Vec::new();
        for site in self.sites(count)? {
            let station = self.station(site, &configure)?;
            self.start(&station).await?;
            stations.push(station);
        }
        if self.subject.membership.is_none() {
            for one in &stations {
                for other in stations.iter().filter(|other| other.site.number() != one.site.number()) {
                    one.below.raise(MemberEvent::Added(other.channel.local()));
                }
            }
        }
        self.all_meet(&stations.iter().collect::<Vec<_>>()).await?;
        Ok(stations)
    }

    /// Waits until all of these see each other.
    pub(super) async fn all_meet(&self, stations: &[&Station]) -> Verdict {
        let sees = |one: &Station| {
            let view = one.channel.view();
            stations.iter().filter(|other| view.contains(&other.channel.local())).count() + 1 >= stations.len()
        };
        let missing = || {
            let seen: Vec<_> = stations.iter().map(|one| one.channel.view().len()).collect();
            format!("of a group of {} the members see {seen:?} others", stations.len())
        };
        self.until(|| stations.iter().all(|one| sees(one)), missing).await
    }

    pub(super) async fn start(&self, station: &Station) -> Verdict {
        let started = self.within("`start`", station.channel.start()).await?;
        started.map_err(|error| format!("it does not start: {error}: {:?}", std::error::Error::source(&error)))
    }

    /// Stops within `limit`.
    pub(super) async fn stop(&self, station: &Station, limit: Duration) -> Verdict {
        let began = self.env.now();
        self.within("`stop`", station.channel.stop()).await?;
        let took = self.env.now() - began;
        if took > limit { Err(format!("`stop` takes {took:?}, and may take {limit:?}")) } else { Ok(()) }
    }

    /// Sends, and waits for the outcome.
    pub(super) async fn send(
        &self,
        from: &Station,
        to: &[Arc<Member>],
        body: Bytes,
        options: SendOptions,
    ) -> Result<Outcome, String> {
        let sent = self.within("`send_with`", from.channel.send_with(to, body, options)).await?;
        self.outcome(sent.map_err(|error| format!("refused as a whole: {error}"))?).await
    }

    /// As [`send`](Self::send), when it has to succeed.
    pub(super) async fn carry(&self, from: &Station, to: &[Arc<Member>], body: Bytes, options: SendOptions) -> Verdict {
        let outcome = self.send(from, to, body, options).await?;
        outcome.faults.first().map_or(Ok(()), |fault| Err(format!("options {options}: {fault}")))
    }

    /// The outcome of a message, if it comes in time.
    pub(super) async fn outcome(&self, pending: Pending) -> Result<Outcome, String> {
        self.within("the outcome of a message", pending).await
    }

    /// `future`, if it is done in time.
    pub(super) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        let limit = self.subject.profile.patience;
        self.env
            .until(self.env.now() + limit, future)
            .await
            .ok_or_else(|| format!("{what} is not done after {limit:?}"))
    }

    /// Waits until `condition` holds.
    pub(super) async fn until(
        &self,
        mut condition: impl FnMut() -> bool,
        otherwise: impl FnOnce() -> String,
    ) -> Verdict {
        let deadline = self.env.now() + self.subject.profile.patience;
        while !condition() {
            if self.env.now() >= deadline {
                return Err(otherwise());
            }
            self.env.sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Whether `condition` holds all through a while: what should not come has time to.
    pub(super) async fn stays(&self, condition: impl Fn() -> bool, otherwise: impl FnOnce() -> String) -> Verdict {
        let quiet = if self.subject.profile.virtual_time { 20_000 } else { 100 };
        self.env.sleep(Duration::from_millis(quiet)).await;
        if condition() { Ok(()) } else { Err(otherwise()) }
    }

    /// Polls `future` at most `polls` times, a millisecond apart, then drops it; what it gave if it was done by then.
    pub(super) async fn polled<T>(&self, polls: usize, future: impl Future<Output = T>) -> Option<T> {
        super::super::polled(&self.env, polls, future).await
    }

    /// A small budget that is soon full.
    pub(super) fn small(total: usize) -> BudgetConfig {
        BudgetConfig::with_total(total)
            .with_per_member(total)
            .with_policy(tribes_core::OverloadPolicy::Wait(Duration::from_millis(50)))
    }
}

impl Station {
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.heard.received().iter().map(|received| received.message.bytes().clone()).collect()
    }
}

/// Whether `got` is just `sent`, in this order.
pub(super) fn same(sent: &[Bytes], got: &[Bytes]) -> Verdict {
    super::super::interceptor::arrived(&super::super::Profile::default(), sent, got, |_| false)
}
