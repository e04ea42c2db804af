//! Follows the objects of a kind on the server: a list, then a watch from its revision, and after every failure on from
//! the last revision seen. It puts what it sees into a [`DeltaFifo`] and decides nothing.
//!
//! Nothing is lost: a watch starts exactly where the list or the last watch ended, and when the server no longer has that
//! revision (410), a new list shows what has changed and what has gone. Nothing is invented: an unfinished list is thrown
//! away.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::object::StoredObject;
use coracle_api::service::WatchEvent;
use coracle_client::{Api, Error, Kind, ListOptions, ObjectKey, VersionMatch};
use coracle_clock::Clock;
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::delta_fifo::DeltaFifo;

/// How many objects a page of a list has, over HTTP.
const PAGE: u64 = 500;
/// A watch that ends sooner, without an event, is taken for a failure.
const SHORT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps a [`DeltaFifo`] in step with the server.
pub struct Reflector<K> {
    api: Api<K>,
    label_selector: String,
    field_selector: String,
    fifo: Arc<DeltaFifo<K>>,
    clock: Clock,
}

/// How far the reflector has come.
struct Progress {
    /// The revision to watch from; `None` asks for a new list.
    revision: Option<u64>,
    /// The server can stream lists, or has not yet been asked.
    streams_lists: bool,
    /// Something was learned since the last pause.
    advanced: bool,
}

type Item<K> = (ObjectKey<K>, Option<Arc<K>>);

impl<K: Kind> Reflector<K> {
    /// Follows the objects of `api` that match both selectors (empty: all).
    pub fn new(api: Api<K>, label_selector: &str, field_selector: &str, fifo: Arc<DeltaFifo<K>>, clock: Clock) -> Self {
        Self {
            api,
            label_selector: label_selector.to_owned(),
            field_selector: field_selector.to_owned(),
            fifo,
            clock,
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.run_forever()).await;
    }

    async fn run_forever(&self) {
        let resource = self.api.resource().to_string();
        let mut backoff = Backoff::new(self.clock, &resource, FIRST_PAUSE, LONGEST_PAUSE);
        let mut progress = Progress {
            revision: None,
            // In process a list costs nothing, and needs no stream.
            streams_lists: self.api.client().is_remote(),
            advanced: false,
        };
        loop {
            let started = self.clock.instant();
            progress.advanced = false;
            let result = self.follow(&mut progress).await;
            let lasted = self.clock.instant().saturating_duration_since(started) >= SHORT;
            if lasted {
                backoff.reset();
            }
            match result {
                // Servers end watches after a while.
                Ok(()) if lasted || progress.advanced => continue,
                Ok(()) => tracing::debug!(resource, "a watch ended at once"),
                Err(error) if error.is_expired() => {
                    tracing::info!(
                        resource,
                        revision = progress.revision,
                        "the watch has expired; listing again"
                    );
                    progress.revision = None;
                    if lasted {
                        continue;
                    }
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(resource, %error, cause, "cannot list or watch; trying again");
                }
            }
            backoff.wait().await;
        }
    }

    /// One list, if it is needed, and one watch, to its end.
    async fn follow(&self, progress: &mut Progress) -> Result<(), Error> {
        if progress.revision.is_none() && progress.streams_lists {
            match self.stream_list(progress).await {
                Err(Error::Api(status)) if refuses_streaming(status.code) => {
                    tracing::debug!(error = %status, "the server does not stream lists; listing in pages");
                    progress.streams_lists = false;
                }
                other => return other,
            }
        }
        let revision = match progress.revision {
            Some(revision) => revision,
            None => {
                let (items, revision) = self.list().await?;
                self.fifo.replace(items);
                progress.revision = Some(revision);
                progress.advanced = true;
                revision
            }
        };
        let options = ListOptions {
            resource_version: revision.to_string(),
            ..self.watch_options()
        };
        let mut events = std::pin::pin!(self.api.watch_stored(&options).await?);
        self.take(&mut events, progress).await
    }

