//! Events since the oldest attempt under way began, for the pods that are being tried or bound meanwhile.

use std::collections::{BTreeMap, VecDeque};

use crate::event::ClusterEvent;

/// More than this are not kept; attempts that have missed some are helped by anything.
const MOST: usize = 10_000;

/// See the [module](self).
#[derive(Default)]
pub struct EventLog {
    events: VecDeque<ClusterEvent>,
    /// How many there have been, those no longer kept included.
    count: u64,
    /// Attempts under way, by the count when they began.
    attempts: BTreeMap<u64, usize>,
}

impl EventLog {
    /// An attempt begins; what is to be handed back when it [ends](Self::leave).
    pub fn join(&mut self) -> u64 {
        *self.attempts.entry(self.count).or_default() += 1;
        self.count
    }

    pub fn leave(&mut self, seen: u64) {
        if let Some(attempts) = self.attempts.get_mut(&seen) {
            *attempts -= 1;
            if *attempts == 0 {
                self.attempts.remove(&seen);
            }
        }
        let oldest = self.attempts.keys().next().copied().unwrap_or(self.count);
        while self.first() < oldest && self.events.pop_front().is_some() {}
    }

    pub fn record(&mut self, event: ClusterEvent) {
        self.count += 1;
        if self.attempts.is_empty() {
            self.events.clear();
            return;
        }
        self.events.push_back(event);
        if self.events.len() > MOST {
            self.events.pop_front();
        }
    }

    /// The count before the first event kept.
    fn first(&self) -> u64 {
        self.count - self.events.len() as u64
    }

    /// Whether any event since then is such.
    pub fn since(&self, seen: u64, is_such: impl FnMut(&ClusterEvent) -> bool) -> bool {
        let Some(skip) = seen.checked_sub(self.first()) else {
            return true;
        };
        self.events
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            .any(is_such)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_kept_as_long_as_an_attempt_may_ask_for_them() {
        let mut log = EventLog::default();
        log.record(ClusterEvent::Retry);
        let first = log.join();
        log.record(ClusterEvent::Retry);
        let second = log.join();
        assert!(log.since(first, |_| true));
        assert!(!log.since(second, |_| true));
        log.record(ClusterEvent::Retry);
        log.leave(first);
        assert_eq!(log.events.len(), 1);
        assert!(log.since(second, |_| true));
        log.leave(second);
        assert!(log.events.is_empty());
    }

    #[test]
    fn an_attempt_that_has_missed_events_is_helped_by_anything() {
        let mut log = EventLog::default();
        let long = log.join();
        (0..=MOST).for_each(|_| log.record(ClusterEvent::Retry));
        assert_eq!(log.events.len(), MOST);
        assert!(log.since(long, |_| false));
    }
}
