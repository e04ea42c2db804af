//! Which objects are selected by what selects them (services, budgets, sets that adopt orphans), kept by change: a look
//! costs as much as is selected and a change as much as the object has labels, however many others there are. It reads
//! labels and the cache; what is done about members is their selector's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Kind, ObjectKey};
use coracle_informer::Lister;
use indexmap::IndexSet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

fn labels_of<K: Kind>(object: &K) -> &BTreeMap<String, String> {
    object.meta().labels.as_ref().unwrap_or(&NO_LABELS)
}

/// What selects, and what it selects.
struct Selected<K> {
    selector: LabelSelector,
    members: IndexSet<ObjectKey<K>>,
}

/// The selectors of one namespace, by a label that their members must have.
struct Selectors<O> {
    by_label: HashMap<String, HashMap<String, IndexSet<ObjectKey<O>>>>,
    /// Those that ask for no label in particular.
    others: IndexSet<ObjectKey<O>>,
}

impl<O> Default for Selectors<O> {
    fn default() -> Self {
        Self {
            by_label: HashMap::new(),
            others: IndexSet::new(),
        }
    }
}

/// A label that every member must have, if the selector says so.
fn label(selector: &LabelSelector) -> Option<(&str, &str)> {
    let mut exact = selector.requirements().iter();
    exact.find_map(|r| Some((r.key(), selector.exact(r.key())?)))
}

impl<O> Selectors<O> {
    fn insert(&mut self, key: ObjectKey<O>, selector: &LabelSelector) {
        let keys = match label(selector) {
            Some((name, value)) => {
                let values = self.by_label.entry(name.to_owned()).or_default();
                values.entry(value.to_owned()).or_default()
            }
            None => &mut self.others,
        };
        keys.insert(key);
    }

    fn remove(&mut self, key: &ObjectKey<O>, selector: &LabelSelector) {
        let Some((name, value)) = label(selector) else {
            self.others.swap_remove(key);
            return;
        };
        let Some(values) = self.by_label.get_mut(name) else {
            return;
        };
        if let Some(keys) = values.get_mut(value) {
            keys.swap_remove(key);
            if keys.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(name);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.others.is_empty()
    }

    /// Those that may select an object with these labels.
    fn candidates<'s>(&'s self, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &'s ObjectKey<O>> {
        let named = labels
            .iter()
            .filter_map(|(name, value)| self.by_label.get(name)?.get(value));
        named.flatten().chain(&self.others)
    }
}

struct State<O, K> {
    selected: HashMap<ObjectKey<O>, Selected<K>>,
    selectors: HashMap<Arc<str>, Selectors<O>>,
}

impl<O, K: Kind> State<O, K> {
    fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<ObjectKey<O>> {
        let Some(selectors) = self.selectors.get(namespace) else {
            return Vec::new();
        };
        let selects = |key: &&ObjectKey<O>| {
            let selected = self.selected.get(key);
            selected.is_some_and(|s| s.selector.matches_labels(labels))
        };
        selectors.candidates(labels).filter(selects).cloned().collect()
    }

    fn remove(&mut self, key: &ObjectKey<O>) {
        let Some(old) = self.selected.remove(key) else { return };
        if let Some(selectors) = self.selectors.get_mut(&key.namespace) {
            selectors.remove(key, &old.selector);
            if selectors.is_empty() {
                self.selectors.remove(&key.namespace);
            }
        }
    }

    /// An object of this key has come to be one that these labels say, or is so no longer.
    fn note(&mut self, key: &ObjectKey<K>, labels: &BTreeMap<String, String>, is_there: bool) {
        for owner in self.selecting(&key.namespace, labels) {
            if let Some(selected) = self.selected.get_mut(&owner) {
                match is_there {
                    true => drop(selected.members.insert(key.clone())),
                    false => drop(selected.members.swap_remove(key)),
                }
            }
        }
    }
}

/// The members of whatever has been [looked at](Self::of) and not [forgotten](Self::forget). Cheap to clone.
pub struct Members<O, K = Pod> {
    state: Arc<Mutex<State<O, K>>>,
    /// Whether an object counts, whatever its labels.
    counts: fn(&K) -> bool,
}

impl<O, K> Clone for Members<O, K> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            counts: self.counts,
        }
    }
}

impl<O: 'static, K: Kind> Members<O, K> {
    pub fn new(counts: fn(&K) -> bool) -> Self {
        let state = State {
            selected: HashMap::new(),
            selectors: HashMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            counts,
        }
    }

    /// What the cache of the objects must tell of its changes.
    pub fn observer(&self) -> impl Fn(&ObjectKey<K>, Option<&K>, Option<&K>) + Send + Sync + use<O, K> {
        let members = self.clone();
        move |key, old, new| {
            let counts = |object: &&K| (members.counts)(object);
            let before = old.filter(counts).map(labels_of);
            let after = new.filter(counts).map(labels_of);
            if before == after {
                return;
            }
            let mut state = members.state.lock();
            if let Some(labels) = before {
                state.note(key, labels, false);
            }
            if let Some(labels) = after {
                state.note(key, labels, true);
            }
        }
    }

    /// What the cache has that `key` selects by this selector.
    pub fn of(&self, key: &ObjectKey<O>, selector: &LabelSelector, objects: &Lister<K>) -> Vec<Arc<K>> {
        let is_member = |object: &K| (self.counts)(object) && selector.matches_labels(labels_of(object));
        let known = {
            let mut state = self.state.lock();
            let known = state.selected.get(key).filter(|s| s.selector == *selector);
            let known: Option<Vec<_>> = known.map(|s| s.members.iter().cloned().collect());
            if known.is_none() {
                // First of all, so that no change is missed while the cache is read.
                state.remove(key);
                let selectors = state.selectors.entry(key.namespace.clone()).or_default();
                selectors.insert(key.clone(), selector);
                let selected = Selected {
                    selector: selector.clone(),
                    members: IndexSet::new(),
                };
                state.selected.insert(key.clone(), selected);
            }
            known
        };
        // A member may have become another meanwhile.
        if let Some(known) = known {
            let there = known.iter().filter_map(|member| objects.get(member));
            return there.filter(|object| is_member(object)).collect();
        }
        let found = objects.select(&key.namespace, is_member);
        if let Some(selected) = self.state.lock().selected.get_mut(key)
            && selected.selector == *selector
        {
            selected
                .members
                .extend(found.iter().map(|object| ObjectKey::of(&**object)));
        }
        found
    }

    /// Who selects the object, of those that have been looked at.
    pub fn selecting(&self, object: &K) -> Vec<ObjectKey<O>> {
        if !(self.counts)(object) {
            return Vec::new();
        }
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        self.state.lock().selecting(namespace, labels_of(object))
    }

    /// What selected is gone, or selects no longer.
    pub fn forget(&self, key: &ObjectKey<O>) {
        self.state.lock().remove(key);
    }
}
