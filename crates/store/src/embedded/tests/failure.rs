//! A disk that fails: what was acknowledged stays, nothing is acknowledged after, and the reason is told.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::testing::{commit, contents};
use crate::{Embedded, EmbeddedOptions, Error, Store, Txn};

#[derive(Clone, Copy)]
enum Fault {
    /// Writes and growing fail: no space.
    Full,
    /// Syncs fail.
    Sync,
    /// Every second write fails.
    Torn,
}

/// A file that fails on demand.
#[derive(Clone, Debug, Default)]
struct Switch(Arc<AtomicU8>);

impl Switch {
    fn set(&self, fault: Fault) {
        self.0.store(fault as u8 + 1, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    fn is(&self, fault: Fault) -> bool {
        self.0.load(Ordering::SeqCst) == fault as u8 + 1
    }
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    switch: Switch,
    writes: AtomicU8,
}

fn check(fails: bool, kind: ErrorKind) -> Result<(), IoError> {
    if fails { Err(kind.into()) } else { Ok(()) }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, IoError> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        check(self.switch.is(Fault::Full), ErrorKind::StorageFull)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        check(self.switch.is(Fault::Sync), ErrorKind::Other)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        check(self.switch.is(Fault::Full), ErrorKind::StorageFull)?;
        let turn = self.writes.fetch_add(1, Ordering::SeqCst);
        check(self.switch.is(Fault::Torn) && turn % 2 == 1, ErrorKind::Other)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), IoError> {
        self.file.close()
    }

    fn try_lock_range(&self, start: std::ops::Bound<u64>, end: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
}

async fn open(directory: &Path) -> (Embedded, Switch) {
    let switch = Switch::default();
    let wired = switch.clone();
    let backend = move |file: File| {
        Ok(Faulty {
            file: FileBackend::new(file)?,
            switch: wired.clone(),
            writes: 0.into(),
        })
    };
    (
        Embedded::open_with(directory, EmbeddedOptions::default(), backend)
            .await
            .unwrap(),
        switch,
    )
}

#[tokio::test]
async fn after_a_failed_write_nothing_acknowledged_is_lost_and_nothing_more_is_accepted() {
    for fault in [Fault::Full, Fault::Sync, Fault::Torn] {
        let directory = tempfile::tempdir().unwrap();
        let (store, switch) = open(directory.path()).await;
        for n in 0..30 {
            commit(&store, Txn::put(format!("/a/{n:02}"), vec![b'x'; 3000])).await;
        }
        let acknowledged = contents(&store, "", None).await;
        let revision = store.revision().await.unwrap();
        let mut watch = store.watch("/a/", revision).await.unwrap();

        switch.set(fault);
        let error = store.txn(Txn::put("/a/lost", "1")).await.unwrap_err();
        assert_eq!(
            matches!(error, Error::Full { .. }),
            matches!(fault, Fault::Full),
            "{error}"
        );
        let later = store.txn(Txn::put("/a/later", "1")).await.unwrap_err();
        assert!(matches!(later, Error::ReadOnly { .. }), "{later}");
        let restart = later.to_string().contains("then restart");
        assert_eq!(restart, !matches!(fault, Fault::Full), "{later}");
        assert!(store.status().await.unwrap().failure.is_some());
        // Reads go on, and show no write that was not acknowledged.
        assert_eq!(contents(&store, "", None).await, acknowledged);
        assert_eq!(store.revision().await.unwrap(), revision);
        watch.request_progress();
        assert_eq!(watch.next().await.unwrap().events, []);
        drop(watch);
        store.close().await;

        let (store, _) = open(directory.path()).await;
        let mut found = contents(&store, "/a/", None).await;
        found.retain(|(key, _)| key != "/a/lost");
        assert_eq!(found, acknowledged);
        assert!(store.revision().await.unwrap() >= revision);
        assert_eq!(
            store.get("/a/later", None).await.unwrap().kv,
            None,
            "what was refused did not happen"
        );
        commit(&store, Txn::put("/a/after", "1")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_full_takes_writes_again_once_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let (store, switch) = open(directory.path()).await;
    for n in 0..30 {
        commit(&store, Txn::put(format!("/a/{:02}", n % 20), vec![b'x'; 3000])).await;
    }
    let acknowledged = contents(&store, "", None).await;
    let revision = store.revision().await.unwrap();
    let mut watch = store.watch("/a/", revision).await.unwrap();

    let mut seen = Vec::new();
    for round in 0..3 {
        commit(&store, Txn::put("/b", "1")).await;
        commit(&store, Txn::put("/b", "2")).await;
        let revision = store.revision().await.unwrap();
        switch.set(Fault::Full);
        let error = store.txn(Txn::put("/a/lost", "1")).await.unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        tokio::time::advance(Duration::from_secs(5)).await;
        let error = store.txn(Txn::put("/a/lost", "2")).await.unwrap_err();
        assert!(
            matches!(error, Error::Full { .. }),
            "it looked, and it is full still: {error}"
        );
        let error = store.compact(revision).await.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");

        switch.mend();
        let error = store.txn(Txn::put("/a/lost", "3")).await.unwrap_err();
        assert!(
            matches!(error, Error::ReadOnly { .. }),
            "it looks once in a while: {error}"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        commit(&store, Txn::put(format!("/a/after-{round}"), "1")).await;
        assert_eq!(store.status().await.unwrap().failure, None);
        let current = store.revision().await.unwrap();
        while seen.last().is_none_or(|(revision, _)| *revision < current) {
            let events = watch.next().await.unwrap().events;
            seen.extend(events.iter().map(|event| (event.revision(), event.kv.key.to_string())));
        }
        store.compact(revision).await.unwrap();
    }
    assert!(seen.is_sorted(), "{seen:?}");
    let after: Vec<_> = seen
        .iter()
        .filter(|(_, key)| key != "/a/lost")
        .map(|(_, key)| key)
        .collect();
    assert_eq!(after, ["/a/after-0", "/a/after-1", "/a/after-2"]);

    let all = contents(&store, "", None).await;
    store.close().await;
    let (store, _) = open(directory.path()).await;
    assert_eq!(contents(&store, "", None).await, all, "the disk has what was answered");
    for kept in acknowledged {
        assert!(all.contains(&kept));
    }
}

#[tokio::test]
async fn all_who_shared_a_failed_sync_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (store, switch) = open(directory.path()).await;
    switch.set(Fault::Sync);
    let writes = (0..20).map(|n| store.txn(Txn::put(format!("/a/{n}"), "1")));
    for result in futures::future::join_all(writes).await {
        assert!(matches!(result, Err(Error::Io { .. } | Error::ReadOnly { .. })));
    }
    assert_eq!(store.revision().await.unwrap(), 1);
    assert!(matches!(store.compact(1).await, Ok(()) | Err(Error::ReadOnly { .. })));
}
