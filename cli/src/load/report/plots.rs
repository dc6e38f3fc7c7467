//! Which plots are made of a report: sans drawing.

use std::collections::BTreeSet;

use super::super::args::Mode;
use super::document::{RATE, Report};
use super::plan::{Work, receivers, usual_payload};
use super::results::Measured;
use super::text::{bytes, name};

/// A plot with two logarithmic axes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    /// The name of its files, without ending.
    pub(super) file: String,
    pub(super) title: String,
    pub(super) x_label: &'static str,
    pub(super) y_label: &'static str,
    /// Where the x axis is labelled.
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) lines: Vec<Line>,
}

/// One line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Which option: lines of the same one are of the same colour.
    pub(super) option: usize,
    /// Which contestant: ours is 0, and solid.
    pub(super) contestant: usize,
    pub(super) points: Vec<Point>,
}

/// A median with the least and greatest figure. All are positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// The plots of all that is known.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    let of_mode = |mode| report.results.iter().map(|comparison| comparison.work).filter(move |work| work.mode == mode);
    let payloads = |number: u8| -> BTreeSet<usize> {
        of_mode(Mode::Flood).filter(|work| work.receivers == number).map(|work| work.payload).collect()
    };
    let numbers = |mode| of_mode(mode).map(|work| work.receivers).collect::<BTreeSet<u8>>();
    let most = numbers(Mode::Flood).into_iter().map(|number| payloads(number).len()).max();
    let swept = numbers(Mode::Flood).into_iter().filter(|number| Some(payloads(*number).len()) == most);
    let all_payloads: Vec<usize> =
        of_mode(Mode::Flood).map(|work| work.payload).collect::<BTreeSet<_>>().into_iter().collect();

    let mut charts: Vec<_> = swept.map(|number| throughput(report, number, &payloads(number))).collect();
    charts.extend(numbers(Mode::Pingpong).into_iter().map(|number| latency(report, number)));
    charts.push(scaling(report, usual_payload(&all_payloads), &numbers(Mode::Flood)));
    charts.retain(|chart| !chart.lines.is_empty());
    charts
}

fn throughput(report: &Report, number: u8, payloads: &BTreeSet<usize>) -> Chart {
    Chart {
        file: format!("throughput-{number}"),
        title: format!("Throughput, one sender to {}", receivers(number)),
        x_label: "payload",
        y_label: "messages per second at each receiver",
        x_ticks: payloads.iter().map(|payload| (*payload as f64, bytes(*payload))).collect(),
        lines: lines(
            report,
            |work| work.mode == Mode::Flood && work.receivers == number,
            |measured| rate(measured, measured.work.payload as f64),
        ),
    }
}

fn scaling(report: &Report, payload: usize, numbers: &BTreeSet<u8>) -> Chart {
    Chart {
        file: "scaling".to_owned(),
        title: format!("Throughput, one sender to more and more receivers, {}", bytes(payload)),
        x_label: "receivers",
        y_label: "messages per second at each receiver",
        x_ticks: numbers.iter().map(|number| (f64::from(*number), number.to_string())).collect(),
        lines: lines(
            report,
            |work| work.mode == Mode::Flood && work.payload == payload,
            |measured| rate(measured, f64::from(measured.work.receivers)),
        ),
    }
}

fn latency(report: &Report, number: u8) -> Chart {
    let payload = report.results.iter().map(|comparison| comparison.work).find(|work| is_ping(*work, number));
    let payload = payload.map_or(0, |work| work.payload);
    Chart {
        file: format!("latency-{number}"),
        title: format!("Round trips, one sender and {}, {}", receivers(number), bytes(payload)),
        x_label: "percentile",
        y_label: "microseconds",
        x_ticks: [50.0, 90.0, 99.0, 99.9].map(|percent| (one_in(percent), format!("{percent} %"))).to_vec(),
        lines: lines(
            report,
            |work| is_ping(work, number),
            |measured| {
                let exact = |(percent, y)| Point { x: one_in(percent), y, min: y, max: y };
                measured.percentiles_us().into_iter().map(exact).collect()
            },
        ),
    }
}

fn is_ping(work: Work, number: u8) -> bool {
    work.mode == Mode::Pingpong && work.receivers == number
}

