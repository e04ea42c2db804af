//! The client as a [`PodRuntime`]: each operation by name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::message::{
    AttachRequest, ContainerRef, ContainerStats, ContainerStatsResponse, CreateContainerRequest, Empty, ExecRequest,
    ExecSyncRequest, ExecSyncResponse, RunPodSandboxRequest, SandboxRef, StatusRequest, StatusResponse,
    StopContainerRequest, UInt64Value, UpdateContainerResourcesRequest, Url,
};
use super::rpc::Failure;
use super::{Cri, Inner, convert, streaming};
use crate::container::{ContainerConfig, ContainerState, ContainerStatus, Resources};
use crate::error::{Error, Result};
use crate::id::{self, ContainerId, ImageId, SandboxId};
use crate::image::{Auth, ImageInfo, ProgressSink};
use crate::pod_runtime::{
    Abilities, Archive, AttachConfig, AttachControl, AttachStreams, Attached, DiskUsage, Event, ExecConfig,
    ExecControl, ExecOutput, ExecStreams, Identity, PodRuntime, Stats,
};
use crate::sandbox::{Sandbox, SandboxConfig, SandboxStatus};
use crate::sys;

#[async_trait]
impl PodRuntime for Cri {
    fn identity(&self) -> Identity {
        self.inner.identity.clone()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities.clone()
    }

