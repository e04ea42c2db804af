//! One figure on all targets, judged: what the table and the page both show.

use crate::budget::Judged;
use crate::figure::{Better, Figure};
use crate::record::Record;
use crate::row::ROWS;

pub struct Line<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    /// By target.
    pub figures: Vec<Option<&'a Figure>>,
    /// How many times better the first target is than the second.
    pub ratio: Option<f64>,
    /// The budget in words.
    pub budget: String,
    pub judged: Option<Judged>,
}

/// The figures of one row, in the order in which they were measured.
pub fn lines<'a>(record: &'a Record, row: &str) -> Vec<Line<'a>> {
    let targets: Vec<_> = record.targets.iter().map(|t| record.measured(row, &t.label)).collect();
    let mut names: Vec<&Figure> = Vec::new();
    for figure in targets.iter().flatten().flat_map(|m| &m.figures) {
        if !names.iter().any(|n| n.name == figure.name) {
            names.push(figure);
        }
    }
    let budgets = ROWS.iter().find(|r| r.name == row);
    names
        .into_iter()
        .map(|named| {
            let find = |m: &'a crate::figure::Measured| m.figures.iter().find(|f| f.name == named.name);
            let figures: Vec<Option<&Figure>> = targets.iter().map(|m| m.and_then(find)).collect();
            let value = |at: usize| figures.get(at).copied().flatten().map(Figure::value);
            let budget = budgets.and_then(|r| r.budget(&named.name));
            let ratio = value(0)
                .zip(value(1))
                .map(|(own, peer)| times_better(own, peer, named.better));
            Line {
                name: &named.name,
                unit: &named.unit,
                ratio: ratio.filter(|r| r.is_finite()),
                budget: budget.map_or_else(String::new, |b| b.describe(named.better, &named.unit)),
                judged: budget.and_then(|b| b.judge(value(0)?, named.better, value(1))),
                figures,
            }
        })
        .collect()
}

/// 2 is twice as good, whichever way is good.
pub fn times_better(own: f64, other: f64, better: Better) -> f64 {
    match better {
        Better::More => own / other,
        Better::Less => other / own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example;

    #[test]
    fn a_figure_is_judged_by_the_peer_of_its_run() {
        let record = example(10.0, 2.0);
        let lines = lines(&record, "create");
        assert_eq!(lines[0].ratio, Some(5.0));
        assert!(lines[0].judged.as_ref().unwrap().met);
        assert_eq!(lines[0].budget, "≥ 5 × the peer");
        assert_eq!(lines[1].name, "create ConfigMaps, p50");
        assert!(lines[1].judged.is_none());
        assert!(super::lines(&record, "restart").is_empty());
    }

    #[test]
    fn of_a_cost_half_is_twice_as_good() {
        assert_eq!(times_better(1.0, 2.0, Better::Less), 2.0);
        assert_eq!(times_better(1.0, 2.0, Better::More), 0.5);
    }
}
