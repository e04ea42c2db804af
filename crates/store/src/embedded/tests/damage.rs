//! Damage to the file is told, and never handed on as data.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::testing::{commit, contents};
use crate::{Embedded, EmbeddedOptions, Error, Store, Txn};

const SECRET: &str = "the quick brown fox jumps over the lazy dog";

async fn filled(directory: &Path) -> (PathBuf, Vec<(String, String)>) {
    let store = Embedded::open(directory, EmbeddedOptions::default()).await.unwrap();
    for n in 0..40 {
        commit(
            &store,
            Txn::put(format!("/a/{n:02}"), format!("{SECRET} {n}").repeat(20)),
        )
        .await;
    }
    let contents = contents(&store, "", None).await;
    store.close().await;
    (directory.join("store.redb"), contents)
}

fn flip(file: &Path, at: u64, mask: u8) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

/// Flips bytes all over a store's file and opens it: it is refused and left as it is, or has all that is expected.
async fn survives_flips(directory: &Path, expected: &[(String, String)]) {
    let file = directory.join("store.redb");
    let good = std::fs::read(&file).unwrap();
    let acknowledged = std::fs::read(directory.join("acknowledged")).unwrap();
    let mut found = 0;
    // A step that hits every part of pages and records alike.
    for at in (0..good.len()).step_by(4099).chain(0..320) {
        std::fs::write(&file, &good).unwrap();
        std::fs::write(directory.join("acknowledged"), &acknowledged).unwrap();
        flip(&file, at as u64, 0x10);
        match Embedded::open(directory, EmbeddedOptions::default()).await {
            Ok(store) => assert_eq!(contents(&store, "", None).await, expected, "byte {at}"),
            Err(Error::Corrupt { place, .. }) => {
                assert!(place.contains("store.redb"));
                flip(&file, at as u64, 0x10);
                assert!(std::fs::read(&file).unwrap() == good, "byte {at}: it was changed");
                found += 1;
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(found > 10, "{found}");
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_an_error_or_of_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    let (_, expected) = filled(directory.path()).await;
    survives_flips(directory.path(), &expected).await;
}

#[tokio::test]
async fn a_flipped_byte_after_a_crash_takes_no_acknowledged_write_away() {
    let (directory, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap();
    for n in 0..40 {
        commit(
            &store,
            Txn::put(format!("/a/{n:02}"), format!("{SECRET} {n}").repeat(20)),
        )
        .await;
    }
    // What a killed process leaves behind.
    for name in ["store.redb", "acknowledged"] {
        std::fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    let expected = contents(&store, "", None).await;
    survives_flips(crashed.path(), &expected).await;
}

#[tokio::test]
async fn a_flipped_byte_of_every_value_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (file, expected) = filled(directory.path()).await;
    let good = std::fs::read(&file).unwrap();
    let mut hits = 0;
    for (at, _) in good
        .windows(SECRET.len())
        .enumerate()
        .filter(|(_, window)| *window == SECRET.as_bytes())
        .step_by(97)
    {
        std::fs::write(&file, &good).unwrap();
        flip(&file, at as u64, 1);
        match Embedded::open(directory.path(), EmbeddedOptions::default()).await {
            // A copy that the tree had let go of.
            Ok(store) => assert_eq!(contents(&store, "", None).await, expected),
            Err(Error::Corrupt { .. }) => hits += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(hits > 0);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    for junk in [&b""[..], b"junk", &[7; 100_000]] {
        std::fs::write(&file, junk).unwrap();
        let Err(error) = Embedded::open(directory.path(), EmbeddedOptions::default()).await else {
            panic!("opened {} bytes of junk", junk.len())
        };
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), junk);
    }
}

#[tokio::test]
async fn a_later_format_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = filled(directory.path()).await;
    let database = redb::Database::open(&file).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(super::super::disk::META)
        .unwrap()
        .insert("format", 7)
        .unwrap();
    txn.commit().unwrap();
    drop(database);
    let before = std::fs::read(&file).unwrap();
    let Err(error) = Embedded::open(directory.path(), EmbeddedOptions::default()).await else {
        panic!("opened")
    };
    assert!(std::fs::read(&file).unwrap() == before, "it is left as it was");
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 7,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_crash_while_the_database_is_made_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("store.redb.new"), b"half a database").unwrap();
    let store = Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap();
    assert_eq!(store.revision().await.unwrap(), 1);
}
