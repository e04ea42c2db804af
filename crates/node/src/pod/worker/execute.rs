//! Carrying out what was planned: each step is a task of its own, and what became of it comes back to the worker.

use std::sync::Arc;
use std::time::Duration;

use coracle_runtime::{ContainerId, ContainerState, ContainerStatus};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::watch;

use super::{Done, Stage, Volumes, Worker};
use crate::objects::EventType;
use crate::pod::backoff::{self, shown as shown_delay};
use crate::pod::plan::{Action, Cause, Condemned, Plan, SandboxView};
use crate::pod::start::sandbox::SandboxFailure;
use crate::pod::start::{self, Start, StartFailure};
use crate::pod::status::from_ephemeral;
use crate::pod::termination::{self, Victim};
use crate::pod::{downward, security};
use crate::volume;

/// How long a failed image pull shows as such before it shows as a back-off.
const SHOW_PULL_ERROR: Duration = Duration::from_secs(2);
/// Between attempts at what has no back-off of its own.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

impl Worker {
    pub(super) fn execute(&mut self, action: Action) {
        match action {
            Action::SetUpVolumes => self.set_up_volumes(),
            Action::CreateSandbox { attempt } => self.create_sandbox(attempt),
            Action::Start { container, attempt } => self.start(&container, attempt),
            Action::Kill { container, condemned } => self.kill(&container, condemned),
            Action::Remove { id } => self.remove_instance(id),
        }
    }

    /// The container of the spec by this name, whatever kind it is.
    pub(super) fn spec_of(&self, name: &str) -> Option<Arc<Container>> {
        let ephemeral = || {
            let list = self.pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
            list.iter().find(|e| e.name == name).map(from_ephemeral)
        };
        downward::find(&self.pod, name)
            .cloned()
            .or_else(ephemeral)
            .map(Arc::new)
    }

    fn set_up_volumes(&mut self) {
        self.busy.volumes = true;
        let (cx, pod, tokens) = (self.cx.clone(), self.pod.clone(), self.tokens.clone());
        self.make_volumes(async move { Done::Volumes(volumes(&cx, &pod, &tokens).await) });
    }

    fn make_volumes(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        // Fails only when the end has begun, and then nothing is made any more.
        let Ok(making) = self.making.clone().try_read_owned() else {
            return;
        };
        let task = self.ops.spawn(async move {
            let _making = making;
            work.await
        });
        self.making_volumes.retain(|task| !task.is_finished());
        self.making_volumes.push(task);
    }

    /// Brings volumes up to date when what they show has changed or a token is old.
    /// Returns when that will be.
    pub(super) fn refresh(&mut self) -> Option<coracle_clock::Timestamp> {
        if self.refreshing || !matches!(self.volumes, Volumes::Ready(_)) {
            return None;
        }
        let at = self.tokens.renew_at().max(self.refresh_after);
        if !self.refresh_volumes && at.is_none_or(|at| at > self.cx.clock.now()) {
            return at;
        }
        self.refresh_after = None;
        self.refresh_volumes = false;
        self.refreshing = true;
        let (cx, pod, tokens) = (self.cx.clone(), self.pod.clone(), self.tokens.clone());
        self.make_volumes(async move { Done::Refreshed(volumes(&cx, &pod, &tokens).await.map(drop)) });
        None
    }

    fn create_sandbox(&mut self, attempt: u32) {
        let Ok(making) = self.making.clone().try_read_owned() else {
            return;
        };
        self.busy.sandbox = true;
        let replaces = self.sandbox.is_some();
        let again = replaces || self.memory.contains_key("");
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
        let found = self.sandbox.clone().filter(|sandbox| sandbox.ready);
        if let (Some(found), Some(network)) = (found, self.found.take()) {
            // Found running; whether the earlier agent had come to the end with it is not known.
            self.ops.spawn(async move {
                let _making = making;
                Done::Sandbox(start::sandbox::adopted(&cx, &pod, found, &network).await)
            });
            return;
        }
        if replaces {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            cx.event(&pod, EventType::Normal, "SandboxChanged", text);
        }
        self.ops.spawn(async move {
            let _making = making;
            Done::Sandbox(start::sandbox::sandbox(&cx, &pod, again, attempt).await)
        });
    }

