//! What is recorded, how it is written as a line, and when a file is full. No I/O.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tribes_core::{FaultKind, Member, MessageId, SendOptions};

/// One record.
#[derive(Debug)]
pub(super) struct Record {
    /// Counts the records since the start, those that are lost included.
    pub(super) number: u64,
    pub(super) at_ms: i64,
    pub(super) event: Event,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Started(Arc<Member>),
    Sent { to: Vec<Arc<Member>>, message: Message },
    Received { to: Option<Arc<Member>>, message: Message },
    Failed { id: MessageId, to: Arc<Member>, why: FaultKind },
    Stopped,
}

/// What is recorded of a message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) from: Arc<Member>,
    pub(super) options: SendOptions,
    pub(super) bytes: usize,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
}

/// A line of the file; fields without a value are left out.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    n: u64,
    at_ms: i64,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    id: Option<&'a MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Who<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Vec<Who<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    options: Option<SendOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    why: Option<&'a FaultKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// A member.
#[derive(Debug, Serialize)]
struct Who<'a> {
    #[serde(serialize_with = "display")]
    addr: &'a Member,
    #[serde(serialize_with = "display")]
    id: tribes_core::MemberId,
}

impl<'a> Who<'a> {
    fn new(member: &'a Member) -> Self {
        Self { addr: member, id: member.id() }
    }
}

fn display<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn text<T: std::fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn hex(bytes: &[u8]) -> Option<String> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    (!bytes.is_empty()).then_some(text)
}

impl Record {
    /// Appends it to `lines` as a line of JSON.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        let empty = Line { n: self.number, at_ms: self.at_ms, ..Line::default() };
        let of = |event, message: &'_ Message, to: Vec<&'_ Arc<Member>>| {
            let mut line = Vec::new();
            append(
                &Line {
                    event,
                    id: Some(&message.id),
                    from: Some(Who::new(&message.from)),
                    to: Some(to.into_iter().map(|member| Who::new(member)).collect()),
                    options: Some(message.options),
                    bytes: Some(message.bytes),
                    head: hex(&message.head),
                    n: self.number,
                    at_ms: self.at_ms,
                    ..Line::default()
                },
                &mut line,
            );
            line
        };
        match &self.event {
            Event::Sent { to, message } => lines.extend(of("sent", message, to.iter().collect())),
            Event::Received { to, message } => lines.extend(of("received", message, to.iter().collect())),
            Event::Failed { id, to, why } => {
                let (id, to, why) = (Some(id), Some(vec![Who::new(to)]), Some(why));
                append(&Line { event: "failed", id, to, why, ..empty }, lines);
            }
            Event::Started(member) => append(&Line { event: "started", from: Some(Who::new(member)), ..empty }, lines),
            Event::Stopped => append(&Line { event: "stopped", ..empty }, lines),
        }
    }

    /// Appends that `count` records before this one are missing.
    pub(super) fn write_lost(&self, count: u64, lines: &mut Vec<u8>) {
        let line = Line { n: self.number, at_ms: self.at_ms, event: "lost", count: Some(count), ..Line::default() };
        append(&line, lines);
    }
}

fn append(line: &Line<'_>, lines: &mut Vec<u8>) {
    let before = lines.len();
    // Writing to memory does not fail, and a text is always JSON; should it fail, there is no half line.
    if serde_json::to_writer(&mut *lines, line).is_ok() {
        lines.push(b'\n');
    } else {
        lines.truncate(before);
    }
}

/// How large the file is, and may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) size: u64,
    pub(super) max: u64,
}

impl Fill {
    /// Whether the file must be rotated before `more` bytes are added. A line that alone is larger than a file gets one.
    pub(super) const fn must_rotate(self, more: u64) -> bool {
        self.size > 0 && self.size.saturating_add(more) > self.max
    }
}
