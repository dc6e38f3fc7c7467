//! `tribes load report`: drives many loads, one after another, and writes what they reached.
//!
//! ```text
//!  what to measure       args.rs → plan.rs
//!  one run               conversation.rs: member.rs (processes), figures.rs (their lines), machine.rs (noise)
//!  what follows          results.rs, document.rs
//!  how it is told        progress.rs, markdown.rs, plots.rs → drawing.rs, text.rs
//! ```

mod args;
mod conversation;
mod document;
mod drawing;
mod figures;
mod machine;
mod markdown;
mod member;
mod plan;
mod plots;
mod progress;
mod results;
mod text;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub(crate) use args::ReportArgs;
use args::{Contestant, Settings};
use document::{RATE, ROUND_TRIP, Report};
use figures::Run;
use progress::Progress;
use results::{NOISY, is_noisy};
use text::figure;
use tribes::{BoxError, Env};

use super::args::Mode;
use crate::input;
use crate::units::with_causes;

/// What this program is called beside others.
const OWN_NAME: &str = "tribes";
/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Measures and writes. An interrupt ends the measuring; what is known by then is written.
pub(crate) fn run(args: &ReportArgs) -> ExitCode {
    match super::runtime(0).and_then(|runtime| runtime.block_on(make(args))) {
        Ok(report) if !report.whole => ExitCode::from(INTERRUPTED),
        Ok(report) if report.measured().any(|measured| !measured.failures.is_empty()) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tribes load report: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn make(args: &ReportArgs) -> Result<Report, BoxError> {
    let (env, settings) = (Env::real(), args.settings());
    // Before minutes of measuring, not after them.
    fs::create_dir_all(&args.out).map_err(|error| format!("{} cannot be made: {error}", args.out.display()))?;
    let mut report = Report::new(&settings, own()?, text::utc(env.wall_ms()), text::shell(std::env::args()));
    report.whole = tokio::select! {
        biased;
        () = input::interrupted() => false,
        () = measure(&env, &settings, &mut report) => true,
    };
    write(&report, &args.out)?;
    let page = args.out.join("report.md");
    writeln!(io::stdout(), "{}{}", page.display(), if report.whole { "" } else { " (incomplete: interrupted)" })?;
    Ok(report)
}

/// This program.
fn own() -> Result<Contestant, BoxError> {
    let program = std::env::current_exe()?.into_os_string().into_string();
    let program = program.map_err(|path| format!("the path of this program is not UTF-8: {}", path.display()))?;
    Ok(Contestant { name: OWN_NAME.to_owned(), command: vec![program, "load".to_owned()] })
}

/// Every contestant in turn, for every work in turn, again and again: what is compared is measured at about the same time.
async fn measure(env: &Env, settings: &Settings, report: &mut Report) {
    let contestants = report.contestants.clone();
    let runs = report.results.len() * contestants.len() * usize::from(settings.repetitions);
    let mut progress = Progress::new(runs);
    for repetition in 1..=settings.repetitions {
        for comparison in &mut report.results {
            for (at, (contestant, measured)) in contestants.iter().zip(&mut comparison.measured).enumerate() {
                let work = comparison.work;
                let title = format!("{}: {work}", contestant.name);
                progress.begin(&title);
                let times = settings.times;
                let warmup = if at == 0 { times.warmup } else { times.warmup_of_others };
                match conversation::run(env, contestant, work, warmup, times).await {
                    Ok(run) => {
                        let run = Run { repetition, ..run };
                        progress.end(&format!("{title}: {}", outcome(work.mode, &run)));
                        measured.runs.push(run);
                    }
                    Err(failure) => {
                        let why = with_causes(&failure);
                        progress.end(&format!("{title}: FAILED: {why}"));
                        measured.failures.push(why);
                    }
                }
            }
        }
    }
}

/// A run in a few words.
fn outcome(mode: Mode, run: &Run) -> String {
    let mut outcome = match mode {
        Mode::Flood => format!("{} messages/s", figure(RATE(run))),
        Mode::Pingpong => format!("{} µs", figure(ROUND_TRIP(run))),
    };
    if is_noisy(run) {
        outcome += &format!(" (other programs took {:.0} % or more of the machine)", NOISY * 100.0);
    }
    if !run.complete {
        outcome += " (incomplete)";
    }
    outcome
}

/// Writes the tables and plots.
fn write(report: &Report, folder: &Path) -> Result<(), BoxError> {
    let charts = plots::charts(report);
    for chart in &charts {
        drawing::write(chart, folder)?;
    }
    fs::write(folder.join("report.json"), serde_json::to_vec_pretty(report)?)?;
    fs::write(folder.join("report.md"), markdown::page(report, &charts))?;
    Ok(())
}
