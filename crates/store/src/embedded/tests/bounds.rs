//! What does not grow: the disk under updates, and the time that opening takes. `CORACLE_STORE_UPDATES` and
//! `CORACLE_STORE_KEYS` set how much is written; a million of each is what the product promises to take.

use coracle_clock::Clock;

use crate::{Embedded, EmbeddedOptions, HistoryLimits, ListOptions, Store, Txn};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn write_all(store: &Embedded, txns: impl Iterator<Item = Txn>) {
    // So many share a sync.
    let mut txns = txns.peekable();
    while txns.peek().is_some() {
        let batch = txns.by_ref().take(1000).map(|txn| store.txn(txn));
        for result in futures::future::join_all(batch).await {
            result.unwrap();
        }
    }
}

#[tokio::test]
async fn the_disk_is_bounded_by_what_is_alive_however_often_that_is_updated() {
    const KEYS: u64 = 1000;
    const SIZE: u64 = 1000;
    const WINDOW: u64 = 1000;
    let updates = number("CORACLE_STORE_UPDATES", 60_000);
    let directory = tempfile::tempdir().unwrap();
    let history = HistoryLimits {
        commits: WINDOW,
        ..Default::default()
    };
    let options = EmbeddedOptions {
        history,
        ..Default::default()
    };
    let store = Embedded::open(directory.path(), options).await.unwrap();
    let value = |n: u64| {
        let mut value = n.to_string().into_bytes();
        value.resize(SIZE as usize, b'.');
        value
    };
    let mut largest = 0;
    for round in 0..updates / 10_000 {
        let updates = (round * 10_000..(round + 1) * 10_000).map(|n| Txn::put(format!("/a/{:03}", n % KEYS), value(n)));
        write_all(&store, updates).await;
        largest = store.status().await.unwrap().disk_bytes.max(largest);
    }
    let held = (KEYS + WINDOW) * SIZE;
    println!("{updates} updates of {KEYS} keys: {held} bytes are held, the file had {largest} at most");
    assert!(largest < 8 * held, "{held} bytes are held, the file had {largest}");
    store.close().await;

    let store = Embedded::open(directory.path(), options).await.unwrap();
    let page = store.list(ListOptions::default()).await.unwrap();
    assert_eq!(page.items.len() as u64, KEYS);
    for (n, kv) in page.items.iter().enumerate() {
        assert!(kv.value == value(updates - KEYS + n as u64));
    }
    assert!(
        store.status().await.unwrap().disk_bytes <= largest,
        "opening makes it no larger"
    );
}

#[tokio::test]
async fn many_keys_are_all_there_when_opened_again() {
    let keys = number("CORACLE_STORE_KEYS", 20_000);
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap();
    let key = |n: u64| format!("/registry/configmaps/default/{n:07}");
    write_all(&store, (0..keys).map(|n| Txn::put(key(n), vec![b'x'; 100]))).await;
    store.close().await;
    let clock = Clock::system();
    let begun = clock.instant();
    let store = Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap();
    let elapsed = clock.instant() - begun;
    println!("{keys} keys are open after {elapsed:.2?}");
    assert_eq!(store.status().await.unwrap().keys, keys);
}
