//! Every interceptor of ours passes the conformance suite, alone and between all others. `TRIBES_SEEDS=200`, as the gate runs
//! it, takes some minutes; see `tribes_testkit::suite` for the variables.

#![cfg(feature = "full")]
#![allow(clippy::panic, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tribes_core::SendOptions;
use tribes_interceptors::encrypt::{Key, Mode};
use tribes_interceptors::*;
use tribes_testkit::conformance;
use tribes_testkit::suite::Profile;

/// Nothing declared; every layer of ours as a neighbour. A new layer is one line here, and one below.
fn ours() -> Profile {
    Profile::default()
        .between("agreed-views", AgreedViews::default)
        .between("audit", audit())
        .between("chaos", Chaos::default)
        .between("compress", Compress::default)
        .between("coordinator", Coordinator::default)
        .between("dedup", Dedup::default)
        .between("domain-filter", DomainFilter::default)
        .between("encrypt", encrypt)
        .between("fragmentation", Fragmentation::default)
        .between("gzip", Gzip::default)
        .between("message-dispatch", MessageDispatch::default)
        .between("order", Order::default)
        .between("rate-limit", || RateLimit::new(RateLimitConfig::default().with_messages_per_s(1_000_000)))
        .between("simple-coordinator", SimpleCoordinator::default)
        .between("static-members", StaticMembers::default)
        .between("tcp-failure-detector", TcpFailureDetector::default)
        .between("tcp-ping", TcpPing::default)
        .between("throughput", Throughput::default)
        .between("trace", Trace::default)
        .between("two-phase-commit", TwoPhaseCommit::default)
        // Pieces share the id of their message: below, all but the first would be duplicates.
        .stands_above("dedup", "fragmentation")
}

conformance!(agreed_views, AgreedViews::default, ours());
conformance!(audit_records, audit(), ours().levels(["unwritten"]));
conformance!(chaos, Chaos::default, ours().levels(["held"]));
conformance!(
    chaos_delay,
    || Chaos::new(chaotic().with_delay(0.5, Duration::ZERO, MS * 30)),
    ours().delays().levels(["held"])
);
conformance!(chaos_loss, || Chaos::new(chaotic().with_loss(0.05)), ours().drops().levels(["held"]));
conformance!(chaos_doubles, || Chaos::new(chaotic().with_duplicate(0.1)), ours().duplicates().levels(["held"]));
conformance!(
    chaos_reorders,
    || Chaos::new(chaotic().with_reorder(0.3, MS * 20)),
    ours().reorders().delays().levels(["held"])
);
conformance!(
    compress_lz4,
    Compress::default,
    ours().marks_all().changes_options(SendOptions::COMPRESSED).levels(["held_bytes"])
);
conformance!(compress_zstd, zstd, ours().marks_all().changes_options(SendOptions::COMPRESSED).levels(["held_bytes"]));
// Where room for unpacked bodies is short, all is as it was, only later.
conformance!(
    compress_narrow,
    || Compress::new(CompressConfig::default().with_max_size(200_000).with_max_memory(200_000)),
    ours().marks_all().changes_options(SendOptions::COMPRESSED).levels(["held_bytes"])
);
conformance!(coordinator, Coordinator::default, ours());
conformance!(dedup, Dedup::default, ours());
conformance!(domain_filter, DomainFilter::default, ours().levels(["foreign_members"]));
conformance!(
    domain_filter_of_another,
    || DomainFilter::new(DomainFilterConfig::default().with_domain("a")),
    Profile::default().channel(|builder| builder.domain("a"))
);
conformance!(encrypt_tribes, encrypt, ours());
conformance!(encrypt_authenticated, authenticated, ours());
conformance!(
    fragmentation,
    Fragmentation::default,
    ours().marks_all().levels(["incomplete_messages", "incomplete_bytes", "unhandled_bytes"])
);
conformance!(
    fragmentation_of_all,
    || Fragmentation::new(FragmentationConfig::default().with_max_size(700)),
    ours().marks_all().levels(["incomplete_messages", "incomplete_bytes", "unhandled_bytes"])
);
conformance!(gzip, Gzip::default, ours().marks_all().changes_options(SendOptions::GZIP).levels(["held_bytes"]));
// Where room for unpacked bodies is short, all is as it was, only later.
conformance!(
    gzip_narrow,
    || Gzip::new(GzipConfig::default().with_max_size(200_000).with_max_memory(200_000)),
    ours().marks_all().changes_options(SendOptions::GZIP).levels(["held_bytes"])
);
conformance!(message_dispatch, MessageDispatch::default, ours().levels(["queued_messages", "queued_bytes"]));
conformance!(order, Order::default, ours().remembers(1024).levels(["waiting_messages", "held_bytes"]));
conformance!(
    order_of_some,
    || Order::new(OrderConfig::default().with_trigger(SendOptions::from_bits_retain(0x200))),
    ours().remembers(1024).levels(["waiting_messages", "held_bytes"])
);
conformance!(
    rate_limit,
    || RateLimit::new(RateLimitConfig::default().with_messages_per_s(1_000_000)),
    ours().levels(["waiting"])
);
conformance!(
    rate_limit_reached,
    || RateLimit::new(RateLimitConfig::default().with_messages_per_s(200).with_burst_messages(3)),
    ours().delays().levels(["waiting"])
);
conformance!(simple_coordinator, SimpleCoordinator::default, ours());
conformance!(static_members, StaticMembers::default, ours());
// A suspicion that a probe refutes is not passed on.
conformance!(tcp_failure_detector, TcpFailureDetector::default, ours().swallows_members());
conformance!(tcp_ping, TcpPing::default, ours());
conformance!(throughput, Throughput::default, ours());
conformance!(trace, Trace::default, ours());
// Its messages reach all destinations or none.
conformance!(
    two_phase_commit,
    TwoPhaseCommit::default,
    ours().agrees().levels(["open_messages", "parked_messages", "held_bytes"])
);

const MS: Duration = Duration::from_millis(1);

fn chaotic() -> ChaosConfig {
    ChaosConfig::default().with_seed(7)
}

fn zstd() -> Compress {
    Compress::new(CompressConfig::default().with_algorithm(Algorithm::Zstd))
}

fn encrypt() -> Encrypt {
    Encrypt::new(EncryptConfig::default().with_keys([key()]))
}

fn authenticated() -> Encrypt {
    Encrypt::new(EncryptConfig::default().with_keys([key()]).with_mode(Mode::Authenticated))
}

fn key() -> Key {
    Key::from_bytes(&[7; 16]).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder in the one that cargo has for tests, gone with the factory.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Few files, shared by many: they are appended to only.
fn audit() -> impl Fn() -> Audit + Send + Sync + 'static {
    static FOLDERS: AtomicU64 = AtomicU64::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("audit-{}-{number}", std::process::id()));
    let (folder, files) = (Folder(path), AtomicU64::new(0));
    move || {
        // Only one that is used is made.
        let made = std::fs::create_dir_all(&folder.0);
        let number = files.fetch_add(1, Ordering::Relaxed) % 8;
        let path = folder.0.join(format!("{number}.jsonl"));
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Audit::new(AuditConfig::default().with_path(path).with_body(10))
    }
}
