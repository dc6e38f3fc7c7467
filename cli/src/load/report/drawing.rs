//! Plots as SVG and as PNG.

use std::fmt::Display;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::register_font;
use tribes::BoxError;

use super::plots::{Chart, Line, Point};
use super::text::short;

/// Width and height, and what of the width is for names of lines.
const SIZE: (u32, u32) = (960, 540);
const LEGEND: u32 = 220;
/// The text is drawn with the same letters everywhere; see `font/README.md`.
const FONT: &[u8] = include_bytes!("font/roboto-subset.ttf");
const FAMILY: &str = "sans-serif";
/// Distinct for colour-blind eyes, too (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Writes `chart` into `folder`, both as SVG and as PNG.
///
/// # Errors
/// If it cannot be drawn, or a file cannot be written.
pub(super) fn write(chart: &Chart, folder: &Path) -> Result<(), BoxError> {
    font()?;
    let file = |ending| folder.join(format!("{}.{ending}", chart.file));
    draw(&SVGBackend::new(&file("svg"), SIZE).into_drawing_area(), chart)?;

    let (width, height) = SIZE;
    let mut pixels = vec![0; usize::try_from(width * height)? * 3];
    draw(&BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area(), chart)?;
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(file("png"))?), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    Ok(writer.finish()?)
}

/// Makes the font known, once.
fn font() -> Result<(), BoxError> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    let known = KNOWN.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());
    known.then_some(()).ok_or_else(|| "the embedded font cannot be read".into())
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, plotters::coord::Shift>, chart: &Chart) -> Result<(), BoxError> {
    draw_on(area, chart).map_err(|error| message(&error))
}

fn message(error: &impl Display) -> BoxError {
    format!("the plot cannot be drawn: {error}").into()
}

fn draw_on<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    chart: &Chart,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (plot, legend) = area.split_horizontally(SIZE.0 - LEGEND);
    area.fill(&WHITE)?;
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let x_ticks: Vec<f64> = chart.x_ticks.iter().map(|(x, _)| *x).collect();
    let xs = around(points().map(|point| point.x).chain(x_ticks.iter().copied()), 1.25);
    let ys = around(points().flat_map(|point| [point.min, point.max]), 1.3);
    let y_ticks = ticks(&ys);
    let x_name = |x: &f64| {
        let tick = chart.x_ticks.iter().find(|(tick, _)| (tick - x).abs() <= x.abs() * 1e-6);
        tick.map_or_else(String::new, |(_, name)| name.clone())
    };

    let mut context = ChartBuilder::on(&plot)
        .caption(&chart.title, (FAMILY, 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d(xs.log_scale().with_key_points(x_ticks), ys.log_scale().with_key_points(y_ticks))?;
    context
        .configure_mesh()
        .x_desc(chart.x_label)
        .y_desc(chart.y_label)
        .label_style((FAMILY, 14))
        .axis_desc_style((FAMILY, 15))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&x_name)
        .y_label_formatter(&|y| short(*y))
        .draw()?;

    for (at, line) in chart.lines.iter().enumerate() {
        let colour = colour(line);
        let middles: Vec<_> = line.points.iter().map(|point| (point.x, point.y)).collect();
        match dash(line) {
            None => {
                context.draw_series(LineSeries::new(middles, colour.stroke_width(2)))?;
            }
            Some((on, off)) => {
                context.draw_series(DashedLineSeries::new(middles, on, off, colour.stroke_width(2)))?;
            }
        }
        let bar = |point: &Point| PathElement::new([(point.x, point.min), (point.x, point.max)], colour);
        context.draw_series(line.points.iter().map(bar))?;
        context.draw_series(line.points.iter().map(|point| Circle::new((point.x, point.y), 3, colour.filled())))?;
        draw_name(&legend, at, line)?;
    }
    area.present()
}

/// The line's entry in the legend.
fn draw_name<B: DrawingBackend>(
    legend: &DrawingArea<B, plotters::coord::Shift>,
    at: usize,
    line: &Line,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let y = 56 + i32::try_from(at).unwrap_or(i32::MAX / 32) * 22;
    let strokes: &[(i32, i32)] = if dash(line).is_some() { &[(0, 8), (12, 20), (24, 32)] } else { &[(0, 32)] };
    for (from, to) in strokes {
        legend.draw(&PathElement::new([(*from, y), (*to, y)], colour(line).stroke_width(2)))?;
    }
    legend.draw(&Text::new(line.name.clone(), (40, y - 6), (FAMILY, 15)))
}

fn colour(line: &Line) -> RGBColor {
    COLOURS.get(line.option).copied().unwrap_or(BLACK)
}

/// Length and distance of dashes; ours is a solid line.
fn dash(line: &Line) -> Option<(u32, u32)> {
    match u32::try_from(line.contestant).unwrap_or(u32::MAX).min(4) {
        0 => None,
        other => Some((12 / other + 1, 2 + 2 * other)),
    }
}

/// A range around `values`, wider by `factor` at both ends.
fn around(values: impl Iterator<Item = f64>, factor: f64) -> std::ops::Range<f64> {
    let (min, max) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(min, max), value| (min.min(value), max.max(value)));
    min.min(max) / factor..max * factor
}

/// Round figures within a range: 1, 2 and 5 with any number of zeros; only 1 where these would be too many.
fn ticks(range: &std::ops::Range<f64>) -> Vec<f64> {
    let steps: &[f64] = if range.end / range.start > 2_000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = (-6..13).map(|exponent| 10_f64.powi(exponent));
    let all = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
    all.filter(|tick| range.contains(tick)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_figures() {
        assert_eq!(ticks(&(150.0..2_500.0)), [200.0, 500.0, 1_000.0, 2_000.0]);
        assert_eq!(ticks(&(5.0..50_000.0)), [10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn a_single_point_has_a_range() {
        let range = around([8.0].into_iter(), 2.0);
        assert_eq!((range.start, range.end), (4.0, 16.0));
    }
}
