//! Rates of counters that are only read when someone asks: each is compared with what was read some time before. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use coracle_clock::Timestamp;

/// Readings closer to each other than this say little.
const LEAST: Duration = Duration::from_secs(1);
/// What a rate is over, if there are readings for it.
const WANTED: Duration = Duration::from_secs(10);
/// Older readings tell of another time.
const MOST: Duration = Duration::from_secs(120);

/// What was read of each counter.
#[derive(Default)]
pub(super) struct Rates {
    read: HashMap<String, VecDeque<(Timestamp, u64)>>,
}

impl Rates {
    /// How much the counter grows in a second, now that it was read; `since` is when it was 0.
    pub(super) fn per_second(&mut self, name: &str, at: Timestamp, value: u64, since: Timestamp) -> Option<u64> {
        let age = |then: Timestamp| Duration::try_from(at.duration_since(then)).unwrap_or_default();
        let read = self.read.entry(name.to_owned()).or_default();
        read.retain(|(then, before)| age(*then) <= MOST && *then <= at && *before <= value);
        let usable = || read.iter().filter(|(then, _)| age(*then) >= LEAST);
        // The newest that is old enough, else the oldest there is, else the beginning.
        let chosen = usable()
            .rfind(|(then, _)| age(*then) >= WANTED)
            .or_else(|| usable().next());
        let (then, before) = chosen.copied().unwrap_or((since, 0));
        if read.back().is_none_or(|(last, _)| age(*last) >= LEAST) {
            read.push_back((at, value));
        }
        let nanoseconds = age(then).as_nanos();
        if nanoseconds == 0 {
            return None;
        }
        let rate = u128::from(value.saturating_sub(before)) * 1_000_000_000 / nanoseconds;
        u64::try_from(rate).ok()
    }

    /// Forgets counters that are no more.
    pub(super) fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.read.retain(|name, _| exists(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_while_or_over_all_of_a_young_life() {
        let mut rates = Rates::default();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut at = |seconds: u64, value| rates.per_second("c", start + Duration::from_secs(seconds), value, start);
        assert_eq!(at(0, 0), None);
        assert_eq!(at(10, 1000), Some(100), "since it began");
        assert_eq!(at(11, 1500), Some(136), "over ten seconds and more");
        assert_eq!(at(20, 2000), Some(100), "over ten seconds");
        assert_eq!(at(1000, 2000), Some(2), "nothing recent is known");
        assert_eq!(at(1001, 5), Some(0), "it was reset");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut rates = Rates::default();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        rates.per_second("a", now, 1, now);
        rates.per_second("b", now, 1, now);
        rates.keep(|name| name == "a");
        assert_eq!(rates.read.len(), 1);
    }
}
