//! How long to wait before the next try: twice as long each time, with jitter so that many clients do not return at once.

use std::time::Duration;

use coracle_clock::Clock;

pub struct Backoff {
    clock: Clock,
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(clock: Clock, first: Duration, most: Duration) -> Self {
        Self {
            clock,
            first,
            most,
            next: first,
        }
    }

    /// All is well: the next wait is a first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits for between one and one and a half times the current step.
    pub async fn wait(&mut self) {
        let wait = self.next.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        self.next = (self.next * 2).min(self.most);
        self.clock.sleep(wait).await;
    }
}
