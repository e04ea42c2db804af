//! Reads what everything uses at one moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Instant, Timestamp};
use coracle_runtime::{ContainerState, ContainerStatus, DiskUsage, SandboxState, SandboxStatus, Stats};
use parking_lot::Mutex;

use super::machine::{Interface, MachineUsage, Process, interfaces};
use super::rate::Rates;
use crate::machine::{Disk, Machine, pids};
use crate::pod::context::Context;

/// Measuring what a container has written walks all of it, so it is not done more often than this.
const DISK_LIFE: Duration = Duration::from_secs(60);

/// Everything at one moment.
pub(crate) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) node: String,
    pub(super) cpus: usize,
    pub(super) machine_memory: u64,
    pub(super) machine: MachineUsage,
    pub(super) machine_cpu_rate: Option<u64>,
    pub(super) machine_interfaces: Vec<Interface>,
    pub(super) agent: Process,
    pub(super) agent_cpu_rate: Option<u64>,
    /// Most and present.
    pub(super) pids: (u64, u64),
    pub(crate) pods: Vec<PodUsage>,
    /// What takes time to measure; absent when it was not asked for.
    pub(super) disks: Option<Disks>,
}

pub(crate) struct Disks {
    pub(super) node: Disk,
    pub(super) image: Disk,
    /// Bytes of all images.
    pub(super) image_bytes: u64,
}

pub(crate) struct PodUsage {
    pub(crate) name: String,
    pub(super) namespace: String,
    pub(crate) uid: String,
    pub(super) started_at: Timestamp,
    pub(crate) stats: Stats,
    pub(super) cpu_rate: Option<u64>,
    /// None for a pod in the host's network.
    pub(super) interfaces: Vec<Interface>,
    pub(crate) containers: Vec<ContainerUsage>,
    pub(crate) volumes: Vec<VolumeUsage>,
}

pub(crate) struct ContainerUsage {
    pub(super) id: String,
    pub(crate) name: String,
    pub(super) image: String,
    pub(super) started_at: Timestamp,
    pub(crate) stats: Stats,
    pub(super) cpu_rate: Option<u64>,
    pub(super) cpu_shares: Option<u64>,
    pub(super) cpu_quota: Option<i64>,
    pub(super) cpu_period: Option<u64>,
    pub(crate) rootfs: Option<DiskUsage>,
    pub(crate) logs: Option<DiskUsage>,
}

/// An emptyDir on the disk.
#[derive(Clone, Debug)]
pub(crate) struct VolumeUsage {
    pub(crate) name: String,
    pub(crate) usage: DiskUsage,
}

/// What was measured on the disk, by what it is of, until when it holds.
type Measured = HashMap<String, (DiskUsage, Instant)>;

/// Takes snapshots, and remembers what rates need.
pub(crate) struct Sampler {
    cx: Arc<Context>,
    machine: Machine,
    rates: Mutex<Rates>,
    measured: Mutex<Measured>,
}

impl Sampler {
    pub(crate) fn new(cx: Arc<Context>) -> Self {
        Self {
            machine: Machine::read(&cx.data_dir),
            cx,
            rates: Mutex::default(),
            measured: Mutex::default(),
        }
    }

    fn rate(&self, name: &str, at: Timestamp, cpu_ns: u64, since: Timestamp) -> Option<u64> {
        self.rates.lock().per_second(name, at, cpu_ns, since)
    }

    /// Everything as it is now; with what is on the disk, if wanted.
    pub(crate) async fn take(&self, disk: bool) -> Snapshot {
        let runtime = &self.cx.runtime;
        let (sandboxes, containers) = (runtime.sandboxes().await, runtime.containers().await);
        let mut pods = Vec::new();
        for sandbox in sandboxes.iter().filter(|s| s.state == SandboxState::Ready) {
            // What ends meanwhile is left out.
            let Ok(stats) = runtime.sandbox_stats(&sandbox.id).await else {
                continue;
            };
            pods.push(self.pod(sandbox, stats, &containers, disk).await);
        }
        self.forget(&sandboxes, &containers);
        let (at, machine, agent) = (self.cx.clock.now(), MachineUsage::read(), Process::read());
        let booted = Timestamp::from_second(machine.booted_at).unwrap_or(at);
        let begun = Timestamp::from_millisecond((agent.started_at * 1000.0) as i64).unwrap_or(at);
        let disks = if disk {
            let images = runtime.images().await;
            Some(Disks {
                node: Disk::read(&self.cx.data_dir),
                image: Disk::read(&runtime.image_filesystem()),
                image_bytes: images.iter().map(|i| i.size).sum(),
            })
        } else {
            None
        };
        Snapshot {
            at,
            node: self.cx.node().name.clone(),
            cpus: self.machine.cpus,
            machine_memory: self.machine.memory_bytes,
            machine_cpu_rate: self.rate("", at, machine.cpu_ns, booted),
            machine,
            machine_interfaces: interfaces(None),
            agent_cpu_rate: self.rate("agent", at, agent.cpu_ns, begun),
            agent,
            pids: pids(),
            pods,
            disks,
        }
    }

    /// What one pod uses, and what of it is on the disk; none if it does not run.
    pub(crate) async fn pod_disk(&self, uid: &str) -> Option<PodUsage> {
        let runtime = &self.cx.runtime;
        let sandboxes = runtime.sandboxes().await;
        let own = |s: &&SandboxStatus| s.state == SandboxState::Ready && s.config.pod_uid == uid;
        let sandbox = sandboxes.iter().find(own)?;
        let stats = runtime.sandbox_stats(&sandbox.id).await.ok()?;
        Some(self.pod(sandbox, stats, &runtime.containers().await, true).await)
    }

