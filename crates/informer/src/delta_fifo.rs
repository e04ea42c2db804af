//! What is still to be told: one entry per object, however often it changes.
//!
//! The reflector puts in what it sees; [`DeltaFifo::pop`] takes the oldest object's deltas, brings the [`Indexer`] up to
//! date and gives the changes that handlers must see. Both happen under one lock, so that at every moment an object is
//! in the queue or in the indexer, and a [`replace`](DeltaFifo::replace) can tell what has vanished.
//!
//! Memory is bounded by the number of objects: updates of one incarnation of an object (one uid) become the last of them,
//! and of several whole incarnations that come and go unseen, only the newest are kept.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use coracle_client::{Kind, ObjectKey};
use indexmap::{IndexMap, IndexSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::indexer::Indexer;
use crate::shared_informer::Change;

/// For how many keys an empty queue keeps room.
const KEPT: usize = 256;

/// How many deltas an entry holds at most.
const MOST: usize = 6;

/// What happened to an object.
pub enum Delta<K> {
    Added(Arc<K>),
    Updated(Arc<K>),
    /// It was in a new list.
    Replaced(Arc<K>),
    /// Nothing happened; handlers are to look at it again.
    Sync(Arc<K>),
    Deleted(Arc<K>),
    /// It was not in a new list: deleted at some time in between. The object is as it was last seen.
    DeletedFinalStateUnknown(Arc<K>),
}

impl<K> Delta<K> {
    fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(o)
            | Self::Updated(o)
            | Self::Replaced(o)
            | Self::Sync(o)
            | Self::Deleted(o)
            | Self::DeletedFinalStateUnknown(o) => o,
        }
    }

    fn is_deletion(&self) -> bool {
        matches!(self, Self::Deleted(_) | Self::DeletedFinalStateUnknown(_))
    }
}

/// The queue between a reflector and its informer.
pub struct DeltaFifo<K> {
    state: Mutex<State<K>>,
    indexer: Arc<Indexer<K>>,
    ready: Notify,
}

struct State<K> {
    items: IndexMap<ObjectKey<K>, Vec<Delta<K>>>,
    /// Every key of `items` once.
    queue: VecDeque<ObjectKey<K>>,
    pushed: u64,
    popped: u64,
    /// What `popped` must reach until the first list has been told; `None` before the first list.
    initial: Option<u64>,
}

impl<K: Kind> DeltaFifo<K> {
    /// A queue that keeps `indexer` up to date.
    pub fn new(indexer: Arc<Indexer<K>>) -> Self {
        Self {
            state: Mutex::new(State {
                items: IndexMap::new(),
                queue: VecDeque::new(),
                pushed: 0,
                popped: 0,
                initial: None,
            }),
            indexer,
            ready: Notify::new(),
        }
    }

    pub fn add(&self, object: Arc<K>) {
        self.push(Delta::Added(object));
    }

    pub fn update(&self, object: Arc<K>) {
        self.push(Delta::Updated(object));
    }

    pub fn delete(&self, object: Arc<K>) {
        self.push(Delta::Deleted(object));
    }

    /// The object of this key was deleted; its last state cannot be had.
    pub fn delete_key(&self, key: &ObjectKey<K>) {
        let mut state = self.state.lock();
        if let Some(last) = state.last_known(key, &self.indexer) {
            state.push(key.clone(), Delta::DeletedFinalStateUnknown(last));
            drop(state);
            self.ready.notify_one();
        }
    }

    fn push(&self, delta: Delta<K>) {
        let key = ObjectKey::of(delta.object().as_ref());
        self.state.lock().push(key, delta);
        self.ready.notify_one();
    }

