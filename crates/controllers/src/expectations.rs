//! Expectations: what a controller has asked of the API but not yet seen come back through its informer. Until all of
//! it is seen (or five minutes pass), the cache is stale for that key and the controller must not create or delete.
//!
//! An answer that is lost leaves open whether its write was done. Then the API itself is asked what there is, until the
//! cache shows the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, ListOptions, TypedKind};
use coracle_clock::{Clock, Instant};
use coracle_informer::Error;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::owner::controller_of;

const TIMEOUT: Duration = Duration::from_secs(300);
/// When a key that may not be acted on is looked at again, if no event comes before.
const AGAIN: Duration = Duration::from_secs(1);

struct Pending {
    creations: usize,
    /// Uids whose deletion has been asked for.
    deletions: HashSet<String>,
    since: Instant,
    /// Whether something asked for was done is unknown.
    doubtful: bool,
}

/// Whether a write that failed like this may have been done all the same.
pub fn is_uncertain(error: &coracle_client::Error) -> bool {
    match error {
        coracle_client::Error::Transport { .. } | coracle_client::Error::Timeout { .. } => true,
        other => other.status().is_some_and(|s| s.code == 504),
    }
}

/// When to look again, after a look at a key that might be acted on or not.
pub fn look_again(planned: Option<Duration>, may_act: bool) -> Option<Duration> {
    match may_act {
        true => planned,
        false => Some(planned.map_or(AGAIN, |planned| planned.min(AGAIN))),
    }
}

/// Pending creations and deletions per key.
pub struct Expectations {
    pending: Mutex<HashMap<String, Pending>>,
    clock: Clock,
}

impl Expectations {
    pub fn new(clock: Clock) -> Self {
        Self {
            pending: Mutex::default(),
            clock,
        }
    }

    /// Whether everything asked for `key` has been seen (or the wait has timed out).
    pub fn satisfied(&self, key: &str) -> bool {
        let now = self.clock.instant();
        let pending = self.pending.lock();
        pending.get(key).is_none_or(|p| {
            p.creations == 0 && p.deletions.is_empty() || now.saturating_duration_since(p.since) >= TIMEOUT
        })
    }

    /// Before asking: `creations` new objects and the deletion of these uids.
    pub fn expect(&self, key: &str, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let pending = Pending {
            creations,
            deletions: deletions.into_iter().collect(),
            since: self.clock.instant(),
            doubtful: false,
        };
        self.pending.lock().insert(key.to_owned(), pending);
    }

    /// An owned object appeared, or its creation failed and will not.
    pub fn creation_observed(&self, key: &str) {
        if let Some(pending) = self.pending.lock().get_mut(key) {
            pending.creations = pending.creations.saturating_sub(1);
        }
    }

    /// An owned object is gone or terminating, or its deletion failed.
    pub fn deletion_observed(&self, key: &str, uid: &str) {
        if let Some(pending) = self.pending.lock().get_mut(key) {
            pending.deletions.remove(uid);
        }
    }

    /// The answer to something asked for is lost: [`settle`](Self::settle) finds out what became of it.
    pub fn doubt(&self, key: &str) {
        if let Some(pending) = self.pending.lock().get_mut(key) {
            pending.doubtful = true;
        }
    }

    /// [`satisfied`](Self::satisfied), after all doubt is removed. `cached` are the owner's pods as the cache has them.
    pub async fn settle<O: TypedKind>(
        &self,
        client: &Client,
        owner: &O,
        key: &str,
        cached: impl Fn() -> Vec<Arc<Pod>>,
    ) -> Result<bool, Error> {
        let in_doubt = self.pending.lock().get(key).is_some_and(|p| p.doubtful);
        if !in_doubt {
            return Ok(self.satisfied(key));
        }
        let meta = owner.meta();
        let api = client.namespaced::<Pod>(meta.namespace.as_deref().unwrap_or_default());
        let all = api.list(&ListOptions::default()).await?.items;
        let same = living_of(meta.uid.as_deref().unwrap_or_default(), &all) == living(&cached());
        if same {
            self.forget(key);
        }
        Ok(same)
    }

    pub fn forget(&self, key: &str) {
        self.pending.lock().remove(key);
    }
}

/// The uids of those that are not going.
fn living<'p>(pods: impl IntoIterator<Item = &'p Arc<Pod>>) -> HashSet<String> {
    let stays = |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_none();
    let pods = pods.into_iter().filter(stays);
    pods.map(|p| p.metadata.uid.clone().unwrap_or_default()).collect()
}

/// The same, of an owner's.
fn living_of(owner: &str, all: &[Arc<Pod>]) -> HashSet<String> {
    let owned = |p: &&Arc<Pod>| controller_of(&p.metadata).is_some_and(|o| o.uid == owner);
    living(all.iter().filter(owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn after_a_lost_answer_what_the_api_has_is_compared_with_what_the_cache_shows() {
        let pod = |uid: &str, owner: &str, deleted: Option<&str>| -> Arc<Pod> {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true});
            let meta = json!({"name": uid, "uid": uid, "ownerReferences": [owner], "deletionTimestamp": deleted});
            Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
        };
        let going = Some("2026-01-01T00:00:00Z");
        let all = [
            pod("kept", "us", None),
            pod("going", "us", going),
            pod("strange", "others", None),
        ];
        let same = |cached: &[Arc<Pod>]| living_of("us", &all) == living(cached);
        assert!(same(&[pod("kept", "us", None), pod("going", "us", going)]));
        assert!(same(&[pod("kept", "us", None)]), "one that went has been seen to go");
        assert!(!same(&[]), "one that was made is not seen yet");
        assert!(!same(&[pod("kept", "us", None), pod("going", "us", None)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_blocked_until_all_it_asked_for_is_seen() {
        let expectations = Expectations::new(Clock::system());
        assert!(expectations.satisfied("a"));
        expectations.expect("a", 2, ["uid".to_owned()]);
        expectations.creation_observed("a");
        expectations.creation_observed("a");
        assert!(!expectations.satisfied("a"));
        expectations.deletion_observed("a", "other");
        assert!(!expectations.satisfied("a"));
        expectations.deletion_observed("a", "uid");
        assert!(expectations.satisfied("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_event_blocks_for_five_minutes_at_most() {
        let clock = Clock::system();
        let expectations = Expectations::new(clock);
        expectations.expect("a", 1, []);
        clock.sleep(TIMEOUT).await;
        assert!(expectations.satisfied("a"));
    }
}
