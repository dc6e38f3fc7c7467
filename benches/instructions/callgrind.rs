//! Runs this program under callgrind and reads what that counted.

use std::ops::{Div, Sub};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::cases::ONE_ALLOCATION;

/// What operations cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { instructions: self.instructions - other.instructions, allocations: self.allocations - other.allocations }
    }
}

impl Div<f64> for Cost {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { instructions: self.instructions / by, allocations: self.allocations / by }
    }
}

/// The functions of the C library that take memory.
const ALLOCATIONS: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// Has the C library copy and compare memory in the way that every x86-64 processor knows, so that all machines count alike.
const PLAIN_MEMORY: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX2_Usable,-AVX512F,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load";

/// Whether there is a callgrind to run, and it sees what it is to count.
pub(crate) fn check() -> Result<(), String> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Err("valgrind does not run; install it (Debian, Ubuntu: apt-get install valgrind) and call this again"
            .to_owned());
    }
    // Otherwise a C library whose functions have other names would pass for a program that allocates nothing.
    let seen = measure(ONE_ALLOCATION.name, 100)?.allocations;
    if seen != 1.0 {
        return Err(format!(
            "callgrind counts {seen} allocations where there is one: it does not see the C library's malloc"
        ));
    }
    Ok(())
}

/// The cost of one operation of the case called `name`.
pub(crate) fn measure(name: &str, operations: u64) -> Result<Cost, String> {
    measure_args(&["--case", name], operations)
}

/// The cost of one operation of what this program does with these arguments and a number of operations.
pub(crate) fn measure_args(args: &[&str], operations: u64) -> Result<Cost, String> {
    let (once, twice) = std::thread::scope(|scope| {
        let twice = scope.spawn(|| run(args, 2 * operations));
        (run(args, operations), twice.join().expect("it does not panic"))
    });
    Ok((twice? - once?) / operations as f64)
}

/// The cost of a whole process with these arguments.
fn run(args: &[&str], operations: u64) -> Result<Cost, String> {
    let profile = Profile::new(operations);
    let program = std::env::current_exe().map_err(|error| format!("this program's path is unknown: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.0.display()))
        .arg(program)
        .args(args)
        .arg(operations.to_string())
        // The surroundings lie on the stack: they would move everything there.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GLIBC_TUNABLES", PLAIN_MEMORY)
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let name = args.join(" ");
        return Err(format!("{name} under valgrind ends with {}:\n{said}", output.status));
    }
    let text = std::fs::read_to_string(&profile.0)
        .map_err(|error| format!("cannot read callgrind's file {}: {error}", profile.0.display()))?;
    parse(&text)
        .ok_or_else(|| format!("callgrind's file for {} has no totals: is this valgrind too old?", args.join(" ")))
}

/// A file of callgrind's, removed when dropped.
struct Profile(PathBuf);

impl Profile {
    fn new(operations: u64) -> Self {
        let name = format!("instructions-{}-{operations}.callgrind", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Not there if valgrind failed; then that is what is told.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads the format of callgrind's files: `totals: N` says what the program took; `cfn=NAME` and `calls=N …` after it, that a
/// function was called so many times from some place.
fn parse(text: &str) -> Option<Cost> {
    let mut instructions = None;
    let mut allocations = 0;
    let mut callee = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            // A recursive function is called `name'2` and so on.
            callee = name.split('\'').next().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATIONS.contains(&callee)
        {
            allocations += calls.split(' ').next()?.parse::<u64>().ok()?;
        } else if let Some(totals) = line.strip_prefix("totals: ") {
            instructions = Some(totals.trim().parse::<u64>().ok()?);
        }
    }
    Some(Cost { instructions: instructions? as f64, allocations: allocations as f64 })
}
