//! A model of a store that is too simple to be wrong: a copy of everything at every revision. Random actions are done
//! to it and to an engine, and everything that either shows must be the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::{Compare, Error, EventKind, ListOptions, Op, Revision, Store, Txn, TxnResult};

/// Value, create revision, mod revision, version.
pub type Entry = (Bytes, Revision, Revision, u64);
pub type Snapshot = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub enum Action {
    Txn(Txn),
    /// Compares with a revision so many before the key's own, which is stale unless it is 0.
    Update {
        key: String,
        age: u64,
        value: Bytes,
    },
    Read {
        age: u64,
        limit: usize,
    },
    Compact {
        age: u64,
    },
    /// Closes and opens the store, if it is one that can be.
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/a/1", "/a/2", "/a/22", "/b/1", "/b/2", "/c"]).prop_map(String::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, size)| Bytes::from(vec![byte; size])),
    ]
}

pub fn action() -> impl Strategy<Value = Action> {
    let op = prop_oneof![
        2 => (key(), value()).prop_map(|(key, value)| Op::Put { key, value }),
        1 => key().prop_map(|key| Op::Delete { key }),
    ];
    let compare = prop_oneof![key().prop_map(Compare::Absent), key().prop_map(Compare::Exists)];
    let txn = (prop::collection::vec(compare, 0..2), prop::collection::vec(op, 1..4));
    prop_oneof![
        8 => txn.prop_map(|(compare, ops)| Action::Txn(Txn { compare, ops })),
        4 => (key(), 0..2_u64, value()).prop_map(|(key, age, value)| Action::Update { key, age, value }),
        4 => (0..12_u64, 0..4_usize).prop_map(|(age, limit)| Action::Read { age, limit }),
        1 => (0..8_u64).prop_map(|age| Action::Compact { age }),
        1 => Just(Action::Reopen),
    ]
}

#[derive(Clone)]
pub struct Model {
    /// The state at each revision from 1.
    history: Vec<Snapshot>,
    compacted: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            history: vec![Snapshot::new()],
            compacted: 1,
        }
    }
}

impl Model {
    pub fn revision(&self) -> Revision {
        self.history.len() as u64
    }

    pub fn at(&self, revision: Revision) -> &Snapshot {
        &self.history[revision as usize - 1]
    }

    pub fn current(&self) -> &Snapshot {
        self.at(self.revision())
    }

    /// Takes back everything after a revision.
    pub fn roll_back(&mut self, revision: Revision) {
        self.history.truncate(revision as usize);
    }

    /// What a revision changed under a prefix: each key, and what it held after.
    pub fn changes(&self, revision: Revision, prefix: &str) -> Vec<(String, Option<Entry>)> {
        let (before, after) = (self.at(revision - 1), self.at(revision));
        let keys = before
            .keys()
            .chain(after.keys().filter(|key| !before.contains_key(*key)));
        let mut changed: Vec<_> = keys
            .filter(|key| key.starts_with(prefix) && before.get(*key) != after.get(*key))
            .map(|key| (key.clone(), after.get(key).cloned()))
            .collect();
        changed.sort();
        changed
    }

    /// The index of the comparison that fails, or what each operation replaced, or nothing if it is invalid.
    pub fn txn(&mut self, txn: &Txn) -> Option<Result<Vec<Option<Entry>>, usize>> {
        let mut keys: Vec<_> = txn.ops.iter().map(Op::key).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < txn.ops.len() {
            return None;
        }
        let mut next = self.current().clone();
        for (index, compare) in txn.compare.iter().enumerate() {
            let current = next.get(compare.key());
            let holds = match compare {
                Compare::Absent(_) => current.is_none(),
                Compare::Exists(_) => current.is_some(),
                Compare::ModRevision(_, revision) => current.is_some_and(|entry| entry.2 == *revision),
            };
            if !holds {
                return Some(Err(index));
            }
        }
        let revision = self.revision() + 1;
        let mut previous = Vec::new();
        let mut changed = false;
        for op in &txn.ops {
            let before = next.get(op.key()).cloned();
            match op {
                Op::Put { key, value } => {
                    let (created, version) = before.as_ref().map_or((revision, 0), |entry| (entry.1, entry.3));
                    next.insert(key.clone(), (value.clone(), created, revision, version + 1));
                    changed = true;
                }
                Op::Delete { key } => changed |= next.remove(key).is_some(),
            }
            previous.push(before);
        }
        if changed {
            self.history.push(next);
        }
        Some(Ok(previous))
    }
}

