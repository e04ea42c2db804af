//! One watch: a cursor into the log. It holds no events of its own, so that a slow reader costs nothing but its place,
//! and a place that has left the window is told so.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Core;
use crate::{Error, Feed, Revision, WatchBatch};

/// How many events a batch holds before it is cut at the end of a revision.
const BATCH_EVENTS: usize = 1024;

pub(super) struct Watcher {
    core: Arc<Core>,
    prefix: Arc<str>,
    signal: watch::Receiver<()>,
    /// Everything up to here has been delivered.
    cursor: Revision,
    progress: bool,
}

impl Watcher {
    pub fn new(core: Arc<Core>, prefix: &str, from: Revision) -> Result<Self, Error> {
        let mut state = core.state.write();
        core.check_open()?;
        state.readable(Some(from))?;
        let (prefix, signal) = state.join(prefix);
        drop(state);
        Ok(Self {
            core,
            prefix,
            signal,
            cursor: from,
            progress: false,
        })
    }

    /// What is there to deliver now, if anything.
    fn poll(&mut self) -> Result<Option<WatchBatch>, Error> {
        let state = self.core.state.read();
        self.core.check_open()?;
        let topic = state.topics.get(&self.prefix).ok_or(Error::Closed)?;
        if topic.dropped() > self.cursor {
            return Err(Error::Compacted {
                compacted: state.compacted,
                requested: self.cursor,
            });
        }
        let mut events = Vec::new();
        let mut reached = state.revision;
        for revision in topic.after(self.cursor) {
            if events.len() >= BATCH_EVENTS {
                break;
            }
            // The topic's revisions leave it together with their commits.
            let commit = state.commit(revision).ok_or(Error::Closed)?;
            events.extend(
                commit
                    .events
                    .iter()
                    .filter(|event| event.kv.key.starts_with(&*self.prefix))
                    .cloned(),
            );
            if events.len() >= BATCH_EVENTS {
                reached = revision;
            }
        }
        self.cursor = reached;
        let deliver = !events.is_empty() || std::mem::take(&mut self.progress);
        Ok(deliver.then_some(WatchBatch {
            events,
            revision: reached,
        }))
    }
}

#[async_trait]
impl Feed for Watcher {
    async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            // Seen before looking: news that comes while looking is news to the next turn of the loop.
            self.signal.mark_unchanged();
            if let Some(batch) = self.poll()? {
                return Ok(batch);
            }
            self.signal.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    fn request_progress(&mut self) {
        self.progress = true;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.core.state.write().topics.leave(&self.prefix);
    }
}
