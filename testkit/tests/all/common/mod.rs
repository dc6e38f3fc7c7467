//! Layers of both forms that log what they are called for and do as a test says.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tribes_core::{
    BoxError, ChannelInterceptor, Cx, EventVerdict, Inbound, Interest, Layer, Link, MemberEvent, Next, Outbound,
    Outcome, ReceiveError, SendError, SendOptions, SyncInterceptor, Time, Verdict, WireEffect,
};

/// Two free bits for triggers.
pub(crate) const A: SendOptions = SendOptions::from_bits_retain(0x200);
pub(crate) const B: SendOptions = SendOptions::from_bits_retain(0x400);

/// What the layers of one stack were called for, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

type OnSend = dyn Fn(&mut Outbound, &Link) -> Verdict<Outbound> + Send + Sync;
type OnReceive = dyn Fn(&mut Inbound, &Link) -> Verdict<Inbound> + Send + Sync;
type OnEvent = dyn Fn(&MemberEvent) -> EventVerdict + Send + Sync;

/// A layer to be.
pub(crate) struct Spy {
    name: &'static str,
    log: Log,
    interest: Interest,
    trigger: SendOptions,
    wire: WireEffect,
    fails: bool,
    on_send: Box<OnSend>,
    on_receive: Box<OnReceive>,
    on_event: Box<OnEvent>,
    on_other: Box<dyn Fn(&str) + Send + Sync>,
    link: Mutex<Option<Link>>,
}

impl Spy {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            log: log.clone(),
            interest: Interest::all_hooks(),
            trigger: SendOptions::empty(),
            wire: WireEffect::None,
            fails: false,
            on_send: Box::new(|_, _| Verdict::Pass),
            on_receive: Box::new(|_, _| Verdict::Pass),
            on_event: Box::new(|_| EventVerdict::Pass),
            on_other: Box::new(|_| {}),
            link: Mutex::default(),
        }
    }

    pub(crate) fn interest(mut self, interest: Interest) -> Self {
        self.interest = interest;
        self
    }

    pub(crate) fn trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    pub(crate) fn wire(mut self, wire: WireEffect) -> Self {
        self.wire = wire;
        self
    }

    /// `start` fails.
    pub(crate) fn failing(mut self) -> Self {
        self.fails = true;
        self
    }

    pub(crate) fn on_send(
        mut self,
        hook: impl Fn(&mut Outbound, &Link) -> Verdict<Outbound> + Send + Sync + 'static,
    ) -> Self {
        self.on_send = Box::new(hook);
        self
    }

    pub(crate) fn on_receive(
        mut self,
        hook: impl Fn(&mut Inbound, &Link) -> Verdict<Inbound> + Send + Sync + 'static,
    ) -> Self {
        self.on_receive = Box::new(hook);
        self
    }

    pub(crate) fn on_event(mut self, hook: impl Fn(&MemberEvent) -> EventVerdict + Send + Sync + 'static) -> Self {
        self.on_event = Box::new(hook);
        self
    }

    /// Called with the name of any other hook: `heartbeat`, `outcome`.
    pub(crate) fn on_other(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_other = Box::new(hook);
        self
    }

    pub(crate) fn sync(self) -> Layer {
        Layer::Sync(Arc::new(SyncSpy(self)))
    }

    /// The asynchronous form; it yields before it does anything.
    pub(crate) fn asynchronous(self) -> Layer {
        Layer::Async(Arc::new(AsyncSpy(self)))
    }

    fn says(&self, what: &str) {
        self.log.add(format!("{} {what}", self.name));
    }

    fn started(&self, link: Link) -> Result<(), BoxError> {
        self.says("start");
        *self.link.lock().unwrap() = Some(link);
        if self.fails { Err("as the test wishes".into()) } else { Ok(()) }
    }

    fn link(&self) -> Link {
        self.link.lock().unwrap().clone().unwrap()
    }
}

