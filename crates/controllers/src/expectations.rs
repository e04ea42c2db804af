//! Expectations: what a controller has asked of the API but not yet seen come back through its informer. Until all of
//! it is seen (or five minutes pass), the cache is stale for that key and the controller must not create or delete.
//!
//! An answer that is lost leaves open whether its write was done. Then the API itself is asked, once, what there is, and the
//! cache is waited for until it has seen that come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::owner::controller_of;

const TIMEOUT: Duration = Duration::from_secs(300);

struct Pending {
    creations: usize,
    /// Uids of pods that are there, as the API has said.
    arrivals: HashSet<String>,
    /// Uids whose deletion has been asked for, or of pods that the API does not have any more.
    deletions: HashSet<String>,
    since: Instant,
    doubt: Option<Doubt>,
}

/// Whether something asked for was done is unknown.
#[derive(Default)]
struct Doubt {
    /// Uids of the pods that were seen since: the API's answer may be older.
    seen: HashSet<String>,
}

/// What a key waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: the cache has all that was done.
    Over,
    /// The informer, for so long at most.
    Events(Duration),
    /// Somebody has to [`learn`](Expectations::learn) what the API has.
    Answer,
}

/// Pending creations and deletions, by the owner's uid: another owner of the same name asks for its own.
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

    /// What still has to happen before the owner may be acted on.
    pub fn wait(&self, owner: &str) -> Wait {
        let pending = self.pending.lock();
        let Some(pending) = pending.get(owner) else {
            return Wait::Over;
        };
        let waited = self.clock.instant().saturating_duration_since(pending.since);
        let left = TIMEOUT.saturating_sub(waited);
        let is_seen = pending.creations == 0 && pending.arrivals.is_empty() && pending.deletions.is_empty();
        match &pending.doubt {
            _ if left.is_zero() => Wait::Over,
            Some(_) => Wait::Answer,
            None if is_seen => Wait::Over,
            None => Wait::Events(left),
        }
    }

    /// Before asking: `creations` new objects and the deletion of these uids.
    pub fn expect(&self, owner: &str, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let pending = Pending {
            creations,
            arrivals: HashSet::new(),
            deletions: deletions.into_iter().collect(),
            since: self.clock.instant(),
            doubt: None,
        };
        self.pending.lock().insert(owner.to_owned(), pending);
    }

    /// Whether anything is expected.
    fn update(&self, owner: &str, change: impl FnOnce(&mut Pending)) -> bool {
        self.pending.lock().get_mut(owner).map(change).is_some()
    }

    /// An owned object of this uid was seen: one that `is_new`, one that `is_going` (or gone, or no longer owned).
    pub fn observed(&self, owner: &str, uid: &str, is_new: bool, is_going: bool) {
        self.update(owner, |pending| {
            pending.creations = pending.creations.saturating_sub(usize::from(is_new));
            if is_going {
                pending.deletions.remove(uid);
            }
            pending.arrivals.remove(uid);
            if let Some(doubt) = &mut pending.doubt {
                doubt.seen.insert(uid.to_owned());
            }
        });
    }

    /// So many creations failed, or were not tried.
    pub fn not_created(&self, owner: &str, count: usize) {
        self.update(owner, |pending| {
            pending.creations = pending.creations.saturating_sub(count)
        });
    }

    /// A deletion failed.
    pub fn not_deleted(&self, owner: &str, uid: &str) {
        self.update(owner, |pending| {
            pending.deletions.remove(uid);
        });
    }

    /// The answer to something asked for is lost.
    pub fn doubt(&self, owner: &str) {
        self.update(owner, |pending| {
            pending.doubt.get_or_insert_default();
        });
    }

    /// After a doubt: `listed` are all pods there, by an API that was asked after `before` was read from the cache, and
    /// `cached` are the owner's in the cache now. What differs is waited for. `false`: the owner has gone meanwhile.
    pub fn learn(&self, owner: &str, before: &[Arc<Pod>], listed: &[Arc<Pod>], cached: &[Arc<Pod>]) -> bool {
        let is_owned = |pod: &&Arc<Pod>| controller_of(&pod.metadata).is_some_and(|o| o.uid == owner);
        let there = living(listed.iter().filter(is_owned));
        self.update(owner, |pending| {
            let seen = pending.doubt.take().unwrap_or_default().seen;
            let known: HashSet<String> = cached.iter().map(uid_of).collect();
            let living_now = living(cached);
            pending.creations = 0;
            pending.arrivals = there
                .iter()
                .filter(|u| !known.contains(*u) && !seen.contains(*u))
                .cloned()
                .collect();
            // A pod that came to the cache after the answer is not missing in it.
            let gone = living(before).into_iter().filter(|u| !there.contains(u));
            pending.deletions = gone.filter(|u| living_now.contains(u)).collect();
        })
    }

    pub fn forget(&self, owner: &str) {
        self.pending.lock().remove(owner);
    }
}

