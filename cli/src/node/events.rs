//! What a node writes on standard output: one JSON object a line.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tribes::interceptors::Leadership;
use tribes::interceptors::agreed_views::{Side, ViewEvent};
use tribes::stats::{ChannelStats, EndpointStats, FlowStats, LayerStats};
use tribes::{Departure, Gauge, Member, MemberEvent, Message};

use crate::units::{hex, with_causes};

/// Bodies up to this many bytes are shown.
const SHOWN: usize = 256;
/// Events that may wait for a slow reader before those who make them wait, too.
const WAITING: usize = 1024;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The node runs.
    Ready {
        local: MemberInfo,
    },
    MemberAdded {
        member: MemberInfo,
    },
    MemberRemoved {
        member: MemberInfo,
        reason: &'static str,
    },
    Message {
        from: String,
        options: u32,
        id: String,
        len: usize,
        sha256: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
    },
    /// A `send` is done: all outcomes are known.
    Sent {
        count: u64,
        /// Messages that did not reach each of their members.
        failed: u64,
        /// Of the last body.
        sha256: String,
        /// The members that failed and their reasons.
        why: String,
    },
    Members {
        members: Vec<MemberInfo>,
    },
    /// Who leads the group; without an id, nobody.
    Coordinator {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Those who agreed on it, the node itself included, the coordinator first.
        view: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        term: Option<u64>,
    },
    /// Somebody asks.
    Request {
        from: String,
        #[serde(flatten)]
        payload: AnswerInfo,
    },
    /// A reply came after its call had ended.
    LeftOver {
        from: String,
        #[serde(flatten)]
        payload: AnswerInfo,
    },
    /// A `call` is done: all answers are known.
    Called {
        /// How long it took.
        ms: u64,
        answers: Vec<AnswerInfo>,
    },
    /// A view was agreed on; members by their ids.
    ViewInstalled {
        view: String,
        leader: String,
        members: Vec<String>,
        joined: Vec<String>,
        left: Vec<String>,
        missing: Vec<String>,
        /// Whether this side may write as far as its members go.
        primary: bool,
    },
    /// Members of the view vanished without a good-bye.
    PartitionSuspected {
        view: String,
        missing: Vec<String>,
    },
    /// Sides that had views of their own are in one.
    Merged {
        view: String,
        sides: Vec<SideInfo>,
    },
    /// This side may write, with this fencing token.
    MayWrite {
        view: String,
        token: u64,
    },
    /// This side must not write any more.
    MustStop {
        view: String,
        why: &'static str,
    },
    /// No view may write any more until an operator has it forget those that came before.
    TooManyUnconfirmedViews {
        view: String,
        views: usize,
    },
    /// So many events of the views are lost, as nobody read them in time.
    ViewEventsMissed {
        events: u64,
    },
    Stats(Box<StatsInfo>),
    Error {
        error: String,
    },
    /// The node has left the group; the last line.
    Stopped,
}

impl Event {
    /// What a membership event means here: updates and suspicions are not told, nor that the local channel itself left.
    pub(crate) fn of_member(event: &MemberEvent) -> Option<Self> {
        match event {
            MemberEvent::Added(member) => Some(Self::MemberAdded { member: MemberInfo::of(member) }),
            MemberEvent::Removed(_, Departure::Stopped) => None,
            MemberEvent::Removed(member, why) => Some(Self::MemberRemoved {
                member: MemberInfo::of(member),
                reason: if *why == Departure::Shutdown { "shutdown" } else { "failed" },
            }),
            _ => None,
        }
    }

    pub(crate) fn of_leadership(leadership: &Leadership) -> Self {
        let id = |member: &Member| member.id().to_string();
        Self::Coordinator {
            id: leadership.coordinator.as_deref().map(id),
            view: leadership.view.iter().map(|member| id(member)).collect(),
            term: leadership.term,
        }
    }