    fn watch_options(&self) -> ListOptions {
        ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            allow_watch_bookmarks: true,
            // Over HTTP a watch may die unseen: it is renewed every five to ten minutes. In process it cannot.
            timeout_seconds: self.api.client().is_remote().then(|| rand::random_range(300..600)),
            ..ListOptions::default()
        }
    }

    /// A list as the beginning of a watch.
    async fn stream_list(&self, progress: &mut Progress) -> Result<(), Error> {
        let options = ListOptions {
            send_initial_events: Some(true),
            resource_version_match: Some(VersionMatch::NotOlderThan),
            ..self.watch_options()
        };
        let mut events = std::pin::pin!(self.api.watch_stored(&options).await?);
        let mut items: Vec<Item<K>> = Vec::new();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => items.push(self.item(&object)),
                WatchEvent::Deleted(object) => {
                    let gone = key_of::<K>(&object);
                    items.retain(|(key, _)| *key != gone);
                }
                WatchEvent::Bookmark {
                    revision,
                    initial_events_end: true,
                } => {
                    self.fifo.replace(items);
                    progress.revision = Some(revision);
                    progress.advanced = true;
                    return self.take(&mut events, progress).await;
                }
                WatchEvent::Bookmark { .. } => {}
            }
        }
        // Cut off before it was whole: nothing of it counts.
        Ok(())
    }

    /// All objects and the revision they are at.
    async fn list(&self) -> Result<(Vec<Item<K>>, u64), Error> {
        let mut options = ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: if self.api.client().is_remote() { PAGE } else { 0 },
            ..ListOptions::default()
        };
        let mut items = Vec::new();
        loop {
            let page = match self.api.list_stored(&options).await {
                // The pages took so long that their revision is gone: all at once, then.
                Err(error) if error.is_expired() && !options.continue_token.is_empty() => {
                    items.clear();
                    options.continue_token.clear();
                    options.limit = 0;
                    continue;
                }
                other => other?,
            };
            items.extend(page.items.iter().map(|object| self.item(object)));
            if page.continue_token.is_empty() {
                return Ok((items, page.revision));
            }
            options.continue_token = page.continue_token;
        }
    }

    async fn take(
        &self,
        events: &mut (impl Stream<Item = Result<WatchEvent, coracle_api::status::Status>> + Unpin),
        progress: &mut Progress,
    ) -> Result<(), Error> {
        while let Some(event) = events.next().await {
            let event = event?;
            let revision = match &event {
                WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => o.revision(),
                WatchEvent::Bookmark { revision, .. } => *revision,
            };
            match event {
                WatchEvent::Added(object) => {
                    if let (_, Some(object)) = self.item(&object) {
                        self.fifo.add(object);
                    }
                }
                WatchEvent::Modified(object) => {
                    if let (_, Some(object)) = self.item(&object) {
                        self.fifo.update(object);
                    }
                }
                WatchEvent::Deleted(object) => match self.item(&object) {
                    (_, Some(object)) => self.fifo.delete(object),
                    (key, None) => self.fifo.delete_key(&key),
                },
                WatchEvent::Bookmark { .. } => {}
            }
            progress.revision = Some(revision).filter(|r| *r != 0).or(progress.revision);
            progress.advanced = true;
        }
        Ok(())
    }

    /// The object decoded; one that cannot be must not keep the others from being seen.
    fn item(&self, stored: &Arc<StoredObject>) -> Item<K> {
        let key = key_of(stored);
        match K::decode(stored) {
            Ok(object) => (key, Some(object)),
            Err(error) => {
                let resource = self.api.resource();
                tracing::error!(%resource, %key, %error, "an object cannot be decoded; its last state stays in the cache");
                (key, None)
            }
        }
    }
}

fn key_of<K>(stored: &StoredObject) -> ObjectKey<K> {
    let head = stored.head();
    ObjectKey::new(&*head.namespace, &*head.name)
}

/// Servers that cannot stream lists say so in several ways; what follows a list in pages will tell whether the refusal
/// was about that.
fn refuses_streaming(code: u16) -> bool {
    matches!(code, 400 | 405 | 422 | 501)
}