fn uid_of(pod: &Arc<Pod>) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// The uids of those that are not going.
fn living<'p>(pods: impl IntoIterator<Item = &'p Arc<Pod>>) -> HashSet<String> {
    let stays = |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_none();
    pods.into_iter().filter(stays).map(uid_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GOING: Option<&str> = Some("2026-01-01T00:00:00Z");

    fn expectations() -> Expectations {
        Expectations::new(Clock::system())
    }

    fn pod(uid: &str, owner: &str, deleted: Option<&str>) -> Arc<Pod> {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true});
        let meta = json!({"name": uid, "uid": uid, "ownerReferences": [owner], "deletionTimestamp": deleted});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    }

    fn ours(uid: &str) -> Arc<Pod> {
        pod(uid, "us", None)
    }

    fn is_over(expectations: &Expectations) -> bool {
        expectations.wait("us") == Wait::Over
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_lost_answer_what_the_api_has_is_compared_with_what_the_cache_shows() {
        let all = [ours("kept"), pod("going", "us", GOING), pod("strange", "others", None)];
        let same = |cached: &[Arc<Pod>]| {
            let expectations = expectations();
            expectations.expect("us", 2, ["other".to_owned()]);
            expectations.doubt("us");
            assert_eq!(expectations.wait("us"), Wait::Answer);
            expectations.learn("us", cached, &all, cached);
            is_over(&expectations)
        };
        assert!(same(&[ours("kept"), pod("going", "us", GOING)]));
        assert!(same(&[ours("kept")]), "one that went has been seen to go");
        assert!(!same(&[]), "one that was made is not seen yet");
        assert!(!same(&[ours("kept"), ours("going")]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_has_is_waited_for_and_not_asked_for_again() {
        let expectations = expectations();
        expectations.expect("us", 1, []);
        expectations.doubt("us");
        expectations.not_created("us", 1);
        let cached = [ours("gone")];
        assert!(expectations.learn("us", &cached, &[ours("made")], &cached));
        assert_eq!(expectations.wait("us"), Wait::Events(TIMEOUT));
        expectations.observed("us", "gone", false, true);
        assert!(!is_over(&expectations));
        expectations.observed("us", "another", true, false);
        assert!(!is_over(&expectations), "it is that pod and no other");
        expectations.observed("us", "made", true, false);
        assert!(is_over(&expectations));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_while_the_api_is_asked_is_not_waited_for() {
        let expectations = expectations();
        expectations.expect("us", 1, []);
        expectations.doubt("us");
        expectations.observed("us", "brief", true, false);
        expectations.observed("us", "brief", false, true);
        // One that came to the cache after the API had answered.
        let cached = [ours("later")];
        expectations.learn("us", &[], &[ours("brief")], &cached);
        assert!(is_over(&expectations));
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_blocks_for_five_minutes_at_most() {
        let expectations = expectations();
        expectations.expect("us", 1, []);
        expectations.doubt("us");
        let clock = Clock::system();
        clock.sleep(TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(expectations.wait("us"), Wait::Answer);
        expectations.learn("us", &[], &[ours("made")], &[]);
        assert_eq!(expectations.wait("us"), Wait::Events(Duration::from_secs(1)));
        assert!(
            !expectations.learn("others", &[], &[], &[]),
            "nothing is expected of them any more"
        );
        clock.sleep(Duration::from_secs(1)).await;
        assert!(is_over(&expectations));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_blocked_until_all_it_asked_for_is_seen() {
        let expectations = expectations();
        assert!(is_over(&expectations));
        expectations.expect("us", 2, ["uid".to_owned()]);
        expectations.observed("us", "one", true, false);
        expectations.observed("us", "two", true, false);
        assert!(!is_over(&expectations));
        expectations.observed("us", "other", false, true);
        assert!(!is_over(&expectations));
        expectations.observed("us", "uid", false, true);
        assert!(is_over(&expectations));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_event_blocks_for_five_minutes_at_most() {
        let expectations = expectations();
        expectations.expect("us", 1, []);
        Clock::system().sleep(TIMEOUT).await;
        assert!(is_over(&expectations));
    }
}
