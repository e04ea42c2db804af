//! A token bucket in the clock's time: client-side limits, event spam, retries of work queues.

use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;

/// Lets `burst` through at once and then `per_second`.
#[derive(Debug)]
pub struct TokenBucket {
    clock: Clock,
    per_second: f64,
    burst: f64,
    /// Tokens at an instant; negative when tokens of the future have been promised.
    state: Mutex<(f64, Instant)>,
}

impl TokenBucket {
    pub fn new(clock: Clock, per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            clock,
            per_second: per_second.max(f64::MIN_POSITIVE),
            burst,
            state: Mutex::new((burst, clock.instant())),
        }
    }

    fn refill(&self, state: &mut (f64, Instant)) {
        let now = self.clock.instant();
        let gained = now.saturating_duration_since(state.1).as_secs_f64() * self.per_second;
        *state = ((state.0 + gained).min(self.burst), now);
    }

    /// Takes a token if there is one.
    pub fn try_take(&self) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state);
        if state.0 < 1.0 {
            return false;
        }
        state.0 -= 1.0;
        true
    }

    /// Takes the next token, and says how long until it is there.
    pub fn reserve(&self) -> Duration {
        let mut state = self.state.lock();
        self.refill(&mut state);
        state.0 -= 1.0;
        if state.0 >= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(-state.0 / self.per_second).unwrap_or(Duration::MAX)
        }
    }

    /// Takes the next token, waiting for it.
    pub async fn take(&self) {
        let wait = self.reserve();
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_lets_a_burst_through_and_then_its_rate() {
        let clock = Clock::system();
        let bucket = TokenBucket::new(clock, 10.0, 3);
        assert_eq!((0..5).filter(|_| bucket.try_take()).count(), 3);
        clock.sleep(Duration::from_millis(100)).await;
        assert!(bucket.try_take());
        assert_eq!(bucket.reserve(), Duration::from_millis(100));
        assert_eq!(bucket.reserve(), Duration::from_millis(200));
    }
}
