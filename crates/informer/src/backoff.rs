//! How long to wait before the next try: twice as long each time, with jitter so that many clients do not return at once.
//! The jitter is made of who waits and of the moment; in virtual time the same run has the same jitter.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use coracle_clock::Clock;

pub struct Backoff {
    clock: Clock,
    whose: u64,
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(clock: Clock, whose: impl Hash, first: Duration, most: Duration) -> Self {
        Self {
            clock,
            whose: hash(whose),
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
        // The upper half of the hash as a fraction.
        let chance = hash((self.whose, self.clock.now().as_nanosecond())) >> 32;
        let wait = self.next.mul_f64(1.0 + chance as f64 / (1_u64 << 33) as f64);
        self.next = (self.next * 2).min(self.most);
        self.clock.sleep(wait).await;
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
