//! The cache: every object of a kind by key, and by whatever else is asked for often. It holds what it is given; keeping
//! it in step with the server is the informer's.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Kind, ObjectKey};
use indexmap::IndexMap;
use parking_lot::RwLock;

/// The index that every indexer has: by namespace.
pub const NAMESPACE: &str = "namespace";
/// The name under which [`by_controller`] is added.
pub const CONTROLLER: &str = "controller";

type IndexFunction<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;
type Observer<K> = Box<dyn Fn(&ObjectKey<K>, Option<&K>, Option<&K>) + Send + Sync>;

/// Objects of one kind, indexed; safe to share. Readers get `Arc`s and never block each other for long. Lists are in no
/// useful order, but in one that only the history of the cache decides: the same events give the same lists.
pub struct Indexer<K> {
    state: RwLock<State<K>>,
}

struct State<K> {
    objects: IndexMap<ObjectKey<K>, Arc<K>>,
    indices: Vec<Index<K>>,
    observers: Vec<Observer<K>>,
}

struct Index<K> {
    name: &'static str,
    function: IndexFunction<K>,
    /// With the objects, so that a list looks up nothing.
    entries: HashMap<Box<str>, IndexMap<ObjectKey<K>, Arc<K>>>,
}

/// The uid of the owner that manages the object: an index function, to be added as [`CONTROLLER`].
pub fn by_controller<K: Kind>(object: &K) -> Vec<String> {
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .filter(|o| o.controller == Some(true))
        .map(|o| o.uid.clone())
        .collect()
}

impl<K> Index<K> {
    /// An object that is new, or takes the place of `old`.
    fn insert(&mut self, key: &ObjectKey<K>, object: &Arc<K>, old: Option<&K>) {
        let values = (self.function)(object);
        let before = old.map(|old| (self.function)(old)).unwrap_or_default();
        for value in before.iter().filter(|value| !values.contains(value)) {
            self.remove_from(value, key);
        }
        for value in values {
            match self.entries.get_mut(value.as_str()) {
                Some(entries) => {
                    entries.insert(key.clone(), object.clone());
                }
                None => {
                    let entries = IndexMap::from([(key.clone(), object.clone())]);
                    self.entries.insert(value.into(), entries);
                }
            }
        }
    }

    fn remove(&mut self, key: &ObjectKey<K>, object: &K) {
        for value in (self.function)(object) {
            self.remove_from(&value, key);
        }
    }

    fn remove_from(&mut self, value: &str, key: &ObjectKey<K>) {
        if let Some(entries) = self.entries.get_mut(value) {
            entries.swap_remove(key);
            if entries.is_empty() {
                self.entries.remove(value);
            }
        }
    }
}

impl<K: Kind> Default for Indexer<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind> Indexer<K> {
    /// An empty cache, indexed by namespace.
    pub fn new() -> Self {
        let indexer = Self {
            state: RwLock::new(State {
                objects: IndexMap::new(),
                indices: Vec::new(),
                observers: Vec::new(),
            }),
        };
        indexer.add_index(NAMESPACE, |object| object.meta().namespace.clone());
        indexer
    }

    /// Adds an index (at any time): `function` gives the values under which an object is found. An index of this name
    /// that is there already stays.
    pub fn add_index<V: IntoIterator<Item = String>>(
        &self,
        name: &'static str,
        function: impl Fn(&K) -> V + Send + Sync + 'static,
    ) {
        let mut state = self.state.write();
        if state.indices.iter().any(|i| i.name == name) {
            return;
        }
        let mut index = Index {
            name,
            function: Arc::new(move |object: &K| function(object).into_iter().collect()),
            entries: HashMap::new(),
        };
        for (key, object) in &state.objects {
            index.insert(key, object, None);
        }
        state.indices.push(index);
    }

    /// Calls `note` with the key of every object that is there and of each that changes from now on, with what was there
    /// before and what is there now. Nobody reads a change before `note` was called, so that what is kept by change is
    /// never behind the cache. It must be quick and must not read the cache.
    pub fn observe(&self, note: impl Fn(&ObjectKey<K>, Option<&K>, Option<&K>) + Send + Sync + 'static) {
        let mut state = self.state.write();
        for (key, object) in &state.objects {
            note(key, None, Some(object));
        }
        state.observers.push(Box::new(note));
    }

    /// Puts the object in the place of its key; what was there before.
    pub fn insert(&self, key: ObjectKey<K>, object: Arc<K>) -> Option<Arc<K>> {
        let mut state = self.state.write();
        let State {
            objects,
            indices,
            observers,
        } = &mut *state;
        let old = objects.get(&key).cloned();
        for index in indices.iter_mut() {
            index.insert(&key, &object, old.as_deref());
        }
        for observer in observers.iter() {
            observer(&key, old.as_deref(), Some(&object));
        }
        objects.insert(key, object);
        old
    }

    pub fn remove(&self, key: &ObjectKey<K>) -> Option<Arc<K>> {
        let mut state = self.state.write();
        let State {
            objects,
            indices,
            observers,
        } = &mut *state;
        let old = objects.swap_remove(key)?;
        for index in indices.iter_mut() {
            index.remove(key, &old);
        }
        for observer in observers.iter() {
            observer(key, Some(&old), None);
        }
        Some(old)
    }

