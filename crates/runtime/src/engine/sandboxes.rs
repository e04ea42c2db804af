//! Starting, watching, stopping and removing pods' shims.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::client::{Connection, ShimClient};
use super::{Engine, Inner, SANDBOX_RECORD, SandboxEntry, SandboxRecord, blocking, remove_directory, write_json};
use crate::container::ContainerState;
use crate::error::{Error, Result};
use crate::id::{self, SandboxId};
use crate::pod_runtime::EventKind;
use crate::sandbox::{Sandbox, SandboxConfig, SandboxState, SandboxStatus};
use crate::shim::protocol::{
    Hello, IDENTITY, Record, RecordState, Reply, Request, SETUP, STARTING, Setup, ShimIdentity,
};
use crate::{snapshot, sys};

const DEFAULT_SHM: u64 = 64 << 20;
/// A killed shim's processes take a moment to go.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

impl Engine {
    pub(super) async fn start_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        if !config.handler.is_empty() && !self.inner.config.handlers.contains_key(&config.handler) {
            return Err(Error::NoSuchHandler(config.handler));
        }
        let id = config.id.clone().unwrap_or_else(|| SandboxId::new(id::random()));
        if !id::is_valid(id.as_str()) {
            return Err(Error::InvalidConfig(format!(
                "sandbox id {id:?} is not made of letters, digits, - _ and ."
            )));
        }
        let parent = match config.cgroup_parent.trim_matches('/') {
            "" => format!("/coracle/{id}"),
            parent if parent.split('/').any(|part| part.is_empty() || part.starts_with('.')) => {
                return Err(Error::InvalidConfig(format!(
                    "cgroup parent {parent:?} is not a plain path"
                )));
            }
            parent => format!("/{parent}"),
        };
        if config.user_namespace.is_some() && (config.host_network || config.host_pid || config.host_ipc) {
            let reason = "a pod with users of its own cannot share the host's network, processes or IPC";
            return Err(Error::InvalidConfig(reason.to_owned()));
        }
        let record = SandboxRecord {
            infra_cgroup: format!("{parent}/{id}"),
            cgroup: parent,
            created_at: self.inner.config.clock.now(),
            config,
        };
        let directory = self.inner.sandbox_directory(&id);
        let (inner, sandbox, starting) = (self.inner.clone(), id.clone(), record.clone());
        let shim = blocking(move || {
            let directory = inner.sandbox_directory(&sandbox);
            std::fs::create_dir(&directory).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Error::SandboxExists(sandbox.to_string()),
                _ => Error::io("create", &directory)(error),
            })?;
            let result = inner.start_shim(&directory, &starting);
            if result.is_err() {
                inner.clear_sandbox(&directory, &starting);
            }
            result
        })
        .await?;
        let entry = Arc::new(SandboxEntry {
            id: id.clone(),
            client: ShimClient::new(&directory, self.inner.config.clock),
            record,
            directory,
            state: watch::Sender::new(SandboxState::Ready),
            shim: Mutex::new(Some(shim.clone())),
            change: tokio::sync::Mutex::default(),
            creating: tokio::sync::RwLock::default(),
        });
        self.inner.state.lock().sandboxes.insert(id.clone(), entry.clone());
        self.inner.emit(EventKind::SandboxReady, &id, None);
        if let Err(error) = self.watch(&entry).await {
            // It died right away: that is a sandbox which is not ready, found out by whoever waits for it.
            tracing::warn!(sandbox = %id, %error, "cannot watch the shim");
            self.inner.sandbox_ended(&entry).await;
        }
        Ok(Sandbox {
            id,
            pid: shim.pid,
            netns: netns(shim.namespaces_pid()),
            addresses: None,
        })
    }

    /// Follows the shim's events until it ends.
    pub(super) async fn watch(&self, entry: &Arc<SandboxEntry>) -> Result<()> {
        let (_, connection) = entry.client.open(&Request::Subscribe, &[]).await?;
        let (inner, entry) = (Arc::downgrade(&self.inner), entry.clone());
        let task = tokio::spawn(async move {
            let mut connection: Connection = connection;
            while let Ok(Some(message)) = connection.receive().await {
                let Some(inner) = inner.upgrade() else { return };
                if let Reply::Changed(record) = message
                    && let Ok(container) = inner.container(&record.container.as_str().into())
                {
                    inner.apply(&container, &record);
                }
            }
            if let Some(inner) = inner.upgrade() {
                inner.sandbox_ended(&entry).await;
            }
        });
        let mut watchers = self.inner.watchers.lock();
        watchers.retain(|watcher| !watcher.is_finished());
        watchers.push(task.abort_handle());
        Ok(())
    }

    pub(super) async fn stop(&self, id: &SandboxId) -> Result<()> {
        let Ok(entry) = self.inner.sandbox(id) else {
            return Ok(());
        };
        let _change = entry.change.lock().await;
        let mut state = entry.state.subscribe();
        if *state.borrow() == SandboxState::Ready {
            let clock = self.inner.config.clock;
            let ended = async {
                // The answer may be lost in the shim's end, which is what counts.
                let _ = entry.client.call(&Request::Shutdown).await;
                let _ = state.wait_for(|state| *state == SandboxState::NotReady).await;
            };
            if clock.timeout(SHUTDOWN_LIMIT, ended).await.is_err() {
                tracing::warn!(sandbox = %id, "the shim does not end; killing it");
                if let Some(shim) = entry.shim.lock().clone() {
                    kill_shim(&shim);
                }
                let ended = state.wait_for(|state| *state == SandboxState::NotReady);
                if clock.timeout(SHUTDOWN_LIMIT, ended).await.is_err() {
                    return Err(Error::Failed(format!("sandbox {id} does not end even when killed")));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self, id: &SandboxId) -> Result<()> {
        let Ok(entry) = self.inner.sandbox(id) else {
            return Ok(());
        };
        self.stop(id).await?;
        // None can begin any more; those under way are waited for.
        drop(entry.creating.write().await);
        for container in self.inner.containers_of(id) {
            self.delete_container(&container.id).await?;
        }
        let _change = entry.change.lock().await;
        let (inner, removing) = (self.inner.clone(), entry.clone());
        blocking(move || {
            inner
                .cgroups
                .kill(&removing.record.infra_cgroup, None)
                .map_err(Error::io("kill", "cgroup"))?;
            snapshot::unmount(&removing.directory.join("shm")).map_err(Error::io("unmount", &removing.directory))?;
            inner.remove_sandbox_cgroups(&removing.id, &removing.record)?;
            remove_directory(&removing.directory)
        })
        .await?;
        if self.inner.state.lock().sandboxes.remove(id).is_some() {
            self.inner.emit(EventKind::SandboxRemoved, id, None);
        }
        Ok(())
    }

    pub(super) fn sandbox_statuses(&self) -> Vec<SandboxStatus> {
        let sandboxes: Vec<Arc<SandboxEntry>> = self.inner.state.lock().sandboxes.values().cloned().collect();
        sandboxes
            .iter()
            .map(|entry| {
                let shim = entry.shim.lock().clone();
                SandboxStatus {
                    id: entry.id.clone(),
                    config: entry.record.config.clone(),
                    state: *entry.state.borrow(),
                    created_at: entry.record.created_at,
                    netns: shim.as_ref().map(|shim| netns(shim.namespaces_pid())),
                    pid: shim.map(|shim| shim.namespaces_pid()),
                    addresses: None,
                }
            })
            .collect()
    }
}

impl Inner {
    /// Makes everything that a shim needs, then the shim. Blocking.
    fn start_shim(&self, directory: &Path, record: &SandboxRecord) -> Result<ShimIdentity> {
        let config = &record.config;
        write_json(&directory.join(SANDBOX_RECORD), record)?;
        self.cgroups
            .create(&record.cgroup)
            .map_err(Error::io("create cgroup", &record.cgroup))?;
        self.cgroups
            .limit(&record.cgroup, &config.resources)
            .map_err(Error::io("limit cgroup", &record.cgroup))?;
        if !config.host_ipc {
            let shm = directory.join("shm");
            let owner = config.user_namespace.map_or(0, |users| users.host_id);
            let size = config.shm_size.unwrap_or(DEFAULT_SHM);
            snapshot::mount_shm(&shm, size, owner).map_err(Error::io("mount", &shm))?;
        }
        let setup = Setup {
            hostname: config.hostname.clone(),
            host_network: config.host_network,
            host_ipc: config.host_ipc,
            share_pids: config.share_process_namespace && !config.host_pid,
            sysctls: config.sysctls.clone(),
            user_namespace: config.user_namespace,
            cgroup: record.infra_cgroup.clone(),
            oci_root: directory.join("oci"),
            oci_runtime: match config.handler.as_str() {
                "" => self.config.oci_runtime.clone(),
                handler => self.config.handlers.get(handler).cloned(),
            },
        };
        write_json(&directory.join(SETUP), &setup)?;
        self.spawn_shim(directory)
    }

    /// Starts the shim and waits for it to say that it is ready.
    fn spawn_shim(&self, directory: &Path) -> Result<ShimIdentity> {
        let program = &self.config.shim;
        let failed = Error::io("start the pod's shim by", &program.path);
        // Held by the shim until it is ready or has failed, so that an agent which comes after this one's sudden end
        // does not clear away what a late shim is still making.
        let lock = directory.join(STARTING);
        let starting = File::options().write(true).create(true).truncate(false).open(&lock);
        let starting = starting.map_err(Error::io("create", &lock))?;
        starting.lock().map_err(Error::io("lock", &lock))?;
        let path = match &self.program {
            Some(fd) => format!("/proc/self/fd/{}", fd.as_raw_fd()).into(),
            None => program.path.clone(),
        };
        let mut child = match Command::new(path)
            .arg0("coracle")
            .args(&program.arguments)
            .arg(directory)
            .env_clear()
            .env("PATH", crate::image::config::DEFAULT_PATH)
            .stdin(starting)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        {
            Ok(child) => child,
            Err(error) => return Err(failed(error)),
        };
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut line),
            None => Ok(0),
        };
        // What was called ends at once; the shim is its child and nobody's any more.
        let _ = child.wait();
        read.map_err(failed)?;
        match serde_json::from_str(&line) {
            Ok(Hello::Ready(identity)) => Ok(identity),
            Ok(Hello::Failed(reason)) => Err(Error::Failed(format!("cannot set up the pod's sandbox: {reason}"))),
            Err(_) => {
                let log = std::fs::read_to_string(directory.join("shim.log")).unwrap_or_default();
                let reason = log.lines().last().unwrap_or("it said nothing").to_owned();
                Err(Error::Shim {
                    reason: format!("it ended before it was ready: {reason}"),
                    source: None,
                })
            }
        }
    }

    /// Undoes what `start_shim` may have done.
    pub(super) fn clear_sandbox(&self, directory: &Path, record: &SandboxRecord) {
        if let Some(shim) = super::read_json::<ShimIdentity>(&directory.join(IDENTITY)) {
            kill_shim(&shim);
        }
        let _ = self.cgroups.kill(&record.infra_cgroup, None);
        let _ = snapshot::unmount_below(directory);
        let _ = self.cgroups.remove(&record.infra_cgroup);
        self.cgroups.remove_if_empty(&record.cgroup);
        if let Err(error) = remove_directory(directory) {
            tracing::warn!(error = %error.chain(), "cannot clear a sandbox away");
        }
    }

    fn remove_sandbox_cgroups(&self, id: &SandboxId, record: &SandboxRecord) -> Result<()> {
        let failed = Error::io("remove cgroup", &record.infra_cgroup);
        self.cgroups.remove(&record.infra_cgroup).map_err(failed)?;
        let shared = {
            let state = self.state.lock();
            state
                .sandboxes
                .values()
                .any(|other| other.id != *id && other.record.cgroup == record.cgroup)
        };
        if !shared {
            self.cgroups.remove_if_empty(&record.cgroup);
        }
        Ok(())
    }

    /// The shim is gone: so is the pod. Ends what may be left of it and says so.
    pub(super) async fn sandbox_ended(self: &Arc<Self>, entry: &Arc<SandboxEntry>) {
        if let Some(shim) = entry.shim.lock().take() {
            // Gone is gone, but one that only closed its socket must not linger.
            kill_shim(&shim);
        }
        let containers = self.containers_of(&entry.id);
        let (inner, ending) = (self.clone(), entry.clone());
        let ended = blocking(move || {
            // First what may still be making containers: OCI runtimes, which are in the shim's own group.
            if let Err(error) = inner.cgroups.kill(&ending.record.infra_cgroup, None) {
                tracing::warn!(sandbox = %ending.id, %error, "cannot kill what is left of the pod");
            }
            let mut records = Vec::new();
            for container in containers {
                if container.status.borrow().state == ContainerState::Exited {
                    continue;
                }
                if let Some(record) = inner.settle(&container) {
                    records.push((container, record));
                }
            }
            let _ = snapshot::unmount(&ending.directory.join("shm"));
            Ok(records)
        });
        for (container, record) in ended.await.unwrap_or_default() {
            self.apply(&container, &record);
        }
        if entry.state.send_replace(SandboxState::NotReady) == SandboxState::Ready {
            self.emit(EventKind::SandboxStopped, &entry.id, None);
        }
    }

    /// Ends a container whose shim is gone, and finds out or records how it ended. `None` if it never ran.
    pub(super) fn settle(&self, container: &super::ContainerEntry) -> Option<Record> {
        use crate::shim::protocol::RECORD;
        let cgroup = container.record.lock().cgroup.clone();
        let left = !self.cgroups.processes(&cgroup).is_empty();
        if let Err(error) = self.cgroups.kill(&cgroup, None) {
            tracing::warn!(container = %container.id, %error, "cannot kill what is left of a container");
        }
        let path = container.directory.join(RECORD);
        let known: Option<Record> = super::read_json(&path);
        if known.is_none() && !left {
            return None;
        }
        if let Some(record) = known.as_ref().filter(|record| record.state == RecordState::Exited) {
            return Some(record.clone());
        }
        let record = Record {
            container: container.id.to_string(),
            state: RecordState::Exited,
            pid: None,
            started_at: known.and_then(|record| record.started_at),
            finished_at: Some(self.config.clock.now()),
            exit_code: Some(137),
            signal: None,
            oom_killed: false,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("the pod's shim ended, and the container with it".to_owned()),
        };
        if let Err(error) = write_json(&path, &record) {
            tracing::warn!(container = %container.id, error = %error.chain(), "cannot record a container's end");
        }
        Some(record)
    }
}

pub(super) fn netns(pid: i32) -> std::path::PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// Whether that very process still runs.
pub(super) fn is_alive(shim: &ShimIdentity) -> bool {
    shim.boot_id == sys::boot_id() && sys::start_time(shim.pid) == Some(shim.start_time)
}

pub(super) fn kill_shim(shim: &ShimIdentity) {
    // The handle is taken before the check, so that the process checked is the process killed.
    if let Ok(process) = sys::PidFd::open(shim.pid)
        && is_alive(shim)
    {
        let _ = process.kill(nix::libc::SIGKILL);
        let _ = process.wait(Duration::from_secs(5));
    }
}