    fn start(&mut self, name: &str, attempt: u32) {
        let (Some(container), Some(sandbox), Volumes::Ready(volumes)) =
            (self.spec_of(name), &self.sandbox, &self.volumes)
        else {
            return;
        };
        let now = self.cx.clock.now();
        let ended = crate::pod::plan::latest(&self.instances, name).filter(|i| i.state == ContainerState::Exited);
        let since = ended.map(|i| i.finished_at.unwrap_or(i.created_at));
        let memory = self.memory.entry(name.to_owned()).or_default();
        if let Some(since) = since {
            memory.restarts.next(since, now, self.cx.settings.longest_restart_delay);
        }
        memory.retry_at = None;
        let created = |i: &ContainerStatus| i.name == name && i.state == ContainerState::Created;
        let start = Start {
            pod: self.pod.clone(),
            container,
            attempt,
            again: memory.given_up || self.instances.values().any(created),
            sandbox: sandbox.id.clone(),
            handler: sandbox.handler.clone(),
            pod_ips: self.pod_ips.clone(),
            volumes: volumes.clone(),
            target: self.target(name),
            created: self.created.0.clone(),
        };
        self.busy.starting = Some(name.to_owned());
        let (cx, name) = (self.cx.clone(), name.to_owned());
        let task = self.ops.spawn(async move {
            let result = start::container(&cx, start).await;
            Done::Started { name, result }
        });
        self.starting = Some(task);
    }

    /// The container that an ephemeral one is to look at.
    fn target(&self, name: &str) -> Option<start::Target> {
        let ephemeral = self.pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
        let own = ephemeral.iter().find(|e| e.name == name)?;
        let target = own.target_container_name.clone().filter(|t| !t.is_empty())?;
        let running = crate::pod::plan::latest(&self.instances, &target).filter(|i| i.state == ContainerState::Running);
        Some(start::Target {
            id: running.map(|i| i.id.clone()),
            name: target,
        })
    }

