//! Objects as their controller last wrote them, until its cache has them: a plan made of an older state would do a thing
//! twice, and its write would be a conflict.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::{ObjectKey, TypedKind};
use parking_lot::Mutex;

/// By key, only what the cache does not have yet. Cheap to clone.
pub struct Written<K>(Arc<Mutex<HashMap<ObjectKey<K>, Arc<K>>>>);

impl<K> Clone for Written<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

fn revision<K: TypedKind>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

impl<K: TypedKind> Written<K> {
    pub fn note(&self, object: Arc<K>) {
        self.0.lock().insert(ObjectKey::of(&*object), object);
    }

    /// The object as the cache has it, or as it was written since.
    pub fn newest(&self, key: &ObjectKey<K>, cached: Arc<K>) -> Arc<K> {
        let mut written = self.0.lock();
        match written.get(key) {
            Some(own) if own.meta().uid == cached.meta().uid && revision(&**own) > revision(&*cached) => own.clone(),
            Some(_) => {
                written.remove(key);
                cached
            }
            None => cached,
        }
    }

    /// The object is gone.
    pub fn forget(&self, key: &ObjectKey<K>) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::json;

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
        let another = job("other", "3");
        assert!(Arc::ptr_eq(&written.newest(&key, another.clone()), &another));
    }
}
