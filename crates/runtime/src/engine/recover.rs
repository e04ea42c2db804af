//! Taking up what an earlier agent has left: live shims are joined again, the rest is settled or cleared away.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::client::ShimClient;
use super::sandboxes::{is_alive, kill_shim};
use super::{
    CONTAINER_RECORD, ContainerEntry, ContainerRecord, Engine, Inner, SANDBOX_RECORD, SandboxEntry, SandboxRecord,
    apply_record, blocking, read_json, remove_directory,
};
use crate::container::ContainerState;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};
use crate::sandbox::SandboxState;
use crate::shim::protocol::{IDENTITY, RECORD, Record, RecordState, SETUP, STARTING, Setup, ShimIdentity};
use crate::snapshot;

/// Starting a shim takes milliseconds; what takes this long does not end.
const START_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) async fn recover(&self) -> Result<()> {
        self.await_starts().await?;
        let inner = self.inner.clone();
        blocking(move || inner.load()).await?;
        let sandboxes: Vec<Arc<SandboxEntry>> = self.inner.state.lock().sandboxes.values().cloned().collect();
        for sandbox in sandboxes {
            let alive = sandbox.shim.lock().as_ref().is_some_and(is_alive);
            if alive && self.watch(&sandbox).await.is_ok() {
                continue;
            }
            if let Some(shim) = sandbox.shim.lock().take() {
                kill_shim(&shim);
            }
            self.inner.sandbox_ended(&sandbox).await;
        }
        self.collect_layers().await;
        Ok(())
    }

    /// A shim may still be starting that an agent called which is gone: it ends by itself when it finds nobody to tell,
    /// but what it makes until then must not be made after it was cleared away.
    async fn await_starts(&self) -> Result<()> {
        let clock = self.inner.config.clock;
        let deadline = clock.instant() + START_LIMIT;
        let root = self.inner.config.root.join("sandboxes");
        for name in directories(&root)? {
            let Ok(lock) = File::open(root.join(&name).join(STARTING)) else {
                continue;
            };
            while lock.try_lock().is_err() {
                if clock.instant() > deadline {
                    tracing::warn!(sandbox = name, "an earlier agent's shim neither starts nor fails");
                    break;
                }
                clock.sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Reads all records. Blocking.
    fn load(&self) -> Result<()> {
        for name in directories(&self.config.root.join("sandboxes"))? {
            let id = SandboxId::new(name);
            let directory = self.sandbox_directory(&id);
            let Some(record) = read_json::<SandboxRecord>(&directory.join(SANDBOX_RECORD)) else {
                tracing::warn!(sandbox = %id, "clearing a sandbox away that was never complete");
                self.clear_incomplete_sandbox(&directory);
                continue;
            };
            let shim: Option<ShimIdentity> = read_json(&directory.join(IDENTITY));
            let entry = SandboxEntry {
                id: id.clone(),
                record,
                client: ShimClient::new(&directory, self.config.clock),
                directory,
                state: watch::Sender::new(if shim.is_some() {
                    SandboxState::Ready
                } else {
                    SandboxState::NotReady
                }),
                shim: Mutex::new(shim),
                change: tokio::sync::Mutex::default(),
                creating: tokio::sync::RwLock::default(),
            };
            self.state.lock().sandboxes.insert(id, Arc::new(entry));
        }
        for name in directories(&self.config.root.join("containers"))? {
            let id = ContainerId::new(name);
            let directory = self.container_directory(&id);
            let record = read_json::<ContainerRecord>(&directory.join(CONTAINER_RECORD));
            let Some(record) = record else {
                tracing::warn!(container = %id, "clearing a container away that was never complete");
                let _ = snapshot::unmount_below(&directory);
                remove_directory(&directory)?;
                continue;
            };
            if !self.state.lock().sandboxes.contains_key(&record.sandbox) {
                tracing::warn!(container = %id, "clearing a container away that has no sandbox");
                self.clear_container(&id, &directory, &record)?;
                continue;
            }
            let mut status = record.status(&id);
            if let Some(known) = read_json::<Record>(&directory.join(RECORD)) {
                let state = match known.state {
                    RecordState::Running => ContainerState::Running,
                    RecordState::Exited => ContainerState::Exited,
                };
                apply_record(&mut status, &known, state);
            }
            let entry = ContainerEntry {
                id: id.clone(),
                record: Mutex::new(record),
                directory,
                status: watch::Sender::new(status),
                change: tokio::sync::Mutex::default(),
            };
            self.state.lock().containers.insert(id, Arc::new(entry));
        }
        Ok(())
    }

    /// A crash before its record was written: what is known is what its setup says.
    fn clear_incomplete_sandbox(&self, directory: &Path) {
        if let Some(shim) = read_json::<ShimIdentity>(&directory.join(IDENTITY)) {
            kill_shim(&shim);
        }
        if let Some(setup) = read_json::<Setup>(&directory.join(SETUP)) {
            let _ = self.cgroups.kill(&setup.cgroup, None);
            let _ = self.cgroups.remove(&setup.cgroup);
        }
        let _ = snapshot::unmount_below(directory);
        let _ = remove_directory(directory);
    }
}

fn directories(path: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
    let entries = std::fs::read_dir(path).map_err(Error::io("list", path))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}
