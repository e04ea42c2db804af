//! One watch: a place in a shard's window. It buffers nothing but the initial objects (which are shared), so that an
//! idle watch costs a parked task and a slow one is ended with 410 when its place has left the window.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::status::Status;
use coracle_clock::Instant;
use coracle_store::Revision;
use futures::future::BoxFuture;

use super::shard::Read;
use super::{Cache, Delivery, Item, Selection, Shard};

/// How much is handed on at a time.
const BATCH: usize = 512;

/// Where a watch begins.
pub(crate) enum Start {
    /// With the objects that there are, as added; then a bookmark if `closing_bookmark`.
    Everything { closing_bookmark: bool },
    /// With the changes after this revision.
    After(Revision),
    /// With the changes after now.
    Now,
}

/// See the module.
pub(crate) struct Watcher {
    cache: Arc<Cache>,
    shard: Arc<Shard>,
    selection: Selection,
    initial: std::vec::IntoIter<Arc<Item>>,
    /// The revision of the bookmark that closes the initial events.
    closing: Option<Revision>,
    cursor: u64,
    /// The client knows that it has seen everything up to here.
    told: Revision,
    /// When the next bookmark falls due.
    bookmarks: Option<Instant>,
    bookmark_due: bool,
    deadline: Instant,
    /// What may end the wait for changes. It goes on being waited for from one change to the next: a timer and a place among
    /// those who wait for the shutdown are dear to take for every event.
    interruption: Option<BoxFuture<'static, Interruption>>,
    ended: bool,
}

enum Interruption {
    Shutdown,
    /// The deadline has come, or a bookmark is due.
    Time,
}

impl Watcher {
    pub fn open(
        cache: Arc<Cache>,
        shard: Arc<Shard>,
        selection: Selection,
        start: Start,
        bookmarks: bool,
        timeout: Duration,
    ) -> Result<Self, Status> {
        let fed = cache.revision();
        let gone = || Status::expired("the watch cache was reset: list again");
        let (initial, closing, cursor, told) = match start {
            Start::Everything { closing_bookmark } => {
                let all = shard.snapshot(&selection, None, 0, fed).ok_or_else(gone)?;
                (
                    all.items,
                    closing_bookmark.then_some(all.revision),
                    all.cursor,
                    all.revision,
                )
            }
            Start::After(revision) => {
                let cursor = shard.cursor_after(revision).ok_or_else(|| {
                    let oldest = shard.revision().unwrap_or(fed);
                    Status::expired(format!("too old resource version: {revision} ({oldest})"))
                })?;
                (Vec::new(), None, cursor, revision)
            }
            Start::Now => {
                let cursor = shard.cursor_after(Revision::MAX).ok_or_else(gone)?;
                (Vec::new(), None, cursor, fed)
            }
        };
        let now = cache.clock().instant();
        let bookmarks = bookmarks.then(|| cache.next_bookmark(now));
        Ok(Self {
            cache,
            shard,
            selection,
            initial: initial.into_iter(),
            closing,
            cursor,
            told,
            bookmarks,
            bookmark_due: false,
            deadline: now + timeout,
            interruption: None,
            ended: false,
        })
    }

    /// Whether there are objects left that were there when it began.
    pub fn has_initial(&self) -> bool {
        self.initial.len() > 0
    }

    /// Waits for what comes next. `None` is the regular end (timeout or shutdown); an error is the last thing said.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Vec<Delivery>, Status>> {
        if self.ended {
            return None;
        }
        if self.initial.len() > 0 {
            return Some(Ok(self
                .initial
                .by_ref()
                .take(BATCH)
                .map(|i| Delivery::Initial(i.object.clone()))
                .collect()));
        }
        if let Some(revision) = self.closing.take() {
            return Some(Ok(vec![Delivery::Bookmark {
                revision,
                initial_events_end: true,
            }]));
        }
        let shard = self.shard.clone();
        let cache = self.cache.clone();
        loop {
            let changed = shard.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // Read before the window: whatever the feed had reached then is in the window by now.
            let fed = cache.revision();
            match self.drain() {
                Err(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
                Ok((events, _)) if !events.is_empty() => return Some(Ok(events)),
                Ok((_, true)) => {
                    tokio::task::coop::consume_budget().await;
                    continue;
                }
                Ok((_, false)) => {}
            }
            if std::mem::take(&mut self.bookmark_due) && fed > self.told {
                self.told = fed;
                return Some(Ok(vec![Delivery::Bookmark {
                    revision: fed,
                    initial_events_end: false,
                }]));
            }
            let mut interruption = self.interruption.take().unwrap_or_else(|| self.interruption());
            let interrupted = tokio::select! {
                biased;
                why = &mut interruption => Some(why),
                () = &mut changed => None,
            };
            match interrupted {
                None => self.interruption = Some(interruption),
                Some(Interruption::Shutdown) => {
                    self.ended = true;
                    return None;
                }
                Some(Interruption::Time) => {
                    let now = cache.clock().instant();
                    if now >= self.deadline {
                        self.ended = true;
                        return None;
                    }
                    // What there is by now is sent before a bookmark tells of it.
                    self.bookmarks = Some(cache.next_bookmark(now));
                    self.bookmark_due = true;
                }
            }
        }
    }

    fn interruption(&self) -> BoxFuture<'static, Interruption> {
        let clock = self.cache.clock();
        let shutdown = self.cache.shutdown().clone();
        let wake = self.bookmarks.map_or(self.deadline, |at| at.min(self.deadline));
        Box::pin(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Interruption::Shutdown,
                () = clock.sleep_until(wake) => Interruption::Time,
            }
        })
    }

    /// Reads some of the window: what there is for this watcher, and whether there may be more.
    fn drain(&mut self) -> Result<(Vec<Delivery>, bool), Status> {
        let events = match self.shard.read(self.cursor, BATCH) {
            Read::Events(events) => events,
            Read::Expired => {
                return Err(Status::expired(format!(
                    "too old resource version: {} (the reader is too slow)",
                    self.told
                )));
            }
        };
        self.cursor += events.len() as u64;
        let more = events.len() == BATCH;
        let mut out = Vec::new();
        for event in events {
            if let Some(kind) = event.seen_by(&self.selection) {
                self.told = event.revision.max(self.told);
                out.push(Delivery::Change(kind, event));
            }
        }
        Ok((out, more))
    }
}