    /// A new list: what is not in it is gone. An object that is there but cannot be decoded (`None`) stays as it was.
    pub fn replace(&self, list: Vec<(ObjectKey<K>, Option<Arc<K>>)>) {
        let mut state = self.state.lock();
        let listed: HashSet<&ObjectKey<K>> = list.iter().map(|(key, _)| key).collect();
        let pending = state.items.keys().cloned();
        let vanished: IndexSet<ObjectKey<K>> = pending
            .chain(self.indexer.keys())
            .filter(|key| !listed.contains(key))
            .collect();
        drop(listed);
        for key in vanished {
            if let Some(last) = state.last_known(&key, &self.indexer) {
                state.push(key, Delta::DeletedFinalStateUnknown(last));
            }
        }
        for (key, object) in list {
            if let Some(object) = object {
                state.push(key, Delta::Replaced(object));
            }
        }
        if state.initial.is_none() {
            state.initial = Some(state.pushed);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Has handlers look at every object again.
    pub fn resync(&self) {
        let mut state = self.state.lock();
        for key in self.indexer.keys() {
            // One that waits will be told anyhow.
            if !state.items.contains_key(&key)
                && let Some(object) = self.indexer.get(&key)
            {
                state.push(key, Delta::Sync(object));
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Waits until there may be something to [`pop`](Self::pop), or the first list turns out to be empty.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Takes the object that has waited longest, brings the indexer up to date and gives what handlers must be told;
    /// `None` when nothing waits.
    pub fn pop(&self) -> Option<Vec<Change<K>>> {
        let mut state = self.state.lock();
        let key = state.queue.pop_front()?;
        state.popped += 1;
        let deltas = state.items.swap_remove(&key).unwrap_or_default();
        if state.queue.is_empty() && state.queue.capacity() > KEPT {
            // What a long list took is not kept for the few changes that follow.
            state.queue.shrink_to(KEPT);
            state.items.shrink_to(KEPT);
        }
        let mut changes = Vec::with_capacity(deltas.len());
        for delta in deltas {
            self.apply(&key, delta, &mut changes);
        }
        Some(changes)
    }

    fn apply(&self, key: &ObjectKey<K>, delta: Delta<K>, changes: &mut Vec<Change<K>>) {
        let old = self.indexer.get(key);
        let same = |old: &Arc<K>, new: &Arc<K>| old.meta().uid == new.meta().uid;
        match delta {
            Delta::Deleted(object) | Delta::DeletedFinalStateUnknown(object)
                if old.as_ref().is_some_and(|old| !same(old, &object)) =>
            {
                // What was told of is gone, and what replaced it has never been seen.
                self.indexer.remove(key);
                changes.extend(old.map(Change::vanished));
            }
            Delta::Deleted(object) => {
                if self.indexer.remove(key).is_some() {
                    changes.push(Change::Deleted {
                        object,
                        final_state_unknown: false,
                    });
                }
            }
            Delta::DeletedFinalStateUnknown(object) => {
                if self.indexer.remove(key).is_some() {
                    changes.push(Change::vanished(object));
                }
            }
            Delta::Sync(_) => {
                // What the indexer has is what is to be looked at.
                changes.extend(old.map(|old| Change::Updated { new: old.clone(), old }));
            }
            Delta::Added(new) | Delta::Updated(new) | Delta::Replaced(new) => match old {
                None => {
                    self.indexer.insert(key.clone(), new.clone());
                    changes.push(Change::Added(new));
                }
                Some(old) if !same(&old, &new) => {
                    self.indexer.insert(key.clone(), new.clone());
                    changes.push(Change::vanished(old));
                    changes.push(Change::Added(new));
                }
                Some(old) => {
                    let version = &new.meta().resource_version;
                    // A new list mostly holds what is known.
                    if version.is_none() || *version != old.meta().resource_version {
                        self.indexer.insert(key.clone(), new.clone());
                        changes.push(Change::Updated { old, new });
                    }
                }
            },
        }
    }

    /// Whether everything in the first list has been popped.
    pub fn has_synced(&self) -> bool {
        let state = self.state.lock();
        state.initial.is_some_and(|initial| state.popped >= initial)
    }

    /// How many objects wait.
    pub fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Kind> State<K> {
    /// The object as it will be known when all deltas have been told; `None` when it will be gone.
    fn last_known(&self, key: &ObjectKey<K>, indexer: &Indexer<K>) -> Option<Arc<K>> {
        match self.items.get(key).and_then(|deltas| deltas.last()) {
            Some(last) if last.is_deletion() => None,
            Some(last) => Some(last.object().clone()),
            None => indexer.get(key),
        }
    }

    fn push(&mut self, key: ObjectKey<K>, delta: Delta<K>) {
        let deltas = match self.items.get_mut(&key) {
            Some(deltas) => deltas,
            None => {
                self.queue.push_back(key.clone());
                self.pushed += 1;
                self.items.entry(key).or_default()
            }
        };
        match deltas.last_mut() {
            // The same incarnation: its newest state says it all.
            Some(last)
                if !last.is_deletion()
                    && !delta.is_deletion()
                    && last.object().meta().uid == delta.object().meta().uid =>
            {
                *last = delta;
            }
            // Deleted twice (seen, then missing in a list) is deleted.
            Some(last)
                if last.is_deletion()
                    && delta.is_deletion()
                    && last.object().meta().uid == delta.object().meta().uid => {}
            _ => deltas.push(delta),
        }
        if deltas.len() > MOST {
            // Came and went before anybody looked.
            let unseen = deltas
                .windows(2)
                .position(|pair| !pair[0].is_deletion() && pair[1].is_deletion());
            match unseen {
                Some(at) => drop(deltas.drain(at..at + 2)),
                None => drop(deltas.remove(0)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, uid: &str, version: u64) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.into());
        map.metadata.uid = Some(uid.into());
        map.metadata.resource_version = Some(version.to_string());
        Arc::new(map)
    }

    fn fifo() -> DeltaFifo<ConfigMap> {
        DeltaFifo::new(Arc::new(Indexer::new()))
    }

    /// All changes, as `+uid`, `~uid@version`, `-uid` and `?uid` (final state unknown).
    fn told(fifo: &DeltaFifo<ConfigMap>) -> Vec<String> {
        let uid = |o: &Arc<ConfigMap>| o.metadata.uid.clone().unwrap_or_default();
        let mut told = Vec::new();
        while let Some(changes) = fifo.pop() {
            for change in changes {
                told.push(match change {
                    Change::Added(o) => format!("+{}", uid(&o)),
                    Change::Updated { new, .. } => {
                        format!(
                            "~{}@{}",
                            uid(&new),
                            new.metadata.resource_version.clone().unwrap_or_default()
                        )
                    }
                    Change::Deleted {
                        object,
                        final_state_unknown: false,
                    } => format!("-{}", uid(&object)),
                    Change::Deleted {
                        object,
                        final_state_unknown: true,
                    } => format!("?{}", uid(&object)),
                });
            }
        }
        told
    }

    #[test]
    fn updates_of_one_object_are_told_once_with_the_last_state() {
        let fifo = fifo();
        fifo.add(object("a", "u", 1));
        assert_eq!(told(&fifo), ["+u"]);
        for version in 2..100 {
            fifo.update(object("a", "u", version));
        }
        assert_eq!(fifo.len(), 1);
        assert_eq!(told(&fifo), ["~u@99"]);
    }

    #[test]
    fn an_object_that_comes_and_goes_unseen_is_told_of_nevertheless() {
        let fifo = fifo();
        fifo.add(object("a", "u", 1));
        fifo.delete(object("a", "u", 2));
        assert_eq!(told(&fifo), ["+u", "-u"]);
        assert!(fifo.indexer.is_empty());
    }

    #[test]
    fn a_name_used_again_is_a_deletion_and_an_addition() {
        let fifo = fifo();
        fifo.add(object("a", "u1", 1));
        told(&fifo);
        fifo.update(object("a", "u2", 5));
        assert_eq!(told(&fifo), ["?u1", "+u2"]);
    }

    #[test]
    fn incarnations_without_end_take_bounded_room_and_lose_no_deletion() {
        let fifo = fifo();
        fifo.add(object("a", "u0", 1));
        told(&fifo);
        for n in 1..100 {
            fifo.delete(object("a", &format!("u{}", n - 1), 2 * n));
            fifo.add(object("a", &format!("u{n}"), 2 * n + 1));
        }
        let told = told(&fifo);
        assert!(told.len() <= MOST + 1, "{told:?}");
        assert_eq!(told.first().unwrap(), "-u0");
        assert_eq!(told.last().unwrap(), "+u99");
    }

    #[test]
    fn a_new_list_tells_only_what_differs() {
        let fifo = fifo();
        for name in ["same", "changed", "gone"] {
            fifo.add(object(name, name, 1));
        }
        told(&fifo);
        let list = [
            object("same", "same", 1),
            object("changed", "changed", 4),
            object("new", "new", 3),
        ];
        fifo.replace(list.into_iter().map(|o| (ObjectKey::of(&*o), Some(o))).collect());
        let mut told = told(&fifo);
        told.sort();
        assert_eq!(told, ["+new", "?gone", "~changed@4"]);
    }

    #[test]
    fn a_new_list_ends_what_is_still_waiting_to_be_told() {
        let fifo = fifo();
        fifo.add(object("a", "u", 1));
        fifo.replace(Vec::new());
        assert_eq!(told(&fifo), ["+u", "?u"]);
        assert!(fifo.has_synced());
    }

    #[test]
    fn an_object_that_cannot_be_decoded_stays_as_it_was() {
        let fifo = fifo();
        fifo.add(object("a", "u", 1));
        told(&fifo);
        fifo.replace(vec![(ObjectKey::new("", "a"), None)]);
        assert!(told(&fifo).is_empty());
        assert_eq!(fifo.indexer.len(), 1);
    }

    #[test]
    fn it_has_synced_when_the_first_list_has_been_popped() {
        let fifo = fifo();
        assert!(!fifo.has_synced());
        let list = vec![object("a", "a", 1), object("b", "b", 1)];
        fifo.replace(list.into_iter().map(|o| (ObjectKey::of(&*o), Some(o))).collect());
        fifo.pop();
        assert!(!fifo.has_synced());
        fifo.pop();
        assert!(fifo.has_synced());
    }

    #[test]
    fn a_resync_shows_every_object_again() {
        let fifo = fifo();
        fifo.add(object("a", "u", 1));
        told(&fifo);
        fifo.resync();
        assert_eq!(told(&fifo), ["~u@1"]);
    }
}
