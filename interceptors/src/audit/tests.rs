use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tribes_core::message::ChannelMessage;
use tribes_core::settings::Settings as _;
use tribes_core::{Body, FaultKind, Inbound, Lease, MessageId, Receipt, Route, SendOptions};

use super::core::{Event, Fill};
use super::file::Log;
use super::writer::{Counters, Tap, Writer, write_all};
use super::{Audit, AuditConfig};
use crate::testing::{World, Written, member};

/// A folder of its own for each test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tribes-audit-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    /// The files, youngest first.
    fn files(&self) -> Vec<PathBuf> {
        let file = self.file();
        let older = (1..).map(|number| file.with_extension(format!("jsonl.{number}")));
        std::iter::once(file.clone()).chain(older).take_while(|path| path.exists()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter(|line| line["event"] != "lost").map(|line| line["n"].as_u64().unwrap()).collect()
}

fn config(folder: &Folder) -> AuditConfig {
    AuditConfig::default().with_path(folder.file())
}

/// A record with a text that JSON has to escape.
fn failure(number: u64) -> Event {
    Event::Failed {
        id: MessageId::from_array([9; 16]),
        to: member(3),
        why: FaultKind::RemoteFailure(Some(format!("{number}: \"quoted\"\n\u{0}\u{1F600}"))),
    }
}

#[test]
fn files_are_rotated_before_they_are_too_large() {
    let fill = Fill { size: 4000, max: 4096 };
    assert!(!fill.must_rotate(96));
    assert!(fill.must_rotate(97));
    assert!(fill.must_rotate(u64::MAX));
    assert!(!Fill { size: 0, max: 4096 }.must_rotate(5000));
}

#[test]
fn each_line_is_whole_and_the_oldest_file_goes() {
    let folder = Folder::new();
    let counters = Arc::new(Counters::default());
    let (tap, records) = Tap::new(2000, Arc::clone(&counters));
    (0..1000).for_each(|number| tap.record(7, failure(number)));
    drop(tap);
    write_all(&records, Log::open(&folder.file(), 4096, 3).unwrap(), &counters);
    let files = folder.files();
    assert_eq!(files.len(), 4);
    let mut all: Vec<u64> = Vec::new();
    for file in files.iter().rev() {
        assert!(file.metadata().unwrap().len() <= 4096);
        let lines = lines(file);
        assert_eq!(lines[0]["why"].as_str().map(|why| why.contains("\"quoted\"\n\u{0}\u{1F600}")), Some(true));
        all.extend(numbers(&lines));
    }
    let first = all[0];
    assert!(all.len() > 30 && all.iter().copied().eq(first..1000), "{all:?}");
    assert_eq!(counters.written.load(Ordering::Relaxed), 1000);
    assert!(counters.rotations.load(Ordering::Relaxed) > 20);
}

#[test]
fn what_a_full_queue_loses_is_counted_and_written_down() {
    let folder = Folder::new();
    let counters = Arc::new(Counters::default());
    let (tap, records) = Tap::new(16, Arc::clone(&counters));
    // Nobody writes yet: whoever records must not wait for that.
    (0..40).for_each(|number| tap.record(7, failure(number)));
    assert_eq!(counters.lost.load(Ordering::Relaxed), 24);
    let log = Log::open(&folder.file(), 1 << 20, 1).unwrap();
    let writer = Writer::spawn(records, log, Arc::clone(&counters)).unwrap();
    // As soon as there is room again.
    while counters.written.load(Ordering::Relaxed) < 16 {
        std::thread::yield_now();
    }
    tap.record(8, failure(40));
    drop(tap);
    assert!(writer.join(std::time::Duration::from_secs(60)));
    let lines = lines(&folder.file());
    let lost: u64 =
        lines.iter().filter(|line| line["event"] == "lost").map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(numbers(&lines), (0..16).chain([40]).collect::<Vec<_>>());
    assert_eq!(lost, 24);
}

#[test]
fn a_loss_at_the_very_end_is_written_down_too() {
    let folder = Folder::new();
    let counters = Arc::new(Counters::default());
    counters.lost.store(1000, Ordering::Relaxed);
    let (tap, records) = Tap::new(16, Arc::clone(&counters));
    (0..16).for_each(|number| tap.record(7, failure(number)));
    let mut log = Some(Log::open(&folder.file(), 1 << 20, 1).unwrap());
    for number in 16..20 {
        tap.record(7, failure(number));
    }
    drop(tap);
    write_all(&records, log.take().unwrap(), &counters);
    let lines = lines(&folder.file());
    assert_eq!((lines.len(), numbers(&lines)), (17, (0..16).collect()));
    assert_eq!(lines.iter().filter_map(|line| line["count"].as_u64()).sum::<u64>(), 4);
}

#[test]
fn a_torn_line_is_ended_and_a_file_is_continued() {
    let folder = Folder::new();
    std::fs::write(folder.file(), b"{\"n\":1}\n{\"n\":2,\"ev").unwrap();
    let mut log = Log::open(&folder.file(), 1 << 20, 1).unwrap();
    log.append(b"{\"n\":3}\n").unwrap();
    drop(log);
    let mut log = Log::open(&folder.file(), 1 << 20, 1).unwrap();
    log.append(b"{\"n\":4}\n").unwrap();
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert_eq!(text, "{\"n\":1}\n{\"n\":2,\"ev\n{\"n\":3}\n{\"n\":4}\n");
}

#[test]
fn what_the_disk_refuses_is_counted_and_later_records_are_tried_anew() {
    let folder = Folder::new();
    let sub = folder.0.join("sub");
    std::fs::create_dir(&sub).unwrap();
    let path = sub.join("audit.jsonl");
    let mut log = Log::open(&path, 4096, 1).unwrap();
    log.append(&[b'\n'; 4096]).unwrap();
    // It cannot be rotated, nor opened again.
    std::fs::remove_dir_all(&sub).unwrap();
    assert!(log.append(b"x\n").is_err());
    assert!(log.append(b"x\n").is_err());
    std::fs::create_dir(&sub).unwrap();
    log.append(b"y\n").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"y\n");
}

