//! What a watch delivers. Events are shared, never copied: a batch holds references to what the store holds.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Error, KeyValue, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// After a put: what the key holds. After a delete: its last value, with `mod_revision` the revision of the
    /// deletion and `version` 0.
    pub kv: Arc<KeyValue>,
    /// What the key held before, if anything.
    pub previous: Option<Arc<KeyValue>>,
}

impl Event {
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision
    }
}

/// One or more whole revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Empty when the batch only reports progress.
    pub events: Vec<Event>,
    /// Every event of the watch's prefix up to this revision has been delivered.
    pub revision: Revision,
}

/// The engine's side of a watch.
#[async_trait]
pub trait Feed: Send {
    /// See [`Watch::next`].
    async fn next(&mut self) -> Result<WatchBatch, Error>;
    /// See [`Watch::request_progress`].
    fn request_progress(&mut self);
}

/// Events under a prefix, from a revision on: none twice, none missing, in order.
pub struct Watch {
    feed: Box<dyn Feed>,
}

impl Watch {
    pub fn new(feed: impl Feed + 'static) -> Self {
        Self { feed: Box::new(feed) }
    }

    /// Waits for the next batch. Dropping the future loses nothing. A reader that falls so far behind that an event
    /// it should have had is gone gets [`Error::Compacted`], now and on every later call.
    pub async fn next(&mut self) -> Result<WatchBatch, Error> {
        self.feed.next().await
    }

    /// Asks that `next` return soon even if nothing happened, with an empty batch that tells how far the watch has
    /// come. This is what a bookmark is made from; an idle watch is not woken otherwise.
    pub fn request_progress(&mut self) {
        self.feed.request_progress();
    }
}
