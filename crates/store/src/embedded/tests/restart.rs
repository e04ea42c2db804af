//! What a restart keeps, and who may open a directory.

use crate::testing::{commit, contents};
use crate::{Embedded, EmbeddedOptions, Error, HistoryLimits, Store, Txn};

async fn open(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_restart_keeps_everything_and_revisions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    for n in 0..50 {
        commit(&store, Txn::put(format!("/a/{n:02}"), format!("value {n}"))).await;
    }
    commit(&store, Txn::delete("/a/07", None)).await;
    let revision = commit(&store, Txn::put("/a/08", "again")).await;
    let before = contents(&store, "", None).await;
    let kv = store.get("/a/08", None).await.unwrap().kv;
    let status = store.status().await.unwrap();
    store.close().await;

    let store = open(&directory).await;
    assert_eq!(contents(&store, "", None).await, before);
    assert_eq!(store.get("/a/08", None).await.unwrap().kv, kv);
    let again = store.status().await.unwrap();
    assert_eq!((again.keys, again.value_bytes), (status.keys, status.value_bytes));
    assert_eq!(store.revision().await.unwrap(), revision);
    assert_eq!(commit(&store, Txn::put("/a/99", "new")).await, revision + 1);
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_where_it_left_off() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    commit(&store, Txn::put("/a/1", "1")).await;
    let seen = commit(&store, Txn::put("/a/1", "2")).await;
    commit(&store, Txn::delete("/a/1", None)).await;
    store.close().await;
    let store = open(&directory).await;
    let mut watch = store.watch("/a/", seen).await.unwrap();
    let batch = watch.next().await.unwrap();
    assert_eq!(batch.events.len(), 1);
    assert_eq!(
        (&*batch.events[0].kv.key, &batch.events[0].kv.value[..]),
        ("/a/1", &b"2"[..])
    );
}

#[tokio::test]
async fn the_revision_survives_the_deletion_and_compaction_of_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    commit(&store, Txn::put("a", "1")).await;
    let last = commit(&store, Txn::delete("a", None)).await;
    store.compact(last).await.unwrap();
    store.close().await;
    let store = open(&directory).await;
    assert_eq!(store.revision().await.unwrap(), last);
    assert!(matches!(
        store.get("a", Some(last - 1)).await,
        Err(Error::Compacted { .. })
    ));
    assert_eq!(commit(&store, Txn::put("a", "2")).await, last + 1);
}

#[tokio::test]
async fn a_directory_in_use_names_its_holder_and_is_free_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let Err(error) = Embedded::open(directory.path(), EmbeddedOptions::default()).await else {
        panic!("opened twice")
    };
    assert!(
        matches!(&error, Error::Locked { holder: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains(&format!("in use by process {}", std::process::id()))
    );
    store.close().await;
    open(&directory).await;
    // Dropping alone releases it too.
    open(&directory).await;
}

#[tokio::test]
async fn closing_ends_watches_and_refuses_requests() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let mut watch = store.watch("/a/", 1).await.unwrap();
    let waiting = tokio::spawn(async move { watch.next().await.map(|_| ()) });
    tokio::task::yield_now().await;
    store.close().await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(store.txn(Txn::put("a", "1")).await, Err(Error::Closed)));
    assert!(matches!(store.get("a", None).await, Err(Error::Closed)));
    assert!(matches!(store.watch("a", 1).await.err(), Some(Error::Closed)));
}

#[tokio::test]
async fn what_a_window_forgot_stays_forgotten_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let history = HistoryLimits {
        commits: 10,
        ..Default::default()
    };
    let options = EmbeddedOptions {
        history,
        ..Default::default()
    };
    let store = Embedded::open(directory.path(), options).await.unwrap();
    for n in 0..2000 {
        commit(&store, Txn::put(format!("/a/{}", n % 3), vec![0; 100])).await;
    }
    let compacted = store.status().await.unwrap().compacted;
    assert_eq!(compacted, store.revision().await.unwrap() - 10);
    store.close().await;
    let store = Embedded::open(directory.path(), options).await.unwrap();
    let status = store.status().await.unwrap();
    assert_eq!(
        (status.keys, status.revision, status.compacted),
        (3, 2001, compacted),
        "the window's limits hold"
    );
}