#[test]
fn a_file_that_cannot_be_rotated_goes_on_and_does_not_fill_the_other_log() {
    let (folder, told) = (Folder::new(), Written::default());
    let in_the_way = folder.0.join("audit.jsonl.1");
    std::fs::create_dir_all(in_the_way.join("not empty")).unwrap();
    let writer = told.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut log = Log::open(&folder.file(), 10, 1).unwrap();
        let append = |log: &mut Log, times| (0..times).for_each(|_| log.append(b"\"a line\"\n").unwrap());
        append(&mut log, 1001);
        std::fs::remove_dir_all(&in_the_way).unwrap();
        append(&mut log, 2);
        assert_eq!((log.rotations, lines(&in_the_way).len(), lines(&folder.file()).len()), (2, 1, 1));
    });
    let told = told.text();
    assert_eq!(told.matches("cannot be rotated").count(), 10, "{told}");
}

#[test]
fn options_from_text() {
    let mut config = AuditConfig::default();
    for (key, value) in [("path", "/x/y"), ("max_size", "1MiB"), ("files", "9"), ("queue", "100"), ("body", "1KiB")] {
        config.set(key, value).unwrap();
    }
    let expected =
        AuditConfig::default().with_path("/x/y").with_max_size(1 << 20).with_files(9).with_queue(100).with_body(1024);
    assert_eq!(config, expected);
    for (key, wrong) in [
        ("path", ""),
        ("max_size", "4095"),
        ("files", "0"),
        ("files", "1001"),
        ("queue", "15"),
        ("body", "1025"),
        ("size", "1"),
    ] {
        assert!(config.set(key, wrong).is_err(), "{key}={wrong}");
    }
    assert_eq!(config, expected);
    assert!(config.validate().is_ok());
    assert!(config.with_queue(0).validate().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_sent_what_to_whom() {
    let folder = Folder::new();
    let layer = Arc::new(Audit::new(config(&folder).with_body(3)));
    let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
    world.wire.faults.lock().unwrap().insert(2, FaultKind::QueueFull);
    let error = world.channel.send(&[member(1), member(2)][..], "hello", SendOptions::ACK).await.unwrap_err();
    let mut body = Body::new("h");
    body.push_trailer("ello");
    let message = ChannelMessage {
        options: SendOptions::BYTE_MESSAGE,
        timestamp_ms: 0,
        id: MessageId::from_array([0xAB; 16]),
        sender: member(7),
        body,
    };
    world.below.link().receive(Inbound::new(message, Receipt::none(), Lease::none(), Route::Stream)).await.unwrap();
    let local = world.channel.local();
    world.channel.stop().await;
    let lines = lines(&folder.file());
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "sent", "failed", "received", "stopped"]);
    assert_eq!(numbers(&lines), [0, 1, 2, 3, 4]);
    let (sent, failed, received) = (&lines[1], &lines[2], &lines[3]);
    assert_eq!(sent["from"]["id"], local.id().to_string());
    assert_eq!((&sent["to"][0]["addr"], &sent["to"][1]["addr"]), (&"127.0.0.1:1".into(), &"127.0.0.1:2".into()));
    assert_eq!(
        (&sent["bytes"], &sent["head"], &sent["options"]),
        (&5.into(), &"68656c".into(), &"use_ack, byte".into())
    );
    assert!(sent["at_ms"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!((&failed["id"], &failed["to"][0]["addr"]), (&sent["id"], &"127.0.0.1:2".into()));
    assert!(error.to_string().contains(failed["why"].as_str().unwrap()));
    assert_eq!((&received["id"], &received["from"]["addr"]), (&"ab".repeat(16).into(), &"127.0.0.1:7".into()));
    assert_eq!((&received["to"][0]["id"], &received["head"]), (&local.id().to_string().into(), &"68656c".into()));
    assert_eq!((world.gauge("written"), world.gauge("lost"), world.gauge("unwritten")), (5, 0, 0));
    // A second run continues the file.
    world.channel.start().await.unwrap();
    world.channel.stop().await;
    assert_eq!(self::lines(&folder.file()).len(), 7);
}

#[tokio::test(start_paused = true)]
async fn without_its_file_the_channel_does_not_start() {
    let folder = Folder::new();
    let channel = tribes_testkit::Recorder::new()
        .install(tribes_core::Channel::builder())
        .interceptor(Audit::new(AuditConfig::default().with_path(folder.0.join("no/such/folder"))))
        .build()
        .unwrap();
    let error = channel.start().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no/such/folder"), "{source}");
}
