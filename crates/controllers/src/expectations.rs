//! Expectations: what a controller has asked of the API but not yet seen come back through its informer. Until all of
//! it is seen (or five minutes pass), the cache is stale for that key and the controller must not create or delete.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;

const TIMEOUT: Duration = Duration::from_secs(300);

struct Pending {
    creations: usize,
    /// Uids whose deletion has been asked for.
    deletions: HashSet<String>,
    since: Instant,
}

/// Pending creations and deletions per key.
pub struct Expectations {
    pending: Mutex<HashMap<String, Pending>>,
    clock: Clock,
}

impl Expectations {
    pub fn new(clock: Clock) -> Self {
        Self {
            pending: Mutex::default(),
            clock,
        }
    }

    /// Whether everything asked for `key` has been seen (or the wait has timed out).
    pub fn satisfied(&self, key: &str) -> bool {
        let now = self.clock.instant();
        let pending = self.pending.lock();
        pending.get(key).is_none_or(|p| {
            p.creations == 0 && p.deletions.is_empty() || now.saturating_duration_since(p.since) >= TIMEOUT
        })
    }

    /// Before asking: `creations` new objects and the deletion of these uids.
    pub fn expect(&self, key: &str, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let pending = Pending {
            creations,
            deletions: deletions.into_iter().collect(),
            since: self.clock.instant(),
        };
        self.pending.lock().insert(key.to_owned(), pending);
    }

    /// An owned object appeared, or its creation failed and will not.
    pub fn creation_observed(&self, key: &str) {
        if let Some(pending) = self.pending.lock().get_mut(key) {
            pending.creations = pending.creations.saturating_sub(1);
        }
    }

    /// An owned object is gone or terminating, or its deletion failed.
    pub fn deletion_observed(&self, key: &str, uid: &str) {
        if let Some(pending) = self.pending.lock().get_mut(key) {
            pending.deletions.remove(uid);
        }
    }

    pub fn forget(&self, key: &str) {
        self.pending.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_blocked_until_all_it_asked_for_is_seen() {
        let expectations = Expectations::new(Clock::system());
        assert!(expectations.satisfied("a"));
        expectations.expect("a", 2, ["uid".to_owned()]);
        expectations.creation_observed("a");
        expectations.creation_observed("a");
        assert!(!expectations.satisfied("a"));
        expectations.deletion_observed("a", "other");
        assert!(!expectations.satisfied("a"));
        expectations.deletion_observed("a", "uid");
        assert!(expectations.satisfied("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_event_blocks_for_five_minutes_at_most() {
        let clock = Clock::system();
        let expectations = Expectations::new(clock);
        expectations.expect("a", 1, []);
        clock.sleep(TIMEOUT).await;
        assert!(expectations.satisfied("a"));
    }
}