/// Does the actions to a store and to the model, and compares what they show.
pub async fn check(
    mut store: Arc<dyn Store>,
    actions: Vec<Action>,
    mut reopen: impl AsyncFnMut(Arc<dyn Store>) -> Arc<dyn Store>,
) {
    let mut model = Model::default();
    for action in actions {
        match action {
            Action::Txn(txn) => transact(&*store, &mut model, txn).await,
            Action::Update { key, age, value } => {
                let current = model.current().get(&key).map_or(model.revision(), |entry| entry.2);
                transact(&*store, &mut model, Txn::update(key, current - age, value)).await;
            }
            Action::Read { age, limit } => {
                let revision = model.revision().saturating_sub(age);
                read(&*store, &model, revision, limit).await;
            }
            Action::Compact { age } => {
                let upto = model.revision().saturating_sub(age);
                store.compact(upto).await.unwrap();
                model.compacted = model.compacted.max(upto);
            }
            Action::Reopen => store = reopen(store).await,
        }
        assert_eq!(store.revision().await.unwrap(), model.revision());
    }
    for revision in model.compacted..=model.revision() {
        read(&*store, &model, revision, 0).await;
    }
    replay(&*store, &model).await;
    let status = store.status().await.unwrap();
    assert_eq!(status.keys, model.current().len() as u64);
    assert_eq!(
        status.value_bytes,
        model.current().values().map(|entry| entry.0.len() as u64).sum::<u64>()
    );
}

async fn transact(store: &dyn Store, model: &mut Model, txn: Txn) {
    let entry = |kv: &Arc<crate::KeyValue>| (kv.value.clone(), kv.create_revision, kv.mod_revision, kv.version);
    match (store.txn(txn.clone()).await, model.txn(&txn)) {
        (Err(Error::Invalid { .. }), None) => {}
        (Ok(TxnResult::Committed { revision, previous }), Some(Ok(expected))) => {
            assert_eq!(revision, model.revision());
            let previous: Vec<_> = previous.iter().map(|kv| kv.as_ref().map(entry)).collect();
            assert_eq!(previous, expected);
        }
        (
            Ok(TxnResult::Conflict {
                index,
                current,
                revision,
            }),
            Some(Err(expected)),
        ) => {
            assert_eq!((index, revision), (expected, model.revision()));
            assert_eq!(
                current.as_ref().map(entry).as_ref(),
                model.current().get(txn.compare[index].key())
            );
        }
        (actual, expected) => panic!("{txn:?}: {actual:?}, expected {expected:?}"),
    }
}

async fn read(store: &dyn Store, model: &Model, revision: Revision, limit: usize) {
    for prefix in ["", "/a/", "/a/2", "/c", "/d"] {
        let mut options = ListOptions {
            prefix: prefix.into(),
            limit,
            revision: Some(revision),
            after: None,
        };
        let mut seen = Snapshot::new();
        loop {
            let page = match store.list(options.clone()).await {
                Err(Error::Compacted { compacted, requested }) => {
                    assert_eq!((compacted, requested), (model.compacted, revision));
                    assert!(requested < compacted);
                    return;
                }
                page => page.unwrap(),
            };
            for kv in &page.items {
                let entry = (kv.value.clone(), kv.create_revision, kv.mod_revision, kv.version);
                assert_eq!(seen.insert(kv.key.to_string(), entry), None);
            }
            options.after = page.items.last().map(|kv| kv.key.to_string());
            if !page.more {
                break;
            }
            assert_eq!(page.items.len(), limit);
        }
        if revision == 0 {
            assert!(seen.is_empty());
            return;
        }
        let expected = model.at(revision).iter().filter(|(key, _)| key.starts_with(prefix));
        assert!(seen.iter().eq(expected), "under {prefix} at {revision}: {seen:?}");
    }
}

/// Follows a watch from the oldest revision: applying its events to the state there gives each later state.
async fn replay(store: &dyn Store, model: &Model) {
    let mut watch = store.watch("/a/", model.compacted).await.unwrap();
    watch.request_progress();
    let under = |snapshot: &Snapshot| {
        let wanted = snapshot.iter().filter(|(key, _)| key.starts_with("/a/"));
        wanted
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect::<Snapshot>()
    };
    let mut state = under(model.at(model.compacted));
    let mut reached = model.compacted;
    while reached < model.revision() {
        let batch = watch.next().await.unwrap();
        for group in batch.events.chunk_by(|a, b| a.revision() == b.revision()) {
            let revision = group[0].revision();
            assert!(revision > reached && revision <= batch.revision);
            assert_eq!(
                state,
                under(model.at(revision - 1)),
                "no event is missing before {revision}"
            );
            for event in group {
                let kv = &event.kv;
                let before = match event.kind {
                    EventKind::Put => {
                        let entry = (kv.value.clone(), kv.create_revision, kv.mod_revision, kv.version);
                        state.insert(kv.key.to_string(), entry)
                    }
                    EventKind::Delete => state.remove(&*kv.key),
                };
                assert_eq!(
                    before.map(|entry| entry.2),
                    event.previous.as_ref().map(|kv| kv.mod_revision)
                );
            }
            reached = revision;
            assert_eq!(state, under(model.at(revision)));
        }
        if batch.events.is_empty() {
            assert_eq!(state, under(model.at(batch.revision)));
        }
        reached = batch.revision;
        watch.request_progress();
    }
}
