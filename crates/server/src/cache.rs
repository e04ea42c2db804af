//! The watch cache: one watch on the store feeds an in-memory copy per stored resource, from which lists and watches are
//! answered. It owns no policy: who may read, and in what form, is decided elsewhere.
//!
//! A resource's [`Shard`] is loaded the first time somebody reads it. The values are the store's own bytes, shared.

pub(crate) mod event;
pub(crate) mod fields;
pub(crate) mod item;
pub(crate) mod selection;
pub(crate) mod shard;
pub(crate) mod watcher;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_api::resource::Resource;
use coracle_api::status::Status;
use coracle_clock::{Clock, Instant};
use coracle_store::{Error, Event as StoreEvent, Revision, Store};
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use event::Delivery;
pub(crate) use item::Item;
pub(crate) use selection::Selection;
pub(crate) use shard::Shard;
pub(crate) use watcher::{Start, Watcher};

/// Everything the API server stores is below this prefix.
pub(crate) const ROOT: &str = "/registry/";
/// How often a watch that asked for bookmarks gets one when nothing else happens.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a read waits for a revision that the cache has not reached.
const FRESH_WITHIN: Duration = Duration::from_secs(3);

/// All shards, and how far the feed from the store has come.
pub(crate) struct Cache {
    store: Arc<dyn Store>,
    clock: Clock,
    shards: RwLock<HashMap<Box<str>, Arc<Shard>>>,
    applied: AtomicU64,
    /// Told when `applied` has grown. Those who wait go on in the order they came, so that a run can be had again
    /// (receivers of a `tokio::sync::watch` are woken in an order of chance).
    advanced: Notify,
    wanted: Notify,
    shutdown: CancellationToken,
    started: Instant,
}

impl Cache {
    /// Begins to follow the store. Ends with the token.
    pub async fn start(store: Arc<dyn Store>, clock: Clock, shutdown: CancellationToken) -> Result<Arc<Self>, Error> {
        let revision = store.revision().await?;
        let feed = store.watch(ROOT, revision).await?;
        let cache = Arc::new(Self {
            store,
            clock,
            shards: RwLock::default(),
            applied: AtomicU64::new(revision),
            advanced: Notify::new(),
            wanted: Notify::new(),
            shutdown,
            started: clock.instant(),
        });
        tokio::spawn(cache.clone().follow(feed));
        Ok(cache)
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// When the next bookmarks are due. Those of all watches fall together, so that an idle server wakes once for all.
    pub fn next_bookmark(&self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.started).as_secs() / BOOKMARK_EVERY.as_secs();
        self.started + BOOKMARK_EVERY * u32::try_from(passed + 1).unwrap_or(u32::MAX)
    }

    /// Every event up to this revision is in the shards.
    pub fn revision(&self) -> Revision {
        self.applied.load(Ordering::Acquire)
    }

