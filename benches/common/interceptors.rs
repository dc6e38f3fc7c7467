//! The interceptors as they are measured.

use bytes::Bytes;
use tribes::registry::{PartKind, Registry};
use tribes::{Layer, SendOptions};

/// Keys and values, as in a configuration.
pub(crate) type Options = &'static [(&'static str, &'static str)];

/// An interceptor, and messages for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// How it is called in the registry; none for an empty stack.
    pub(crate) name: Option<&'static str>,
    /// What is not as by default, in a few words.
    pub(crate) variant: &'static str,
    options: Options,
    /// Of each message.
    pub(crate) send: SendOptions,
}

const fn row(name: &'static str, variant: &'static str, options: Options) -> Row {
    Row { name: Some(name), variant, options, send: SendOptions::NONE }
}

/// No layer.
pub(crate) const EMPTY: Row = Row { name: None, variant: "", options: &[], send: SendOptions::NONE };

const KEY: (&str, &str) = ("key", "e9e1b0c95b56f85489d29c1b2f843af1c629c47e5d274a8009c405ce9d14bdce");
const RECORDS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/measured.jsonl");

/// Each interceptor with its default settings where it has any. A new one is a line here.
const ROWS: &[Row] = &[
    row("agreed-views", "", &[]),
    row("audit", "", &[("path", RECORDS)]),
    row("chaos", "doing nothing", &[]),
    row("compress", "lz4", &[]),
    row("compress", "zstd", &[("algorithm", "zstd")]),
    row("coordinator", "", &[]),
    row("dedup", "", &[]),
    row("domain-filter", "", &[]),
    row("encrypt", "", &[KEY]),
    row("encrypt", "authenticated", &[KEY, ("mode", "authenticated")]),
    row("fragmentation", "whole", &[]),
    row("fragmentation", "of 1 KiB", &[("max_size", "1KiB")]),
    row("gzip", "", &[]),
    row("message-dispatch", "", &[]),
    Row { send: SendOptions::ASYNC, ..row("message-dispatch", "async", &[]) },
    row("order", "", &[]),
    row("rate-limit", "", &[("messages_per_s", "1000000000")]),
    row("simple-coordinator", "", &[]),
    row("static-members", "", &[]),
    row("tcp-failure-detector", "", &[]),
    row("tcp-ping", "", &[]),
    row("throughput", "", &[]),
    row("trace", "", &[]),
    row("two-phase-commit", "", &[]),
];

/// Those that are linked.
///
/// # Panics
/// One is linked that has no line.
pub(crate) fn rows() -> Vec<Row> {
    let linked: Vec<_> = Registry::list(PartKind::Interceptor).iter().map(|part| part.name).collect();
    for name in &linked {
        assert!(ROWS.iter().any(|row| row.name == Some(name)), "the interceptor {name} has no line in ROWS");
    }
    let is_linked = |name: Option<&str>| name.is_some_and(|name| linked.contains(&name));
    ROWS.iter().copied().filter(|row| is_linked(row.name)).collect()
}

impl Row {
    /// No layer, or a new one.
    pub(crate) fn layer(&self) -> Option<Layer> {
        self.name.map(|name| Registry::interceptor(name, self.options.iter().copied()).expect("its options are right"))
    }

    /// How a table calls it.
    pub(crate) fn title(&self) -> String {
        match (self.name, self.variant) {
            (None, _) => "no layer".to_owned(),
            (Some(name), "") => name.to_owned(),
            (Some(name), variant) => format!("{name}, {variant}"),
        }
    }
}

/// A body of `len` bytes that packs to about a half, as records and pages do: chance and what repeats, by turns.
pub(crate) fn mixed(len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut state = 1_u64;
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend((state >> 16).to_be_bytes());
        bytes.extend(b"\"name\":\"");
    }
    bytes.truncate(len);
    bytes.into()
}
