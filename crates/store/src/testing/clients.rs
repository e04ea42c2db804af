//! Clients that use a store all at once and write down what they see.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::{Operation, Recorder};
use crate::{Error, ListOptions, Op, Revision, Store, Txn, TxnResult};

const KEYS: [&str; 5] = ["/a/1", "/a/2", "/a/3", "/b/1", "/b/2"];
const PREFIXES: [&str; 3] = ["", "/a/", "/b/"];

/// One of several clients.
pub struct Client {
    pub store: Arc<dyn Store>,
    pub recorder: Arc<Recorder>,
    /// Distinguishes the values it writes from those of others, and decides what it does.
    pub name: u64,
}

impl Client {
    /// Does so many things, one after the other, unless it is stopped. An error of the store is an unanswered request, and not the end.
    pub async fn run(self, operations: u64) {
        let mut rng = StdRng::seed_from_u64(self.name);
        let mut seen = BTreeMap::new();
        for n in 0..operations {
            if self.recorder.is_stopped() {
                return;
            }
            let key = KEYS[rng.random_range(0..KEYS.len())];
            match rng.random_range(0..20) {
                0..=2 => self.get(key, &mut seen).await,
                3..=5 => {
                    self.list(PREFIXES[rng.random_range(0..PREFIXES.len())], &mut seen)
                        .await
                }
                other => {
                    let value = format!("{}.{n}", self.name);
                    let revision = seen.get(key).copied().unwrap_or(1);
                    let txn = match other {
                        6..=11 => Txn::update(key, revision, value),
                        12..=13 => Txn::create(key, value),
                        14..=15 => Txn::delete(key, Some(revision)),
                        16 => Txn::delete(key, None),
                        17 => Txn::put(key, value),
                        _ => both(&value),
                    };
                    self.txn(txn, &mut seen).await;
                }
            }
        }
    }

    async fn get(&self, key: &str, seen: &mut BTreeMap<String, Revision>) {
        let began = self.recorder.tick();
        if let Ok(got) = self.store.get(key, None).await {
            self.recorder.note(began, Operation::get(key, &got));
            if let Some(kv) = got.kv {
                seen.insert(key.to_owned(), kv.mod_revision);
            }
        }
    }

    /// Lists everything under a prefix, and what it finds there.
    pub async fn list(&self, prefix: &str, seen: &mut BTreeMap<String, Revision>) {
        let began = self.recorder.tick();
        let prefix = prefix.to_owned();
        let options = ListOptions {
            prefix: prefix.clone(),
            ..Default::default()
        };
        if let Ok(page) = self.store.list(options).await {
            self.recorder.note(began, Operation::list(&prefix, &page));
            seen.extend(page.items.iter().map(|kv| (kv.key.to_string(), kv.mod_revision)));
        }
    }

    async fn txn(&self, txn: Txn, seen: &mut BTreeMap<String, Revision>) {
        let began = self.recorder.begin(&txn);
        let answer = self.store.txn(txn.clone()).await;
        match &answer {
            Ok(TxnResult::Committed { revision, .. }) => {
                seen.extend(txn.ops.iter().map(|op| (op.key().to_owned(), *revision)));
            }
            Ok(TxnResult::Conflict {
                current: Some(current), ..
            }) => {
                seen.insert(current.key.to_string(), current.mod_revision);
            }
            Ok(TxnResult::Conflict { .. }) | Err(_) => {}
        }
        let operation = Operation::txn(txn, &answer);
        match answer {
            Ok(_) => self.recorder.note(began, operation),
            Err(_) => self.recorder.note_unanswered(began, operation),
        }
    }

    /// Watches a prefix until it is dropped, and lists again when it fell behind.
    pub async fn watch(self, prefix: &str, from: Revision) {
        let mut seen = from;
        loop {
            let end = self.follow(prefix, &mut seen).await;
            match end {
                Error::Compacted { .. } => {
                    let Ok(revision) = self.store.revision().await else {
                        return;
                    };
                    seen = revision;
                }
                _ => return,
            }
        }
    }

    async fn follow(&self, prefix: &str, seen: &mut Revision) -> Error {
        let mut watch = match self.store.watch(prefix, *seen).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            let began = self.recorder.tick();
            match watch.next().await {
                Ok(batch) => {
                    self.recorder.note(began, Operation::watch(prefix, *seen, &batch));
                    *seen = batch.revision;
                }
                Err(error) => return error,
            }
        }
    }

    /// Notes everything that happened after a revision, up to one that has been reached.
    pub async fn replay(&self, after: Revision, upto: Revision) -> Result<(), Error> {
        let mut seen = after;
        let mut watch = self.store.watch("", after).await?;
        watch.request_progress();
        while seen < upto {
            let began = self.recorder.tick();
            let batch = watch.next().await?;
            self.recorder.note(began, Operation::watch("", seen, &batch));
            seen = batch.revision;
        }
        Ok(())
    }
}

/// A transaction of several keys.
fn both(value: &str) -> Txn {
    let put = |key: &str| Op::Put {
        key: key.to_owned(),
        value: value.to_owned().into(),
    };
    Txn {
        compare: Vec::new(),
        ops: vec![put(KEYS[0]), put(KEYS[3]), Op::Delete { key: KEYS[1].into() }],
    }
}
