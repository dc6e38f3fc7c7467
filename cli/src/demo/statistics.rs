//! What the pipeline counted, as a table.

use tribes::stats::{ChannelStats, FlowStats, LayerStats};
use tribes::{BoxError, Gauge};

use super::screen::{Screen, Style, grouped};
use super::stage::Stage;
use crate::units::Short;

/// Shows the statistics of the first member.
pub(super) fn show(stage: &Stage<'_>) -> Result<(), BoxError> {
    let actor = stage.first()?;
    let stats = actor.channel.stats();
    let about = format!("what the pipeline counted for each layer of {}, without any code in the layers", actor.name);
    stage.screen.heading("Statistics", &about);
    stage.screen.table(&rows(&stats));
    for line in figures(&stats) {
        stage.screen.line(stage.screen.styled(Style::Dim, line));
    }
    if stats.top.down.messages == 0 || stats.top.up.messages == 0 {
        return Err("messages in the statistics".into());
    }
    show_refusals(stage.screen, &stats);
    Ok(())
}

fn rows(stats: &ChannelStats) -> Vec<Vec<String>> {
    let header = ["layer", "sent", "bytes", "time", "received", "bytes", "time", "member events"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(std::iter::once(&stats.top).chain(&stats.layers).map(row));
    rows
}

fn row(layer: &LayerStats) -> Vec<String> {
    let mut cells = vec![layer.name.to_owned()];
    for flow in [&layer.down, &layer.up] {
        cells.extend([grouped(flow.messages), grouped(flow.bytes), time(flow)]);
    }
    cells.push(grouped(layer.member_events));
    cells
}

/// The median, of which the histogram knows an upper bound.
fn time(flow: &FlowStats) -> String {
    flow.latency.quantile(0.5).map_or_else(|| "-".to_owned(), |time| format!("< {}", Short(time)))
}

/// The figures of the layers' and the transports' own, where they are not zero.
fn figures(stats: &ChannelStats) -> Vec<String> {
    let layers = stats.layers.iter().map(|layer| (layer.name, &layer.gauges));
    let io = stats.io.iter().map(|(part, gauges)| (*part, gauges));
    layers.chain(io).filter_map(|(part, gauges)| figures_of(part, gauges)).collect()
}

fn figures_of(part: &str, gauges: &[Gauge]) -> Option<String> {
    let told: Vec<_> = gauges.iter().filter(|gauge| gauge.value > 0).collect();
    let told: Vec<_> = told.iter().map(|gauge| format!("{} {}", gauge.name, grouped(gauge.value))).collect();
    (!told.is_empty()).then(|| format!("  {part}: {}", told.join(", ")))
}

fn show_refusals(screen: &Screen, stats: &ChannelStats) {
    for layer in std::iter::once(&stats.top).chain(&stats.layers) {
        for (direction, flow) in [("down", &layer.down), ("up", &layer.up)] {
            for (reason, count) in flow.drops.iter().chain(&flow.errors) {
                let line = format!("  {} {direction}: {} × {reason}", layer.name, grouped(*count));
                screen.line(screen.styled(Style::Dim, line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_a_row_as_wide_as_the_header() {
        let mut stats = ChannelStats::default();
        stats.top.name = "application";
        stats.layers = vec![LayerStats::default(), LayerStats::default()];
        let rows = rows(&stats);
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
        assert_eq!(rows[1][3], "-");
    }

    #[test]
    fn only_figures_that_say_something_are_told() {
        let gauges = [Gauge::new("connections", 3), Gauge::new("resent", 0), Gauge::new("frames", 1234)];
        assert_eq!(figures_of("sender", &gauges).unwrap(), "  sender: connections 3, frames 1,234");
        assert_eq!(figures_of("sender", &[]), None);
    }
}
