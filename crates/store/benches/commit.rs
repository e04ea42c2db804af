//! Commits: in memory, and durable from one writer and from 16 that share syncs. `CORACLE_BENCH_DIR` says where the durable
//! ones go; it should be a disk.
//!
//! ```sh
//! cargo bench -p coracle-store
//! ```
#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::sync::Arc;

use bytes::Bytes;
use coracle_store::{Embedded, EmbeddedOptions, Store, Txn};
use divan::Bencher;
use divan::counter::ItemsCount;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const KEYS: u64 = 5_000;
/// Commits in one sample.
const COMMITS: u64 = 64;

fn value() -> Bytes {
    Bytes::from(vec![b'v'; 1024])
}

fn key(n: u64) -> String {
    format!("/registry/configmaps/default/{:06}", n % KEYS)
}

/// Puts from so many writers, each waiting for its own.
async fn put(store: &Arc<Embedded>, writers: u64) {
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..COMMITS / writers {
                store.txn(Txn::put(key(n * writers + writer), value())).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[divan::bench(args = [1, 16])]
fn in_memory(bencher: Bencher<'_, '_>, writers: u64) {
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(async { Arc::new(Embedded::in_memory()) });
    bencher
        .counter(ItemsCount::new(COMMITS))
        .bench_local(|| runtime.block_on(put(&store, writers)));
    runtime.block_on(store.close());
}

#[divan::bench(args = [1, 16], sample_count = 30)]
fn durable(bencher: Bencher<'_, '_>, writers: u64) {
    let root = std::env::var_os("CORACLE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(root).unwrap();
    let runtime = Runtime::new().unwrap();
    let opened = Embedded::open(dir.path(), EmbeddedOptions::default());
    let store = Arc::new(runtime.block_on(opened).unwrap());
    bencher
        .counter(ItemsCount::new(COMMITS))
        .bench_local(|| runtime.block_on(put(&store, writers)));
    runtime.block_on(store.close());
}

#[divan::bench]
fn get(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(async { Arc::new(Embedded::in_memory()) });
    runtime.block_on(put(&store, 1));
    bencher.bench_local(|| runtime.block_on(store.get(&key(7), None)).unwrap());
    runtime.block_on(store.close());
}
