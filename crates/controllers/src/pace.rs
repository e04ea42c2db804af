//! How often what is large is looked at. A look at a service or budget goes through all pods that it selects; were it made
//! for each of their changes, a change would cost as much as there are pods. After a look its key rests in proportion
//! to what was gone through, so that looking takes a bounded share of the time; what changes meanwhile is seen by the
//! next look together. What is small never rests.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;

/// So many objects may be gone through without rest.
const FREE: usize = 100;
/// The rest for each further one.
const REST: Duration = Duration::from_micros(100);

/// When each key may be looked at again. Keys that do not rest are not kept.
pub struct Pace<Q> {
    rests: Mutex<HashMap<Q, Instant>>,
    clock: Clock,
}

impl<Q: Eq + Hash + Clone> Pace<Q> {
    pub fn new(clock: Clock) -> Self {
        Self {
            rests: Mutex::default(),
            clock,
        }
    }

    /// How long the key still has to rest, if it has to.
    pub fn rest(&self, key: &Q) -> Option<Duration> {
        let mut rests = self.rests.lock();
        let left = rests.get(key)?.saturating_duration_since(self.clock.instant());
        if left.is_zero() {
            rests.remove(key);
            return None;
        }
        Some(left)
    }

    /// A look has gone through so many objects.
    pub fn looked(&self, key: &Q, objects: usize) {
        let rest = REST * u32::try_from(objects.saturating_sub(FREE)).unwrap_or(u32::MAX);
        if !rest.is_zero() {
            self.rests.lock().insert(key.clone(), self.clock.instant() + rest);
        }
    }

    /// What the key names is gone.
    pub fn forget(&self, key: &Q) {
        self.rests.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_large_rests_in_proportion_and_what_is_small_never() {
        let clock = Clock::system();
        let pace = Pace::new(clock);
        for (objects, rest) in [(0, None), (100, None), (1_100, Some(100)), (5_100, Some(500))] {
            pace.looked(&"a", objects);
            assert_eq!(pace.rest(&"a").map(|r| r.as_millis()), rest, "{objects}");
            assert_eq!(pace.rest(&"b"), None);
            clock.sleep(Duration::from_millis(500)).await;
            assert_eq!(pace.rest(&"a"), None);
            assert!(pace.rests.lock().is_empty());
        }
        pace.looked(&"a", 1_100);
        pace.forget(&"a");
        assert_eq!(pace.rest(&"a"), None);
    }
}
