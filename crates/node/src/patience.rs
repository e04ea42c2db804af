//! A runtime that is not waited for without end: a call that ought to be short fails when it takes too long, so that one
//! hung runtime (or one hung pod of it) cannot hold up all else, and the node can say so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_clock::{Clock, Instant};
use coracle_runtime::*;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Whether the runtime answers.
#[derive(Default)]
pub(crate) struct RuntimeHealth(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    /// Calls under way, by when they began.
    open: std::collections::BTreeMap<u64, (Instant, &'static str)>,
    /// The call that was given up last; none once another has been answered.
    given_up: Option<&'static str>,
}

impl RuntimeHealth {
    fn begin(&self, now: Instant, call: &'static str) -> u64 {
        let mut state = self.0.lock();
        state.next += 1;
        let id = state.next;
        state.open.insert(id, (now, call));
        id
    }

    /// The name of a call that has not been answered within `limit`, if none has been answered since.
    pub(crate) fn hung(&self, now: Instant, limit: Duration) -> Option<&'static str> {
        let state = self.0.lock();
        let late = state
            .open
            .values()
            .find(|(since, _)| now.saturating_duration_since(*since) > limit);
        state.given_up.or(late.map(|(_, call)| *call))
    }
}

/// Takes the call from the open ones however it ends.
struct Open<'a> {
    health: &'a RuntimeHealth,
    id: u64,
}

impl Open<'_> {
    fn answered(self) {
        self.health.0.lock().given_up = None;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.health.0.lock().open.remove(&self.id);
    }
}

/// The runtime behind a limit.
pub(crate) struct Patient {
    inner: Arc<dyn PodRuntime>,
    clock: Clock,
    limit: Duration,
    health: Arc<RuntimeHealth>,
}

impl Patient {
    pub(crate) fn new(inner: Arc<dyn PodRuntime>, clock: Clock, limit: Duration) -> Self {
        Self {
            inner,
            clock,
            limit,
            health: Arc::default(),
        }
    }

    pub(crate) fn health(&self) -> Arc<RuntimeHealth> {
        self.health.clone()
    }

    fn open(&self, call: &'static str) -> Open<'_> {
        Open {
            health: &self.health,
            id: self.health.begin(self.clock.instant(), call),
        }
    }

    /// A call that ends within the limit, and `extra` where it is meant to take that long.
    async fn call<T>(
        &self,
        call: &'static str,
        extra: Duration,
        future: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let open = self.open(call);
        let limit = self.limit.saturating_add(extra);
        match self.clock.timeout(limit, future).await {
            Ok(result) => {
                open.answered();
                result
            }
            Err(_) => {
                self.health.0.lock().given_up = Some(call);
                Err(Error::Failed(format!(
                    "{call}: the container runtime did not answer within {}s",
                    limit.as_secs()
                )))
            }
        }
    }

    /// A question whose answer cannot be a failure: it is waited for, but counts as late.
    async fn ask<T>(&self, call: &'static str, future: impl Future<Output = T> + Send) -> T {
        let open = self.open(call);
        let answer = future.await;
        open.answered();
        answer
    }
}

#[async_trait]
impl PodRuntime for Patient {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn trouble(&self) -> Option<String> {
        self.ask("status", self.inner.trouble()).await
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        self.call("run_sandbox", Duration::ZERO, self.inner.run_sandbox(config))
            .await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.call("stop_sandbox", Duration::ZERO, self.inner.stop_sandbox(id))
            .await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.call("remove_sandbox", Duration::ZERO, self.inner.remove_sandbox(id))
            .await
    }

    async fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.ask("sandboxes", self.inner.sandboxes()).await
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        let create = self.inner.create_container(sandbox, config);
        self.call("create_container", Duration::ZERO, create).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.call("start_container", Duration::ZERO, self.inner.start_container(id))
            .await
    }

    async fn stop_container(&self, id: &ContainerId, signal: Option<i32>, grace: Duration) -> Result<()> {
        self.call("stop_container", grace, self.inner.stop_container(id, signal, grace))
            .await
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.call("kill_container", Duration::ZERO, self.inner.kill_container(id, signal))
            .await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.call("remove_container", Duration::ZERO, self.inner.remove_container(id))
            .await
    }

