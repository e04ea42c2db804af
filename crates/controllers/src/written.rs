//! Objects as their controller last wrote them, until its cache has them: a plan made of an older state would do a thing
//! twice, its write would be a conflict, and what was just made would not count.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coracle_client::{Error, Kind, ObjectKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;

use crate::owner::controller_of;

/// By name: as the API answered, or `None` where its answer was lost or is still to come.
type Own<K> = BTreeMap<String, Option<Arc<K>>>;

/// What was written for each key, and only what the cache does not have yet. A key is that of the object itself, or of the
/// `O` that manages it. Cheap to clone.
pub struct Written<K, O = K>(Arc<Mutex<HashMap<ObjectKey<O>, Own<K>>>>);

impl<K, O> Clone for Written<K, O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, O> Default for Written<K, O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The revision of an object that the API gave; zero of any other. Revisions are the store's, so that of two objects that
/// had a name one after the other the later has the higher.
pub fn revision(meta: &ObjectMeta) -> u64 {
    let text = meta.resource_version.as_deref();
    text.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Whether the cache does not have what was written yet.
fn is_behind<K: Kind>(cached: &Arc<K>, written: &Arc<K>) -> bool {
    revision(cached.meta()) < revision(written.meta())
}

impl<K: Kind, O: Kind> Written<K, O> {
    fn put(&self, key: &ObjectKey<O>, name: &str, state: Option<Arc<K>>) {
        let mut all = self.0.lock();
        all.entry(key.clone()).or_default().insert(name.to_owned(), state);
    }

    /// An object of this name is about to be made.
    pub fn expect(&self, key: &ObjectKey<O>, name: &str) {
        self.put(key, name, None);
    }

    /// What came of writing the object of this name.
    pub fn answered(&self, key: &ObjectKey<O>, name: &str, answer: &Result<Arc<K>, Error>) {
        match answer {
            Ok(object) => self.put(key, name, Some(object.clone())),
            Err(error) if error.is_uncertain() => self.put(key, name, None),
            Err(_) => {}
        }
    }

    /// The objects that `owner` manages as the cache has them, or as they were written since. One whose state is not known
    /// is asked for by `find`.
    pub async fn newest_of<F>(
        &self,
        owner: &O,
        mut cached: Vec<Arc<K>>,
        find: impl Fn(String) -> F,
    ) -> Result<Vec<Arc<K>>, Error>
    where
        F: Future<Output = Result<Option<Arc<K>>, Error>>,
    {
        let key = ObjectKey::of(owner);
        let Some(own) = self.0.lock().get(&key).cloned() else {
            return Ok(cached);
        };
        let is_theirs = |o: &Arc<K>| controller_of(o.meta()).is_some_and(|c| Some(&c.uid) == owner.meta().uid.as_ref());
        let mut behind = Own::new();
        for (name, written) in own {
            let at = cached.iter().position(|o| name_of(o.meta()) == name);
            let current = match (at, written) {
                (Some(_), Some(written)) => written,
                // Not in the cache: it was not seen yet, or is gone. Without an answer: it may have been done or not.
                (_, _) => match find(name.clone()).await?.filter(is_theirs) {
                    Some(found) => found,
                    None => continue,
                },
            };
            match at.and_then(|at| cached.get_mut(at)) {
                Some(seen) if !is_behind(seen, &current) => continue,
                Some(seen) => *seen = current.clone(),
                None => cached.push(current.clone()),
            }
            behind.insert(name, Some(current));
        }
        let mut all = self.0.lock();
        match behind.is_empty() {
            true => all.remove(&key),
            false => all.insert(key, behind),
        };
        Ok(cached)
    }

    /// The object of this key is gone.
    pub fn forget(&self, key: &ObjectKey<O>) {
        self.0.lock().remove(key);
    }
}

/// Of objects that are reconciled themselves.
impl<K: Kind> Written<K> {
    pub fn note(&self, object: Arc<K>) {
        let key = ObjectKey::of(&*object);
        self.put(&key, &key.name, Some(object));
    }

    /// The object as the cache has it, or as it was written since.
    pub fn newest(&self, key: &ObjectKey<K>, cached: Arc<K>) -> Arc<K> {
        let mut all = self.0.lock();
        let own = all.get(key).and_then(|own| own.get(&*key.name)).cloned().flatten();
        match own {
            Some(own) if is_behind(&cached, &own) => own,
            Some(_) => {
                all.remove(key);
                cached
            }
            None => cached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::{Value, json};

    fn job(uid: &str, revision: &str) -> Arc<Job> {
        let meta = json!({"namespace": "x", "name": "j", "uid": uid, "resourceVersion": revision});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    }

    #[test]
    fn what_was_written_counts_until_the_cache_has_it_or_something_newer() {
        let written = Written::default();
        let key = ObjectKey::<Job>::new("x", "j");
        let (old, own, later) = (job("u", "9"), job("u", "10"), job("u", "11"));
        assert!(Arc::ptr_eq(&written.newest(&key, old.clone()), &old));
        written.note(own.clone());
        assert!(Arc::ptr_eq(&written.newest(&key, old.clone()), &own));
        assert!(Arc::ptr_eq(&written.newest(&key, later.clone()), &later));
        // Then it is forgotten.
        assert!(Arc::ptr_eq(&written.newest(&key, old.clone()), &old));
        written.note(own);
        let another = job("other", "12");
        assert!(Arc::ptr_eq(&written.newest(&key, another.clone()), &another));
    }

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

    type WrittenSets = Written<ReplicaSet, Deployment>;

    /// The sizes by name, with an API that has these sets.
    async fn sizes(written: &WrittenSets, cached: &[Arc<ReplicaSet>], api: &[Arc<ReplicaSet>]) -> Vec<(String, i32)> {
        let find = |name: String| {
            let found = api.iter().find(|set| name_of(&set.metadata) == name).cloned();
            std::future::ready(Ok(found))
        };
        let sets = written.newest_of(&owner(), cached.to_vec(), find).await;
        let size = |set: &Arc<ReplicaSet>| (name_of(&set.metadata).to_owned(), set.spec.replicas.unwrap());
        sets.unwrap().iter().map(size).collect()
    }

    fn lost() -> Result<Arc<ReplicaSet>, Error> {
        Err(coracle_api::status::Status::timeout("the answer was lost").into())
    }

    #[tokio::test]
    async fn an_object_that_the_cache_does_not_have_yet_counts() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        let made = set("new", 5, 2);
        written.expect(&key, "new");
        written.answered(&key, "new", &Ok(made.clone()));
        let old = [set("old", 3, 2)];
        let both = [("old".to_owned(), 2), ("new".to_owned(), 2)];
        assert_eq!(sizes(&written, &old, std::slice::from_ref(&made)).await, both);
        assert_eq!(sizes(&written, &[old[0].clone(), made], &[]).await, both);
        assert!(written.0.lock().is_empty(), "the cache has it");
    }

    #[tokio::test]
    async fn a_size_that_was_written_counts_until_the_cache_has_it_or_something_newer() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.answered(&key, "s", &Ok(set("s", 7, 3)));
        assert_eq!(sizes(&written, &[set("s", 4, 1)], &[]).await, [("s".to_owned(), 3)]);
        assert_eq!(sizes(&written, &[set("s", 9, 0)], &[]).await, [("s".to_owned(), 0)]);
        assert!(written.0.lock().is_empty());
    }

    #[tokio::test]
    async fn what_became_of_a_write_whose_answer_was_lost_is_asked() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.expect(&key, "new");
        written.answered(&key, "new", &lost());
        assert_eq!(sizes(&written, &[], &[set("new", 5, 2)]).await, [("new".to_owned(), 2)]);
        written.expect(&key, "never");
        assert_eq!(sizes(&written, &[set("new", 5, 2)], &[]).await, [("new".to_owned(), 2)]);
        assert!(written.0.lock().is_empty());
        written.answered(&key, "s", &lost());
        let api = [set("s", 8, 4)];
        assert_eq!(sizes(&written, &[set("s", 4, 1)], &api).await, [("s".to_owned(), 4)]);
    }

    #[tokio::test]
    async fn an_object_that_is_gone_before_it_was_seen_counts_no_more() {
        let (written, key) = (WrittenSets::default(), ObjectKey::of(&owner()));
        written.answered(&key, "s", &Ok(set("s", 7, 3)));
        assert!(sizes(&written, &[], &[]).await.is_empty());
        assert!(written.0.lock().is_empty());
    }
}
