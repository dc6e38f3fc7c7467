//! How fast a large file comes to one, two and three members over loopback, beside `rsync` doing the same.
//!
//! ```text
//! cargo bench -p tribes-farm --bench throughput            200 MB, 5 rounds
//! cargo bench -p tribes-farm --bench throughput -- 50 3    50 MB, 3 rounds
//! cargo bench -p tribes-farm --bench throughput --features blake3
//! ```
//!
//! The farm: members of one process, over TCP, from the call that publishes until the file is live with all, twice hashed (each
//! chunk, and the whole), synced and renamed. `rsync`: a daemon and one client for each copy, all at the same time, whole files
//! (`-W`), with and without `--fsync`. The order changes from round to round. Needs `rsync` 3.2.4, and Linux.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a bench")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures, and tells")]
#![allow(unreachable_pub, dead_code, reason = "shared with the tests")]

#[path = "../tests/all/common.rs"]
mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Folders, Group, bytes};
use tribes_farm::{Activated, Algorithm, Farm, Trust};

#[cfg(not(feature = "blake3"))]
const CONTESTANTS: [&str; 3] = ["farm", "rsync", "rsync --fsync"];
#[cfg(feature = "blake3")]
const CONTESTANTS: [&str; 4] = ["farm", "farm, BLAKE3", "rsync", "rsync --fsync"];

fn main() {
    // Cargo adds --bench.
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let size = numbers.first().copied().unwrap_or(200) * 1_000_000;
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let folder = tempfile::tempdir().unwrap();
    let rsync = Daemon::start(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut times = BTreeMap::<(usize, &str), Vec<(Duration, f64)>>::new();
    for round in 0..rounds {
        // Another content each time: whoever has it already would fetch nothing.
        std::fs::write(folder.path().join("source/file"), bytes(size, round as u64 + 1)).unwrap();
        for nodes in 1..=3 {
            let mut turn = CONTESTANTS.to_vec();
            turn.rotate_left(round % CONTESTANTS.len());
            for what in turn {
                settle();
                let (file, before) = (folder.path().join("source/file"), used(rsync.process.id()));
                let took = match what {
                    "farm" => runtime.block_on(farm(nodes, &file, Algorithm::Sha256)),
                    "farm, BLAKE3" => runtime.block_on(farm(nodes, &file, Algorithm::Blake3)),
                    "rsync" => rsync.copy(nodes, &[], size),
                    _ => rsync.copy(nodes, &["--fsync"], size),
                };
                let cpu = used(rsync.process.id()) - before;
                times.entry((nodes, what)).or_default().push((took, cpu));
            }
        }
    }
    println!(
        "{} MB, median of {rounds} (lowest to highest), and bytes a second that arrived, all members together:",
        size / 1_000_000
    );
    for nodes in 1..=3 {
        let mut median = BTreeMap::new();
        for what in CONTESTANTS {
            let times = times.get_mut(&(nodes, what)).unwrap();
            times.sort_by_key(|(took, _)| *took);
            let (low, mid, high) = (times[0].0, times[times.len() / 2].0, times[times.len() - 1].0);
            let mut cpu: Vec<f64> = times.iter().map(|(_, cpu)| *cpu).collect();
            cpu.sort_by(f64::total_cmp);
            let cpu = cpu[cpu.len() / 2];
            let rate = (nodes * size) as f64 / mid.as_secs_f64() / 1e6;
            println!("{nodes} to: {what:14} {mid:8.3?} ({low:.3?} to {high:.3?})  {rate:6.0} MB/s  {cpu:.2} s of CPU");
            median.insert(what, (mid.as_secs_f64(), cpu));
        }
        let (farm, rsync) = (median["farm"], median["rsync --fsync"]);
        println!(
            "      the farm takes {:.2} of the time of rsync --fsync, {:.2} of its CPU",
            farm.0 / rsync.0,
            farm.1 / rsync.1
        );
    }
}

/// Seconds of CPU that this process, the daemon, and all that they started and that has ended have used. Other than the time, that
/// says something on a machine that is busy with other things, too. Linux has it in hundredths of a second.
fn used(daemon: u32) -> f64 {
    let of = |process: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        fields.skip(11).take(4).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
    };
    (of("self") + of(&daemon.to_string())) / 100.0
}

/// What was written before is on disk before the next is measured.
fn settle() {
    assert!(Command::new("sync").status().unwrap().success());
}

async fn farm(nodes: usize, file: &Path, algorithm: Algorithm) -> Duration {
    let group = Group::of(nodes + 1).await;
    let mut farms = Vec::new();
    for at in 0..=nodes {
        let folders = Folders::new();
        let builder = Farm::builder(group.channel(at), "bench").staging(folders.of("staging"));
        let builder = builder.trust(Trust::Cluster).algorithm(algorithm);
        let builder = if at == 0 { builder } else { builder.live(folders.of("live")) };
        farms.push((folders, builder.start().await.unwrap()));
    }
    for (_, farm) in &farms {
        farm.ready().await;
        farm.changed(|farm| farm.receivers() == nodes).await;
    }
    let begun = Instant::now();
    let published = farms[0].1.publish_file("file", file).await.unwrap();
    let report = published.wait(Activated::Everywhere).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(report.nodes.len(), nodes);
    let content = std::fs::read(file).unwrap();
    for (folders, _) in &farms[1..] {
        assert!(folders.read("file").as_ref() == Some(&content), "bit by bit");
    }
    for at in 0..=nodes {
        group.channel(at).stop().await;
    }
    took
}

/// An rsync daemon on a free port.
struct Daemon {
    process: Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        std::fs::create_dir(folder.join("source")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("rsyncd.conf");
        let source = folder.join("source");
        std::fs::write(&config, format!("use chroot = no\n[files]\npath = {}\nread only = yes\n", source.display()))
            .unwrap();
        let config = format!("--config={}", config.display());
        let process = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}"), &config])
            .stdin(Stdio::null())
            .spawn()
            .expect("rsync is installed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).and_then(|mut greeted| greeted.read(&mut [0])).is_err() {
            assert!(Instant::now() < deadline, "the rsync daemon does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port, folder: folder.to_owned() }
    }

    fn copy(&self, nodes: usize, more: &[&str], size: usize) -> Duration {
        let targets: Vec<_> = (0..nodes).map(|node| self.folder.join(format!("copy-{node}"))).collect();
        let begun = Instant::now();
        let clients: Vec<Child> = targets
            .iter()
            .map(|target| {
                let source = format!("rsync://127.0.0.1:{}/files/file", self.port);
                Command::new("rsync").arg("-W").args(more).arg(source).arg(target).spawn().unwrap()
            })
            .collect();
        for mut client in clients {
            assert!(client.wait().unwrap().success());
        }
        let took = begun.elapsed();
        for target in targets {
            assert_eq!(std::fs::metadata(&target).unwrap().len(), size as u64);
            std::fs::remove_file(target).unwrap();
        }
        took
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
