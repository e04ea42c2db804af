//! Two runs side by side: each figure as a multiple of what it was, and whether that is more than noise.

use super::line::times_better;
use super::number;
use super::table::align;
use crate::figure::Figure;
use crate::record::Record;

/// What runs of the same thing differ by when nothing is known of it.
const USUAL_NOISE: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Better,
    Worse,
    /// No more than the samples differ among themselves.
    Noise,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    pub name: String,
    pub unit: String,
    pub before: f64,
    pub after: f64,
    /// How many times better than before.
    pub ratio: f64,
    /// By how large a part figures differ without a reason.
    pub noise: f64,
    /// The noise comes from samples, and is not merely usual.
    pub sampled: bool,
    pub change: Change,
}

/// The figures that both runs have, of the first target of each.
pub fn compare(before: &Record, after: &Record) -> Vec<Compared> {
    let both = after.figures().filter_map(|new| {
        let old = before.figures().find(|f| f.name == new.name && f.unit == new.unit)?;
        Some(one(old, new))
    });
    both.collect()
}

fn one(old: &Figure, new: &Figure) -> Compared {
    let (before, after) = (old.value(), new.value());
    let ratio = times_better(after, before, new.better);
    let spreads = [old.spread(), new.spread()];
    let sampled = spreads.iter().all(Option::is_some);
    let noise = if sampled {
        spreads.into_iter().flatten().fold(0.0, f64::max)
    } else {
        USUAL_NOISE
    };
    let change = if ratio.is_nan() || before == after {
        Change::Noise
    } else if ratio > 1.0 + noise {
        Change::Better
    } else if ratio < 1.0 / (1.0 + noise) {
        Change::Worse
    } else {
        Change::Noise
    };
    Compared {
        name: new.name.clone(),
        unit: new.unit.clone(),
        before,
        after,
        ratio,
        noise,
        sampled,
        change,
    }
}

/// As text.
pub fn table(compared: &[Compared]) -> String {
    let cell = str::to_owned;
    let mut table = vec![
        ["figure", "before", "after", "unit", "× better", "noise", ""]
            .map(cell)
            .to_vec(),
    ];
    for one in compared {
        let verdict = match one.change {
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::Noise => "",
        };
        let noise = format!(
            "{:.0} %{}",
            one.noise * 100.0,
            if one.sampled { "" } else { " (assumed)" }
        );
        table.push(vec![
            one.name.clone(),
            number(one.before),
            number(one.after),
            one.unit.clone(),
            number(one.ratio),
            noise,
            verdict.to_owned(),
        ]);
    }
    let mut out = align(&table);
    if compared.iter().any(|c| !c.sampled) {
        out.push_str("\nNoise is known where both runs have --repeat 2 or more; elsewhere 10 % is assumed.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Better, Figure};
    use crate::record::example;

    fn figure(better: Better, samples: &[f64]) -> Figure {
        Figure {
            name: "f".into(),
            unit: "ms".into(),
            better,
            samples: samples.to_vec(),
            quantiles: Vec::new(),
        }
    }

    #[test]
    fn a_change_counts_when_it_is_more_than_the_samples_differ() {
        let old = figure(Better::Less, &[100.0, 110.0, 105.0]);
        let change = |samples: &[f64]| one(&old, &figure(Better::Less, samples)).change;
        assert_eq!(change(&[50.0, 52.0, 51.0]), Change::Better);
        assert_eq!(change(&[200.0, 202.0, 201.0]), Change::Worse);
        assert_eq!(change(&[103.0, 102.0, 101.0]), Change::Noise);
        // Samples that differ this much say nothing.
        assert_eq!(change(&[50.0, 150.0, 90.0]), Change::Noise);
    }

    #[test]
    fn without_samples_the_usual_noise_is_assumed() {
        let compared = one(&figure(Better::More, &[100.0]), &figure(Better::More, &[108.0]));
        assert_eq!((compared.change, compared.sampled), (Change::Noise, false));
        let compared = one(&figure(Better::More, &[100.0]), &figure(Better::More, &[80.0]));
        assert_eq!(compared.change, Change::Worse);
        assert_eq!(compared.ratio, 0.8);
    }

    #[test]
    fn a_cost_of_nothing_stays_nothing() {
        let nothing = figure(Better::Less, &[0.0]);
        assert_eq!(one(&nothing, &nothing).change, Change::Noise);
        assert_eq!(one(&nothing, &figure(Better::Less, &[1.0])).change, Change::Worse);
    }

    #[test]
    fn runs_are_compared_by_the_figures_of_their_first_target() {
        let compared = compare(&example(10.0, 1.0), &example(20.0, 1.0));
        assert_eq!(compared.len(), 3);
        assert_eq!((compared[0].ratio, compared[0].change), (2.0, Change::Better));
        let text = table(&compared);
        assert!(text.contains("better") && text.contains("assumed"), "{text}");
    }
}
