//! What the codec, a hop and a request with a session cost in instructions and in allocations, compared with `benches/baseline.json`.
//!
//! ```text
//! cargo bench --bench instructions              compare; fails if anything is more than 10 % above the baseline
//! cargo bench --bench instructions --features sessions    those of sessions, too
//! cargo bench --bench instructions -- --save    make what is measured the new baseline
//! cargo bench --bench instructions -- hop       only the cases with this in their names
//! cargo bench --bench instructions --features full -- --layers    what each interceptor costs, as a table
//! ```
//!
//! Times on a shared machine say nothing about five percent; a count of instructions does. Each case is run twice under
//! valgrind's callgrind, in a process of its own, with N and with 2N operations. The difference belongs to the operations:
//! what is done once cancels out. Allocations are the calls of the C library's `malloc` and its siblings, in the same
//! difference.
//!
//! # How exact it is
//! Six runs of one program, idle and busy machine, with and without the C library's debug symbols, counted the same to one
//! instruction; only under another path the case of 64 KiB took 2 more in 13,180. What changes the counts, beside the code:
//! the toolchain (`rust-toolchain.toml` pins it), the dependencies (`Cargo.lock` does) and the C library: save the baseline
//! anew when one of them changes. The processor would, too, for the C library chooses by it how to copy memory, up to a
//! factor of five in these counts; it is told to use what every processor has.
//!
//! Those of sessions differ by some percent from run to run: hash maps have keys of their own in each.
//!
//! Not in the counts: what the system does, cache misses, waiting. Reading a clock is a system call here, as valgrind knows
//! no faster way. So these figures guard against loss; for how fast it is ask the other benches.

#![allow(clippy::disallowed_methods, reason = "shared helpers measure real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod baseline;
mod callgrind;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod layers;
#[cfg(feature = "sessions")]
mod sessions;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use baseline::Baseline;
use callgrind::Cost;
use cases::{CASES, Case};

/// Operations of the shorter run of each case.
const OPERATIONS: u64 = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args {
        // What `callgrind::measure` starts.
        ["--case", name, operations] => {
            let operations = operations.parse().expect("a number of operations");
            cases::find(name).run(operations);
            ExitCode::SUCCESS
        }
        ["--layer", title, size, operations] => {
            layers::run(title, size.parse().expect("a number"), operations.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        _ if !args.contains(&"--bench") || args.contains(&"--test") => {
            // Only tried out (`cargo test --benches`).
            CASES.iter().for_each(|case| case.run(1));
            layers::titles().iter().for_each(|title| layers::run(title, 5000, 20));
            ExitCode::SUCCESS
        }
        _ if args.contains(&"--layers") => exit(layers::table()),
        _ => {
            let filter = args.iter().find(|arg| !arg.starts_with("--"));
            let chosen = |case: &&Case| filter.is_none_or(|filter| case.name.contains(filter));
            exit(compare(&CASES.iter().filter(chosen).collect::<Vec<_>>(), args.contains(&"--save")))
        }
    }
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the cases and prints how they stand to the baseline, or makes them the baseline.
fn compare(cases: &[&Case], save: bool) -> Result<(), String> {
    if cases.is_empty() {
        return Ok(());
    }
    callgrind::check()?;
    let mut out = std::io::stdout().lock();
    let mut tell = |line: &str| writeln!(out, "{line}").map_err(|error| error.to_string());
    let baseline = if save { None } else { Some(Baseline::load()?) };
    tell(&format!(
        "{:<42}{:>14}{:>12}{:>10}{:>14}{:>12}",
        "per operation", "instructions", "baseline", "", "allocations", "baseline"
    ))?;
    let mut measured = BTreeMap::new();
    let mut costs = BTreeMap::new();
    let mut above = Vec::new();
    for case in cases {
        let cost = case.cost(&mut measured)?;
        let known = baseline.as_ref().map(|baseline| baseline.of(case.name)).transpose()?;
        tell(&row(case.name, cost, known))?;
        if known.is_some_and(|known| cost.is_above(known)) {
            above.push(case.name);
        }
        costs.insert(case.name.to_owned(), cost);
    }
    if save {
        Baseline::save(costs)?;
        return tell("saved");
    }
    if above.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {} % above the baseline: {}. If that is what it must cost, make it the baseline with \
         `cargo bench --bench instructions -- --save`, and say why in the commit",
        baseline::TOLERANCE_PERCENT,
        above.join("; ")
    ))
}

fn row(name: &str, cost: Cost, known: Option<Cost>) -> String {
    let Some(known) = known else {
        return format!(
            "{name:<42}{:>14.1}{:>12}{:>10}{:>14.2}{:>12}",
            cost.instructions, "-", "", cost.allocations, "-"
        );
    };
    let change = (cost.instructions / known.instructions - 1.0) * 100.0;
    // A layer that costs nothing has no percentage.
    let change = if change.is_finite() { format!("{:+.1} %", baseline::round(change, 10.0)) } else { String::new() };
    format!(
        "{name:<42}{:>14.1}{:>12.1}{change:>10}{:>14.2}{:>12.2}",
        cost.instructions, known.instructions, cost.allocations, known.allocations
    )
}
