//! The store as its users see it: the [`Store`] trait and the plain data that goes in and out.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Watch};

/// A point in the store's history. An empty store is at 1; each commit is one more than the last.
pub type Revision = u64;

/// A key, what it holds, and where that stands in history. Immutable: a change makes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Arc<str>,
    pub value: Bytes,
    /// The revision that brought the key into being (again).
    pub create_revision: Revision,
    /// The revision that gave it this value.
    pub mod_revision: Revision,
    /// How many times it was written since it was created, from 1.
    pub version: u64,
}

/// The answer to a get.
#[derive(Clone, Debug)]
pub struct Got {
    pub kv: Option<Arc<KeyValue>>,
    /// The revision that the answer is from.
    pub revision: Revision,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Keys that start with this; empty for all.
    pub prefix: String,
    /// Keys after this one only: the last key of the page before.
    pub after: Option<String>,
    /// At most so many items; 0 for all.
    pub limit: usize,
    /// The state as of this revision; `None` for the current one.
    pub revision: Option<Revision>,
}

/// Items in the order of their keys.
#[derive(Clone, Debug)]
pub struct ListPage {
    pub items: Vec<Arc<KeyValue>>,
    /// The revision that the whole page is from. Later pages of the same list name it in their options.
    pub revision: Revision,
    /// Whether the limit cut the list short.
    pub more: bool,
    /// How many items come after this page.
    pub remaining: u64,
}

/// A condition on a key's current state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Compare {
    Absent(String),
    Exists(String),
    ModRevision(String, Revision),
}

impl Compare {
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Exists(key) | Self::ModRevision(key, _) => key,
        }
    }

    /// Whether the condition holds for what the key holds now.
    pub fn holds(&self, current: Option<&KeyValue>) -> bool {
        match (self, current) {
            (Self::Absent(_), current) => current.is_none(),
            (Self::Exists(_), current) => current.is_some(),
            (Self::ModRevision(_, revision), Some(kv)) => kv.mod_revision == *revision,
            (Self::ModRevision(..), None) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Op {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

impl Op {
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// All operations happen, in one revision, if all comparisons hold; otherwise none. No key may occur in two
/// operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub ops: Vec<Op>,
}

impl Txn {
    /// Puts a key that must not exist.
    pub fn create(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::Absent(key.clone())],
            ops: vec![Op::Put {
                key,
                value: value.into(),
            }],
        }
    }

    /// Puts a key that must still be as `revision` left it.
    pub fn update(key: impl Into<String>, revision: Revision, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        let compare = vec![Compare::ModRevision(key.clone(), revision)];
        Self {
            compare,
            ops: vec![Op::Put {
                key,
                value: value.into(),
            }],
        }
    }

    /// Puts a key whatever it holds.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            compare: Vec::new(),
            ops: vec![Op::Put {
                key: key.into(),
                value: value.into(),
            }],
        }
    }

    /// Deletes a key that must still be as `revision` left it, or whatever it holds.
    pub fn delete(key: impl Into<String>, revision: Option<Revision>) -> Self {
        let key = key.into();
        let compare = revision
            .map(|revision| Compare::ModRevision(key.clone(), revision))
            .into_iter()
            .collect();
        Self {
            compare,
            ops: vec![Op::Delete { key }],
        }
    }

    /// Refuses a transaction that contradicts itself.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.ops.iter().any(|op| op.key().is_empty()) {
            return Err(Error::Invalid {
                what: "a key must not be empty".into(),
            });
        }
        if self.ops.len() < 2 {
            return Ok(());
        }
        let mut seen = HashSet::new();
        match self.ops.iter().find(|op| !seen.insert(op.key())) {
            None => Ok(()),
            Some(op) => Err(Error::Invalid {
                what: format!("key {} occurs in two operations", op.key()),
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    Committed {
        /// The new revision; the current one if nothing changed (only absent keys were deleted).
        revision: Revision,
        /// For each operation, what its key held before.
        previous: Vec<Option<Arc<KeyValue>>>,
    },
    Conflict {
        /// The first comparison that failed.
        index: usize,
        /// What its key holds.
        current: Option<Arc<KeyValue>>,
        revision: Revision,
    },
}

/// Figures about a store, for metrics and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub revision: Revision,
    /// Revisions before this one cannot be read any more.
    pub compacted: Revision,
    pub keys: u64,
    /// Bytes of current values; from etcd, which does not tell them apart, all that is in use.
    pub value_bytes: u64,
    /// Bytes of past values kept for watches and for lists at past revisions.
    pub history_bytes: u64,
    /// Size of what is on the disk; 0 without one.
    pub disk_bytes: u64,
    pub watches: u64,
    /// Why writes are refused, if they are.
    pub failure: Option<String>,
}

/// A revisioned key-value store.
///
/// Reads see committed and durable state only, and the latest of it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What a key holds, or held at a past revision.
    async fn get(&self, key: &str, revision: Option<Revision>) -> Result<Got, Error>;

    /// A page of the keys under a prefix.
    async fn list(&self, options: ListOptions) -> Result<ListPage, Error>;

    /// Compares, then writes. When it returns `Committed` the writes are durable. After an error other than
    /// [`Error::Invalid`] and [`Error::ReadOnly`] they may or may not have happened.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error>;

    /// The changes under `prefix` whose revision is greater than `from`.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error>;

    /// Forgets history before `upto`: the state at `upto` and later can still be read.
    async fn compact(&self, upto: Revision) -> Result<(), Error>;

    /// The current revision.
    async fn revision(&self) -> Result<Revision, Error>;

    async fn status(&self) -> Result<Status, Error>;
}
