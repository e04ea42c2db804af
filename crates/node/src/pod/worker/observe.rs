//! What the worker sees: the pod as the API has it, its sandbox and containers as the runtime has them.

use std::path::Path;
use std::sync::Arc;

use coracle_runtime::{ContainerId, ContainerState, ContainerStatus, SandboxId, SandboxState};

use super::{Leftovers, Worker};
use crate::pod::network::Network;
use crate::pod::plan::SandboxView;
use crate::pod::resize::Granted;
use crate::pod::start::config::{IMAGE_ANNOTATION, IMAGE_ID_ANNOTATION, MESSAGE_ANNOTATION, MESSAGE_POLICY_ANNOTATION};
use crate::pod::start::sandbox::is_complete;

/// As much as a termination message may hold, and how many lines of a log stand in for one.
const MOST_MESSAGE: usize = 4096;
const MOST_LOG: usize = 2048;
const MOST_LOG_LINES: usize = 80;
/// After the runtime failed to answer.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

impl Worker {
    /// Takes over what runs already, without touching it.
    pub(super) fn adopt(&mut self, leftovers: Leftovers) {
        let newest = leftovers.sandboxes.iter().max_by_key(|s| s.config.attempt);
        if let Some(newest) = newest {
            self.sandbox = Some(SandboxView {
                id: newest.id.clone(),
                ready: newest.state == SandboxState::Ready,
                networked: newest.state == SandboxState::Ready
                    && !self.pod_ips.is_empty()
                    && is_complete(&self.cx, self.uid(), &newest.id),
                attempt: newest.config.attempt,
                handler: newest.config.handler.clone(),
            });
            self.found = newest.netns.clone().map(|netns| Network {
                netns,
                addresses: newest.addresses.clone(),
            });
        }
        for instance in leftovers.containers {
            // It ran before, so it had started; its probes say at once if it has not.
            if instance.state == ContainerState::Running {
                let memory = self.memory.entry(instance.name.clone()).or_default();
                let before = self.pod.status.as_ref();
                let lists = before.map(|s| {
                    s.container_statuses
                        .iter()
                        .flatten()
                        .chain(s.init_container_statuses.iter().flatten())
                });
                let was = lists.into_iter().flatten().find(|c| c.name == instance.name);
                let id = super::super::container_id(&self.cx.runtime.identity().name, &instance.id);
                let same = was.is_some_and(|w| w.container_id.as_ref() == Some(&id));
                if same && was.is_some_and(|w| w.started == Some(true)) {
                    memory.started = Some(instance.id.clone());
                }
                if same && was.is_some_and(|w| w.ready) {
                    memory.ready = Some(instance.id.clone());
                }
            }
            self.take(instance);
        }
        let status = self.pod.status.iter();
        let known = status.flat_map(|s| {
            s.container_statuses
                .iter()
                .flatten()
                .chain(s.init_container_statuses.iter().flatten())
        });
        for before in known.filter(|c| c.container_id.is_some()) {
            if self.instances.values().any(|i| i.name == before.name) {
                continue;
            }
            self.lost
                .insert(before.name.clone(), before.restart_count.unsigned_abs());
        }
    }

    /// Empties the inbox and asks the runtime about what was touched.
    pub(super) async fn observe(&mut self) {
        let slot = std::mem::take(&mut *self.inbox.slot.lock());
        if let Some(pod) = slot.pod {
            self.update(pod);
        }
        self.gone |= slot.gone;
        if let Some(mirror) = slot.mirror {
            self.take_mirror(mirror);
        }
        if self.stop.is_none() && matches!(self.stage, super::Stage::Live | super::Stage::Ending { .. }) {
            self.stop = slot.stop;
        }
        self.resize.ask |= slot.granted;
        if slot.reclaim {
            self.reclaim();
        }
        self.refresh_volumes |= slot.objects;
        if slot.objects {
            // Something that was missing may be there now.
            for memory in self
                .memory
                .values_mut()
                .filter(|m| m.waiting.as_ref().is_some_and(|w| w.0 == "CreateContainerConfigError"))
            {
                memory.retry_at = None;
            }
            if let super::Volumes::Pending { retry_at, .. } = &mut self.volumes {
                *retry_at = None;
            }
        }
        if slot.recheck {
            self.recheck().await;
        }
        for id in slot.touched {
            self.look_at(id).await;
        }
    }

    fn update(&mut self, pod: Arc<k8s_openapi::api::core::v1::Pod>) {
        let shown = |p: &k8s_openapi::api::core::v1::Pod| (p.metadata.labels.clone(), p.metadata.annotations.clone());
        if crate::volume::shows_the_pod(&pod) && shown(&pod) != shown(&self.pod) {
            self.refresh_volumes = true;
        }
        let granted = Granted::of(&self.pod);
        if self.admitted && granted != Granted::of(&pod) {
            self.resize.ask |= Granted::of(&pod) != Granted::of(&self.desired);
            self.pod = granted.apply(&pod);
        } else {
            self.resize.ask |= self.resize.pending.is_some();
            self.pod = pod.clone();
        }
        self.desired = pod;
    }

