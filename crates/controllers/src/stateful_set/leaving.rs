//! Pods that were told to go, until the cache says so itself: what comes next must not count on them meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::{Error, ObjectKey};
use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use super::plan::is_terminating;

#[derive(Clone, Copy)]
enum Told {
    /// The API has accepted it, or had no such pod any more.
    Surely,
    /// The answer was lost.
    Perhaps,
}

/// By pod uid.
type Pods = HashMap<String, Told>;

#[derive(Default)]
pub struct Leaving(Mutex<HashMap<ObjectKey<StatefulSet>, Pods>>);

impl Leaving {
    /// A pod was told to go (one that is gone already was), and this is what went wrong.
    pub fn told(&self, key: &ObjectKey<StatefulSet>, pod: &Pod, error: Option<&Error>) {
        let told = match error {
            None => Told::Surely,
            Some(error) if error.is_uncertain() => Told::Perhaps,
            Some(_) => return,
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.0.lock().entry(key.clone()).or_default().insert(uid, told);
    }

    /// The pods as the cache has them, those that were told to go marked as going. Where that is not sure the API is asked,
    /// by `find`.
    pub async fn mark<F>(
        &self,
        key: &ObjectKey<StatefulSet>,
        mut cached: Vec<Arc<Pod>>,
        now: Timestamp,
        find: impl Fn(String) -> F,
    ) -> Result<Vec<Arc<Pod>>, Error>
    where
        F: Future<Output = Result<Option<Arc<Pod>>, Error>>,
    {
        let Some(told) = self.0.lock().get(key).cloned() else {
            return Ok(cached);
        };
        let mut unseen = Pods::new();
        for pod in cached.iter_mut().filter(|p| !is_terminating(p)) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let goes = match told.get(&uid) {
                None => false,
                Some(Told::Surely) => true,
                Some(Told::Perhaps) => {
                    let there = find(pod.metadata.name.clone().unwrap_or_default()).await?;
                    there.is_none_or(|p| p.metadata.uid != pod.metadata.uid || is_terminating(&p))
                }
            };
            if goes {
                Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(now));
                unseen.insert(uid, Told::Surely);
            }
        }
        let mut all = self.0.lock();
        match unseen.is_empty() {
            true => all.remove(key),
            false => all.insert(key.clone(), unseen),
        };
        Ok(cached)
    }

    /// The set of this key is gone.
    pub fn forget(&self, key: &ObjectKey<StatefulSet>) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::status::{Of, Status};
    use serde_json::json;

    fn pod(name: &str, uid: &str, deleted: Option<&str>) -> Arc<Pod> {
        let meta = json!({"name": name, "uid": uid, "deletionTimestamp": deleted});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    }

    fn key() -> ObjectKey<StatefulSet> {
        ObjectKey::new("ns", "web")
    }

    /// Which of the cached pods count as going, with an API that has these.
    async fn going(leaving: &Leaving, cached: &[Arc<Pod>], api: &[Arc<Pod>]) -> Vec<bool> {
        let find = |name: String| {
            let found = api.iter().find(|p| p.metadata.name.as_deref() == Some(&*name)).cloned();
            std::future::ready(Ok(found))
        };
        let pods = leaving
            .mark(&key(), cached.to_vec(), Timestamp::UNIX_EPOCH, find)
            .await
            .unwrap();
        pods.iter().map(|p| is_terminating(p)).collect()
    }

    #[tokio::test]
    async fn what_was_told_to_go_counts_as_going_until_the_cache_says_so() {
        let leaving = Leaving::default();
        let cached = [pod("web-0", "a", None), pod("web-1", "b", None)];
        leaving.told(&key(), &cached[1], None);
        for _ in 0..2 {
            assert_eq!(going(&leaving, &cached, &[]).await, [false, true]);
        }
        let next = [pod("web-0", "a", None), pod("web-1", "c", None)];
        assert_eq!(
            going(&leaving, &next, &[]).await,
            [false, false],
            "the next of that name"
        );
        assert!(leaving.0.lock().is_empty());
        let pods = Of {
            group: "",
            plural: "pods",
        };
        leaving.told(&key(), &next[0], Some(&Status::forbidden(pods, "web-0", "no").into()));
        assert_eq!(going(&leaving, &next, &[]).await, [false, false], "it was refused");
        assert_eq!(going(&leaving, &[], &[]).await, [false; 0]);
        assert!(leaving.0.lock().is_empty());
    }

    #[tokio::test]
    async fn what_became_of_a_lost_answer_is_asked() {
        let lost = || Error::from(Status::timeout("the answer was lost"));
        let cached = [pod("web-0", "a", None)];
        let after = async |api: &[Arc<Pod>]| {
            let leaving = Leaving::default();
            leaving.told(&key(), &cached[0], Some(&lost()));
            let first = going(&leaving, &cached, api).await;
            assert_eq!(going(&leaving, &cached, &[]).await, first, "asked once");
            first[0]
        };
        assert!(!after(&cached).await, "it was not done");
        assert!(after(&[]).await);
        assert!(after(&[pod("web-0", "b", None)]).await);
        assert!(after(&[pod("web-0", "a", Some("2026-01-01T00:00:00Z"))]).await);
    }
}