    async fn containers(&self) -> Vec<ContainerStatus> {
        self.ask("containers", self.inner.containers()).await
    }

    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.call("container_status", Duration::ZERO, self.inner.container_status(id))
            .await
    }

    async fn wait_container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.inner.wait_container(id).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.call("reopen_log", Duration::ZERO, self.inner.reopen_log(id)).await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events()
    }

    async fn exec_sync(&self, id: &ContainerId, command: &[String], timeout: Option<Duration>) -> Result<ExecOutput> {
        let run = self.inner.exec_sync(id, command, timeout);
        match timeout {
            Some(timeout) => self.call("exec_sync", timeout, run).await,
            // A hook may run as long as it likes.
            None => run.await,
        }
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecStreams> {
        self.call("exec", Duration::ZERO, self.inner.exec(id, config)).await
    }

    async fn attach(&self, id: &ContainerId, config: AttachConfig) -> Result<AttachStreams> {
        self.call("attach", Duration::ZERO, self.inner.attach(id, config)).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        self.call("container_stats", Duration::ZERO, self.inner.container_stats(id))
            .await
    }

    async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats> {
        self.call("sandbox_stats", Duration::ZERO, self.inner.sandbox_stats(id))
            .await
    }

    async fn container_disk_usage(&self, id: &ContainerId) -> Result<DiskUsage> {
        // It walks a file system as large as that is.
        self.inner.container_disk_usage(id).await
    }

    async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<()> {
        let update = self.inner.update_resources(id, resources);
        self.call("update_resources", Duration::ZERO, update).await
    }

    async fn update_sandbox_resources(&self, id: &SandboxId, resources: Resources) -> Result<()> {
        let update = self.inner.update_sandbox_resources(id, resources);
        self.call("update_sandbox_resources", Duration::ZERO, update).await
    }

    async fn pull_image(&self, reference: &str, auth: Option<Auth>, progress: ProgressSink) -> Result<ImageId> {
        self.inner.pull_image(reference, auth, progress).await
    }

    async fn import_archive(&self, archive: Archive, progress: ProgressSink) -> Result<Vec<String>> {
        self.inner.import_archive(archive, progress).await
    }

    async fn export_archive(&self, references: &[String], path: PathBuf, progress: ProgressSink) -> Result<()> {
        self.inner.export_archive(references, path, progress).await
    }

    async fn images(&self) -> Vec<Arc<ImageInfo>> {
        self.ask("images", self.inner.images()).await
    }

    async fn image(&self, reference: &str) -> Option<Arc<ImageInfo>> {
        self.ask("image", self.inner.image(reference)).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.inner.remove_image(reference).await
    }

    fn image_filesystem(&self) -> PathBuf {
        self.inner.image_filesystem()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::scripted::{Scripted, Shared};

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_fails_and_is_known_until_another_is_answered() {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let runtime = Scripted::new(clock);
        let patient = Patient::new(Arc::new(Shared(runtime.clone())), clock, LIMIT);
        let health = patient.health();
        let hung = || health.hung(clock.instant(), LIMIT);
        runtime.hang(true);
        let id = SandboxId::new("uid-0");
        let begun = clock.instant();
        let error = patient.stop_sandbox(&id).await.unwrap_err();
        assert_eq!(clock.instant() - begun, LIMIT);
        assert_eq!(
            error.to_string(),
            "stop_sandbox: the container runtime did not answer within 120s"
        );
        assert_eq!(hung(), Some("stop_sandbox"));
        runtime.hang(false);
        patient.stop_sandbox(&id).await.unwrap();
        assert_eq!(hung(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_waited_for_but_counts_as_late() {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let runtime = Scripted::new(clock);
        let patient = Arc::new(Patient::new(Arc::new(Shared(runtime.clone())), clock, LIMIT));
        let health = patient.health();
        runtime.hang(true);
        let asked = tokio::spawn({
            let patient = patient.clone();
            async move { patient.sandboxes().await }
        });
        clock.sleep(LIMIT + Duration::from_secs(1)).await;
        assert_eq!(health.hung(clock.instant(), LIMIT), Some("sandboxes"));
        runtime.hang(false);
        asked.await.unwrap();
        assert_eq!(health.hung(clock.instant(), LIMIT), None);
    }
}