    /// The API shows the static pod like this now; what it shows wrongly is told anew.
    fn take_mirror(&mut self, mirror: Option<Arc<k8s_openapi::api::core::v1::Pod>>) {
        if let Some(mirror) = &mirror {
            self.reported = mirror.status.clone().unwrap_or_default();
            let ended = matches!(self.reported.phase.as_deref(), Some("Succeeded" | "Failed"));
            if ended && matches!(self.stage, super::Stage::Live) {
                // It tells of an earlier run: of this pod before its machine went down.
                self.reported.phase = None;
                self.reported.reason = None;
                self.reported.message = None;
            }
            if let Some(before) = self.reported.start_time.as_ref().filter(|t| t.0 < self.start_time) {
                self.start_time = before.0;
            }
        }
        self.mirror = mirror;
    }

    async fn look_at(&mut self, id: ContainerId) {
        if self
            .instances
            .get(&id)
            .is_some_and(|i| i.state == ContainerState::Exited)
        {
            return;
        }
        match self.cx.runtime.container_status(&id).await {
            Ok(instance) => self.take(instance),
            Err(coracle_runtime::Error::NoSuchContainer(_)) => {
                self.instances.remove(&id);
            }
            Err(error) => {
                tracing::warn!(container = %id, error = error.chain(), "the runtime does not tell a container's state");
                let clock = self.cx.clock;
                self.ops.spawn(async move {
                    clock.sleep(LOOK_AGAIN).await;
                    super::Done::LookAgain(id)
                });
            }
        }
    }

    /// Asks for everything of the pod that is not over.
    async fn recheck(&mut self) {
        if let Some(sandbox) = self.sandbox.as_ref().map(|s| s.id.clone()) {
            // Not waited for: what hangs there is not to hold up what is told here.
            self.busy.asking = true;
            let runtime = self.cx.runtime.clone();
            self.ops.spawn(async move {
                let all = runtime.sandboxes().await;
                let lives = all.iter().any(|s| s.id == sandbox && s.state == SandboxState::Ready);
                super::Done::Looked { sandbox, lives }
            });
        }
        let open: Vec<ContainerId> = self
            .instances
            .values()
            .filter(|i| i.state != ContainerState::Exited)
            .map(|i| i.id.clone())
            .collect();
        for id in open {
            self.look_at(id).await;
        }
    }

    /// What the runtime says of the sandbox, when it may have died.
    pub(super) fn absorb_look(&mut self, id: &SandboxId, lives: bool) {
        self.busy.asking = false;
        let Some(sandbox) = self.sandbox.as_mut().filter(|s| s.id == *id) else {
            return;
        };
        if sandbox.ready && !lives {
            if matches!(self.stage, super::Stage::Live) {
                tracing::warn!(sandbox = %sandbox.id, "the pod's sandbox has died");
            }
            sandbox.ready = false;
        }
    }

    /// Whoever began to start it may have ended before it came up: nobody tells then.
    fn note_start(&mut self, instance: &ContainerStatus) {
        let starting = self.busy.starting.as_ref() == Some(&instance.name);
        let probed = self.spec_of(&instance.name).is_none_or(|s| s.startup_probe.is_some());
        let memory = self.memory.entry(instance.name.clone()).or_default();
        if !starting && !probed && !memory.given_up {
            memory.started = Some(instance.id.clone());
        }
    }

    fn take(&mut self, instance: ContainerStatus) {
        let id = instance.id.clone();
        if instance.state == ContainerState::Exited {
            if !self.messages.contains_key(&id) {
                self.messages.insert(id.clone(), termination_message(&instance));
            }
            self.probes.retain(|(of, _), probe| {
                let stays = *of != id;
                if !stays {
                    probe.abort();
                }
                stays
            });
        }
        if !self.images.contains_key(&id) {
            let noted = |key: &str| instance.annotations.get(key).cloned();
            let name = noted(IMAGE_ANNOTATION).unwrap_or_else(|| instance.image.clone());
            let image_id = noted(IMAGE_ID_ANNOTATION).unwrap_or_else(|| instance.image_id.as_str().to_owned());
            self.images.insert(id.clone(), (name, image_id));
        }
        if instance.state == ContainerState::Running {
            self.note_start(&instance);
        }
        self.lost.remove(&instance.name);
        self.instances.insert(id, instance);
    }
}

/// What the container left as its last words.
fn termination_message(instance: &ContainerStatus) -> String {
    let path = instance.annotations.get(MESSAGE_ANNOTATION).map(Path::new);
    let bytes = path.and_then(|p| std::fs::read(p).ok()).unwrap_or_default();
    if !bytes.is_empty() {
        return String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_MESSAGE)]).into_owned();
    }
    let by_log = instance
        .annotations
        .get(MESSAGE_POLICY_ANNOTATION)
        .is_some_and(|p| p == "FallbackToLogsOnError");
    match &instance.log_path {
        Some(log) if by_log && instance.exit_code != Some(0) => crate::logs::tail(log, MOST_LOG_LINES, MOST_LOG),
        _ => String::new(),
    }
}