fn text(body: &tribes_core::Body) -> String {
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

#[derive(Debug)]
struct SyncSpy(Spy);
#[derive(Debug)]
struct AsyncSpy(Spy);

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl SyncInterceptor for SyncSpy {
    fn name(&self) -> &'static str {
        self.0.name
    }
    fn interest(&self) -> Interest {
        self.0.interest
    }
    fn trigger(&self) -> SendOptions {
        self.0.trigger
    }
    fn wire(&self) -> WireEffect {
        self.0.wire
    }
    fn start(&self, link: Link) -> Result<(), BoxError> {
        self.0.started(link)
    }
    fn stop(&self) {
        self.0.says("stop");
    }
    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Verdict<Outbound> {
        self.0.says(&format!("send {} {}", text(&out.message.body), cx.matches()));
        (self.0.on_send)(out, cx.link())
    }
    fn receive(&self, msg: &mut Inbound, cx: &mut Cx<'_>) -> Verdict<Inbound> {
        self.0.says(&format!("receive {} {}", text(&msg.message.body), cx.matches()));
        (self.0.on_receive)(msg, cx.link())
    }
    fn member_event(&self, event: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.0.says(&format!("event {}", event.member().port()));
        (self.0.on_event)(event)
    }
    fn heartbeat(&self, _: Time) {
        self.0.says("heartbeat");
        (self.0.on_other)("heartbeat");
    }
    fn outcome(&self, outcome: &Outcome) {
        self.0.says(&format!("outcome {}/{}", outcome.delivered(), outcome.attempted));
        (self.0.on_other)("outcome");
    }
}

#[async_trait]
impl ChannelInterceptor for AsyncSpy {
    fn name(&self) -> &'static str {
        self.0.name
    }
    fn interest(&self) -> Interest {
        self.0.interest
    }
    fn trigger(&self) -> SendOptions {
        self.0.trigger
    }
    fn wire(&self) -> WireEffect {
        self.0.wire
    }
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        self.0.started(link)
    }
    async fn stop(&self, _: Time) {
        self.0.says("stop");
    }
    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        tokio::task::yield_now().await;
        self.0.says(&format!("send {} {}", text(&out.message.body), next.matches()));
        match (self.0.on_send)(&mut out, &self.0.link()) {
            Verdict::Pass => next.send(out).await,
            Verdict::Replace(other) => next.send(other).await,
            Verdict::Many(parts) => {
                for part in parts {
                    next.send(part).await?;
                }
                Ok(())
            }
            Verdict::Drop(_) => Ok(()),
            Verdict::Refuse(source) => Err(SendError::Layer { layer: self.0.name, source }),
        }
    }
    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        tokio::task::yield_now().await;
        self.0.says(&format!("receive {} {}", text(&msg.message.body), next.matches()));
        match (self.0.on_receive)(&mut msg, &self.0.link()) {
            Verdict::Pass => next.receive(msg).await,
            Verdict::Replace(other) => next.receive(other).await,
            Verdict::Many(parts) => {
                for part in parts {
                    next.receive(part).await?;
                }
                Ok(())
            }
            Verdict::Drop(_) => Ok(()),
            Verdict::Refuse(why) => Err(ReceiveError::Refused { layer: self.0.name, reason: why.to_string() }),
        }
    }
    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        tokio::task::yield_now().await;
        self.0.says(&format!("event {}", event.member().port()));
        if (self.0.on_event)(&event) == EventVerdict::Pass {
            next.member_event(event).await;
        }
    }
    async fn heartbeat(&self, _: Time, _: Next<'_>) {
        self.0.says("heartbeat");
        (self.0.on_other)("heartbeat");
    }
    fn outcome(&self, outcome: &Outcome) {
        self.0.says(&format!("outcome {}/{}", outcome.delivered(), outcome.attempted));
        (self.0.on_other)("outcome");
    }
}

/// A stack of three layers named `top`, `mid` and `low`, in the forms that `forms` tells: `s` or `a` each.
pub(crate) fn three(log: &Log, forms: &str, change: impl Fn(Spy) -> Spy) -> Vec<Layer> {
    let spies = ["top", "mid", "low"].map(|name| change(Spy::new(name, log)));
    spies
        .into_iter()
        .zip(forms.chars())
        .map(|(spy, form)| if form == 's' { spy.sync() } else { spy.asynchronous() })
        .collect()
}

/// All mixtures of forms for three layers.
pub(crate) const FORMS: [&str; 8] = ["sss", "ssa", "sas", "saa", "ass", "asa", "aas", "aaa"];
