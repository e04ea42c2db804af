//! The sets behind the queue: what waits, what is being worked on, and since when. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use coracle_clock::Instant;

pub struct Fifo<T> {
    /// The keys that can be worked on, in order: those of `dirty` that are not in `processing`.
    queue: VecDeque<T>,
    /// Every key that needs work, since it was first added.
    dirty: HashMap<T, Instant>,
    /// Every key that a worker has, since it was taken.
    processing: HashMap<T, Instant>,
    pub shutting_down: bool,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            dirty: HashMap::new(),
            processing: HashMap::new(),
            shutting_down: false,
        }
    }
}

impl<T: Clone + Eq + Hash> Fifo<T> {
    /// Whether the key was not waiting yet.
    pub fn add(&mut self, item: T, now: Instant) -> bool {
        if self.dirty.contains_key(&item) {
            return false;
        }
        self.dirty.insert(item.clone(), now);
        if !self.processing.contains_key(&item) {
            self.queue.push_back(item);
        }
        true
    }

    /// The next key, and how long it has waited.
    pub fn take(&mut self, now: Instant) -> Option<(T, Duration)> {
        let item = self.queue.pop_front()?;
        let since = self.dirty.remove(&item).unwrap_or(now);
        self.processing.insert(item.clone(), now);
        Some((item, now.saturating_duration_since(since)))
    }

    /// How long the key was worked on, if it was.
    pub fn done(&mut self, item: &T, now: Instant) -> Option<Duration> {
        let since = self.processing.remove(item)?;
        if self.dirty.contains_key(item) {
            self.queue.push_back(item.clone());
        }
        Some(now.saturating_duration_since(since))
    }

    /// Drops every key that no worker has.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.dirty.clear();
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Nothing waits and nothing is being worked on.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.processing.is_empty()
    }

    /// How long each key that a worker has has been worked on.
    pub fn working(&self, now: Instant) -> impl Iterator<Item = Duration> {
        self.processing
            .values()
            .map(move |since| now.saturating_duration_since(*since))
    }
}
