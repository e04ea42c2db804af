//! Snapshots: what is saved is what is restored, and damage is found.

use std::sync::Arc;

use coracle_clock::Clock;

use super::{BUMP, restore, save, verify};
use crate::testing::{commit, contents};
use crate::{Embedded, EmbeddedOptions, Error, ListOptions, Store, Txn};

async fn filled(keys: u32) -> Embedded {
    let store = Embedded::in_memory();
    for n in 0..keys {
        commit(&store, Txn::put(format!("/a/{n:05}"), format!("value {n}"))).await;
    }
    commit(&store, Txn::put("/a/00001", "again")).await;
    commit(&store, Txn::delete("/a/00002", None)).await;
    store
}

#[tokio::test]
async fn what_is_saved_is_restored_and_revisions_are_far_above() {
    let directory = tempfile::tempdir().unwrap();
    let (file, target) = (directory.path().join("snapshot"), directory.path().join("restored"));
    let store = filled(2500).await;
    let clock = Clock::starting_at("2026-05-01T10:00:00Z".parse().unwrap());
    let saved = save(&store, &file, clock).await.unwrap();
    assert_eq!((saved.keys, saved.revision), (2499, store.revision().await.unwrap()));
    assert_eq!(saved.taken.to_string(), "2026-05-01T10:00:00Z");
    assert_eq!(saved.bytes, file.metadata().unwrap().len());
    assert_eq!(verify(&file).await.unwrap(), saved);
    assert_eq!(restore(&file, &target).await.unwrap(), saved);

    let restored = Embedded::open(&target, EmbeddedOptions::default()).await.unwrap();
    let all = |page: crate::ListPage| page.items;
    let before = all(store.list(ListOptions::default()).await.unwrap());
    assert_eq!(
        all(restored.list(ListOptions::default()).await.unwrap()),
        before,
        "revisions of keys and all"
    );
    assert_eq!(restored.revision().await.unwrap(), saved.revision + BUMP);
    // Whoever watched the old store, even beyond the snapshot, must list again.
    let compacted = restored.watch("/a/", saved.revision + 10).await.err().unwrap();
    assert!(matches!(compacted, Error::Compacted { .. }));
    assert_eq!(
        commit(&restored, Txn::update("/a/00003", 5, "new")).await,
        saved.revision + BUMP + 1
    );
}

#[tokio::test]
async fn a_snapshot_under_writes_is_of_one_revision() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    let store = Arc::new(filled(3500).await);
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..5000_u32 {
                commit(&*store, Txn::put(format!("/a/{:05}", n % 3500), "changed")).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let saved = save(&*store, &file, Clock::system()).await.unwrap();
    let expected = contents(&*store, "", Some(saved.revision)).await;
    writing.await.unwrap();
    restore(&file, &directory.path().join("restored")).await.unwrap();
    let restored = Embedded::open(directory.path().join("restored"), EmbeddedOptions::default())
        .await
        .unwrap();
    assert_eq!(contents(&restored, "", None).await, expected);
}

#[tokio::test]
async fn any_flipped_byte_and_any_truncation_of_a_snapshot_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    save(&filled(30).await, &file, Clock::system()).await.unwrap();
    let good = std::fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        let error = verify(&file).await.expect_err("a flipped byte");
        assert!(
            matches!(error, Error::Corrupt { .. } | Error::NewerFormat { .. }),
            "byte {at}: {error}"
        );
        std::fs::write(&file, &good[..at]).unwrap();
        assert!(matches!(verify(&file).await, Err(Error::Corrupt { .. })), "cut at {at}");
    }
    std::fs::write(&file, [&good[..], b"x"].concat()).unwrap();
    assert!(
        matches!(verify(&file).await, Err(Error::Corrupt { .. })),
        "something after the end"
    );
    // The error names the key, and nothing is restored.
    let mut bad = good.clone();
    let at = good.windows(7).position(|window| window == b"value 7").unwrap();
    bad[at] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let error = restore(&file, &directory.path().join("restored")).await.unwrap_err();
    assert!(error.to_string().contains("value of /a/00007"), "{error}");
    assert!(!directory.path().join("restored/store.redb").exists());
}

#[tokio::test]
async fn a_bad_snapshot_is_named_and_restores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (file, target) = (directory.path().join("snapshot"), directory.path().join("restored"));
    save(&filled(30).await, &file, Clock::system()).await.unwrap();
    let good = std::fs::read(&file).unwrap();
    let mut newer = good[..28].to_vec();
    newer[8] = 9;
    newer.extend(crc32fast::hash(&newer).to_le_bytes());
    newer.extend(&good[32..]);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (bad, words) in [
        (&good[..good.len() / 2], "take another"),
        (&good[..20], "header"),
        (&flipped[..], "corrupt"),
        (&newer[..], "has format 9, and this version reads up to 1"),
        (&b""[..], "corrupt header"),
        (&b"a database of something else"[..], "corrupt header"),
    ] {
        std::fs::write(&file, bad).unwrap();
        let error = restore(&file, &target).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("snapshot"), "{error}");
        assert!(!target.exists(), "nothing is made");
        assert!(std::fs::read(&file).unwrap() == bad, "it is left as it was");
    }
    let error = restore(&directory.path().join("absent"), &target).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot open") && error.to_string().contains("absent"),
        "{error}"
    );
    assert!(!target.exists());
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_leaves_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    let store = filled(30).await;
    let saved = save(&store, &file, Clock::system()).await.unwrap();
    // What it would write to first is taken.
    std::fs::create_dir(directory.path().join("snapshot.unfinished")).unwrap();
    let error = save(&store, &file, Clock::system()).await.unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(verify(&file).await.unwrap(), saved);
    let nowhere = directory.path().join("no/such/directory/snapshot");
    let error = save(&store, &nowhere, Clock::system()).await.unwrap_err();
    assert!(error.to_string().contains("no/such/directory"), "{error}");
}

#[tokio::test]
async fn a_restore_does_not_touch_a_store_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (file, target) = (directory.path().join("snapshot"), directory.path().join("store"));
    save(&filled(10).await, &file, Clock::system()).await.unwrap();
    let store = Embedded::open(&target, EmbeddedOptions::default()).await.unwrap();
    commit(&store, Txn::put("mine", "1")).await;
    assert!(matches!(restore(&file, &target).await, Err(Error::Locked { .. })));
    store.close().await;
    assert!(matches!(restore(&file, &target).await, Err(Error::Invalid { .. })));
    let store = Embedded::open(&target, EmbeddedOptions::default()).await.unwrap();
    assert_eq!(contents(&store, "", None).await, [("mine".into(), "1".into())]);
}

#[tokio::test]
async fn an_empty_store_can_be_saved_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (file, target) = (directory.path().join("snapshot"), directory.path().join("store"));
    let saved = save(&Embedded::in_memory(), &file, Clock::system()).await.unwrap();
    assert_eq!((saved.keys, saved.revision), (0, 1));
    restore(&file, &target).await.unwrap();
    let store = Embedded::open(&target, EmbeddedOptions::default()).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), 1 + BUMP);
}
