//! Snapshots of a running cluster: `coracle snapshot save` asks for one by the local socket, and the server takes one
//! itself now and then.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coracle_clock::Clock;
use coracle_informer::CancellationToken;
use coracle_store::snapshot::{self, SnapshotInfo};
use coracle_store::{Revision, Store};
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::local_socket::{self, Tell};
use crate::store;

const SUFFIX: &str = ".snapshot";

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    file: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reply {
    Saved { revision: Revision, keys: u64, bytes: u64 },
    Failed(String),
}

/// What a snapshot that was just taken holds.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    pub revision: Revision,
    pub keys: u64,
    pub bytes: u64,
}

impl From<SnapshotInfo> for Saved {
    fn from(info: SnapshotInfo) -> Self {
        Self {
            revision: info.revision,
            keys: info.keys,
            bytes: info.bytes,
        }
    }
}

fn socket(cluster: &Cluster) -> PathBuf {
    cluster.dir.join("store.sock")
}

/// Listens for `save`; the future works until `shutdown`.
pub fn serve(
    cluster: &Cluster,
    store: Arc<dyn Store>,
    clock: Clock,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    local_socket::serve(socket(cluster), shutdown, move |request: Request, _: Tell<Reply>| {
        let store = store.clone();
        async move {
            match snapshot::save(store.as_ref(), &request.file, clock).await {
                Ok(SnapshotInfo {
                    revision, keys, bytes, ..
                }) => Reply::Saved { revision, keys, bytes },
                Err(error) => Reply::Failed(error.to_string()),
            }
        }
    })
}

/// Saves the cluster's objects: by its server, or from its directory when none runs.
pub async fn save(cluster: &Cluster, file: &Path) -> anyhow::Result<Saved> {
    if cluster.running()?.is_none() {
        anyhow::ensure!(
            cluster.store_dir().exists(),
            "there is no store in {}; a cluster on etcd is saved while it runs",
            cluster.dir.display()
        );
        let clock = Clock::system();
        let store = store::embedded(&cluster.store_dir(), clock).await?;
        return Ok(snapshot::save(&store, file, clock).await?.into());
    }
    let request = Request { file: file.to_owned() };
    match local_socket::ask(&socket(cluster), &request, Some).await? {
        Reply::Saved { revision, keys, bytes } => Ok(Saved { revision, keys, bytes }),
        Reply::Failed(why) => anyhow::bail!(why),
    }
}

/// Takes a snapshot every so often, if anything has changed since the last, and keeps the newest `keep`.
pub async fn automatic(
    directory: PathBuf,
    store: Arc<dyn Store>,
    clock: Clock,
    every: Duration,
    keep: usize,
    shutdown: CancellationToken,
) {
    let mut last = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(every) => {}
        }
        match take(&directory, store.as_ref(), clock, last).await {
            Ok(revision) => last = Some(revision),
            Err(error) => tracing::error!(error = format!("{error:#}"), "no snapshot was taken"),
        }
        if let Err(error) = retain(&directory, keep) {
            tracing::warn!(error = format!("{error:#}"), "old snapshots were not removed");
        }
    }
}

/// Takes one unless nothing has changed since `last`; the revision it is from.
async fn take(directory: &Path, store: &dyn Store, clock: Clock, last: Option<Revision>) -> anyhow::Result<Revision> {
    let revision = store.revision().await?;
    if last == Some(revision) {
        return Ok(revision);
    }
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let name = clock.now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string() + SUFFIX;
    let info = snapshot::save(store, &directory.join(&name), clock).await?;
    tracing::info!(name, revision = info.revision, keys = info.keys, "snapshot taken");
    Ok(info.revision)
}

/// The snapshots in a directory, oldest first.
pub fn list(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", directory.display())),
    };
    let paths = entries.map(|entry| entry.map(|e| e.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    paths.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().ends_with(SUFFIX)));
    paths.sort();
    Ok(paths)
}

fn retain(directory: &Path, keep: usize) -> anyhow::Result<()> {
    let snapshots = list(directory)?;
    for old in snapshots.iter().take(snapshots.len().saturating_sub(keep)) {
        std::fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_store::{Embedded, Txn};

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_taken_each_period_in_which_something_changed_and_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("snapshots");
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory());
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let mut last = None;
        for n in 0..4 {
            store.txn(Txn::put("/k", n.to_string())).await.unwrap();
            clock.sleep(Duration::from_secs(3600)).await;
            last = Some(take(&directory, store.as_ref(), clock, last).await.unwrap());
            clock.sleep(Duration::from_secs(3600)).await;
            assert_eq!(
                take(&directory, store.as_ref(), clock, last).await.unwrap(),
                last.unwrap()
            );
            retain(&directory, 3).unwrap();
        }
        let names: Vec<_> = list(&directory).unwrap();
        let names: Vec<_> = names.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "2026-01-01T03-00-00Z.snapshot",
                "2026-01-01T05-00-00Z.snapshot",
                "2026-01-01T07-00-00Z.snapshot"
            ]
        );
    }
}
