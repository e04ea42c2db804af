//! What the engine holds in memory: for each key its current value and its past ones inside the window, and the log
//! of commits that make the window up. Pure: no I/O, no clock, no locks; the writer alone changes it.
//!
//! The log is contiguous: it has every commit from `compacted + 1` to `revision`. A past value is kept exactly as long
//! as the commit that replaced it is in the log, so that any revision from `compacted` on can be read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use coracle_clock::Instant;
use tokio::sync::watch;

use super::HistoryLimits;
use super::topic::Topics;
use crate::{Error, Event, EventKind, Got, KeyValue, ListOptions, ListPage, Revision};

/// What a commit costs to keep besides the values that it replaced.
const COMMIT_OVERHEAD: u64 = 256;

/// Where a change is kept on the disk: the revision, and its place among the changes of that revision.
pub(super) type RowId = (Revision, u32);

/// One revision: all that one transaction changed.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub revision: Revision,
    pub events: Box<[Event]>,
    /// When it was committed, or read back from the disk.
    pub at: Instant,
}

impl Commit {
    /// The memory that forgetting this commit gives back.
    fn charge(&self) -> u64 {
        let replaced = |event: &Event| event.previous.as_ref().map_or(0, |kv| kv.value.len() as u64);
        self.events.iter().map(|event| COMMIT_OVERHEAD + replaced(event)).sum()
    }
}

/// A value, or its absence, since a revision.
#[derive(Debug)]
struct Version {
    row: RowId,
    live: Option<Arc<KeyValue>>,
}

#[derive(Debug)]
struct Chain {
    head: Version,
    /// Earlier versions, oldest first.
    #[expect(
        clippy::box_collection,
        reason = "most keys have none, and should pay a pointer for it"
    )]
    older: Option<Box<VecDeque<Version>>>,
}

impl Chain {
    fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        if self.head.row.0 <= revision {
            return self.head.live.as_ref();
        }
        let older = self.older.as_ref()?;
        let after = older.partition_point(|version| version.row.0 <= revision);
        older.get(after.checked_sub(1)?)?.live.as_ref()
    }
}

#[derive(Debug)]
pub(super) struct State {
    keys: BTreeMap<Arc<str>, Chain>,
    log: VecDeque<Commit>,
    pub topics: Topics,
    pub revision: Revision,
    pub compacted: Revision,
    pub live_keys: u64,
    pub value_bytes: u64,
    pub history_bytes: u64,
}

impl State {
    /// An empty store whose history begins after `compacted`.
    pub fn new(compacted: Revision) -> Self {
        Self {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            topics: Topics::default(),
            revision: compacted.max(1),
            compacted: compacted.max(1),
            live_keys: 0,
            value_bytes: 0,
            history_bytes: 0,
        }
    }

    pub fn current(&self, key: &str) -> Option<&Arc<KeyValue>> {
        self.keys.get(key)?.head.live.as_ref()
    }

    /// The revision to read at: the one asked for, if it can be read, or the current one.
    pub fn readable(&self, requested: Option<Revision>) -> Result<Revision, Error> {
        match requested {
            None => Ok(self.revision),
            Some(requested) if requested > self.revision => Err(Error::FutureRevision {
                current: self.revision,
                requested,
            }),
            // Nothing happened before 1, so that there was nothing to forget.
            Some(requested) if requested < self.compacted && self.compacted > 1 => Err(Error::Compacted {
                compacted: self.compacted,
                requested,
            }),
            Some(requested) => Ok(requested),
        }
    }

    pub fn get(&self, key: &str, revision: Option<Revision>) -> Result<Got, Error> {
        let revision = self.readable(revision)?;
        let kv = self.keys.get(key).and_then(|chain| chain.at(revision)).cloned();
        Ok(Got { kv, revision })
    }