    async fn pod(&self, sandbox: &SandboxStatus, stats: Stats, all: &[ContainerStatus], disk: bool) -> PodUsage {
        let mut containers = Vec::new();
        let own = all.iter().filter(|c| c.sandbox == sandbox.id);
        for container in own.filter(|c| c.state == ContainerState::Running) {
            let Ok(stats) = self.cx.runtime.container_stats(&container.id).await else {
                continue;
            };
            containers.push(self.container(container, stats, disk).await);
        }
        let config = &sandbox.config;
        let interfaces = if config.host_network {
            Vec::new()
        } else {
            sandbox.pid.map_or_else(Vec::new, |pid| interfaces(Some(pid)))
        };
        let volumes = if disk {
            self.volumes(&config.pod_uid).await
        } else {
            Vec::new()
        };
        PodUsage {
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            uid: config.pod_uid.clone(),
            started_at: sandbox.created_at,
            cpu_rate: self.rate(sandbox.id.as_str(), stats.at, stats.cpu_usage_ns, sandbox.created_at),
            stats,
            interfaces,
            containers,
            volumes,
        }
    }

    async fn container(&self, container: &ContainerStatus, stats: Stats, disk: bool) -> ContainerUsage {
        let started_at = container.started_at.unwrap_or(container.created_at);
        let id = container.id.to_string();
        let (mut rootfs, mut logs) = (None, None);
        if disk {
            rootfs = self.known(&id);
            if rootfs.is_none() {
                rootfs = self.cx.runtime.container_disk_usage(&container.id).await.ok();
                self.remember(&id, rootfs);
            }
            logs = container.log_path.as_deref().map(log_usage);
        }
        let resources = &container.resources;
        ContainerUsage {
            name: container.name.clone(),
            image: container.image.clone(),
            started_at,
            cpu_rate: self.rate(&id, stats.at, stats.cpu_usage_ns, started_at),
            stats,
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota.filter(|q| *q > 0),
            cpu_period: resources.cpu_period,
            rootfs,
            logs,
            id,
        }
    }

    async fn volumes(&self, uid: &str) -> Vec<VolumeUsage> {
        let directory = self.cx.pod_dir(uid).join("volumes").join("kubernetes.io~empty-dir");
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        // Those in memory take nothing of the disk.
        let on_disk = entries.filter(|e| same_device(&e.path(), &self.cx.data_dir));
        let mut found = Vec::new();
        for (name, path) in on_disk.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())) {
            let key = path.to_string_lossy().into_owned();
            let usage = match self.known(&key) {
                Some(usage) => usage,
                None => {
                    let measured = tokio::task::spawn_blocking(move || tree_usage(&path)).await;
                    let usage = measured.unwrap_or_default();
                    self.remember(&key, Some(usage));
                    usage
                }
            };
            found.push(VolumeUsage { name, usage });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn known(&self, key: &str) -> Option<DiskUsage> {
        let measured = self.measured.lock();
        let (usage, until) = measured.get(key)?;
        (self.cx.clock.instant() < *until).then_some(*usage)
    }

    fn remember(&self, key: &str, usage: Option<DiskUsage>) {
        if let Some(usage) = usage {
            let until = self.cx.clock.instant() + DISK_LIFE;
            self.measured.lock().insert(key.to_owned(), (usage, until));
        }
    }

    fn forget(&self, sandboxes: &[SandboxStatus], containers: &[ContainerStatus]) {
        self.rates.lock().keep(|name| {
            matches!(name, "" | "agent")
                || sandboxes.iter().any(|s| s.id.as_str() == name)
                || containers.iter().any(|c| c.id.as_str() == name)
        });
        let now = self.cx.clock.instant();
        self.measured.lock().retain(|_, (_, until)| now < *until);
    }
}

fn same_device(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.dev()).ok();
    device(a) == device(b)
}

/// A log and what was put aside of it.
fn log_usage(path: &Path) -> DiskUsage {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let entries = path.parent().and_then(|dir| std::fs::read_dir(dir).ok());
    let own = entries.into_iter().flatten().flatten().filter(|e| {
        let file = e.file_name();
        file.to_str()
            .and_then(|f| f.strip_prefix(name))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    let mut usage = DiskUsage::default();
    for metadata in own.filter_map(|e| e.metadata().ok()) {
        add(&mut usage, &metadata);
    }
    usage
}

fn add(usage: &mut DiskUsage, metadata: &std::fs::Metadata) {
    use std::os::unix::fs::MetadataExt;
    usage.bytes += metadata.blocks() * 512;
    usage.inodes += 1;
}

/// All that is in a directory, on its own file system.
fn tree_usage(root: &Path) -> DiskUsage {
    use std::os::unix::fs::MetadataExt;
    let mut usage = DiskUsage::default();
    let Ok(own) = std::fs::symlink_metadata(root) else {
        return usage;
    };
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != own.dev() {
                continue;
            }
            add(&mut usage, &metadata);
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_as_large_as_all_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000000", "0.logger", "1.log"] {
            std::fs::write(dir.path().join(name), vec![1; 4096]).unwrap();
        }
        assert_eq!(log_usage(&path).inodes, 2);
        let all = tree_usage(dir.path());
        assert_eq!(all.inodes, 4);
        assert!(all.bytes >= 4 * 4096);
    }
}
