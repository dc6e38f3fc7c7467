//! The report as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::args::Mode;
use super::document::{Comparison, RATE, ROUND_TRIP, Report};
use super::plan::receivers;
use super::plots::Chart;
use super::results::{Measured, NOISY, Spread, is_noisy};
use super::text::{bytes, figure, name};

/// The whole page, with a picture for each of `charts`.
pub(super) fn page(report: &Report, charts: &[Chart]) -> String {
    let mut page = head(report);
    for (mode, title) in [(Mode::Flood, "Flood"), (Mode::Pingpong, "Ping-pong")] {
        let of_mode = report.results.iter().filter(|comparison| comparison.work.mode == mode);
        let numbers: BTreeSet<u8> = of_mode.clone().map(|comparison| comparison.work.receivers).collect();
        for number in numbers {
            let comparisons: Vec<_> =
                of_mode.clone().filter(|comparison| comparison.work.receivers == number).collect();
            let _ = writeln!(page, "\n## {title}, one sender to {}\n", receivers(number));
            page += &table(mode, &comparisons, report.contestants.len() > 1);
        }
    }
    page += "\n## Plots\n\nBars reach from the least to the greatest figure.\n";
    for chart in charts {
        let _ = writeln!(page, "\n![{}]({}.svg)", chart.title, chart.file);
    }
    page + &failures(report)
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let build = if machine.optimised { "optimised" } else { "**not optimised: these figures say nothing**" };
    let runs: Vec<_> = report.measured().flat_map(|measured| &measured.runs).collect();
    let (noisy, all) = (runs.iter().filter(|run| is_noisy(run)).count(), runs.len());
    let mut head = format!(
        "# What `tribes load` reaches\n\n\
         - when: {}\n- where: {}, {} cores, {}, {}\n- what: tribes {}, {}, {build}\n\
         - how: each figure is the median of {} of {} s, in brackets the least and the greatest; one process for each \
         member, all on this machine. A rate is counted at the listener of the slowest receiver: a message to three \
         receivers counts once.\n- noise: in {noisy} of {all} runs other programs took {:.0} % of the machine or more; such \
         runs are left out where there are others\n- again: `{}`\n",
        report.date,
        machine.processor,
        machine.cores,
        machine.memory,
        machine.kernel,
        report.version,
        machine.rustc,
        if report.repetitions == 1 { "one run".to_owned() } else { format!("{} runs", report.repetitions) },
        report.seconds,
        NOISY * 100.0,
        report.command,
    );
    if let Some((own, others)) = report.contestants.split_first().filter(|(_, others)| !others.is_empty()) {
        let names: Vec<_> =
            others.iter().map(|other| format!("`{}` ({})", other.name, other.command.join(" "))).collect();
        let _ = writeln!(
            head,
            "- against: {}; run in turn with `{}`, and a ratio is the median of those within each repetition",
            names.join(", "),
            own.name,
        );
    }
    if !report.whole {
        head += "- **incomplete: it was interrupted**\n";
    }
    head
}

/// A column: its title, and its cell for the contestant at some place of a comparison.
type Column = (&'static str, fn(&Comparison, usize, &Measured) -> String);

const FLOOD: &[Column] = &[
    ("messages/s (min–max)", |_, _, measured| spread(measured.spread(RATE))),
    ("MiB/s", |_, _, measured| figure(measured.median(|run| run.mib_per_s))),
    ("send() p50 · p99 µs", |_, _, measured| {
        pair(measured.median(|run| run.send_p50_us), measured.median(|run| run.send_p99_us))
    }),
    ("one-way p50 · p99 µs", |_, _, measured| {
        pair(measured.median(|run| run.oneway_p50_us), measured.median(|run| run.oneway_p99_us))
    }),
    ("CPU s per 10⁶", |_, _, measured| figure(measured.median(|run| run.cpu_s_per_million))),
    ("peak MiB", |_, _, measured| figure(measured.median(|run| run.peak_memory_mib))),
];
const PINGPONG: &[Column] = &[
    ("p50 µs (min–max)", |_, _, measured| spread(measured.spread(ROUND_TRIP))),
    ("p90", |_, _, measured| figure(measured.percentile_us(90.0))),
    ("p99", |_, _, measured| figure(measured.median(|run| run.rtt_p99_us))),
    ("p99.9", |_, _, measured| figure(measured.percentile_us(99.9))),
    ("max", |_, _, measured| figure(measured.median(|run| run.rtt_max_us))),
    ("peak MiB", |_, _, measured| figure(measured.median(|run| run.peak_memory_mib))),
];
const WORK: &[Column] = &[
    ("payload", |comparison, _, _| bytes(comparison.work.payload)),
    ("option", |comparison, _, _| name(comparison.work.options)),
];
const PROGRAM: Column = ("program", |_, _, measured| measured.contestant.clone());
const RATIO_OF_RATES: Column = ("tribes ÷ it", |comparison, at, _| ratio(comparison.ratio(at, RATE)));
const RATIO_OF_ROUND_TRIPS: Column = ("tribes ÷ it", |comparison, at, _| ratio(comparison.ratio(at, ROUND_TRIP)));
const NOTES: Column = ("notes", |_, _, measured| notes(measured));

fn table(mode: Mode, comparisons: &[&Comparison], compared: bool) -> String {
    let (figures, ratio) = if mode == Mode::Flood { (FLOOD, RATIO_OF_RATES) } else { (PINGPONG, RATIO_OF_ROUND_TRIPS) };
    let mut columns = WORK.to_vec();
    columns.extend(compared.then_some(PROGRAM));
    columns.extend(figures);
    columns.extend(compared.then_some(ratio));
    columns.push(NOTES);

    let mut table = row(columns.iter().map(|(title, _)| (*title).to_owned()));
    table += &row(columns.iter().map(|_| "---".to_owned()));
    for comparison in comparisons {
        for (at, measured) in comparison.measured.iter().enumerate() {
            table += &row(columns.iter().map(|(_, cell)| cell(comparison, at, measured)));
        }
    }
    table
}

fn row(cells: impl Iterator<Item = String>) -> String {
    // What others say may contain the bar that ends a cell.
    let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || figure(None),
        |spread| {
            let all = [spread.median, spread.min, spread.max].map(|value| figure(Some(value)));
            let [median, min, max] = all;
            format!("{median} ({min}–{max})")
        },
    )
}

