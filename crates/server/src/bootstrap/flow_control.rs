//! Keeps the objects of flow control while the server runs: one that is deleted comes back, and one that should have its
//! spec gets it again. Two watches on the store tell which of them there is something to do about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::kinds::flow_control;
use coracle_api::object::Object;
use coracle_api::resource::split_api_version;
use coracle_clock::Instant;
use coracle_store::{Error, Watch, WatchBatch};
use serde_json::Value;

use super::ensure;
use crate::core::Core;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const KINDS: [&str; 2] = ["flowschemas", "prioritylevelconfigurations"];
/// How long an object is left alone after it was written, or could not be; twice as long each time until it is found as
/// it should be: servers of two versions that share a store, each with its own idea of a spec, must not keep each other
/// busy.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The same, between two attempts to watch.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_REOPEN_PAUSE: Duration = Duration::from_secs(5);

/// Begins to keep them, as they are now.
pub(crate) async fn keep(core: &Arc<Core>) -> Result<(), Error> {
    if let Some(watches) = open(core).await? {
        let keeper = Keeper {
            kept: kept(core),
            core: core.clone(),
        };
        tokio::spawn(keeper.run(watches));
    }
    Ok(())
}

/// When one of them is looked at. Pure.
#[derive(Debug)]
struct Turn {
    due: Option<Instant>,
    not_before: Option<Instant>,
    pause: Duration,
}

impl Turn {
    fn new() -> Self {
        Self {
            due: None,
            not_before: None,
            pause: PAUSE,
        }
    }

    /// It has changed, or may have.
    fn news(&mut self, now: Instant) {
        let allowed = self.not_before.map_or(now, |at| at.max(now));
        self.due.get_or_insert(allowed);
    }

    /// It was looked at, and found as it should be.
    fn was_right(&mut self) {
        *self = Self::new();
    }

    /// It was written.
    fn was_written(&mut self, now: Instant) {
        self.due = None;
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// It could not be written, and is tried again.
    fn failed(&mut self, now: Instant) {
        self.was_written(now);
        self.due = self.not_before;
    }
}

/// By the key in the store: the object as it should be, and its turn.
type Kept = BTreeMap<String, (&'static Value, Turn)>;

struct Keeper {
    core: Arc<Core>,
    kept: Kept,
}

fn kept(core: &Core) -> Kept {
    let table = core.registry.table();
    let keyed = |value: &'static Value| {
        let object = Object::from_value(value.clone())?;
        let (group, version) = split_api_version(object.api_version());
        let row = table.by_kind(group, version, object.kind())?;
        Some((row.key(object.namespace(), object.name()), (value, Turn::new())))
    };
    flow_control::objects().iter().filter_map(keyed).collect()
}

async fn open(core: &Core) -> Result<Option<[Watch; 2]>, Error> {
    let prefixes = KINDS.map(|kind| {
        let table = core.registry.table();
        table.get(GROUP, "v1", kind).map(|row| row.key_prefix(""))
    });
    let [Some(schemas), Some(levels)] = prefixes else {
        return Ok(None);
    };
    let revision = core.store.revision().await?;
    let schemas = core.store.watch(&schemas, revision).await?;
    let levels = core.store.watch(&levels, revision).await?;
    Ok(Some([schemas, levels]))
}

impl Keeper {
    async fn run(mut self, mut watches: [Watch; 2]) {
        loop {
            let due = self.kept.values().filter_map(|(_, turn)| turn.due).min();
            let clock = self.core.clock;
            let [schemas, levels] = &mut watches;
            let news = tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return,
                news = schemas.next() => news,
                news = levels.next() => news,
                () = async {
                    match due {
                        Some(due) => clock.sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.restore_due().await;
                    continue;
                }
            };
            match news {
                Ok(batch) => self.take(&batch),
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "a watch on the objects of flow control broke");
                    match self.reopen().await {
                        Some(again) => watches = again,
                        None => return,
                    }
                }
            }
        }
    }

    fn take(&mut self, batch: &WatchBatch) {
        let now = self.core.clock.instant();
        for event in &batch.events {
            if let Some((_, turn)) = self.kept.get_mut(&*event.kv.key) {
                turn.news(now);
            }
        }
    }

    async fn restore_due(&mut self) {
        let clock = self.core.clock;
        let now = clock.instant();
        for (object, turn) in self.kept.values_mut() {
            if turn.due.is_none_or(|due| due > now) {
                continue;
            }
            match ensure(&self.core, object.clone()).await {
                Ok(false) => turn.was_right(),
                Ok(true) => turn.was_written(clock.instant()),
                // What went wrong has been logged.
                Err(_) => turn.failed(clock.instant()),
            }
        }
    }

    /// Watches again; all may have changed meanwhile. `None` at shutdown, or if there is nothing to watch any more.
    async fn reopen(&mut self) -> Option<[Watch; 2]> {
        let mut pause = REOPEN_PAUSE;
        loop {
            match open(&self.core).await {
                Ok(watches) => {
                    let now = self.core.clock.instant();
                    self.kept.values_mut().for_each(|(_, turn)| turn.news(now));
                    return watches;
                }
                Err(error) => tracing::debug!(%error, "the objects of flow control cannot be watched yet"),
            }
            tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return None,
                () = self.core.clock.sleep(pause) => pause = (pause * 2).min(LONGEST_REOPEN_PAUSE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_clock::Clock;

    #[test]
    fn who_changes_an_object_back_each_time_waits_longer_each_time() {
        let start = Clock::system().instant();
        let (mut turn, mut now, mut waits) = (Turn::new(), start, Vec::new());
        for _ in 0..8 {
            turn.news(now);
            let due = turn.due.unwrap();
            waits.push((due - now).as_secs());
            now = due;
            turn.was_written(now);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        // Once it has stayed as it should be, a change is undone at once.
        turn.news(now);
        now = turn.due.unwrap();
        turn.was_right();
        turn.news(now);
        assert_eq!(turn.due, Some(now));
    }

    #[test]
    fn what_fails_is_tried_again_without_news_and_news_do_not_hurry_it() {
        let now = Clock::system().instant();
        let mut turn = Turn::new();
        turn.news(now);
        turn.failed(now);
        assert_eq!(turn.due, Some(now + PAUSE));
        turn.news(now);
        assert_eq!(turn.due, Some(now + PAUSE));
        turn.failed(now + PAUSE);
        assert_eq!(turn.due, Some(now + 3 * PAUSE));
    }
}
