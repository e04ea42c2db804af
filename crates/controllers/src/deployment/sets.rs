//! A Deployment's sets as they were last written, until the cache has them: a plan made without the set that was just
//! made, or with its size of before, would tell the sets to have more pods than are allowed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coracle_client::{Error, ObjectKey};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use parking_lot::Mutex;

use crate::expectations::is_uncertain;
use crate::owner::controller_of;

/// By name: as the API answered, or `None` where its answer was lost or is still to come.
type Own = BTreeMap<String, Option<Arc<ReplicaSet>>>;

/// See the module.
#[derive(Default)]
pub struct WrittenSets(Mutex<HashMap<ObjectKey<Deployment>, Own>>);

fn revision(set: &ReplicaSet) -> Option<u64> {
    set.metadata.resource_version.as_ref()?.parse().ok()
}

fn name_of(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

impl WrittenSets {
    /// A set of this name is about to be made.
    pub fn expect(&self, key: &ObjectKey<Deployment>, name: &str) {
        self.0
            .lock()
            .entry(key.clone())
            .or_default()
            .insert(name.to_owned(), None);
    }

    /// What came of writing the set of this name.
    pub fn note(&self, key: &ObjectKey<Deployment>, name: &str, answer: &Result<Arc<ReplicaSet>, Error>) {
        let known = match answer {
            Ok(set) => Some(set.clone()),
            Err(error) if is_uncertain(error) => None,
            Err(_) => return,
        };
        self.0
            .lock()
            .entry(key.clone())
            .or_default()
            .insert(name.to_owned(), known);
    }

    /// The sets as the cache has them, or as they were written since. Whose state is not known is asked for by `find`.
    pub async fn newest<F>(
        &self,
        key: &ObjectKey<Deployment>,
        owner: &Deployment,
        mut sets: Vec<Arc<ReplicaSet>>,
        find: impl Fn(String) -> F,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error>
    where
        F: Future<Output = Result<Option<Arc<ReplicaSet>>, Error>>,
    {
        let Some(own) = self.0.lock().get(key).cloned() else {
            return Ok(sets);
        };
        let mut behind = Own::new();
        for (name, written) in own {
            let cached = sets.iter().position(|set| name_of(set) == name);
            let current = match (cached, written) {
                (Some(_), Some(written)) => written,
                // Not in the cache: it was not seen yet, or is gone. Without an answer: it may have been done or not.
                (_, _) => match find(name.clone()).await? {
                    Some(found) if controls(owner, &found) => found,
                    _ => continue,
                },
            };
            match cached.and_then(|at| sets.get_mut(at)) {
                Some(set) if revision(set) >= revision(&current) => continue,
                Some(set) => *set = current.clone(),
                None => sets.push(current.clone()),
            }
            behind.insert(name, Some(current));
        }
        let mut all = self.0.lock();
        match behind.is_empty() {
            true => all.remove(key),
            false => all.insert(key.clone(), behind),
        };
        Ok(sets)
    }

    /// The Deployment is gone.
    pub fn forget(&self, key: &ObjectKey<Deployment>) {
        self.0.lock().remove(key);
    }
}

fn controls(owner: &Deployment, set: &ReplicaSet) -> bool {
    controller_of(&set.metadata).is_some_and(|o| Some(&o.uid) == owner.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(name: &str, version: u64, replicas: i32) -> Arc<ReplicaSet> {
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": true});
        let meta =
            json!({"name": name, "uid": name, "resourceVersion": version.to_string(), "ownerReferences": [owner]});
        let spec = json!({"replicas": replicas, "selector": {}});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap())
    }

    fn owner() -> Deployment {
        let value: Value = json!({"metadata": {"namespace": "x", "name": "d", "uid": "u"},
            "spec": {"selector": {}, "template": {}}});
        serde_json::from_value(value).unwrap()
    }

    /// The sizes by name, with an API that has these sets.
    async fn sizes(written: &WrittenSets, cached: &[Arc<ReplicaSet>], api: &[Arc<ReplicaSet>]) -> Vec<(String, i32)> {
        let find = |name: String| {
            let found = api.iter().find(|set| name_of(set) == name).cloned();
            std::future::ready(Ok(found))
        };
        let owner = owner();
        let sets = written
            .newest(&ObjectKey::of(&owner), &owner, cached.to_vec(), find)
            .await;
        let size = |set: &Arc<ReplicaSet>| (name_of(set).to_owned(), super::super::replicas(set));
        sets.unwrap().iter().map(size).collect()
    }

    fn lost() -> Result<Arc<ReplicaSet>, Error> {
        Err(coracle_api::status::Status::timeout("the answer was lost").into())
    }

    #[tokio::test]
    async fn a_set_that_the_cache_does_not_have_yet_counts() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        let made = set("new", 5, 2);
        written.expect(&key, "new");
        written.note(&key, "new", &Ok(made.clone()));
        let old = [set("old", 3, 2)];
        let both = [("old".to_owned(), 2), ("new".to_owned(), 2)];
        assert_eq!(sizes(&written, &old, std::slice::from_ref(&made)).await, both);
        assert_eq!(sizes(&written, &[old[0].clone(), made], &[]).await, both);
        assert!(written.0.lock().is_empty(), "the cache has it");
    }

    #[tokio::test]
    async fn a_size_that_was_written_counts_until_the_cache_has_it_or_something_newer() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.note(&key, "s", &Ok(set("s", 7, 3)));
        assert_eq!(sizes(&written, &[set("s", 4, 1)], &[]).await, [("s".to_owned(), 3)]);
        assert_eq!(sizes(&written, &[set("s", 9, 0)], &[]).await, [("s".to_owned(), 0)]);
        assert!(written.0.lock().is_empty());
    }

    #[tokio::test]
    async fn what_became_of_a_write_whose_answer_was_lost_is_asked() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.expect(&key, "new");
        written.note(&key, "new", &lost());
        assert_eq!(sizes(&written, &[], &[set("new", 5, 2)]).await, [("new".to_owned(), 2)]);
        written.expect(&key, "never");
        assert_eq!(sizes(&written, &[set("new", 5, 2)], &[]).await, [("new".to_owned(), 2)]);
        assert!(written.0.lock().is_empty());
        written.note(&key, "s", &lost());
        let api = [set("s", 8, 4)];
        assert_eq!(sizes(&written, &[set("s", 4, 1)], &api).await, [("s".to_owned(), 4)]);
    }

    #[tokio::test]
    async fn a_set_that_is_gone_before_it_was_seen_counts_no_more() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.note(&key, "s", &Ok(set("s", 7, 3)));
        assert!(sizes(&written, &[], &[]).await.is_empty());
        assert!(written.0.lock().is_empty());
    }
}