    fn kill(&mut self, name: &str, condemned: Condemned) {
        let Some(mut container) = self.spec_of(name) else {
            return;
        };
        if condemned.by == Cause::Renewal {
            // As upstream's: what starts anew is not asked to say good-bye.
            Arc::make_mut(&mut container).lifecycle = None;
        }
        self.busy.killing.insert(condemned.id.clone());
        // A probe may shorten the grace of the container that it condemns.
        let probe = match condemned.by {
            Cause::StartupProbe => container.startup_probe.as_ref(),
            Cause::LivenessProbe => container.liveness_probe.as_ref(),
            Cause::Definition | Cause::Resize | Cause::Renewal => None,
        };
        let grace = probe.and_then(|p| p.termination_grace_period_seconds).or(self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds));
        let Condemned { id, message, .. } = condemned.clone();
        self.memory.entry(name.to_owned()).or_default().condemned = Some(condemned);
        let until = self.cx.clock.instant() + Duration::from_secs(grace.unwrap_or(30).max(1).unsigned_abs());
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
        let pod_ip = self.pod_ips.first().cloned().unwrap_or_default();
        self.ops.spawn(async move {
            let (_keep, deadline) = watch::channel(until);
            let victim = Victim {
                id,
                container,
                sidecar: None,
            };
            termination::kill(&cx, &pod, &victim, &pod_ip, message, deadline, std::future::ready(())).await;
            Done::Killed(victim.id)
        });
    }

    pub(super) fn remove_instance(&mut self, id: ContainerId) {
        self.instances.remove(&id);
        self.messages.remove(&id);
        self.images.remove(&id);
        let cx = self.cx.clone();
        self.ops.spawn(async move {
            if let Err(error) = cx.runtime.remove_container(&id).await {
                tracing::warn!(container = %id, error = error.chain(), "an old container was not removed");
            }
            Done::Removed
        });
    }

    /// Remembers who waits out a back-off, and tells when it begins.
    pub(super) fn note_back_offs(&mut self, plan: &Plan) {
        let mut told = Vec::new();
        // One that is being started right now looks as if it waited: its new run is not observed yet.
        let waiting = plan
            .backing_off
            .iter()
            .filter(|name| self.busy.starting.as_ref() != Some(*name));
        for name in waiting.cloned().collect::<Vec<_>>() {
            let ended = crate::pod::plan::latest(&self.instances, &name);
            let since = ended.map(|i| i.finished_at.unwrap_or(i.created_at));
            let pod = security::shown(&self.pod);
            let memory = self.memory.entry(name.clone()).or_default();
            let delay = since.and_then(|since| memory.restarts.delay(since)).unwrap_or_default();
            let message = format!(
                "back-off {} restarting failed container={name} pod={pod}",
                shown_delay(delay)
            );
            let waiting = ("CrashLoopBackOff".to_owned(), message);
            if memory.waiting.as_ref() != Some(&waiting) {
                memory.waiting = Some(waiting);
                told.push(format!("Back-off restarting failed container {name} in pod {pod}"));
            }
        }
        for message in told {
            let name = message.split(' ').nth(4).unwrap_or_default().to_owned();
            self.cx
                .container_event(&self.pod, &name, EventType::Warning, "BackOff", message);
        }
    }

    pub(super) fn absorb(&mut self, done: Done) {
        let now = self.cx.clock.now();
        match done {
            Done::Volumes(result) => {
                self.busy.volumes = false;
                self.absorb_volumes(result);
            }
            Done::Refreshed(result) => {
                self.refreshing = false;
                if let Err(failure) = result {
                    tracing::warn!(pod = self.key(), %failure, "a running pod's volume was not brought up to date");
                    self.refresh_after = now.checked_add(RETRY * 3).ok();
                }
            }
            Done::Sandbox(Ok(up)) => {
                self.busy.sandbox = false;
                self.memory.remove("");
                self.pod_ips = up.pod_ips;
                self.sandbox = Some(SandboxView {
                    id: up.id,
                    ready: true,
                    networked: true,
                    attempt: up.attempt,
                    handler: up.handler,
                });
            }
            Done::Sandbox(Err(failure)) => self.no_sandbox(failure),
            Done::Started { name, result } => {
                self.busy.starting = None;
                self.starting = None;
                // It was told before this; what it is now is looked at before anything is decided.
                while let Ok(id) = self.created.1.try_recv() {
                    self.inbox.touched(id);
                }
                match result {
                    Ok(id) => {
                        let probed = self.spec_of(&name).is_some_and(|c| c.startup_probe.is_some());
                        let memory = self.memory.entry(name).or_default();
                        memory.waiting = None;
                        memory.given_up = false;
                        if !probed {
                            memory.started = Some(id.clone());
                        }
                        self.inbox.touched(id);
                    }
                    Err(failure) => self.start_failed(name, failure),
                }
            }
            Done::PullBackOff { name } => self.show_pull_back_off(&name),
            Done::Killed(id) => {
                self.busy.killing.remove(&id);
                self.inbox.touched(id);
            }
            Done::Removed => {}
            Done::Looked { sandbox, lives } => self.absorb_look(&sandbox, lives),
            Done::LookAgain(id) => self.inbox.touched(id),
            Done::Resized(result) => self.absorb_resize(result),
            Done::Ended(result) => self.absorb_end(result),
            Done::StatusWritten { status, result } => self.absorb_write(*status, result),
            Done::Cleaned(result) => self.absorb_cleaning(result),
            Done::NodeRead(node) => self.absorb_node(node),
            Done::Forgotten(result) => self.absorb_forgetting(result),
        }
    }

    fn no_sandbox(&mut self, failure: SandboxFailure) {
        self.busy.sandbox = false;
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.ready = false;
        }
        let text = format!("Failed to create pod sandbox: {}", failure.message);
        let reason = "FailedCreatePodSandBox";
        self.cx.event(&self.pod, EventType::Warning, reason, text.clone());
        let retry = self.cx.clock.now().checked_add(RETRY).ok();
        self.memory.entry(String::new()).or_default().retry_at = retry;
        if failure.is_final && !self.is_ending() {
            self.ended = Some((reason.to_owned(), text));
            self.end();
        }
    }

    fn absorb_volumes(
        &mut self,
        result: Result<std::collections::BTreeMap<String, std::path::PathBuf>, volume::Failure>,
    ) {
        match result {
            Ok(paths) => self.volumes = Volumes::Ready(paths),
            Err(failure) => {
                let Volumes::Pending {
                    retry_at,
                    failures,
                    told,
                } = &mut self.volumes
                else {
                    return;
                };
                // 500 ms doubling to about two minutes, as upstream's mounts.
                let delay = SignedDuration::from_millis(500 << (*failures).min(8));
                *failures += 1;
                *retry_at = self.cx.clock.now().checked_add(delay).ok();
                let message = failure.to_string();
                if told.as_ref() != Some(&message) || failures.is_power_of_two() {
                    self.cx
                        .event(&self.pod, EventType::Warning, "FailedMount", message.clone());
                    *told = Some(message);
                }
            }
        }
    }

    fn start_failed(&mut self, name: String, failure: StartFailure) {
        let now = self.cx.clock.now();
        let in_runtime = matches!(failure.reason, "RunContainerError" | "PostStartHookError");
        let memory = self.memory.entry(name.clone()).or_default();
        memory.given_up |= matches!(failure.reason, "CreateContainerError" | "RunContainerError");
        memory.waiting = Some((failure.reason.to_owned(), failure.message));
        if failure.image && failure.reason == "ErrImagePull" {
            memory.pulls.next(now, now, backoff::LONGEST);
            memory.retry_at = memory.pulls.ready_at(now);
            let clock = self.cx.clock;
            self.ops.spawn(async move {
                clock.sleep(SHOW_PULL_ERROR).await;
                Done::PullBackOff { name }
            });
        } else if !in_runtime {
            memory.retry_at = now.checked_add(RETRY).ok();
        }
        // What failed after it was made has ended in the runtime, and backs off as every end does.
        self.inbox.recheck();
    }

    fn show_pull_back_off(&mut self, name: &str) {
        let image = self.spec_of(name).and_then(|c| c.image.clone()).unwrap_or_default();
        let Some(memory) = self.memory.get_mut(name) else {
            return;
        };
        let Some((reason, message)) = memory.waiting.clone().filter(|(reason, _)| reason == "ErrImagePull") else {
            return;
        };
        memory.waiting = Some((
            "ImagePullBackOff".into(),
            format!("Back-off pulling image {image:?}: {reason}: {message}"),
        ));
        let event = |kind, reason, text| self.cx.container_event(&self.pod, name, kind, reason, text);
        event(
            EventType::Normal,
            "BackOff",
            format!("Back-off pulling image {image:?}"),
        );
        event(EventType::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
    }

    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.stage, Stage::Live)
    }
}

async fn volumes(
    cx: &crate::pod::context::Context,
    pod: &k8s_openapi::api::core::v1::Pod,
    tokens: &volume::Tokens,
) -> Result<std::collections::BTreeMap<String, std::path::PathBuf>, volume::Failure> {
    let node = cx.node();
    let dir = cx.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    let volumes_dir = crate::local_volumes::directory(&cx.data_dir);
    let setup = volume::Setup {
        pod,
        pod_dir: &dir,
        volumes_dir: &volumes_dir,
        objects: cx.objects.as_ref(),
        node: &node,
        now: cx.clock.now(),
        tokens,
    };
    volume::set_up(&setup).await
}
