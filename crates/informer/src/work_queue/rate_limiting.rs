//! How long a key that failed waits: its own exponential back-off, or the whole queue's bucket if that is longer.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use coracle_client::rate::TokenBucket;
use coracle_clock::Clock;
use parking_lot::Mutex;

/// The numbers of a back-off; the defaults are client-go's.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// After the first failure; doubled by each further one.
    pub base: Duration,
    pub max: Duration,
    /// Retries of all keys together.
    pub per_second: f64,
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(5),
            max: Duration::from_secs(1000),
            per_second: 10.0,
            burst: 100,
        }
    }
}

pub struct RateLimiter<T> {
    limit: RateLimit,
    failures: Mutex<HashMap<T, u32>>,
    bucket: TokenBucket,
}

impl<T: Clone + Eq + Hash> RateLimiter<T> {
    pub fn new(clock: Clock, limit: RateLimit) -> Self {
        Self {
            limit,
            failures: Mutex::new(HashMap::new()),
            bucket: TokenBucket::new(clock, limit.per_second, limit.burst),
        }
    }

    /// Counts a failure; how long the key is to wait.
    pub fn when(&self, item: &T) -> Duration {
        let failures = {
            let mut all = self.failures.lock();
            let failures = all.entry(item.clone()).or_insert(0);
            let before = *failures;
            *failures = failures.saturating_add(1);
            before
        };
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let own = self.limit.base.saturating_mul(factor).min(self.limit.max);
        own.max(self.bucket.reserve())
    }

    pub fn forget(&self, item: &T) {
        self.failures.lock().remove(item);
    }

    pub fn num_requeues(&self, item: &T) -> u32 {
        self.failures.lock().get(item).copied().unwrap_or(0)
    }
}
