//! Signals, thresholds, and when they are met: since when, and how long their node conditions are told. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use coracle_api::quantity::{Quantity, QuantityFormat};
use coracle_clock::Timestamp;

/// What is watched, by upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Memory,
    NodeFs,
    NodeFsInodes,
    ImageFs,
    ImageFsInodes,
    Pids,
}

const ALL: [Signal; 6] = [
    Signal::Memory,
    Signal::NodeFs,
    Signal::NodeFsInodes,
    Signal::ImageFs,
    Signal::ImageFsInodes,
    Signal::Pids,
];

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    EphemeralStorage,
    Inodes,
    Pids,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// An amount of it as upstream's messages show it.
    pub(crate) fn shown(self, amount: u64) -> String {
        let format = match self {
            Self::Memory | Self::EphemeralStorage => QuantityFormat::BinarySi,
            Self::Inodes | Self::Pids => QuantityFormat::DecimalSi,
        };
        Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), format).to_string()
    }
}

/// What a node says of itself when something is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    Disk,
    Memory,
    Pid,
}

impl Pressure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "DiskPressure",
            Self::Memory => "MemoryPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::NodeFs => "nodefs.available",
            Self::NodeFsInodes => "nodefs.inodesFree",
            Self::ImageFs => "imagefs.available",
            Self::ImageFsInodes => "imagefs.inodesFree",
            Self::Pids => "pid.available",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        ALL.into_iter().find(|s| s.name() == name)
    }

    pub(crate) fn names() -> String {
        ALL.map(Self::name).join(", ")
    }

    pub(crate) fn resource(self) -> Resource {
        match self {
            Self::Memory => Resource::Memory,
            Self::NodeFs | Self::ImageFs => Resource::EphemeralStorage,
            Self::NodeFsInodes | Self::ImageFsInodes => Resource::Inodes,
            Self::Pids => Resource::Pids,
        }
    }

    pub(crate) fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::Pids => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }
}

/// An amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Amount(u64),
    Percent(f64),
}

impl Value {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().ok()?;
            return (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent));
        }
        let quantity: Quantity = text.parse().ok()?;
        u64::try_from(quantity.value()).ok().map(Self::Amount)
    }

    pub(crate) fn is_zero(self) -> bool {
        matches!(self, Self::Amount(0)) || matches!(self, Self::Percent(p) if p <= 0.0)
    }

    pub(crate) fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => f.write_str(&Resource::Memory.shown(*amount)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Less than `value` for longer than `grace`, and pods have to go; no grace is a hard threshold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    pub(crate) value: Value,
    pub(crate) grace: Duration,
    /// Once met, it takes so much more to be met no longer.
    pub(crate) min_reclaim: Option<Value>,
}

impl Threshold {
    /// Upstream's, but for the disk's space: of a large disk that is someone's own, a tenth is much, and often not free.
    pub(crate) fn defaults() -> Vec<Self> {
        let hard = |signal, value| Self {
            signal,
            value,
            grace: Duration::ZERO,
            min_reclaim: None,
        };
        vec![
            hard(Signal::Memory, Value::Amount(100 << 20)),
            hard(Signal::NodeFs, Value::Percent(5.0)),
            hard(Signal::NodeFsInodes, Value::Percent(5.0)),
            hard(Signal::ImageFs, Value::Percent(5.0)),
            hard(Signal::ImageFsInodes, Value::Percent(5.0)),
        ]
    }

    pub(crate) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }

    fn is_met(&self, observed: &Observations, with_reclaim: bool) -> bool {
        let Some(observed) = observed.get(&self.signal) else {
            return false;
        };
        let mut wanted = self.value.of(observed.capacity);
        if with_reclaim && let Some(more) = self.min_reclaim {
            wanted = wanted.saturating_add(more.of(observed.capacity));
        }
        observed.available < wanted
    }
}

/// How much of something there is, and of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
}

pub(crate) type Observations = BTreeMap<Signal, Observed>;

/// Whether every threshold has as much again as it asks for.
pub(crate) fn relieved(thresholds: &[Threshold], observed: &Observations) -> bool {
    !thresholds.iter().any(|t| t.is_met(observed, true))
}

/// Follows the thresholds through time.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// Since when each is met, by its place.
    met_since: BTreeMap<usize, Timestamp>,
    last_under: BTreeMap<Pressure, Timestamp>,
}

/// What follows from one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// What the node says of itself.
    pub(crate) pressures: BTreeSet<Pressure>,
    /// The thresholds that have been met for their grace; the first is the one to act on.
    pub(crate) exceeded: Vec<Threshold>,
}