    pub fn get(&self, key: &ObjectKey<K>) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state.read().objects.values().cloned().collect()
    }

    pub fn keys(&self) -> Vec<ObjectKey<K>> {
        self.state.read().objects.keys().cloned().collect()
    }

    /// The objects that the index has under `value`.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let Some(index) = state.indices.iter().find(|i| i.name == name) else {
            tracing::error!(index = name, "there is no such index; add it before it is read");
            return Vec::new();
        };
        let entries = index.entries.get(value);
        entries
            .map(|entries| entries.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The objects (of one namespace, unless it is empty) that `wanted` says yes to.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let mut objects = if namespace.is_empty() {
            self.list()
        } else {
            self.by_index(NAMESPACE, namespace)
        };
        objects.retain(|o| wanted(o));
        objects
    }
}

/// Reads a cache. Cheap to clone.
pub struct Lister<K> {
    indexer: Arc<Indexer<K>>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self {
            indexer: self.indexer.clone(),
        }
    }
}

impl<K: Kind> Lister<K> {
    /// Of an informer by [`SharedInformer::lister`](crate::SharedInformer::lister); of an indexer of one's own in tests.
    pub fn new(indexer: Arc<Indexer<K>>) -> Self {
        Self { indexer }
    }

    pub fn get(&self, key: &ObjectKey<K>) -> Option<Arc<K>> {
        self.indexer.get(key)
    }

    /// The object of this name; the namespace is empty for cluster-scoped kinds.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.indexer.get(&ObjectKey::new(namespace, name))
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.indexer.list()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.indexer.by_index(NAMESPACE, namespace)
    }

    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.indexer.by_index(name, value)
    }

    /// What this owner manages. Needs the [`CONTROLLER`] index, as [`Controller::watches_owned`](crate::Controller) adds it.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.indexer.by_index(CONTROLLER, uid)
    }

    /// The objects (of one namespace, unless it is empty) that `wanted` says yes to.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.indexer.select(namespace, wanted)
    }

    /// The objects (of one namespace, unless it is empty) whose labels are selected.
    pub fn matching(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<K>> {
        if selector.is_nothing() {
            return Vec::new();
        }
        self.select(namespace, |object| {
            let labels = object.meta().labels.as_ref();
            selector.matches(|key| labels?.get(key).map(String::as_str))
        })
    }

    pub fn len(&self) -> usize {
        self.indexer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.indexer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(namespace: &str, name: &str, node: &str) -> Arc<Pod> {
        let pod = serde_json::json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"nodeName": node, "containers": []}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn names(mut pods: Vec<Arc<Pod>>) -> Vec<String> {
        pods.sort_by_key(|p| p.metadata.name.clone());
        pods.iter().filter_map(|p| p.metadata.name.clone()).collect()
    }

    #[test]
    fn an_observer_is_told_of_what_is_there_and_of_each_change_with_what_was_there_before() {
        let indexer = Indexer::new();
        indexer.insert(ObjectKey::new("x", "early"), pod("x", "early", "n1"));
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let tell = told.clone();
        let node = |pod: Option<&Pod>| pod.and_then(|p| p.spec.as_ref()?.node_name.clone());
        indexer.observe(move |key, old, new| tell.lock().push((key.to_string(), node(old), node(new))));
        indexer.insert(ObjectKey::new("x", "a"), pod("x", "a", "n1"));
        indexer.insert(ObjectKey::new("x", "a"), pod("x", "a", "n2"));
        indexer.remove(&ObjectKey::new("x", "a"));
        indexer.remove(&ObjectKey::new("x", "a"));
        let (n1, n2) = (Some("n1".to_owned()), Some("n2".to_owned()));
        let (early, a) = ("x/early".to_owned(), || "x/a".to_owned());
        let expected = [
            (early, None, n1.clone()),
            (a(), None, n1.clone()),
            (a(), n1, n2.clone()),
            (a(), n2, None),
        ];
        assert_eq!(*told.lock(), expected);
    }

    #[test]
    fn an_index_follows_its_objects_and_may_come_late() {
        let indexer = Indexer::new();
        for (ns, name, node) in [("x", "a", "n1"), ("x", "b", "n2"), ("y", "c", "n1")] {
            indexer.insert(ObjectKey::new(ns, name), pod(ns, name, node));
        }
        indexer.add_index("node", |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone()));
        assert_eq!(names(indexer.by_index("node", "n1")), ["a", "c"]);
        assert_eq!(names(indexer.by_index(NAMESPACE, "x")), ["a", "b"]);

        indexer.insert(ObjectKey::new("x", "a"), pod("x", "a", "n2"));
        indexer.remove(&ObjectKey::new("y", "c"));
        assert!(indexer.by_index("node", "n1").is_empty());
        assert_eq!(names(indexer.by_index("node", "n2")), ["a", "b"]);
        assert!(indexer.by_index(NAMESPACE, "y").is_empty());
    }
}