    async fn trouble(&self) -> Option<String> {
        let answer: Result<StatusResponse, Failure> = self.inner.rpc.runtime("Status", StatusRequest::default()).await;
        let conditions = match answer {
            Ok(answer) => answer.status.unwrap_or_default().conditions,
            Err(error) => return Some(format!("container runtime is down: {error}")),
        };
        ["RuntimeReady", "NetworkReady"].into_iter().find_map(|kind| {
            let what = if kind == "NetworkReady" { " network" } else { "" };
            match conditions.iter().find(|c| c.kind == kind) {
                Some(condition) if condition.status => None,
                Some(c) => Some(format!(
                    "container runtime{what} not ready: {kind}=false reason:{} message:{}",
                    c.reason, c.message
                )),
                None => Some(format!("container runtime{what} status is unknown")),
            }
        })
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let inner = self.inner.clone();
        to_the_end(async move { inner.start_sandbox(config).await }).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let _change = self.inner.change(id).await;
        let Some(name) = self.inner.sandbox_name(id) else {
            return Ok(());
        };
        self.inner.sandbox_call("StopPodSandbox", &name).await?;
        self.inner.look_at_sandbox(&name).await?;
        for container in self.inner.containers_of(id) {
            self.inner.look_at(&container).await?;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let (inner, id) = (self.inner.clone(), id.clone());
        to_the_end(async move { inner.delete_sandbox(&id).await }).await
    }

    async fn sandboxes(&self) -> Vec<SandboxStatus> {
        let state = self.inner.state.lock();
        state.sandboxes.values().map(|known| known.status.clone()).collect()
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        let (inner, sandbox) = (self.inner.clone(), sandbox.clone());
        to_the_end(async move { inner.new_container(&sandbox, config).await }).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.inner.ready_sandbox(&self.inner.status(id)?.sandbox)?;
        let result = self.inner.container_call("StartContainer", id).await;
        self.inner.look_at(id).await?;
        result
    }

    async fn stop_container(&self, id: &ContainerId, signal: Option<i32>, grace: Duration) -> Result<()> {
        let Ok(status) = self.inner.status(id) else {
            return Ok(());
        };
        if status.state != ContainerState::Running {
            return Ok(());
        }
        let mut grace = grace;
        let own = signal.or(self.inner.record(id).ok().and_then(|record| record.stop_signal));
        if let Some(signal) = own.filter(|_| !grace.is_zero()) {
            // The interface of the runtimes in use knows no signal but the image's.
            if self.inner.signal(id, signal).is_ok()
                && self.inner.clock.timeout(grace, self.inner.ended(id)).await.is_ok()
            {
                return Ok(());
            }
            grace = Duration::ZERO;
        }
        let request = StopContainerRequest {
            container_id: id.to_string(),
            timeout: seconds(grace),
        };
        let result: Result<Empty, Failure> = self.inner.rpc.runtime("StopContainer", request).await;
        match result {
            Err(failure) if !failure.is_missing() => return Err(failure.into()),
            _ => self.inner.look_at(id).await?,
        };
        Ok(())
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.inner.running(id)?;
        self.inner.signal(id, signal)
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let Ok(status) = self.inner.status(id) else {
            return Ok(());
        };
        let _change = self.inner.change(&status.sandbox).await;
        match self.inner.container_call("RemoveContainer", id).await {
            Ok(()) | Err(Error::NoSuchContainer(_)) => {
                self.inner.forget(id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn containers(&self) -> Vec<ContainerStatus> {
        let state = self.inner.state.lock();
        let all = state.containers.values();
        all.map(|known| known.status.borrow().clone()).collect()
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.inner.status(id)
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.inner.ended(id).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.inner.reopen(id).await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    async fn exec_sync(&self, id: &ContainerId, command: &[String], timeout: Option<Duration>) -> Result<ExecOutput> {
        self.inner.running(id)?;
        let request = ExecSyncRequest {
            container_id: id.to_string(),
            cmd: some(command)?,
            timeout: timeout.map_or(0, |limit| seconds(limit).max(1)),
        };
        let answer: Result<ExecSyncResponse, Failure> = self.inner.rpc.runtime("ExecSync", request).await;
        match (answer, timeout) {
            (Ok(answer), _) => Ok(ExecOutput {
                stdout: answer.stdout,
                stderr: answer.stderr,
                exit_code: answer.exit_code,
            }),
            (Err(failure), Some(limit)) if failure.is_late() => Err(Error::ExecTimeout {
                limit,
                stdout: Vec::new(),
                stderr: Vec::new(),
            }),
            (Err(failure), _) => Err(failure.into()),
        }
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecStreams> {
        self.inner.running(id)?;
        let mut wanted = config;
        // The interface asks for one at least.
        let none = !(wanted.stdin || wanted.stdout || wanted.stderr);
        wanted.stdout |= none || wanted.tty;
        let request = ExecRequest {
            container_id: id.to_string(),
            cmd: some(&wanted.command)?,
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let Url { url } = self.inner.rpc.runtime("Exec", request).await?;
        let streams = streaming::open(&url, &wanted).await?;
        Ok(ExecStreams {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            control: ExecControl {
                window: streams.window,
                exit: streams.exit,
            },
        })
    }

    async fn attach(&self, id: &ContainerId, config: AttachConfig) -> Result<AttachStreams> {
        self.inner.running(id)?;
        let record = self.inner.record(id)?;
        let wanted = ExecConfig {
            command: Vec::new(),
            tty: record.tty,
            stdin: config.stdin && record.stdin,
            stdout: config.stdout,
            stderr: config.stderr && !record.tty,
        };
        let request = AttachRequest {
            container_id: id.to_string(),
            stdin: wanted.stdin,
            tty: wanted.tty,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        let Url { url } = self.inner.rpc.runtime("Attach", request).await?;
        let streams = streaming::open(&url, &wanted).await?;
        Ok(AttachStreams {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            control: AttachControl(Attached::Relayed(streams.window)),
        })
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        let status = self.inner.status(id)?;
        let limit = status.resources.memory_limit;
        // The interface does not count processes; the container's group is where OCI runtimes make it.
        let (_, sandbox) = self.inner.known_sandbox(&status.sandbox)?;
        let group = self
            .inner
            .cgroups
            .stats(&format!("{}/{id}", sandbox.config.cgroup_parent));
        let stats = self.inner.stats(id).await?;
        let number = |value: Option<UInt64Value>| value.unwrap_or_default().value;
        let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
        Ok(Stats {
            at: Timestamp::from_nanosecond(cpu.timestamp.into()).unwrap_or_default(),
            cpu_usage_ns: number(cpu.usage_core_nano_seconds),
            memory_usage: number(memory.usage_bytes),
            memory_working_set: number(memory.working_set_bytes),
            memory_rss: number(memory.rss_bytes),
            page_faults: number(memory.page_faults),
            major_page_faults: number(memory.major_page_faults),
            memory_limit: limit
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0),
            swap_usage: number(stats.swap.unwrap_or_default().swap_usage_bytes),
            pids: group.map_or(0, |usage| usage.pids),
        })
    }

    async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats> {
        // The pod's group is this client's own: there is nothing to ask for.
        let (_, sandbox) = self.inner.known_sandbox(id)?;
        crate::cgroup::usage(
            self.inner.cgroups.clone(),
            sandbox.config.cgroup_parent,
            self.inner.clock,
        )
        .await
    }

    async fn container_disk_usage(&self, id: &ContainerId) -> Result<DiskUsage> {
        let layer = self.inner.stats(id).await?.writable_layer.unwrap_or_default();
        Ok(DiskUsage {
            bytes: layer.used_bytes.unwrap_or_default().value,
            inodes: layer.inodes_used.unwrap_or_default().value,
        })
    }

    async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<()> {
        let mut merged = self.inner.status(id)?.resources;
        merged.merge(resources);
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_string(),
            linux: Some(convert::resources(&merged)),
        };
        let _: Empty = self.inner.rpc.runtime("UpdateContainerResources", request).await?;
        let state = self.inner.state.lock();
        if let Some(known) = state.containers.get(id) {
            known.status.send_modify(|status| status.resources = merged);
        }
        Ok(())
    }

    async fn update_sandbox_resources(&self, id: &SandboxId, resources: Resources) -> Result<()> {
        let (_, sandbox) = self.inner.known_sandbox(id)?;
        let (cgroups, group) = (self.inner.cgroups.clone(), sandbox.config.cgroup_parent);
        blocking(move || {
            cgroups
                .limit(&group, &resources)
                .map_err(Error::io("limit cgroup", group))
        })
        .await
    }

    async fn pull_image(&self, reference: &str, auth: Option<Auth>, _progress: ProgressSink) -> Result<ImageId> {
        self.inner.pull(reference, auth).await
    }

    async fn import_archive(&self, _archive: Archive, _progress: ProgressSink) -> Result<Vec<String>> {
        Err(self.inner.no_archives("import"))
    }

    async fn export_archive(&self, _references: &[String], _path: PathBuf, _progress: ProgressSink) -> Result<()> {
        Err(self.inner.no_archives("export"))
    }

    async fn images(&self) -> Vec<Arc<ImageInfo>> {
        self.inner.list_images().await
    }

    async fn image(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        self.inner.find_image(reference).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.inner.remove_image(reference).await
    }

    fn image_filesystem(&self) -> PathBuf {
        self.inner.image_filesystem.clone()
    }
}

/// Whole seconds, no fewer than asked for.
fn seconds(duration: Duration) -> i64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn some(command: &[String]) -> Result<Vec<String>> {
    if command.is_empty() {
        return Err(Error::InvalidConfig("no command to execute".to_owned()));
    }
    Ok(command.to_vec())
}

/// Work that goes on when nobody waits for it any more.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|e| Err(Error::Failed(e.to_string())))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let work = tokio::task::spawn_blocking(work).await;
    work.unwrap_or_else(|e| Err(Error::Failed(e.to_string())))
}

impl Inner {
    async fn start_sandbox(self: Arc<Self>, config: SandboxConfig) -> Result<Sandbox> {
        let mut config = config;
        let id = config.id.clone().unwrap_or_else(|| SandboxId::new(id::random()));
        if self.state.lock().sandboxes.contains_key(&id) {
            return Err(Error::SandboxExists(id.to_string()));
        }
        let Some(handler) = self.abilities.handler(&config.handler) else {
            return Err(Error::NoSuchHandler(config.handler));
        };
        if config.user_namespace.is_some() && !handler.user_namespaces {
            return Err(self.cannot("users of a pod's own"));
        }
        if config.cgroup_parent.trim_matches('/').is_empty() {
            config.cgroup_parent = format!("/coracle/{id}");
        }
        let (cgroups, group, limits) = (
            self.cgroups.clone(),
            config.cgroup_parent.clone(),
            config.resources.clone(),
        );
        blocking(move || {
            cgroups.create(&group).map_err(Error::io("create cgroup", &group))?;
            cgroups
                .limit(&group, &limits)
                .map_err(Error::io("limit cgroup", &group))
        })
        .await?;
        let request = RunPodSandboxRequest {
            config: Some(convert::sandbox_config(&id, &config, &self.owner)),
            runtime_handler: config.handler.clone(),
        };
        let answer: Result<SandboxRef, Failure> = self.rpc.runtime("RunPodSandbox", request).await;
        let name = match answer {
            Ok(answer) => answer.pod_sandbox_id,
            Err(failure) => {
                self.cgroups.remove_if_empty(&config.cgroup_parent);
                return Err(failure.into());
            }
        };
        let status = self.look_at_sandbox(&name).await?;
        match status.map(|s| (s.pid, s.netns, s.addresses)) {
            Some((Some(pid), Some(netns), addresses)) => Ok(Sandbox {
                id,
                pid,
                netns,
                addresses: Some(addresses.unwrap_or_default()),
            }),
            _ => Err(Error::Failed(format!(
                "{} does not tell the process of sandbox {name}",
                self.identity.name
            ))),
        }
    }

    fn cannot(&self, what: &str) -> Error {
        let Identity { name, version } = &self.identity;
        Error::InvalidConfig(format!("{name} {version} does not support {what}"))
    }

    fn no_archives(&self, verb: &str) -> Error {
        let name = &self.identity.name;
        Error::Failed(format!(
            "{name} has no archives over its interface; use its own client, as in `ctr -n k8s.io images {verb}`"
        ))
    }

    fn known_sandbox(&self, id: &SandboxId) -> Result<(String, SandboxStatus)> {
        let state = self.state.lock();
        let known = state.sandboxes.get(id);
        known
            .map(|known| (known.name.clone(), known.status.clone()))
            .ok_or_else(|| Error::NoSuchSandbox(id.to_string()))
    }

    fn containers_of(&self, id: &SandboxId) -> Vec<ContainerId> {
        let state = self.state.lock();
        let own = state
            .containers
            .iter()
            .filter(|(_, c)| c.status.borrow().sandbox == *id);
        own.map(|(id, _)| id.clone()).collect()
    }

    async fn sandbox_call(&self, method: &str, name: &str) -> Result<()> {
        let request = SandboxRef {
            pod_sandbox_id: name.to_owned(),
        };
        let answer: Result<Empty, Failure> = self.rpc.runtime(method, request).await;
        match answer {
            Err(failure) if !failure.is_missing() => Err(failure.into()),
            _ => Ok(()),
        }
    }

    async fn container_call(&self, method: &str, id: &ContainerId) -> Result<()> {
        let request = ContainerRef {
            container_id: id.to_string(),
        };
        let answer: Result<Empty, Failure> = self.rpc.runtime(method, request).await;
        match answer {
            Err(failure) if failure.is_missing() => Err(Error::NoSuchContainer(id.to_string())),
            other => Ok(other.map(drop)?),
        }
    }

    async fn delete_sandbox(self: Arc<Self>, id: &SandboxId) -> Result<()> {
        let _change = self.change(id).await;
        let Ok((name, sandbox)) = self.known_sandbox(id) else {
            return Ok(());
        };
        self.sandbox_call("StopPodSandbox", &name).await?;
        self.look_at_sandbox(&name).await?;
        self.sandbox_call("RemovePodSandbox", &name).await?;
        for container in self.containers_of(id) {
            self.forget(&container);
        }
        self.forget_sandbox(id, &name);
        let group = sandbox.config.cgroup_parent;
        let shared = {
            let state = self.state.lock();
            state.sandboxes.values().any(|s| s.status.config.cgroup_parent == group)
        };
        if !shared {
            let cgroups = self.cgroups.clone();
            blocking(move || {
                cgroups.remove_if_empty(&group);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn new_container(self: Arc<Self>, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        let (name, status) = self.ready_sandbox(sandbox)?;
        let mut config = config;
        let security = &mut config.security;
        if security.group.is_some() && security.user.is_none() && security.username.is_none() {
            // The interface takes no group without a user; it is the image's, as without a group.
            let image = self.find_image(&config.image).await;
            let (uid, name) = image.as_ref().map_or((None, None), |image| image.user());
            (security.user, security.username) = (uid, name.map(str::to_owned));
            if security.username.is_none() {
                security.user.get_or_insert(0);
            }
        }
        let handler = self.abilities.handler(&status.config.handler).unwrap_or_default();
        if config.mounts.iter().any(|m| m.recursive_readonly) && !handler.recursive_readonly {
            return Err(self.cannot("mounts that are read-only recursively"));
        }
        if config.security.strict_groups && !self.abilities.strict_groups {
            return Err(self.cannot("the supplemental groups policy Strict"));
        }
        if !config.log_path.as_os_str().is_empty() {
            let log = status.config.log_directory.join(&config.log_path);
            let directory = log.parent().unwrap_or(&log);
            std::fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        }
        let record = convert::record(sandbox, &config);
        let request = CreateContainerRequest {
            pod_sandbox_id: name,
            config: Some(convert::container_config(&record, &status.config, &config, &self.owner)),
            sandbox_config: Some(convert::sandbox_config(sandbox, &status.config, &self.owner)),
        };
        let created: Result<ContainerRef, Failure> = self.rpc.runtime("CreateContainer", request).await;
        let created = created.map_err(|failure| match failure.text() {
            text if failure.is_missing() && text.contains("image") => Error::ImageNotFound {
                reference: config.image.clone(),
            },
            _ => failure.into(),
        })?;
        let id = ContainerId::new(created.container_id);
        self.look_at(&id).await?;
        Ok(id)
    }

    fn running(&self, id: &ContainerId) -> Result<()> {
        match self.status(id)?.state {
            ContainerState::Running => Ok(()),
            state => Err(Error::WrongContainerState {
                id: id.to_string(),
                state: format!("{state:?}").to_lowercase(),
                wanted: "running",
            }),
        }
    }

    /// Sends a signal to the container's first process.
    fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let missing = || Error::NoSuchContainer(id.to_string());
        let process = self.state.lock().containers.get(id).ok_or_else(missing)?.process;
        let unknown = || Error::Failed(format!("{} does not tell the process of {id}", self.identity.name));
        let (pid, start) = process.ok_or_else(unknown)?;
        // The handle is taken before the check, so that the process checked is the process signalled.
        let failed = Error::io("signal the process of", id.as_str());
        let process = sys::PidFd::open(pid).map_err(Error::io("signal the process of", id.as_str()))?;
        if sys::start_time(pid) != Some(start) {
            return Err(missing());
        }
        process.kill(signal).map_err(failed)
    }

    pub(super) async fn reopen(&self, id: &ContainerId) -> Result<()> {
        self.container_call("ReopenContainerLog", id).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<ContainerStats> {
        let request = ContainerRef {
            container_id: id.to_string(),
        };
        let answer: ContainerStatsResponse = self.rpc.runtime("ContainerStats", request).await?;
        answer.stats.ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }
}
