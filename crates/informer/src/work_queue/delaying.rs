//! Keys that will be added later, each once, in order of time. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use coracle_clock::Instant;

pub struct Delaying<T> {
    by_time: BTreeMap<(Instant, u64), T>,
    by_item: HashMap<T, (Instant, u64)>,
    /// Keeps keys of the same instant in the order they were added.
    sequence: u64,
    /// There is a task that waits for the next one.
    pub running: bool,
}

impl<T> Default for Delaying<T> {
    fn default() -> Self {
        Self {
            by_time: BTreeMap::new(),
            by_item: HashMap::new(),
            sequence: 0,
            running: false,
        }
    }
}

impl<T: Clone + Eq + Hash> Delaying<T> {
    /// Adds a key unless it comes sooner anyhow; whether it is the next of all now.
    pub fn add(&mut self, item: T, when: Instant) -> bool {
        if let Some(known) = self.by_item.get(&item) {
            if known.0 <= when {
                return false;
            }
            self.by_time.remove(known);
        }
        self.sequence += 1;
        let at = (when, self.sequence);
        self.by_item.insert(item.clone(), at);
        self.by_time.insert(at, item);
        self.by_time.keys().next() == Some(&at)
    }

    pub fn next(&self) -> Option<Instant> {
        self.by_time.keys().next().map(|(when, _)| *when)
    }

    pub fn take_due(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        while let Some(first) = self.by_time.first_entry()
            && first.key().0 <= now
        {
            let item = first.remove();
            self.by_item.remove(&item);
            due.push(item);
        }
        due
    }

    pub fn clear(&mut self) {
        self.by_time.clear();
        self.by_item.clear();
    }
}
