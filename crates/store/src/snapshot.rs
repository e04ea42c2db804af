//! Snapshots: the whole state at one revision in one file, taken while the store is in use, from any engine. What is
//! restored makes a new embedded store whose revisions go on far above the snapshot's, so that a client which saw
//! revisions that the snapshot has not cannot mistake what it knew for what is there now: its watches are told that
//! their revision is compacted, and it lists again.
//!
//! A snapshot holds everything, secrets too: files are for their owner alone.

mod format;

use std::io::BufReader;
use std::path::{Path, PathBuf};

use coracle_clock::{Clock, Timestamp};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

use crate::embedded::restore_into;
use crate::{Error, ListOptions, Revision, Store};
use format::{Reader, Writer};

/// How far a restored store's revision is above its snapshot's. Nobody commits so often between a snapshot and its
/// restore, and a revision still fits what a JSON number holds exactly.
const BUMP: Revision = 1_000_000_000;
const PAGE: usize = 1000;

/// What a snapshot file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The revision that it is from.
    pub revision: Revision,
    pub taken: Timestamp,
    pub keys: u64,
    /// The size of the file.
    pub bytes: u64,
}

/// Writes a snapshot to a file, in place of what is there. The file appears under its name when it is whole and
/// durable.
pub async fn save(store: &dyn Store, path: &Path, clock: Clock) -> Result<SnapshotInfo, Error> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let saved = write(store, &unfinished, path, clock).await;
    if saved.is_err() {
        let _ = tokio::fs::remove_file(&unfinished).await;
    }
    saved
}

async fn write(store: &dyn Store, unfinished: &Path, path: &Path, clock: Clock) -> Result<SnapshotInfo, Error> {
    let failed = |error| Error::io("write", unfinished, error);
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(unfinished).await.map_err(failed)?;
    let taken = clock.now();
    let mut list = ListOptions {
        limit: PAGE,
        ..Default::default()
    };
    let mut writer: Option<Writer> = None;
    let info = loop {
        let page = store.list(list.clone()).await?;
        let writer = writer.get_or_insert_with(|| Writer::new(page.revision, taken));
        list.revision = Some(page.revision);
        list.after = page.items.last().map(|kv| kv.key.to_string());
        for kv in &page.items {
            writer.key(kv);
        }
        if !page.more {
            break writer.end();
        }
        file.write_all(&writer.take()).await.map_err(failed)?;
    };
    if let Some(mut writer) = writer {
        file.write_all(&writer.take()).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)?;
    tokio::fs::rename(unfinished, path).await.map_err(failed)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = tokio::fs::File::open(directory).await.map_err(failed)?;
    directory.sync_all().await.map_err(failed)?;
    Ok(info)
}

/// Reads a snapshot through and says what it holds, or what is wrong with it.
pub async fn verify(path: &Path) -> Result<SnapshotInfo, Error> {
    let path = path.to_owned();
    spawn_blocking(move || open(&path)?.read(|_| ()))
        .await
        .map_err(|_| Error::Closed)?
}

/// Makes a store from a snapshot in a directory that has none. If it fails there is still none.
pub async fn restore(snapshot: &Path, directory: &Path) -> Result<SnapshotInfo, Error> {
    let (snapshot, directory) = (snapshot.to_owned(), directory.to_owned());
    let restore = move || {
        let mut keys = Vec::new();
        let info = open(&snapshot)?.read(|kv| keys.push(kv))?;
        restore_into(&directory, keys, info.revision.saturating_add(BUMP))?;
        Ok(info)
    };
    spawn_blocking(restore).await.map_err(|_| Error::Closed)?
}

fn open(path: &Path) -> Result<Reader<BufReader<std::fs::File>>, Error> {
    let file = std::fs::File::open(path).map_err(|error| Error::io("open", path, error))?;
    Reader::new(BufReader::with_capacity(1 << 20, file), path)
}

#[cfg(test)]
mod tests;