fn pair(left: Option<f64>, right: Option<f64>) -> String {
    format!("{} · {}", figure(left), figure(right))
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| figure(Some(ratio)))
}

/// What is not as it should be.
fn notes(measured: &Measured) -> String {
    let runs = &measured.runs;
    let sum = |of: fn(&super::figures::Run) -> u64| runs.iter().map(of).sum::<u64>();
    let lost: i64 = runs.iter().map(|run| run.lost).sum();
    let incomplete = runs.iter().filter(|run| !run.complete).count();
    let noisy = runs.iter().filter(|run| is_noisy(run)).count();
    let found = [
        (measured.failures.len() as u64, "failed"),
        (noisy as u64, "noisy"),
        (incomplete as u64, "incomplete"),
        (lost.unsigned_abs(), "lost"),
        (sum(|run| run.bad), "of wrong length"),
        (sum(|run| run.reordered), "reordered"),
        (sum(|run| run.errors), "errors"),
    ];
    let found: Vec<_> =
        found.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    found.join(", ")
}

fn failures(report: &Report) -> String {
    let mut text = String::new();
    for measured in report.measured() {
        for why in &measured.failures {
            let _ = writeln!(text, "- {}: {}: {why}", measured.contestant, measured.work);
        }
        if let Some(error) = measured.runs.iter().find_map(|run| run.last_error.as_ref()) {
            let _ = writeln!(text, "- {}: {}: a send failed: {error}", measured.contestant, measured.work);
        }
    }
    if text.is_empty() { text } else { format!("\n## What went wrong\n\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{FLOOD as WORK, measured};
    use super::*;

    fn compared(all: &[Measured]) -> String {
        table(Mode::Flood, &[&Comparison { work: WORK, measured: all.to_vec() }], all.len() > 1)
    }

    #[test]
    fn a_row_has_the_median_and_how_far_figures_lie_apart() {
        let table = compared(&[measured("tribes", &[(1000.0, 0.0), (3000.0, 0.0), (2000.0, 0.0)])]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("| payload | option | messages/s (min–max) |"), "{table}");
        assert!(!lines[0].contains("tribes ÷ it"), "{table}");
        assert!(lines[2].starts_with("| 1 KiB | async | 2,000 (1,000–3,000) | – | – · – |"), "{table}");
        let columns = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{table}");
    }

    #[test]
    fn others_have_a_ratio() {
        let table = compared(&[measured("tribes", &[(30.0, 0.0)]), measured("raw|std", &[(60.0, 0.0)])]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[2].contains("| tribes | 30.0 (30.0–30.0) |") && lines[2].ends_with("|  |  |"), "{table}");
        assert!(lines[3].contains("| raw\\|std |") && lines[3].ends_with("| 0.50 |  |"), "{table}");
    }

    #[test]
    fn what_is_wrong_is_noted() {
        let mut bad = measured("x", &[(1.0, 0.5), (1.0, 0.0)]);
        assert_eq!(notes(&bad), "1 noisy");
        bad.failures.push("the sender ended early".to_owned());
        bad.runs[1].complete = false;
        bad.runs[1].lost = 7;
        assert_eq!(notes(&bad), "1 failed, 1 noisy, 1 incomplete, 7 lost");
        assert_eq!(notes(&measured("x", &[(1.0, 0.0)])), "");
    }
}
