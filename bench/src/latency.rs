//! Durations of many calls, and their percentiles.

use std::time::Duration;

/// The percentiles that are kept of a distribution, to draw it.
const KEPT: [f64; 14] = [
    0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0,
];

/// Durations, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn new(all: impl IntoIterator<Item = Duration>) -> Self {
        Self::from_micros(all.into_iter().map(micros).collect())
    }

    /// From microseconds: what millions of events are kept as.
    pub fn from_micros(mut all: Vec<u32>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// In milliseconds, by the nearest rank: the smallest duration that so many percent do not exceed. 0 when there are none.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn quantiles(&self) -> Vec<(f64, f64)> {
        KEPT.iter().map(|p| (*p, self.percentile(*p))).collect()
    }
}

/// Whole microseconds; what is longer than an hour is an hour.
pub fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros())
        .unwrap_or(3_600_000_000)
        .min(3_600_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latencies {
        Latencies::new(millis.into_iter().map(Duration::from_millis))
    }

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let hundred = of((1..=100).rev());
        assert_eq!(hundred.percentile(50.0), 50.0);
        assert_eq!(hundred.percentile(99.0), 99.0);
        assert_eq!(hundred.percentile(99.1), 100.0);
        assert_eq!(hundred.percentile(0.0), 1.0);
        assert_eq!(hundred.percentile(100.0), 100.0);
    }

    #[test]
    fn percentiles_of_few_and_of_none() {
        assert_eq!(of([7]).percentile(1.0), 7.0);
        assert_eq!(of([7]).percentile(99.0), 7.0);
        assert_eq!(of([1, 9]).percentile(50.0), 1.0);
        assert_eq!(of([1, 9]).percentile(51.0), 9.0);
        assert_eq!(of([]).percentile(50.0), 0.0);
    }

    #[test]
    fn quantiles_grow() {
        let quantiles = of([5, 1, 3, 2, 4]).quantiles();
        assert!(quantiles.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
        assert_eq!(micros(Duration::MAX), 3_600_000_000);
    }
}
