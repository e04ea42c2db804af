//! Plots as inline SVG, coloured by the page's CSS classes. Pure: numbers in, text out.

use std::fmt::Write;

use super::number;
use crate::meter::Load;

/// How a budgeted figure stands: 2 is twice as good as the budget.
pub struct Standing<'a> {
    pub name: &'a str,
    pub ratio: f64,
    pub met: bool,
}

const WIDTH: f64 = 860.0;
const BAR: f64 = 22.0;
const LABELS: f64 = 400.0;
/// What no bar is longer than, as a ratio.
const MOST: f64 = 64.0;

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!("<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"{title}\">\n")
}

/// A bar for each budget, from the line where it is just met: to the right is better. Each step is a doubling.
pub fn standings(all: &[Standing<'_>]) -> String {
    let reach = all
        .iter()
        .map(|s| clamp(s.ratio).log2().abs())
        .fold(1.0, f64::max)
        .ceil();
    let left = all.iter().any(|s| s.ratio < 1.0);
    let room = WIDTH - LABELS - 70.0;
    let step = room / (reach * if left { 2.0 } else { 1.0 });
    let zero = LABELS + 10.0 + if left { step * reach } else { 0.0 };
    let height = BAR * all.len() as f64 + 30.0;
    let mut svg = open(WIDTH, height, "how the figures stand to their budgets");
    let mut at = if left { -reach } else { 0.0 };
    while at <= reach {
        let x = zero + at * step;
        let label = if at < 0.0 {
            format!("1/{}", number_of(2f64.powf(-at)))
        } else {
            format!("{} ×", number_of(2f64.powf(at)))
        };
        let class = if at == 0.0 { "axis" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\"/>",
            height - 20.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
            height - 6.0
        );
        at += if reach > 4.0 { 2.0 } else { 1.0 };
    }
    for (n, one) in all.iter().enumerate() {
        let y = BAR * n as f64;
        let end = zero + clamp(one.ratio).log2() * step;
        let (x, width) = (zero.min(end), (end - zero).abs().max(1.5));
        let class = if one.met { "met" } else { "missed" };
        let name = escape(one.name);
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{LABELS}\" y=\"{:.1}\">{name}</text>",
            y + 15.0
        );
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\"/>",
            y + 4.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{} ×</text>",
            x + width + 5.0,
            y + 15.0,
            multiple(one.ratio)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn clamp(ratio: f64) -> f64 {
    if ratio.is_nan() {
        1.0
    } else {
        ratio.clamp(1.0 / MOST, MOST)
    }
}

fn multiple(ratio: f64) -> String {
    if ratio > MOST {
        format!("&gt; {MOST}")
    } else {
        number(ratio)
    }
}

fn number_of(whole: f64) -> String {
    format!("{whole:.0}")
}

/// Distributions of latencies: how many percent (upwards) took no longer than so many milliseconds (to the right, each
/// step ten times as long).
pub fn distributions(title: &str, all: &[(&str, &[(f64, f64)])]) -> String {
    const HEIGHT: f64 = 210.0;
    const LEFT: f64 = 50.0;
    let (width, bottom) = (560.0, HEIGHT - 40.0);
    let values = || all.iter().flat_map(|(_, q)| q.iter().map(|(_, ms)| ms.max(0.001)));
    let low = values().fold(f64::MAX, f64::min).log10().floor();
    let high = values().fold(f64::MIN_POSITIVE, f64::max).log10().ceil().max(low + 1.0);
    let x = |ms: f64| LEFT + (ms.max(0.001).log10() - low) / (high - low) * (width - LEFT - 90.0);
    let y = |percent: f64| 10.0 + (100.0 - percent) / 100.0 * (bottom - 10.0);
    let mut svg = open(width, HEIGHT, title);
    for percent in [0.0, 50.0, 90.0, 99.0] {
        let at = y(percent);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            width - 90.0
        );
        if percent != 99.0 {
            let _ = writeln!(
                svg,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{percent} %</text>",
                LEFT - 5.0,
                at + 4.0
            );
        }
    }
    let mut decade = low;
    while decade <= high {
        let (at, ms) = (x(10f64.powf(decade)), 10f64.powf(decade));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{bottom:.1}\"/>"
        );
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\">{ms} ms</text>",
            bottom + 16.0
        );
        decade += 1.0;
    }
    for (n, (label, quantiles)) in all.iter().enumerate() {
        let points: Vec<String> = quantiles
            .iter()
            .map(|(p, ms)| format!("{:.1},{:.1}", x(*ms), y(*p)))
            .collect();
        let class = series(n);
        let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        let row = 22.0 + 18.0 * n as f64;
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{row}\" y2=\"{row}\"/>",
            width - 82.0,
            width - 64.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            width - 58.0,
            row + 4.0,
            escape(label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn series(n: usize) -> &'static str {
    if n == 0 { "line first" } else { "line second" }
}

/// Who used the processors, a bar for each part of a row; the whole width is the machine.
pub fn cores(all: &[(String, Load)]) -> String {
    let height = BAR * all.len() as f64 + 24.0;
    let mut svg = open(WIDTH, height, "processors in use");
    let room = WIDTH - LABELS - 20.0;
    for (n, (label, load)) in all.iter().enumerate() {
        let y = BAR * n as f64;
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{LABELS}\" y=\"{:.1}\">{}</text>",
            y + 15.0,
            escape(label)
        );
        let _ = writeln!(
            svg,
            "<rect class=\"machine\" x=\"{:.1}\" y=\"{:.1}\" width=\"{room:.1}\" height=\"14\"/>",
            LABELS + 10.0,
            y + 4.0
        );
        let mut x = LABELS + 10.0;
        let parts = [
            ("server", load.server.unwrap_or(0.0)),
            ("generator", load.generator),
            ("others", load.others),
        ];
        for (class, used) in parts {
            let width = (used / load.cores.max(1.0) * room)
                .min(LABELS + 10.0 + room - x)
                .max(0.0);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\"/>",
                y + 4.0
            );
            x += width;
        }
    }
    let mut x = LABELS + 10.0;
    for class in ["server", "generator", "others"] {
        let name = if class == "generator" { "load generator" } else { class };
        let y = height - 16.0;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\"/>"
        );
        let _ = writeln!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            x + 17.0,
            y + 10.0
        );
        x += 130.0;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_start_where_a_budget_is_just_met() {
        let standing = |ratio, met| Standing {
            name: "a<b",
            ratio,
            met,
        };
        let svg = standings(&[standing(4.0, true), standing(0.5, false)]);
        assert!(svg.contains("a&lt;b") && svg.contains("class=\"met\"") && svg.contains("class=\"missed\""));
        // What cannot be drawn is drawn at the edge.
        assert!(!standings(&[standing(f64::INFINITY, true), standing(0.0, false)]).contains("inf"));
        assert!(!standings(&[]).contains("NaN"));
    }

    #[test]
    fn distributions_of_all_sizes_stay_within_their_plot() {
        let quantiles = [(0.0, 0.0), (50.0, 3.0), (100.0, 90_000.0)];
        let svg = distributions("t", &[("one", &quantiles), ("two", &quantiles)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn a_load_past_the_machine_ends_at_its_edge() {
        let load = Load {
            seconds: 1.0,
            cores: 2.0,
            generator: 3.0,
            server: None,
            others: 1.0,
        };
        let svg = cores(&[("part".into(), load)]);
        assert!(!svg.contains("width=\"-") && !svg.contains("NaN"));
    }
}
