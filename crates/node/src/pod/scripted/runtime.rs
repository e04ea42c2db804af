//! The scripted runtime as a worker sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_runtime::*;
use serde_json::json;
use tokio::sync::broadcast;

use super::Shared;

fn no<T>() -> Result<T> {
    Err(Error::Failed("not scripted".into()))
}

#[async_trait]
impl PodRuntime for Shared {
    fn identity(&self) -> Identity {
        Identity {
            name: "coracle".into(),
            version: "0".into(),
        }
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            handlers: ["", "gvisor"]
                .map(|name| Handler {
                    name: name.into(),
                    ..Handler::default()
                })
                .into(),
            strict_groups: true,
        }
    }

    async fn trouble(&self) -> Option<String> {
        None
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let this = self.0.clone();
        let run = tokio::spawn(async move {
            this.held("run_sandbox").await;
            this.run_sandbox(config)
        });
        run.await.unwrap()
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.0.answer().await;
        self.0.log("stop_sandbox");
        self.0
            .state
            .lock()
            .sandboxes
            .iter_mut()
            .filter(|s| s.id == *id)
            .for_each(|s| s.state = SandboxState::NotReady);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.0.log("remove_sandbox");
        let mut state = self.0.state.lock();
        state.sandboxes.retain(|s| s.id != *id);
        state.containers.retain(|_, c| c.sandbox != *id);
        Ok(())
    }

    async fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.0.answer().await;
        self.0.all().0
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        self.0.answer().await;
        if let Some(target) = &config.pid_target {
            self.0.log(format!("create {} beside {target}", config.name));
        }
        let mut state = self.0.state.lock();
        state.next += 1;
        let id = ContainerId::new(format!("{}-{}", config.name, state.next));
        let status = ContainerStatus {
            name: config.name,
            attempt: config.attempt,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            resources: config.resources,
            ..self.0.blank(&id, sandbox, &config.image)
        };
        state.containers.insert(id.clone(), status);
        Ok(id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let (this, id) = (self.0.clone(), id.clone());
        let start = tokio::spawn(async move {
            this.held("start_container").await;
            this.start_container(&id)
        });
        start.await.unwrap()
    }

    async fn stop_container(&self, id: &ContainerId, _: Option<i32>, grace: Duration) -> Result<()> {
        let Ok(c) = self.0.get(id) else { return Ok(()) };
        self.0.log(format!("TERM {}", c.name));
        let (stubborn, well) = {
            let state = self.0.state.lock();
            (state.stubborn.contains(&c.name), state.ends_well.contains(&c.name))
        };
        if !stubborn {
            self.0.finish(id, if well { 0 } else { 143 });
        }
        if self.0.clock.timeout(grace, self.wait_container(id)).await.is_err() {
            self.0.log(format!("KILL {}", c.name));
            self.0.finish(id, 137);
        }
        Ok(())
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let c = self.0.get(id)?;
        self.0.log(format!("signal {signal} {}", c.name));
        if signal == 9 {
            self.0.finish(id, 137);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        // Not before a start of it is over.
        self.0.held("start_container").await;
        self.0.log(format!("remove {}", self.0.get(id)?.name));
        self.0.state.lock().containers.remove(id);
        Ok(())
    }

    async fn containers(&self) -> Vec<ContainerStatus> {
        self.0.all().1
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.0.get(id)
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let mut changed = self.0.changed.subscribe();
        loop {
            let c = self.0.get(id)?;
            if c.state == ContainerState::Exited {
                return Ok(c);
            }
            changed.changed().await.map_err(|_| Error::Failed("gone".into()))?;
        }
    }

    async fn reopen_log(&self, _: &ContainerId) -> Result<()> {
        no()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    async fn exec_sync(&self, _: &ContainerId, command: &[String], _: Option<Duration>) -> Result<ExecOutput> {
        let command = command.join(" ");
        self.0.log(format!("exec {command}"));
        let mut state = self.0.state.lock();
        let codes = state.execs.entry(command).or_default();
        let exit_code = if codes.len() > 1 {
            codes.pop_front().unwrap()
        } else {
            codes.front().copied().unwrap_or(0)
        };
        Ok(ExecOutput {
            stdout: b"output".to_vec(),
            stderr: vec![],
            exit_code,
        })
    }

    async fn exec(&self, _: &ContainerId, _: ExecConfig) -> Result<ExecStreams> {
        no()
    }

    async fn attach(&self, _: &ContainerId, _: AttachConfig) -> Result<AttachStreams> {
        no()
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        let name = self.0.get(id)?.name;
        let bytes = self.0.state.lock().working_sets.get(&name).copied().unwrap_or(0);
        Ok(Stats {
            memory_working_set: bytes,
            ..Stats::default()
        })
    }

    async fn sandbox_stats(&self, _: &SandboxId) -> Result<Stats> {
        no()
    }

    async fn container_disk_usage(&self, _: &ContainerId) -> Result<DiskUsage> {
        no()
    }

    async fn update_resources(&self, id: &ContainerId, new: Resources) -> Result<()> {
        let mut state = self.0.state.lock();
        let container = state.containers.get_mut(id).unwrap();
        let name = container.name.clone();
        let has = &mut container.resources;
        has.cpu_shares = new.cpu_shares.or(has.cpu_shares);
        has.cpu_quota = new.cpu_quota.or(has.cpu_quota);
        has.memory_limit = new.memory_limit.or(has.memory_limit);
        drop(state);
        self.0.log(format!("update {name}"));
        Ok(())
    }

    async fn update_sandbox_resources(&self, _: &SandboxId, new: Resources) -> Result<()> {
        self.0.state.lock().pod_limits.push(new);
        Ok(())
    }

    async fn pull_image(&self, reference: &str, _: Option<Auth>, _: ProgressSink) -> Result<ImageId> {
        self.0.log(format!("pull {reference}"));
        let mut state = self.0.state.lock();
        match state.pulls.pop_front() {
            Some(false) => Err(Error::Failed("the registry is on fire".into())),
            _ => {
                state.images.insert(reference.into(), (true, 7));
                Ok(ImageId::new(reference))
            }
        }
    }

    async fn import_archive(&self, _: Archive, _: ProgressSink) -> Result<Vec<String>> {
        no()
    }

    async fn export_archive(&self, _: &[String], _: PathBuf, _: ProgressSink) -> Result<()> {
        no()
    }

    async fn images(&self) -> Vec<Arc<ImageInfo>> {
        let names: Vec<String> = self.0.state.lock().images.keys().cloned().collect();
        let mut images = Vec::new();
        for name in names {
            images.extend(self.image(&name).await);
        }
        images
    }

    async fn image(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        let (pulled, size) = *self.0.state.lock().images.get(reference)?;
        let digests: Vec<String> = pulled.then(|| format!("{reference}@sha256:0")).into_iter().collect();
        let info = json!({"id": reference, "repo_tags": [reference], "repo_digests": digests, "size": size,
            "config": {}, "layers": []});
        Some(Arc::new(serde_json::from_value(info).unwrap()))
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.0.log(format!("remove_image {reference}"));
        self.0.state.lock().images.remove(reference);
        Ok(())
    }

    fn image_filesystem(&self) -> PathBuf {
        "/".into()
    }
}
