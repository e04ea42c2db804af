//! The one place that may read the time.
//!
//! Every component holds a [`Clock`] and asks it for the time of day, for elapsed time and for delays. The real clock
//! reads the system; a virtual one starts at a chosen instant and moves with tokio's paused test clock, so that a test
//! of a day of CronJobs ends in milliseconds. Nothing else in the workspace may call `SystemTime::now`,
//! `Instant::now`, `Timestamp::now` or `tokio::time::sleep` (clippy's `disallowed_methods` says so).
//!
//! Beside it is [`Random`], from which names and uids are drawn: seeded, a whole cluster does the same thing twice.
#![allow(clippy::disallowed_methods)]

mod random;

use std::future::Future;
use std::time::Duration;

pub use jiff::Timestamp;
pub use random::Random;
pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

/// Where a component takes its time from. Cheap to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// `None` is the system's clock; otherwise the time of day at a fixed point of tokio's clock.
    origin: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { origin: None }
    }

    /// A clock that reads `start` now and moves with tokio's clock. Under `#[tokio::test(start_paused = true)]` it
    /// moves only when every task is idle (to the next timer) or by `tokio::time::advance`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            origin: Some((start, Instant::now())),
        }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self.origin {
            None => Timestamp::now(),
            Some((start, at)) => start.checked_add(at.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }

    /// A point on the monotonic clock, for measuring how long something took.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Waits for `delay`.
    pub async fn sleep(&self, delay: Duration) {
        tokio::time::sleep(delay).await;
    }

    /// Waits until the monotonic clock reads `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Waits until the time of day is `when`; returns at once if it has passed.
    pub async fn sleep_until_time(&self, when: Timestamp) {
        let left = when.duration_since(self.now());
        if let Ok(left) = Duration::try_from(left) {
            self.sleep(left).await;
        }
    }

    /// Runs `future` for at most `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(limit, future).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_moves_with_the_paused_clock_and_costs_no_real_time() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        clock.sleep(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now(), "2026-01-02T00:00:00Z".parse().unwrap());
        clock.sleep_until_time("2026-01-03T12:00:00Z".parse().unwrap()).await;
        assert_eq!(clock.now(), "2026-01-03T12:00:00Z".parse().unwrap());
        clock.sleep_until_time(start).await;
    }
}
