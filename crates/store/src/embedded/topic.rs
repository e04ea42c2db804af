//! Who wants to hear of which keys. All watches of one prefix share a topic, which knows the revisions in the window
//! that concern it; a commit wakes the topics of its keys and nobody else, so that idle watches cost nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use crate::Revision;

#[derive(Debug)]
pub(super) struct Topic {
    prefix: Arc<str>,
    /// The revisions in the log with an event under the prefix, ascending.
    revisions: VecDeque<Revision>,
    /// The newest revision that was in `revisions` and has left the window.
    dropped: Revision,
    signal: watch::Sender<()>,
    /// Whether it is among [`Topics::woken`].
    woken: bool,
    watches: u64,
}

impl Topic {
    pub fn dropped(&self) -> Revision {
        self.dropped
    }

    pub fn after(&self, revision: Revision) -> impl Iterator<Item = Revision> {
        let from = self.revisions.partition_point(|other| *other <= revision);
        self.revisions.range(from..).copied()
    }
}

/// The topics by prefix.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_prefix: HashMap<Arc<str>, Topic>,
    /// The distinct lengths of the prefixes, and how many prefixes have each: a key belongs to the topics found by
    /// looking up its first so many bytes.
    lengths: BTreeMap<usize, usize>,
    /// Topics with news since the last [`Topics::take_woken`].
    woken: Vec<Arc<str>>,
}

impl Topics {
    pub fn get(&self, prefix: &str) -> Option<&Topic> {
        self.by_prefix.get(prefix)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty() && self.lengths.is_empty()
    }

    pub fn watches(&self) -> u64 {
        self.by_prefix.values().map(|topic| topic.watches).sum()
    }

    /// Adds a watch. `seed` gives the revisions in the log that concern a topic that is new.
    pub fn join(&mut self, prefix: &str, seed: impl FnOnce() -> VecDeque<Revision>) -> (Arc<str>, watch::Receiver<()>) {
        if !self.by_prefix.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        let topic = self.by_prefix.entry(prefix.into()).or_insert_with_key(|prefix| Topic {
            prefix: prefix.clone(),
            revisions: seed(),
            dropped: 0,
            signal: watch::Sender::new(()),
            woken: false,
            watches: 0,
        });
        topic.watches += 1;
        (topic.prefix.clone(), topic.signal.subscribe())
    }

    /// Takes a watch off its topic; the last one takes the topic with it.
    pub fn leave(&mut self, prefix: &str) {
        let Some(topic) = self.by_prefix.get_mut(prefix) else {
            return;
        };
        topic.watches = topic.watches.saturating_sub(1);
        if topic.watches > 0 {
            return;
        }
        self.by_prefix.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// The topics that a key belongs to.
    fn each(&mut self, key: &str, mut act: impl FnMut(&mut Topic)) {
        for length in self.lengths.keys().take_while(|length| **length <= key.len()) {
            let Some(prefix) = key.get(..*length) else { continue };
            if let Some(topic) = self.by_prefix.get_mut(prefix) {
                act(topic);
            }
        }
    }

    /// Notes that a commit changed a key.
    pub fn publish(&mut self, key: &str, revision: Revision) {
        let mut woken = std::mem::take(&mut self.woken);
        self.each(key, |topic| {
            // Once per revision, however many keys a transaction changed.
            if topic.revisions.back() != Some(&revision) {
                topic.revisions.push_back(revision);
            }
            if !std::mem::replace(&mut topic.woken, true) {
                woken.push(topic.prefix.clone());
            }
        });
        self.woken = woken;
    }

    /// Notes that a commit that changed a key has left the log.
    pub fn forget(&mut self, key: &str, revision: Revision) {
        self.each(key, |topic| {
            while topic.revisions.front().is_some_and(|front| *front <= revision) {
                topic.revisions.pop_front();
                topic.dropped = revision;
            }
        });
    }

    /// The signals of the topics with news, to be sent when the lock on the state is released.
    pub fn take_woken(&mut self) -> Vec<watch::Sender<()>> {
        let prefixes = std::mem::take(&mut self.woken);
        let mut signal = |prefix: Arc<str>| {
            let topic = self.by_prefix.get_mut(&prefix)?;
            topic.woken = false;
            Some(topic.signal.clone())
        };
        prefixes.into_iter().filter_map(&mut signal).collect()
    }

    /// Removes all topics, which ends all watches.
    pub fn clear(&mut self) {
        self.by_prefix.clear();
        self.lengths.clear();
        self.woken.clear();
    }
}