    pub fn list(&self, options: &ListOptions) -> Result<ListPage, Error> {
        let revision = self.readable(options.revision)?;
        let prefix = options.prefix.as_str();
        let start = match options.after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut live = self
            .keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(_, chain)| chain.at(revision));
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let items: Vec<_> = live.by_ref().take(limit).cloned().collect();
        let remaining = live.count() as u64;
        Ok(ListPage {
            items,
            revision,
            more: remaining > 0,
            remaining,
        })
    }

    /// Adds the next commit. Its events must fit the state: the writer planned them against it.
    pub fn apply(&mut self, commit: Commit) {
        debug_assert_eq!(commit.revision, self.revision + 1, "the log is contiguous");
        for (index, event) in commit.events.iter().enumerate() {
            let row = (commit.revision, index as u32);
            let live = (event.kind == EventKind::Put).then(|| event.kv.clone());
            self.count(event.previous.as_deref(), live.as_deref());
            self.topics.publish(&event.kv.key, commit.revision);
            let version = Version { row, live };
            match self.keys.get_mut(&event.kv.key) {
                Some(chain) => {
                    let replaced = std::mem::replace(&mut chain.head, version);
                    chain.older.get_or_insert_default().push_back(replaced);
                }
                None => {
                    self.keys.insert(
                        event.kv.key.clone(),
                        Chain {
                            head: version,
                            older: None,
                        },
                    );
                }
            }
        }
        self.revision = commit.revision;
        self.history_bytes += commit.charge();
        self.log.push_back(commit);
    }

    /// Adds a row that was read back from the disk and is older than the window. Returns rows that nobody needs
    /// any more.
    pub fn restore(&mut self, row: RowId, key: Arc<str>, live: Option<Arc<KeyValue>>) -> Vec<RowId> {
        let mut dead = Vec::new();
        let keep = live.is_some();
        let before = match live {
            None => {
                dead.push(row);
                self.keys.remove(&key)
            }
            Some(kv) => {
                self.count(None, Some(&kv));
                self.keys.insert(
                    key,
                    Chain {
                        head: Version { row, live: Some(kv) },
                        older: None,
                    },
                )
            }
        };
        if let Some(chain) = before {
            self.count(chain.head.live.as_deref(), None);
            dead.push(chain.head.row);
        }
        debug_assert!(keep || !dead.is_empty());
        dead
    }

    fn count(&mut self, before: Option<&KeyValue>, after: Option<&KeyValue>) {
        if let Some(kv) = before {
            self.live_keys -= 1;
            self.value_bytes -= kv.value.len() as u64;
        }
        if let Some(kv) = after {
            self.live_keys += 1;
            self.value_bytes += kv.value.len() as u64;
        }
    }

    /// Adds a watch of a prefix: its topic's name and the signal to wait for.
    pub fn join(&mut self, prefix: &str) -> (Arc<str>, watch::Receiver<()>) {
        let Self { topics, log, .. } = self;
        topics.join(prefix, || {
            let concerns = |commit: &&Commit| commit.events.iter().any(|event| event.kv.key.starts_with(prefix));
            log.iter().filter(concerns).map(|commit| commit.revision).collect()
        })
    }

    /// The commit of a revision, if it is still in the log.
    pub fn commit(&self, revision: Revision) -> Option<&Commit> {
        let index = revision.checked_sub(self.compacted + 1)?;
        self.log.get(usize::try_from(index).ok()?)
    }

    /// The commits of the log after a revision.
    pub fn commits_after(mut self, revision: Revision) -> Vec<Commit> {
        let first = self.log.partition_point(|commit| commit.revision <= revision);
        self.log.drain(first..).collect()
    }

    pub fn oldest_commit(&self) -> Option<&Commit> {
        self.log.front()
    }

    /// The newest commit of those at the log's beginning that have come of age.
    pub fn aged(&self, of_age: impl Fn(Instant) -> bool) -> Option<Revision> {
        let count = self.log.partition_point(|commit| of_age(commit.at));
        Some(self.log.get(count.checked_sub(1)?)?.revision)
    }

    /// How many keys take memory, live or not.
    #[cfg(test)]
    pub fn chains(&self) -> usize {
        self.keys.len()
    }

    /// How many commits the window holds.
    pub fn window(&self) -> u64 {
        self.log.len() as u64
    }

    /// Forgets commits until the window is within its limits of count and bytes.
    pub fn keep_within(&mut self, limits: &HistoryLimits, dead: &mut Vec<RowId>) {
        while self.window() > limits.commits || self.history_bytes > limits.bytes {
            self.forget_oldest(dead);
        }
    }

    /// Forgets the oldest commit and what only it kept alive. Returns the rows that nobody needs any more.
    pub fn forget_oldest(&mut self, dead: &mut Vec<RowId>) {
        let Some(commit) = self.log.pop_front() else { return };
        self.compacted = commit.revision;
        self.history_bytes -= commit.charge();
        for event in &commit.events {
            self.topics.forget(&event.kv.key, commit.revision);
            let Some(chain) = self.keys.get_mut(&event.kv.key) else {
                continue;
            };
            if let Some(older) = &mut chain.older {
                // Everything before this event, and the event itself if it was a deletion.
                let gone = |version: &Version| {
                    version.row.0 < commit.revision || (version.row.0 == commit.revision && version.live.is_none())
                };
                let count = older.partition_point(gone);
                dead.extend(older.drain(..count).map(|version| version.row));
                if older.is_empty() {
                    chain.older = None;
                }
            }
            if chain.head.live.is_none() && chain.head.row.0 <= commit.revision {
                dead.push(chain.head.row);
                self.keys.remove(&event.kv.key);
            }
        }
    }
}
