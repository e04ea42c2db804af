//! What a figure is measured against: the budget table of the design.

use crate::figure::Better;

/// A promise about one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    limit: Limit,
    /// What kube-apiserver v1.25 with etcd 3.5 had on an idle machine of two cores: the scale, when no peer is measured.
    recorded: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtMost(f64),
    /// So many times better than the peer.
    Times(f64),
}

/// No more than `value`, in the figure's unit.
pub const fn at_most(value: f64) -> Budget {
    Budget {
        limit: Limit::AtMost(value),
        recorded: None,
    }
}

/// So many times better than the peer, which once had `recorded`.
pub const fn times(factor: f64, recorded: f64) -> Budget {
    Budget {
        limit: Limit::Times(factor),
        recorded: Some(recorded),
    }
}

impl Budget {
    /// The same, with what the peer once had, to be shown.
    pub const fn peer_had(self, recorded: f64) -> Self {
        Self {
            recorded: Some(recorded),
            ..self
        }
    }

    pub fn recorded(&self) -> Option<f64> {
        self.recorded
    }
}

/// How a figure stands to its budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub met: bool,
    /// The limit in the figure's unit.
    pub limit: f64,
    /// How the limit came about, when it is not itself the budget.
    pub basis: String,
}

impl Budget {
    /// Judges by the peer of this run where the budget is a ratio, else by the recorded one.
    pub fn judge(&self, value: f64, better: Better, peer: Option<f64>) -> Option<Judged> {
        if value.is_nan() {
            return None;
        }
        let (limit, basis) = match self.limit {
            Limit::AtMost(limit) => (limit, String::new()),
            Limit::Times(factor) => {
                let (reference, whose) = match peer {
                    Some(measured) => (measured, "the peer's"),
                    None => (self.recorded?, "recorded"),
                };
                let number = crate::report::number(reference);
                match better {
                    _ if factor == 1.0 => (reference, format!("{number} {whose}")),
                    Better::More => (reference * factor, format!("{factor} × {number} {whose}")),
                    Better::Less => (reference / factor, format!("1/{factor} of {number} {whose}")),
                }
            }
        };
        let met = match better {
            Better::More => value >= limit,
            Better::Less => value <= limit,
        };
        Some(Judged { met, limit, basis })
    }

    /// The budget in words, for who does not know the figure yet.
    pub fn short(&self) -> String {
        match self.limit {
            Limit::AtMost(limit) => format!("at most {limit}"),
            Limit::Times(1.0) => "no worse than the peer".into(),
            Limit::Times(factor) => format!("{factor} times better than the peer"),
        }
    }

    /// The budget in words.
    pub fn describe(&self, better: Better, unit: &str) -> String {
        match (self.limit, better) {
            (Limit::AtMost(limit), _) => format!("≤ {limit} {unit}"),
            (Limit::Times(1.0), _) => "no worse than the peer".into(),
            (Limit::Times(factor), Better::More) => format!("≥ {factor} × the peer"),
            (Limit::Times(factor), Better::Less) => format!("≤ 1/{factor} of the peer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_by_the_peer_of_the_run_and_else_by_the_recorded_one() {
        let budget = times(5.0, 1000.0);
        let judge = |value, peer| budget.judge(value, Better::More, peer).unwrap();
        assert!(judge(5000.0, None).met);
        assert!(!judge(4999.0, None).met);
        assert!(judge(4999.0, Some(900.0)).met);
        assert_eq!(judge(1.0, Some(900.0)).limit, 4500.0);
    }

    #[test]
    fn of_a_cost_a_ratio_is_a_fraction() {
        let judged = times(4.0, 24.0).judge(7.0, Better::Less, None).unwrap();
        assert!(!judged.met);
        assert_eq!(judged.limit, 6.0);
        assert_eq!(judged.basis, "1/4 of 24.0 recorded");
    }

    #[test]
    fn an_absolute_budget_heeds_no_peer() {
        let budget = at_most(100.0).peer_had(3800.0);
        assert!(budget.judge(100.0, Better::Less, Some(1.0)).unwrap().met);
        assert!(!budget.judge(100.1, Better::Less, None).unwrap().met);
        assert_eq!(budget.judge(f64::NAN, Better::Less, None), None);
        assert_eq!(budget.describe(Better::Less, "ms"), "≤ 100 ms");
    }
}
