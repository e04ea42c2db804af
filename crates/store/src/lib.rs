//! A revisioned key-value store of bytes.
//!
//! This crate knows keys, bytes and revisions, and never an API type: what a key means is its user's affair.
//! There is one trait, [`Store`], with the semantics of etcd: one global [`Revision`] that every change raises by one,
//! transactions that compare before they write, lists that page at an exact revision, and watches that replay from a
//! past revision or say that it is gone ([`Error::Compacted`]).
//!
//! [`Embedded`] is the engine that comes with it: everything in memory, every commit durable before it is
//! acknowledged, a bounded window of history. Without a directory ([`Embedded::in_memory`]) it is the same engine
//! minus the disk, for tests.
//!
//! [`Etcd`] is the same on a real etcd, for API servers on several machines.
//!
//! Start reading at [`Store`] in `store.rs`, then `embedded.rs` for how the engine is put together. `docs/storage.md`
//! says what lies on the disk and why. An engine implements [`Store`] (and [`Feed`] for its watches) and passes
//! the suite in `testing.rs`.

mod embedded;
mod error;
mod etcd;
mod event;
pub mod snapshot;
mod store;
#[cfg(test)]
mod testing;

pub use embedded::{Embedded, EmbeddedOptions, HistoryLimits};
pub use error::Error;
pub use etcd::{Etcd, EtcdOptions};
pub use event::{Event, EventKind, Feed, Watch, WatchBatch};
pub use store::{Compare, Got, KeyValue, ListOptions, ListPage, Op, Revision, Status, Store, Txn, TxnResult};