    async fn follow(self: Arc<Self>, mut feed: coracle_store::Watch) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.wanted.notified() => {
                    feed.request_progress();
                    continue;
                }
                next = feed.next() => next,
            };
            match next {
                Ok(batch) => {
                    self.apply(&batch.events);
                    if self.applied.fetch_max(batch.revision, Ordering::AcqRel) < batch.revision {
                        self.advanced.notify_waiters();
                    }
                }
                Err(Error::Closed) => {
                    tracing::debug!("the store closed its watch");
                    self.shutdown.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the watch on the store broke; caches start afresh");
                    self.forget();
                    match self.reopen().await {
                        Some(again) => feed = again,
                        None => return,
                    }
                }
            }
        }
    }

    /// Opens the feed again, waiting between attempts; `None` at shutdown.
    async fn reopen(&self) -> Option<coracle_store::Watch> {
        let mut pause = Duration::from_millis(50);
        loop {
            if let Ok(revision) = self.store.revision().await
                && let Ok(feed) = self.store.watch(ROOT, revision).await
            {
                // A shard that was loaded meanwhile may have missed events between the two feeds.
                self.forget();
                self.applied.store(revision, Ordering::Release);
                self.advanced.notify_waiters();
                return Some(feed);
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                () = self.clock.sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        }
    }

    /// Drops all shards; their watchers are ended with 410.
    fn forget(&self) {
        for (_, shard) in self.shards.write().drain() {
            shard.close();
        }
    }

    /// Hands the events to their shards, run by run, so that one revision's events for a shard appear at once.
    fn apply(&self, events: &[StoreEvent]) {
        let mut rest = events;
        while let Some(first) = rest.first() {
            let shard = self.shard_of(&first.kv.key);
            let same = |e: &&StoreEvent| match &shard {
                Some(shard) => e.kv.key.starts_with(shard.prefix()),
                None => false,
            };
            let run = rest.iter().take_while(same).count().max(1);
            let (now, later) = rest.split_at(run);
            if let Some(shard) = shard {
                shard.apply(now);
            }
            rest = later;
        }
    }

    /// The shard that keeps `key`, if somebody has asked for it: `/registry/pods/...` or
    /// `/registry/services/specs/...`.
    fn shard_of(&self, key: &str) -> Option<Arc<Shard>> {
        let rest = key.strip_prefix(ROOT)?;
        let first = rest.find('/')?;
        let shards = self.shards.read();
        if let Some(shard) = shards.get(&rest[..first]) {
            return Some(shard.clone());
        }
        let second = rest[first + 1..].find('/')? + first + 1;
        shards.get(&rest[..second]).cloned()
    }

    /// The stored resources in memory, with their number of objects.
    pub fn sizes(&self) -> Vec<(String, usize)> {
        self.shards
            .read()
            .iter()
            .map(|(name, shard)| (name.to_string(), shard.len()))
            .collect()
    }

    /// What the cache holds under a key, if its shard is loaded.
    pub fn known(&self, key: &str) -> Option<Arc<Item>> {
        self.shard_of(key)?.get(key)
    }

    /// The shard of a resource, loaded.
    pub async fn shard(&self, row: &Resource) -> Result<Arc<Shard>, Status> {
        let known = self.shards.read().get(row.storage.prefix.as_ref()).cloned();
        let shard = match known {
            Some(shard) => shard,
            None => self
                .shards
                .write()
                .entry(row.storage.prefix.as_ref().into())
                .or_insert_with(|| Arc::new(Shard::new(row)))
                .clone(),
        };
        shard.load(self.store.as_ref()).await.map_err(|e| store_failed(&e))?;
        Ok(shard)
    }

    /// Waits until every event up to `revision` is in the shards.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Status> {
        if self.revision() >= revision {
            return Ok(());
        }
        // A store whose newest revisions are outside of our prefix sends no event for them, only progress.
        let quick = self.clock.timeout(Duration::from_millis(50), self.reached(revision));
        if quick.await.is_ok() {
            return Ok(());
        }
        self.wanted.notify_one();
        let reached = self.clock.timeout(FRESH_WITHIN, self.reached(revision));
        if reached.await.is_ok() {
            return Ok(());
        }
        Err(too_large_revision(revision, self.revision()))
    }

    async fn reached(&self, revision: Revision) {
        loop {
            let mut advanced = std::pin::pin!(self.advanced.notified());
            advanced.as_mut().enable();
            if self.revision() >= revision {
                return;
            }
            advanced.await;
        }
    }

    /// Waits until the shards show all that has been committed by now.
    pub async fn wait_until_current(&self) -> Result<Revision, Status> {
        let revision = self.store.revision().await.map_err(|e| store_failed(&e))?;
        self.wait_for(revision).await?;
        Ok(revision)
    }
}

/// A revision that has not happened yet, in upstream's words.
pub(crate) fn too_large_revision(asked: Revision, current: Revision) -> Status {
    use coracle_api::status::{Cause, Details};
    let text = format!("Too large resource version: {asked}, current: {current}");
    let details = Details {
        causes: vec![Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        }],
        retry_after_seconds: Some(1),
        ..Details::default()
    };
    Status::failure(504, "Timeout", format!("Timeout: {text}")).with_details(Some(Box::new(details)))
}

/// The store's error as a client sees it.
pub(crate) fn store_failed(error: &Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::FutureRevision { requested, current } => too_large_revision(*requested, *current),
        Error::Closed => Status::unavailable("the server is shutting down"),
        other => {
            tracing::error!(error = %other, "the store failed");
            Status::internal(other.to_string())
        }
    }
}
