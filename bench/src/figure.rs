//! What a row measured: figures with all their samples, remarks, and what the machine did meanwhile. Plain data.

use serde::{Deserialize, Serialize};

use crate::latency::Latencies;
use crate::meter::Load;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    More,
    Less,
}

/// One figure, with a sample from each repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Unique within a run: budgets and comparisons find it by this.
    pub name: String,
    pub unit: String,
    pub better: Better,
    pub samples: Vec<f64>,
    /// Of the first repetition: percent and milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<(f64, f64)>,
}

impl Figure {
    /// The median of the samples.
    pub fn value(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    /// How far the samples lie apart, as a part of the median; unknown from one sample.
    pub fn spread(&self) -> Option<f64> {
        let value = self.value();
        if self.samples.len() < 2 || value == 0.0 {
            return None;
        }
        let (low, high) = self
            .samples
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), s| (low.min(*s), high.max(*s)));
        Some((high - low) / value.abs())
    }
}

/// Everything that one row measured on one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub figures: Vec<Figure>,
    /// What the reader has to know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Who used the processors, per part of the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<(String, Load)>,
}

impl Measured {
    /// A figure of which less is better.
    pub fn cost(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.add(name.into(), value, unit, Better::Less);
    }

    /// A figure of which more is better.
    pub fn gain(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.add(name.into(), value, unit, Better::More);
    }

    fn add(&mut self, name: String, value: f64, unit: &str, better: Better) {
        self.figures.push(Figure {
            name,
            unit: unit.into(),
            better,
            samples: vec![value],
            quantiles: Vec::new(),
        });
    }

    /// The percentiles that are budgeted, with the whole distribution behind them.
    pub fn latencies(&mut self, name: &str, latencies: &Latencies) {
        self.cost(format!("{name}, p50"), latencies.percentile(50.0), "ms");
        self.cost(format!("{name}, p99"), latencies.percentile(99.0), "ms");
        if let Some(last) = self.figures.last_mut() {
            last.quantiles = latencies.quantiles();
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// What the machine did during a part of the row.
    pub fn load(&mut self, part: &str, load: Load) {
        self.loads.push((part.to_owned(), load));
    }

    /// Adds the samples of a repetition. A figure that only one of them has is kept as it is.
    pub fn merge(&mut self, again: Self) {
        for figure in again.figures {
            match self.figures.iter_mut().find(|f| f.name == figure.name) {
                Some(kept) => kept.samples.extend(figure.samples),
                None => self.figures.push(figure),
            }
        }
        for note in again.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.loads.extend(again.loads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(samples: &[f64]) -> Figure {
        Figure {
            name: "f".into(),
            unit: "ms".into(),
            better: Better::Less,
            samples: samples.to_vec(),
            quantiles: Vec::new(),
        }
    }

    #[test]
    fn the_value_is_the_median_and_the_spread_is_relative_to_it() {
        assert_eq!(figure(&[3.0, 1.0, 2.0]).value(), 2.0);
        assert_eq!(figure(&[1.0, 3.0]).value(), 2.0);
        assert!(figure(&[]).value().is_nan());
        assert_eq!(figure(&[3.0, 1.0, 2.0]).spread(), Some(1.0));
        assert_eq!(figure(&[1.0]).spread(), None);
    }

    #[test]
    fn a_repetition_adds_samples_to_the_figures_of_the_same_name() {
        let mut first = Measured::default();
        first.gain("create", 10.0, "/s");
        first.note("a remark");
        let mut again = Measured::default();
        again.gain("create", 12.0, "/s");
        again.cost("only once", 1.0, "ms");
        again.note("a remark");
        first.merge(again);
        assert_eq!(first.figures[0].samples, [10.0, 12.0]);
        assert_eq!(first.figures[1].samples, [1.0]);
        assert_eq!(first.notes.len(), 1);
    }
}