    pub(crate) fn of_view(event: &ViewEvent) -> Self {
        let ids = |members: &[Arc<Member>]| members.iter().map(|member| member.id().to_string()).collect();
        match event {
            ViewEvent::ViewInstalled { view, joined, left, missing } => Self::ViewInstalled {
                view: view.id.to_string(),
                leader: view.leader.id().to_string(),
                members: ids(&view.members),
                joined: ids(joined),
                left: ids(left),
                missing: ids(missing),
                primary: view.primary,
            },
            ViewEvent::PartitionSuspected { view, missing } => {
                Self::PartitionSuspected { view: view.to_string(), missing: ids(missing) }
            }
            ViewEvent::Merged { view, sides } => {
                let side = |side: &Side| SideInfo { view: side.view.to_string(), members: ids(&side.members) };
                Self::Merged { view: view.id.to_string(), sides: sides.iter().map(side).collect() }
            }
            ViewEvent::MayWrite { view, token } => Self::MayWrite { view: view.to_string(), token: *token },
            ViewEvent::MustStop { view, why } => Self::MustStop { view: view.to_string(), why: why.as_str() },
            ViewEvent::TooManyUnconfirmed { view, views } => {
                Self::TooManyUnconfirmedViews { view: view.to_string(), views: *views }
            }
            ViewEvent::Missed { events } => Self::ViewEventsMissed { events: *events },
            // A kind that this program does not know yet.
            _ => Self::ViewEventsMissed { events: 1 },
        }
    }

    pub(crate) fn of_message(message: &Message, from: &Member) -> Self {
        let body = message.bytes();
        Self::Message {
            from: from.id().to_string(),
            options: message.options().bits(),
            id: message.id().to_string(),
            len: body.len(),
            sha256: sha256(body),
            bytes: (body.len() <= SHOWN).then(|| hex(body)),
        }
    }

    /// `error` with all its causes.
    pub(crate) fn error(error: &(dyn Error + 'static)) -> Self {
        Self::Error { error: with_causes(error) }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// An answer, or what a request carries.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AnswerInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<String>,
    /// `replied`, or why not.
    pub(crate) answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) len: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

/// A member; id, domain and payload in hexadecimal digits.
#[derive(Debug, Serialize)]
pub(crate) struct MemberInfo {
    id: String,
    host: String,
    port: i32,
    domain: String,
    payload: String,
    alive_ms: i64,
}

impl MemberInfo {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            id: member.id().to_string(),
            host: member.ip().map_or_else(|| hex(member.host()), |ip| ip.to_string()),
            port: member.port(),
            domain: hex(member.domain()),
            payload: hex(member.payload()),
            alive_ms: member.alive_ms(),
        }
    }
}

/// A side before it met the others.
#[derive(Debug, Serialize)]
pub(crate) struct SideInfo {
    view: String,
    members: Vec<String>,
}

/// What a channel counts; times in nanoseconds, as upper bounds exact to a factor of two.
#[derive(Debug, Serialize)]
pub(crate) struct StatsInfo {
    application: LayerInfo,
    layers: Vec<LayerInfo>,
    endpoints: Vec<EndpointInfo>,
    budget_used: usize,
    budget_peak: usize,
    listener_queue: usize,
    io: BTreeMap<&'static str, Gauges>,
}

type Gauges = BTreeMap<&'static str, u64>;

#[derive(Debug, Serialize)]
struct LayerInfo {
    name: &'static str,
    down: FlowInfo,
    up: FlowInfo,
    member_events: u64,
    gauges: Gauges,
}

#[derive(Debug, Serialize)]
struct EndpointInfo {
    name: String,
    down: FlowInfo,
    up: FlowInfo,
}

#[derive(Debug, Serialize)]
struct FlowInfo {
    messages: u64,
    bytes: u64,
    passed_by: u64,
    drops: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    latency_p50_ns: Option<u128>,
    latency_p99_ns: Option<u128>,
}