/// One in how many is slower: puts the slow end of a distribution, where it matters, at a distance.
fn one_in(percent: f64) -> f64 {
    100.0 / (100.0 - percent)
}

fn rate(measured: &Measured, x: f64) -> Vec<Point> {
    let spread = measured.spread(RATE);
    spread.map(|spread| Point { x, y: spread.median, min: spread.min, max: spread.max }).into_iter().collect()
}

/// A line for each option and contestant, through the points of its works.
fn lines(report: &Report, chosen: impl Fn(Work) -> bool, points: impl Fn(&Measured) -> Vec<Point>) -> Vec<Line> {
    let mut options = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for comparison in report.results.iter().filter(|comparison| chosen(comparison.work)) {
        let option = options.iter().position(|known| *known == comparison.work.options).unwrap_or(options.len());
        if option == options.len() {
            options.push(comparison.work.options);
        }
        for (contestant, measured) in comparison.measured.iter().enumerate() {
            let points = points(measured).into_iter().filter(|point| point.min > 0.0);
            if let Some(line) = lines.iter_mut().find(|line| (line.option, line.contestant) == (option, contestant)) {
                line.points.extend(points);
                continue;
            }
            let of_whom =
                if report.contestants.len() > 1 { format!("{}, ", measured.contestant) } else { String::new() };
            let name = format!("{of_whom}{}", name(comparison.work.options));
            lines.push(Line { name, option, contestant, points: points.collect() });
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|left, right| left.x.total_cmp(&right.x)));
    lines.retain(|line| !line.points.is_empty());
    lines.sort_by_key(|line| (line.contestant, line.option));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::args::Guarantee;
    use super::super::args::{Contestant, Settings, Times};
    use super::super::figures::Run;
    use super::*;

    fn contestant(name: &str) -> Contestant {
        Contestant { name: name.to_owned(), command: vec![name.to_owned()] }
    }

    /// One run of each, as fast as there are receivers.
    fn report() -> Report {
        let times = Times { measured: Duration::ZERO, warmup: Duration::ZERO, warmup_of_others: Duration::ZERO };
        let settings = Settings {
            repetitions: 1,
            payloads: vec![100, 1024],
            options: vec![Guarantee::Async, Guarantee::Ack],
            receivers: vec![1, 7],
            times,
            against: vec![contestant("raw")],
        };
        let mut report = Report::new(&settings, contestant("tribes"), String::new(), String::new());
        for measured in report.results.iter_mut().flat_map(|comparison| &mut comparison.measured) {
            let (rate, trips) = match measured.work.mode {
                Mode::Flood => (Some(f64::from(measured.work.receivers)), vec![]),
                Mode::Pingpong => (None, vec![(50.0, 20.0), (99.0, 40.0)]),
            };
            measured.runs.push(Run { msgs_per_s: rate, rtt_percentiles_us: trips, ..Run::default() });
        }
        report
    }

    #[test]
    fn each_option_of_each_contestant_has_a_line() {
        let charts = charts(&report());
        let files: Vec<_> = charts.iter().map(|chart| chart.file.as_str()).collect();
        assert_eq!(files, ["throughput-1", "latency-1", "scaling"]);
        for chart in &charts {
            let names: Vec<_> = chart.lines.iter().map(|line| line.name.as_str()).collect();
            assert_eq!(names, ["tribes, async", "tribes, ack", "raw, async", "raw, ack"]);
            assert!(chart.lines.iter().all(|line| line.points.len() == 2), "{chart:?}");
        }
        let scaling = charts.last().unwrap();
        assert_eq!(scaling.x_ticks, [(1.0, "1".to_owned()), (7.0, "7".to_owned())]);
        assert_eq!(scaling.lines[0].points[1], Point { x: 7.0, y: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let mut report = report();
        for measured in report.results.iter_mut().flat_map(|comparison| &mut comparison.measured) {
            if measured.contestant == "raw" || measured.work.mode == Mode::Pingpong {
                measured.runs.clear();
            }
        }
        let charts = charts(&report);
        assert_eq!(charts.len(), 2);
        assert!(charts.iter().all(|chart| chart.lines.len() == 2));
    }
}
