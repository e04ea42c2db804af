//! Events expire an hour after they were written last. One watch on the store tells of every write; what expires next is
//! at the front of a queue, so that an idle server has nothing to do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::object::StoredObject;
use coracle_api::service::{DeleteOptions, Operation, Request, Target};
use coracle_clock::Timestamp;
use coracle_store::{EventKind, ListOptions, Revision, Watch};

use crate::bootstrap::own_identity;
use crate::core::Core;

const LIFE: Duration = Duration::from_secs(3600);
/// Expiries are gathered, so that a burst of events is one burst of deletes.
const AT_ONCE: Duration = Duration::from_secs(5);
const PAGE: usize = 500;

/// One write of an event.
struct Written {
    expires: Timestamp,
    namespace: Box<str>,
    name: Box<str>,
    revision: Revision,
}

struct Expiry {
    core: Arc<Core>,
    prefix: String,
    /// By the time of expiry: every write lives as long as any other.
    queue: VecDeque<Written>,
}

/// Begins to expire events, those that are there already included.
pub(crate) async fn start(core: &Arc<Core>) -> Result<(), coracle_store::Error> {
    let table = core.registry.table();
    let Some(prefix) = table.get("", "v1", "events").map(|row| row.key_prefix("")) else {
        return Ok(());
    };
    let revision = core.store.revision().await?;
    let watch = core.store.watch(&prefix, revision).await?;
    let mut expiry = Expiry {
        core: core.clone(),
        prefix,
        queue: VecDeque::new(),
    };
    tokio::spawn(async move {
        if let Err(error) = expiry.read_all(revision).await {
            tracing::warn!(%error, "the events that are there could not be read; they expire after the next start");
        }
        expiry.run(watch).await;
    });
    Ok(())
}

impl Expiry {
    async fn read_all(&mut self, revision: Revision) -> Result<(), coracle_store::Error> {
        let mut options = ListOptions {
            prefix: self.prefix.clone(),
            limit: PAGE,
            revision: Some(revision),
            ..ListOptions::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self.core.store.list(options.clone()).await?;
            for kv in &page.items {
                let Ok(stored) = StoredObject::from_bytes(kv.value.clone(), kv.mod_revision) else {
                    continue;
                };
                found.push(written(
                    &stored,
                    last_seen(&stored).unwrap_or_else(|| self.core.clock.now()),
                ));
            }
            match page.items.last() {
                Some(last) if page.more => options.after = Some(last.key.to_string()),
                _ => break,
            }
        }
        found.sort_by_key(|w| w.expires);
        self.queue = found.into();
        Ok(())
    }

    async fn run(mut self, mut watch: Watch) {
        loop {
            let due = self.queue.front().map(|w| w.expires);
            let clock = self.core.clock;
            tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return,
                next = watch.next() => match next {
                    Ok(batch) => self.take(&batch.events),
                    Err(coracle_store::Error::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "the watch on events broke");
                        match self.reopen().await {
                            Some(again) => watch = again,
                            None => return,
                        }
                    }
                },
                () = async {
                    match due {
                        Some(due) => clock.sleep_until_time(due.saturating_add(AT_ONCE).unwrap_or(due)).await,
                        None => std::future::pending().await,
                    }
                } => self.expire().await,
            }
        }
    }

    /// Starts afresh after a lost watch; `None` at shutdown.
    async fn reopen(&mut self) -> Option<Watch> {
        loop {
            if let Ok(revision) = self.core.store.revision().await
                && let Ok(watch) = self.core.store.watch(&self.prefix, revision).await
                && self.read_all(revision).await.is_ok()
            {
                return Some(watch);
            }
            tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return None,
                () = self.core.clock.sleep(AT_ONCE) => {}
            }
        }
    }

    fn take(&mut self, events: &[coracle_store::Event]) {
        let now = self.core.clock.now();
        for event in events.iter().filter(|e| e.kind != EventKind::Delete) {
            if let Ok(stored) = StoredObject::from_bytes(event.kv.value.clone(), event.kv.mod_revision) {
                self.queue.push_back(written(&stored, now));
            }
        }
    }

    /// Deletes what is due and has not been written since.
    async fn expire(&mut self) {
        let now = self.core.clock.now();
        while self.queue.front().is_some_and(|w| w.expires <= now) {
            let Some(due) = self.queue.pop_front() else { return };
            let target = Target {
                version: "v1".into(),
                resource: "events".into(),
                namespace: due.namespace.into(),
                name: due.name.into(),
                ..Target::default()
            };
            let operation = Operation::Delete(DeleteOptions {
                resource_version: Some(due.revision.to_string()),
                ..DeleteOptions::default()
            });
            match self.core.serve(&own_identity(), Request { target, operation }).await {
                Ok(_) => {}
                // Gone already, or written again: then it is in the queue a second time.
                Err(status) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => tracing::debug!(%error, "an event could not be expired"),
            }
        }
    }
}

fn written(stored: &StoredObject, at: Timestamp) -> Written {
    let head = stored.head();
    Written {
        expires: at.checked_add(LIFE).unwrap_or(Timestamp::MAX),
        namespace: head.namespace.clone(),
        name: head.name.clone(),
        revision: stored.revision(),
    }
}

/// When an event was written last, by what it says itself.
fn last_seen(stored: &StoredObject) -> Option<Timestamp> {
    let event = stored.to_object();
    [
        &["series", "lastObservedTime"][..],
        &["lastTimestamp"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ]
    .iter()
    .filter_map(|path| event.str(path)?.parse().ok())
    .max()
}
