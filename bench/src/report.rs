//! Figures as a table for people, as JSON for machines, and two runs side by side.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: String,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure {
            what: what.into(),
            value,
            unit: unit.into(),
        });
    }

    /// A rate and the latencies behind it.
    pub fn rate(&mut self, what: &str, took: std::time::Duration, latencies: &crate::measure::Latencies) {
        self.add(what, latencies.len() as f64 / took.as_secs_f64(), "/s");
        self.add(format!("{what}, p50"), latencies.percentile(50.0), "ms");
        self.add(format!("{what}, p99"), latencies.percentile(99.0), "ms");
    }

    pub fn print(&self) {
        let width = self.figures.iter().map(|f| f.what.len()).max().unwrap_or(0);
        for figure in &self.figures {
            println!("{:<width$}  {:>12} {}", figure.what, number(figure.value), figure.unit);
        }
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} was not written by --json", path.display()))
}

/// The second run's figures, and each as a multiple of the first's.
pub fn compare(before: &Path, after: &Path) -> anyhow::Result<Report> {
    let (before, after) = (read(before)?, read(after)?);
    let mut out = Report::default();
    for new in &after.figures {
        out.figures.push(new.clone());
        if let Some(old) = before.figures.iter().find(|f| f.what == new.what && f.value != 0.0) {
            out.add(format!("{}, ratio", new.what), new.value / old.value, "×");
        }
    }
    Ok(out)
}
