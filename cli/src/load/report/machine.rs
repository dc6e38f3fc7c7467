//! The machine: what it is, and how much of it other programs take meanwhile.

use std::fs;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Serialize;
use tribes::{Env, Time};

/// What figures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory: String,
    pub(super) kernel: String,
    /// The compiler of this program, and how it was used.
    pub(super) rustc: &'static str,
    pub(super) optimised: bool,
}

impl Machine {
    /// This one. What it does not tell is "unknown".
    pub(super) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kernel =
            format!("{} {}", read("/proc/sys/kernel/ostype").trim(), read("/proc/sys/kernel/osrelease").trim());
        let known = |text: &str| match text.trim() {
            "" => "unknown".to_owned(),
            text => text.to_owned(),
        };
        Self {
            processor: known(entry(&processors, "model name").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: known(&entry(&memory, "MemTotal").and_then(gib).unwrap_or_default()),
            kernel: known(if kernel.trim().is_empty() { std::env::consts::OS } else { &kernel }),
            rustc: env!("TRIBES_RUSTC"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The value of the first line `key: value`.
fn entry<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut entries = text.lines().filter_map(|line| line.split_once(':'));
    entries.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// `N kB` in larger units.
fn gib(kilobytes: &str) -> Option<String> {
    let kilobytes: f64 = kilobytes.strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.0} GiB", kilobytes / f64::from(1 << 20)))
}

/// The largest resident memory that process `id` has had, in MiB.
pub(super) fn peak_memory_mib(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let kilobytes: f64 = entry(&status, "VmHWM")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// Tells which share of the machine other programs took since it was started.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Time,
    all: Option<Ticks>,
    own_seconds: f64,
}

impl Meter {
    pub(super) fn start(env: &Env) -> Self {
        Self { begun: env.now(), all: Ticks::now(), own_seconds: own_seconds() }
    }

    /// The share, 0 to 1. Only children that have ended, and have been waited for, count as our own.
    pub(super) fn foreign(&self, env: &Env) -> Option<f64> {
        let (before, after) = (self.all.as_ref()?, Ticks::now()?);
        let seconds = (env.now() - self.begun).as_secs_f64();
        after.foreign_since(before, (own_seconds() - self.own_seconds) / seconds)
    }
}

/// The first line of `/proc/stat`: what all processors did since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
    processors: u32,
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let is_processor = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
        // user nice system idle iowait irq softirq steal; what follows is contained in user.
        let fields: Vec<u64> =
            stat.strip_prefix("cpu ")?.split_whitespace().map_while(|field| field.parse().ok()).take(8).collect();
        let [_, _, _, idle, waiting, ..] = fields.as_slice() else { return None };
        let all = fields.iter().sum::<u64>();
        let processors = u32::try_from(stat.lines().filter(is_processor).count()).ok()?;
        Some(Self { busy: all - idle - waiting, all, processors })
    }

    /// The share of others, if we have used `own` processors on average.
    fn foreign_since(&self, before: &Self, own: f64) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = self.busy.saturating_sub(before.busy) as f64 / all as f64;
        Some((busy - own / f64::from(self.processors.max(1))).max(0.0))
    }
}

/// Seconds of processor time that this process and those of its children that have ended have used.
fn own_seconds() -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let of = |usage: Usage| seconds(usage.user_time()) + seconds(usage.system_time());
    // Asking about oneself cannot fail.
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(|who| getrusage(who).map_or(0.0, of)).iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  100 0 50 800 40 5 5 0 30 0\ncpu0 50 0 25 400 20 2 3 0 15 0\ncpu1 50 0 25 400 20 3 2 0 15 0\nintr 1\n";

    #[test]
    fn what_others_take_is_all_but_ours() {
        let before = Ticks::parse(STAT).unwrap();
        assert_eq!(before, Ticks { busy: 160, all: 1000, processors: 2 });
        // Half of the machine was busy, that is one processor; three quarters of it were ours.
        let after = Ticks { busy: 260, all: 1200, ..before };
        assert!((after.foreign_since(&before, 0.75).unwrap() - 0.125).abs() < 1e-9);
        assert_eq!(after.foreign_since(&before, 1.5), Some(0.0));
        assert_eq!(before.foreign_since(&before, 0.0), None);
    }

    #[test]
    fn another_form_is_not_known() {
        assert_eq!(Ticks::parse(""), None);
        assert_eq!(Ticks::parse("cpu  1 2 3"), None);
    }

    #[test]
    fn entries_of_the_kernel() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!((entry(text, "model name"), entry(text, "model")), (Some("A: B"), None));
        assert_eq!(gib("25165824 kB"), Some("24 GiB".to_owned()));
    }
}
