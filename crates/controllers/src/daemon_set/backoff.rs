//! How long a failed daemon is left alone before it is replaced: a second, then twice as long at each further failure on
//! the same node, at most a quarter of an hour. A node may refuse a pod again and again.

use std::collections::HashMap;
use std::time::Duration;

use coracle_clock::Timestamp;
use parking_lot::Mutex;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

/// A set's uid, its generation (a new one gets a fresh start) and a node's name.
pub type Failing = (String, i64, String);

#[derive(Clone, Copy)]
struct Entry {
    wait: Duration,
    since: Timestamp,
}

impl Entry {
    fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.since)).unwrap_or_default()
    }

    /// Nothing has failed for so long that it counts no more.
    fn is_over(&self, now: Timestamp) -> bool {
        self.age(now) > MOST * 2
    }
}

/// What has failed where.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<Failing, Entry>>);

impl Failures {
    /// How much longer a failed pod has to stay.
    pub fn wait(&self, key: &Failing, now: Timestamp) -> Option<Duration> {
        let all = self.0.lock();
        let entry = all.get(key).filter(|e| !e.is_over(now))?;
        entry.wait.checked_sub(entry.age(now)).filter(|left| !left.is_zero())
    }

    /// A failed pod is replaced now.
    pub fn count(&self, key: Failing, now: Timestamp) {
        let mut all = self.0.lock();
        all.retain(|_, e| !e.is_over(now));
        let wait = all.get(&key).map_or(FIRST, |e| (e.wait * 2).min(MOST));
        all.insert(key, Entry { wait, since: now });
    }

    /// The set is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().retain(|(owner, _, _), _| owner != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_quarter_of_an_hour_and_is_forgotten_after_half_an_hour_of_peace() {
        let failures = Failures::default();
        let key = ("u".to_owned(), 1, "n".to_owned());
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut waits = Vec::new();
        assert_eq!(failures.wait(&key, now), None);
        for _ in 0..12 {
            failures.count(key.clone(), now);
            let wait = failures.wait(&key, now).unwrap();
            waits.push(wait.as_secs());
            now = now.checked_add(wait).unwrap();
            assert_eq!(failures.wait(&key, now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        now = now.checked_add(MOST * 3).unwrap();
        failures.count(key.clone(), now);
        assert_eq!(failures.wait(&key, now), Some(FIRST));
        failures.forget("u");
        assert_eq!(failures.wait(&key, now), None);
    }
}