impl StatsInfo {
    pub(crate) fn of(stats: &ChannelStats) -> Self {
        Self {
            application: LayerInfo::of(&stats.top),
            layers: stats.layers.iter().map(LayerInfo::of).collect(),
            endpoints: stats.endpoints.iter().map(EndpointInfo::of).collect(),
            budget_used: stats.budget_used,
            budget_peak: stats.budget_peak,
            listener_queue: stats.listener_queue,
            io: stats.io.iter().map(|(part, figures)| (*part, gauges(figures))).collect(),
        }
    }
}

fn gauges(gauges: &[Gauge]) -> Gauges {
    gauges.iter().map(|gauge| (gauge.name, gauge.value)).collect()
}

impl LayerInfo {
    fn of(layer: &LayerStats) -> Self {
        Self {
            name: layer.name,
            down: FlowInfo::of(&layer.down),
            up: FlowInfo::of(&layer.up),
            member_events: layer.member_events,
            gauges: gauges(&layer.gauges),
        }
    }
}

impl EndpointInfo {
    fn of(endpoint: &EndpointStats) -> Self {
        Self { name: endpoint.name.clone(), down: FlowInfo::of(&endpoint.down), up: FlowInfo::of(&endpoint.up) }
    }
}

impl FlowInfo {
    fn of(flow: &FlowStats) -> Self {
        let nanos = |share| flow.latency.quantile(share).map(|time| time.as_nanos());
        Self {
            messages: flow.messages,
            bytes: flow.bytes,
            passed_by: flow.passed_by,
            drops: flow.drops.clone(),
            errors: flow.errors.clone(),
            latency_p50_ns: nanos(0.5),
            latency_p99_ns: nanos(0.99),
        }
    }
}

/// The way to standard output. A thread of its own writes, so that a reader who stops reading holds up those who have
/// something to tell, and through them their senders, but nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Output(mpsc::Sender<Line>);

#[derive(Debug)]
enum Line {
    Event(Event),
    /// Nothing after this; tell when it is all written.
    End(oneshot::Sender<()>),
}

impl Output {
    pub(crate) fn to_stdout() -> Self {
        let (sender, lines) = mpsc::channel(WAITING);
        std::thread::spawn(move || {
            if let Err(error) = write_lines(lines, BufWriter::new(io::stdout().lock())) {
                tracing::warn!(%error, "standard output is closed; the node ends");
            }
        });
        Self(sender)
    }

    /// Queues a line. Once nobody reads any more, it does nothing.
    pub(crate) async fn tell(&self, event: Event) {
        let _ = self.0.send(Line::Event(event)).await;
    }

    /// Queues a line where nothing may wait; without room for it, it is lost.
    pub(crate) fn try_tell(&self, event: Event) {
        let _ = self.0.try_send(Line::Event(event));
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }

