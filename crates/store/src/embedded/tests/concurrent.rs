//! Histories of many clients at once are linearizable. `CORACLE_STORE_HISTORIES` sets how many.

use std::sync::Arc;

use crate::testing::clients::Client;
use crate::testing::history::{Ideal, Recorder, check};
use crate::{Embedded, EmbeddedOptions, HistoryLimits, Store};

const HISTORIES: u64 = 12;

async fn history_of(store: Arc<dyn Store>, seed: u64) {
    let recorder = Arc::new(Recorder::default());
    let client = |name: u64| Client {
        store: store.clone(),
        recorder: recorder.clone(),
        name: 100 * seed + name,
    };
    let watchers = ["", "/a/", "/b/1"].map(|prefix| tokio::spawn(client(0).watch(prefix, 1)));
    let clients: Vec<_> = (1..8).map(|name| tokio::spawn(client(name).run(60))).collect();
    for client in clients {
        client.await.unwrap();
    }
    let upto = store.revision().await.unwrap();
    client(0).replay(1, upto).await.unwrap();
    watchers.iter().for_each(|watcher| watcher.abort());
    let after = check(Ideal::new(1), &recorder.take()).unwrap_or_else(|why| panic!("history {seed}: {why}"));
    assert_eq!(after.revision(), upto);
}

fn histories() -> u64 {
    std::env::var("CORACLE_STORE_HISTORIES").map_or(HISTORIES, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_of_concurrent_clients_in_memory_are_linearizable() {
    for seed in 0..histories() {
        history_of(Arc::new(Embedded::in_memory()), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_of_concurrent_clients_on_a_disk_are_linearizable() {
    for seed in 0..histories() {
        let directory = tempfile::tempdir().unwrap();
        let history = HistoryLimits {
            commits: 100_000,
            ..Default::default()
        };
        let options = EmbeddedOptions {
            history,
            ..Default::default()
        };
        let store = Embedded::open(directory.path(), options).await.unwrap();
        history_of(Arc::new(store), seed).await;
    }
}
