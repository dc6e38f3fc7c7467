//! `tribes load report`: it runs members by itself, and leaves files and no processes behind.

#![cfg(all(unix, feature = "report"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]
#![allow(clippy::disallowed_methods, reason = "it watches real processes, by the real clock")]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{self, Program};
use serde_json::{Value, json};

/// Where cargo lets tests write; emptied first.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

/// A report of one payload and one receiver, with these arguments besides.
fn arguments<'a>(folder: &'a Path, others: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["load", "report", "--quick", "--warmup", "0.05", "--payloads", "100", "--receivers", "1", "--out"];
    [&fixed[..], &[folder.to_str().unwrap()], others].concat()
}

#[test]
fn a_quick_report_has_tables_and_plots() {
    let folder = folder("report");
    let run = common::tribes(&arguments(&folder, &["--seconds", "0.2", "--options", "async,ack"]))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{told}");
    // Lines for each run, as this is no terminal.
    assert_eq!(told.lines().filter(|line| line.contains("/4] tribes: ")).count(), 4, "{told}");
    assert!(!told.contains('\x1b'), "{told}");

    let report = report(&folder);
    assert_eq!((&report["whole"], &report["repetitions"]), (&json!(true), &json!(1)));
    assert!(report["command"].as_str().unwrap().contains("load report --quick"), "{}", report["command"]);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    let results: Vec<&Value> = report["results"].as_array().unwrap().iter().map(|all| &all[0]).collect();
    assert_eq!(results.len(), 4);
    for result in results {
        let (figure, sane) = match result["mode"].as_str().unwrap() {
            "flood" => ("msgs_per_s", 100.0..1e8),
            "pingpong" => ("rtt_p50_us", 1.0..1e6),
            other => panic!("{other}"),
        };
        assert!(sane.contains(&result[figure][0].as_f64().unwrap()), "{result}");
        assert_eq!(
            (&result["payload"], &result["receivers"], &result["failures"]),
            (&json!(100), &json!(1), &json!([]))
        );
        let run = &result["runs"][0];
        assert_eq!((&run["lost"], &run["errors"], &run["complete"]), (&json!(0), &json!(0), &json!(true)), "{result}");
    }

    let page = fs::read_to_string(folder.join("report.md")).unwrap();
    for expected in ["## Flood, one sender to 1 receiver", "| 100 B | async | ", "## Ping-pong", "](latency-1.svg)"] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    for plot in ["throughput-1", "latency-1", "scaling"] {
        let svg = fs::read_to_string(folder.join(format!("{plot}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("async"), "{plot}");
        let file = File::open(folder.join(format!("{plot}.png"))).unwrap();
        let mut picture = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
        let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
        picture.next_frame(&mut pixels).unwrap();
        // Letters are drawn: there is more than lines.
        assert!(pixels.iter().filter(|value| **value < 128).count() > 2_000, "{plot}");
    }
}

#[test]
fn others_are_compared_and_failures_are_named() {
    let folder = folder("report-against");
    let twin = format!("twin='{}' load", env!("CARGO_BIN_EXE_tribes"));
    let broken = "broken=sh -c 'echo out of paper >&2; exit 7'";
    let others = ["--seconds", "0.1", "--options", "async", "--against", &twin, "--against", broken];
    let run =
        common::tribes(&arguments(&folder, &others)).stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{told}");
    let named =
        "broken: flood, async, 100 B to 1 receiver: FAILED: receiver 1 ended early; its last words: out of paper";
    assert!(told.contains(named), "{told}");

    let report = report(&folder);
    for result in report["results"].as_array().unwrap() {
        assert_eq!((&result[1]["contestant"], &result[1]["failures"]), (&json!("twin"), &json!([])), "{result}");
        let kind = if result[0]["mode"] == "flood" { "ratio_of_rates" } else { "ratio_of_round_trips" };
        assert!((0.001..1000.0).contains(&result[1][kind].as_f64().unwrap()), "{result}");
        assert_eq!(result[2]["runs"], json!([]), "{result}");
        assert!(result[2]["failures"][0].as_str().unwrap().contains("out of paper"), "{result}");
    }
    let page = fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(page.contains("tribes ÷ it") && page.contains("## What went wrong"), "{page}");
}

#[test]
fn an_interrupt_ends_all_members_and_writes_what_is_known() {
    let folder = folder("report-interrupted");
    let mark = folder.join("running").to_str().unwrap().to_owned();
    // Never ready, and it does not listen; says that it runs, and its process.
    let deaf = format!("deaf=sh -c 'echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 3600'");
    let mut program =
        Program::start(&arguments(&folder, &["--seconds", "0.1", "--options", "async", "--against", &deaf]));
    let deadline = std::time::Instant::now() + common::LIMIT;
    while !Path::new(&mark).exists() {
        assert!(std::time::Instant::now() < deadline, "the other program is not started");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let member = fs::read_to_string(&mark).unwrap();
    program.interrupt();
    assert_eq!(program.finish().code(), Some(130));
    assert!(program.seen.iter().any(|(_, line)| line.contains("incomplete")), "{:#?}", program.seen);
    let gone = Command::new("kill").args(["-0", member.trim()]).stderr(Stdio::null()).status().unwrap();
    // If it is still there, it is dead and waits to be collected.
    assert!(!gone.success() || state(member.trim()) == "Z", "process {member} is left");

    let report = report(&folder);
    assert_eq!(report["whole"], json!(false));
    assert_eq!(report["results"][0][0]["runs"].as_array().unwrap().len(), 1);
    assert_eq!(report["results"][0][1]["runs"], json!([]));
}

/// The state of a process, as `ps` calls it; empty if there is none.
fn state(process: &str) -> String {
    let told = Command::new("ps").args(["-o", "stat=", "-p", process]).output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().chars().take(1).collect()
}