    /// Waits until everything is written; lines that come later are lost.
    pub(crate) async fn end(&self) {
        let (done, written) = oneshot::channel();
        if self.0.send(Line::End(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

/// Writes each line at once, and flushes as soon as no other is waiting.
fn write_lines(mut lines: mpsc::Receiver<Line>, mut out: impl Write) -> io::Result<()> {
    while let Some(line) = lines.blocking_recv() {
        match line {
            Line::Event(event) => {
                serde_json::to_writer(&mut out, &event)?;
                out.write_all(b"\n")?;
                if lines.is_empty() {
                    out.flush()?;
                }
            }
            Line::End(done) => {
                out.flush()?;
                let _ = done.send(());
                break;
            }
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tribes::message::{Body, ChannelMessage};
    use tribes::{MemberId, MessageId, SendOptions, Suspicion};

    use super::*;

    fn json(event: &Event) -> String {
        serde_json::to_string(event).unwrap()
    }

    fn member() -> Arc<Member> {
        let id = MemberId::from_bytes(*b"0123456789abcdef");
        let member = Member::new(id, ([127, 0, 0, 1], 4000).into());
        Arc::new(member.with_domain("d").with_payload(&b"\x00\xFF"[..]).with_alive_ms(-3))
    }

    const MEMBER: &str = r#"{"id":"30313233343536373839616263646566","host":"127.0.0.1","port":4000,"domain":"64","payload":"00ff","alive_ms":-3}"#;

    #[test]
    fn members_come_and_go() {
        let local = MemberInfo::of(&member());
        assert_eq!(json(&Event::Ready { local }), format!(r#"{{"event":"ready","local":{MEMBER}}}"#));
        let added = Event::of_member(&MemberEvent::Added(member())).unwrap();
        assert_eq!(json(&added), format!(r#"{{"event":"member_added","member":{MEMBER}}}"#));
        for (why, reason) in [
            (Departure::Shutdown, "shutdown"),
            (Departure::Failed, "failed"),
            (Departure::Expired, "failed"),
            (Departure::Excluded, "failed"),
        ] {
            let removed = Event::of_member(&MemberEvent::Removed(member(), why)).unwrap();
            let expected = format!(r#"{{"event":"member_removed","member":{MEMBER},"reason":"{reason}"}}"#);
            assert_eq!(json(&removed), expected);
        }
        assert!(Event::of_member(&MemberEvent::Removed(member(), Departure::Stopped)).is_none());
        assert!(Event::of_member(&MemberEvent::Suspected(member(), Suspicion::Silent)).is_none());
    }

    #[test]
    fn leaders_come_and_go() {
        let mut leadership = Leadership::default();
        assert_eq!(json(&Event::of_leadership(&leadership)), r#"{"event":"coordinator","view":[]}"#);
        leadership.coordinator = Some(member());
        leadership.view = [member()].into();
        leadership.term = Some(7);
        let id = member().id();
        let expected = format!(r#"{{"event":"coordinator","id":"{id}","view":["{id}"],"term":7}}"#);
        assert_eq!(json(&Event::of_leadership(&leadership)), expected);
    }

    #[test]
    fn a_long_body_is_not_shown() {
        let message = |body: Vec<u8>| {
            Message::new(ChannelMessage {
                options: SendOptions::from_bits_retain(0x8000_0007),
                timestamp_ms: 0,
                id: MessageId::from_bytes(Bytes::from_static(&[1, 2])),
                sender: member(),
                body: Body::new(body),
            })
        };
        let short = json(&Event::of_message(&message(b"abc".to_vec()), &member()));
        assert_eq!(
            short,
            r#"{"event":"message","from":"30313233343536373839616263646566","options":2147483655,"id":"0102","len":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","bytes":"616263"}"#
        );
        assert!(json(&Event::of_message(&message(vec![0; 256]), &member())).contains("\"bytes\""));
        let long = json(&Event::of_message(&message(vec![0; 257]), &member()));
        assert!(long.contains(r#""len":257"#) && !long.contains("\"bytes\""), "{long}");
    }

    #[test]
    fn statistics_are_one_object() {
        let text = json(&Event::Stats(Box::new(StatsInfo::of(&ChannelStats::default()))));
        assert!(text.starts_with(r#"{"event":"stats","application":{"name":"","down":{"messages":0,"#), "{text}");
    }

    #[test]
    fn errors_name_their_causes() {
        let source = io::Error::other("no port is free");
        let error = tribes::StartError::Part { part: "receiver", source: source.into() };
        assert_eq!(
            json(&Event::error(&error)),
            r#"{"event":"error","error":"receiver could not start: no port is free"}"#
        );
    }

    #[tokio::test]
    async fn lines_are_written_in_order_and_in_full() {
        let (sender, lines) = mpsc::channel(WAITING);
        let writer = std::thread::spawn(move || {
            let mut out = Vec::new();
            write_lines(lines, &mut out).map(|()| String::from_utf8(out).unwrap())
        });
        let output = Output(sender);
        output.tell(Event::Members { members: vec![] }).await;
        output.tell(Event::Stopped).await;
        output.end().await;
        let text = writer.join().unwrap().unwrap();
        assert_eq!(text, "{\"event\":\"members\",\"members\":[]}\n{\"event\":\"stopped\"}\n");
        output.closed().await;
    }
}