impl Monitor {
    pub(crate) fn observe(
        &mut self,
        thresholds: &[Threshold],
        transition: Duration,
        observed: &Observations,
        now: Timestamp,
    ) -> Verdict {
        let before = std::mem::take(&mut self.met_since);
        for (place, threshold) in thresholds.iter().enumerate() {
            let known = before.get(&place);
            if threshold.is_met(observed, known.is_some()) {
                self.met_since.insert(place, known.copied().unwrap_or(now));
            }
        }
        let met = |place: &usize| thresholds.get(*place);
        for threshold in self.met_since.keys().filter_map(met) {
            self.last_under.insert(threshold.signal.pressure(), now);
        }
        let elapsed = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.last_under
            .retain(|_, last| *last == now || elapsed(*last) < transition);
        let ripe = self.met_since.iter().filter_map(|(place, since)| {
            let threshold = met(place)?;
            (elapsed(*since) >= threshold.grace).then(|| threshold.clone())
        });
        let mut exceeded: Vec<Threshold> = ripe.collect();
        // Memory first; and a hard threshold before the soft one of the same signal.
        exceeded.sort_by_key(|t| (t.signal.resource() != Resource::Memory, !t.is_hard()));
        Verdict {
            pressures: self.last_under.keys().copied().collect(),
            exceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn memory(available: u64) -> Observations {
        let observed = Observed {
            available,
            capacity: 1000,
        };
        [(Signal::Memory, observed)].into()
    }

    fn threshold(value: Value, grace: u64, min_reclaim: Option<u64>) -> Threshold {
        Threshold {
            signal: Signal::Memory,
            value,
            grace: Duration::from_secs(grace),
            min_reclaim: min_reclaim.map(Value::Amount),
        }
    }

    const MINUTES: Duration = Duration::from_secs(300);

    #[test]
    fn a_hard_threshold_acts_at_once_and_its_condition_outlives_it_by_the_transition_period() {
        let thresholds = [threshold(Value::Percent(10.0), 0, None)];
        let mut monitor = Monitor::default();
        let mut look = |available, second| monitor.observe(&thresholds, MINUTES, &memory(available), at(second));
        assert_eq!(look(100, 0), Verdict::default(), "as much as the threshold is enough");
        let verdict = look(99, 10);
        assert_eq!((verdict.exceeded.len(), verdict.pressures.len()), (1, 1));
        let verdict = look(500, 20);
        assert_eq!((verdict.exceeded.len(), verdict.pressures.len()), (0, 1));
        assert_eq!(look(500, 309).pressures.len(), 1);
        assert_eq!(look(500, 310).pressures.len(), 0);
    }

    #[test]
    fn a_soft_threshold_waits_for_its_grace_and_begins_anew_when_it_is_met_anew() {
        let thresholds = [threshold(Value::Amount(100), 60, None)];
        let mut monitor = Monitor::default();
        let mut look = |available, second| {
            let verdict = monitor.observe(&thresholds, MINUTES, &memory(available), at(second));
            (verdict.exceeded.len(), verdict.pressures.len())
        };
        assert_eq!(look(50, 0), (0, 1), "the condition is told before anyone is evicted");
        assert_eq!(look(50, 59), (0, 1));
        assert_eq!(look(50, 60), (1, 1));
        assert_eq!(look(200, 61), (0, 1));
        assert_eq!(look(50, 62), (0, 1));
        assert_eq!(look(50, 121), (0, 1));
        assert_eq!(look(50, 122), (1, 1));
    }

    #[test]
    fn a_threshold_with_a_minimum_to_reclaim_stays_met_until_there_is_that_much_more() {
        let thresholds = [threshold(Value::Amount(100), 0, Some(50))];
        let mut monitor = Monitor::default();
        let mut look = |available| {
            let verdict = monitor.observe(&thresholds, MINUTES, &memory(available), at(0));
            verdict.exceeded.len()
        };
        assert_eq!([look(120), look(90), look(120), look(150), look(120)], [0, 1, 1, 0, 0]);
        assert!(!relieved(&thresholds, &memory(149)));
        assert!(relieved(&thresholds, &memory(150)));
    }

    #[test]
    fn memory_is_relieved_before_anything_else_and_the_hard_threshold_first() {
        let disk = Threshold {
            signal: Signal::NodeFs,
            ..threshold(Value::Percent(10.0), 0, None)
        };
        let thresholds = [
            disk,
            threshold(Value::Amount(200), 1, None),
            threshold(Value::Amount(100), 0, None),
        ];
        let mut observed = memory(10);
        observed.insert(
            Signal::NodeFs,
            Observed {
                available: 1,
                capacity: 100,
            },
        );
        let mut monitor = Monitor::default();
        monitor.observe(&thresholds, MINUTES, &observed, at(0));
        let verdict = monitor.observe(&thresholds, MINUTES, &observed, at(5));
        let order: Vec<_> = verdict.exceeded.iter().map(|t| (t.signal, t.is_hard())).collect();
        assert_eq!(
            order,
            [(Signal::Memory, true), (Signal::Memory, false), (Signal::NodeFs, true)]
        );
        assert_eq!(
            verdict.pressures.into_iter().collect::<Vec<_>>(),
            [Pressure::Disk, Pressure::Memory]
        );
    }

    #[test]
    fn values_are_quantities_or_percentages() {
        for (text, value) in [
            ("100Mi", Some(Value::Amount(100 << 20))),
            ("15%", Some(Value::Percent(15.0))),
            ("7.5%", Some(Value::Percent(7.5))),
            ("101%", None),
            ("-1Gi", None),
            ("much", None),
        ] {
            assert_eq!(Value::parse(text), value, "{text}");
        }
        assert_eq!(Resource::Memory.shown(100 << 20), "100Mi");
        assert_eq!(Resource::EphemeralStorage.shown(12_345), "12345");
        assert_eq!(Resource::Inodes.shown(12_000), "12k");
    }
}
