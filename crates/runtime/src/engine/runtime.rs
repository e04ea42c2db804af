//! The engine as a [`PodRuntime`]: each operation by name, and the few that are one line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{CONTAINER_RECORD, Engine, blocking, to_the_end, write_json};
use crate::container::{ContainerConfig, ContainerStatus, Resources};
use crate::error::{Error, Result};
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::image::{Auth, ImageInfo, ProgressSink};
use crate::pod_runtime::{
    Abilities, Archive, AttachConfig, AttachStreams, DiskUsage, Event, ExecConfig, ExecOutput, ExecStreams, Handler,
    Identity, PodRuntime, Stats,
};
use crate::sandbox::{Sandbox, SandboxConfig, SandboxStatus};
use crate::shim::protocol::Request;

/// The versions of Linux from which on mounts below a mount can be made read-only with it, and volumes in memory can be
/// mounted with other owners.
const RECURSIVE_READONLY: (u32, u32) = (5, 12);
const MAPPED_TMPFS: (u32, u32) = (6, 3);

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[async_trait]
impl PodRuntime for Engine {
    fn identity(&self) -> Identity {
        Identity {
            name: "coracle".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn abilities(&self) -> Abilities {
        let config = &self.inner.config;
        // What another program can is not known; what is asked of it and cannot be is an error of the container.
        let foreign = |name: &String| Handler {
            name: name.clone(),
            ..Handler::default()
        };
        let default = match &config.oci_runtime {
            Some(_) => Handler::default(),
            None => Handler {
                name: String::new(),
                recursive_readonly: kernel() >= RECURSIVE_READONLY,
                user_namespaces: kernel() >= MAPPED_TMPFS && Path::new("/proc/self/ns/user").exists(),
            },
        };
        Abilities {
            handlers: std::iter::once(default)
                .chain(config.handlers.keys().map(foreign))
                .collect(),
            strict_groups: true,
        }
    }

    async fn trouble(&self) -> Option<String> {
        None
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let engine = self.clone();
        to_the_end(async move { engine.start_sandbox(config).await }).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let (engine, id) = (self.clone(), id.clone());
        to_the_end(async move { engine.stop(&id).await }).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let (engine, id) = (self.clone(), id.clone());
        to_the_end(async move { engine.remove(&id).await }).await
    }

    async fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.sandbox_statuses()
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        let (engine, sandbox) = (self.clone(), sandbox.clone());
        to_the_end(async move { engine.new_container(&sandbox, config).await }).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let (engine, id) = (self.clone(), id.clone());
        to_the_end(async move { engine.start(&id).await }).await
    }

    async fn stop_container(&self, id: &ContainerId, signal: Option<i32>, grace: Duration) -> Result<()> {
        self.stop_running(id, signal, grace).await
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.kill(id, signal).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let (engine, id) = (self.clone(), id.clone());
        to_the_end(async move { engine.delete_container(&id).await }).await
    }

    async fn containers(&self) -> Vec<ContainerStatus> {
        let containers: Vec<_> = self.inner.state.lock().containers.values().cloned().collect();
        containers.iter().map(|entry| entry.status.borrow().clone()).collect()
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        Ok(self.inner.container(id)?.status.borrow().clone())
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.ended(id).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let sandbox = self.inner.container(id)?.record.lock().sandbox.clone();
        let sandbox = self.inner.sandbox(&sandbox)?;
        sandbox
            .client
            .call(&Request::ReopenLog {
                container: id.to_string(),
            })
            .await
            .map(|_| ())
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    async fn exec_sync(&self, id: &ContainerId, command: &[String], timeout: Option<Duration>) -> Result<ExecOutput> {
        self.run_to_end(id, command, timeout).await
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecStreams> {
        self.run_command(id, config).await
    }

    async fn attach(&self, id: &ContainerId, config: AttachConfig) -> Result<AttachStreams> {
        self.attach_to(id, config).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        let cgroup = self.inner.container(id)?.record.lock().cgroup.clone();
        crate::cgroup::usage(self.inner.cgroups.clone(), cgroup, self.inner.config.clock).await
    }

    async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats> {
        let cgroup = self.inner.sandbox(id)?.record.cgroup.clone();
        crate::cgroup::usage(self.inner.cgroups.clone(), cgroup, self.inner.config.clock).await
    }

    async fn container_disk_usage(&self, id: &ContainerId) -> Result<DiskUsage> {
        let upper = self.inner.container(id)?.directory.join("upper");
        blocking(move || {
            let mut usage = DiskUsage::default();
            measure(&upper, &mut usage);
            Ok(usage)
        })
        .await
    }

    async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<()> {
        let entry = self.inner.container(id)?;
        let _change = entry.change.lock().await;
        let (inner, updating) = (self.inner.clone(), entry.clone());
        let merged = blocking(move || {
            let mut record = updating.record.lock().clone();
            inner
                .cgroups
                .limit(&record.cgroup, &resources)
                .map_err(Error::io("limit cgroup", &record.cgroup))?;
            record.config.resources.merge(resources);
            write_json(&updating.directory.join(CONTAINER_RECORD), &record)?;
            let merged = record.config.resources.clone();
            *updating.record.lock() = record;
            Ok(merged)
        })
        .await?;
        entry.status.send_modify(|status| status.resources = merged);
        Ok(())
    }

    async fn update_sandbox_resources(&self, id: &SandboxId, resources: Resources) -> Result<()> {
        let (inner, cgroup) = (self.inner.clone(), self.inner.sandbox(id)?.record.cgroup.clone());
        blocking(move || {
            inner
                .cgroups
                .limit(&cgroup, &resources)
                .map_err(Error::io("limit cgroup", cgroup))
        })
        .await
    }

    async fn pull_image(&self, reference: &str, auth: Option<Auth>, progress: ProgressSink) -> Result<ImageId> {
        self.pull(reference, auth, progress).await
    }

    async fn import_archive(&self, archive: Archive, progress: ProgressSink) -> Result<Vec<String>> {
        self.import(archive, progress).await
    }

    async fn export_archive(&self, references: &[String], path: PathBuf, progress: ProgressSink) -> Result<()> {
        let (images, references) = (self.inner.images.clone(), references.to_vec());
        blocking(move || crate::image::export::export(&images, &references, &path, &progress)).await
    }

    async fn images(&self) -> Vec<Arc<ImageInfo>> {
        self.inner.images.list()
    }

    async fn image(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        self.inner.images.find(reference)
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.remove_by_name(reference).await
    }

    fn image_filesystem(&self) -> PathBuf {
        self.inner.config.root.clone()
    }
}

fn measure(directory: &std::path::Path, usage: &mut DiskUsage) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        usage.inodes += 1;
        usage.bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            measure(&entry.path(), usage);
        }
    }
}
