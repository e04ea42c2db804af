//! Resizing the running pod: asking for what it wants, and giving its containers what it was granted.

use std::sync::Arc;

use coracle_clock::Timestamp;
use coracle_runtime::{ContainerId, PodRuntime, Resources, SandboxId};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;

use super::{Done, Worker};
use crate::allocation::{Refusal, Share};
use crate::objects::EventType;
use crate::pod::plan::{Cause, Condemned, latest};
use crate::pod::resize::{self, Change, Granted};
use crate::pod::status::Told;

/// Between attempts at what the runtime refused.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// How far a resize is.
#[derive(Default)]
pub(crate) struct Resizing {
    /// What the pod wants has changed, or may be granted now.
    pub(super) ask: bool,
    /// It waits, or cannot be.
    pub(super) pending: Option<Refusal>,
    /// It was granted and is being carried out.
    in_progress: Option<InProgress>,
    pub(super) under_way: bool,
}

struct InProgress {
    generation: Option<i64>,
    error: Option<String>,
    retry_at: Option<Timestamp>,
    /// The pod as it was granted before.
    before: Arc<Pod>,
}

impl Worker {
    /// Asks the node for what the pod wants and has not been granted.
    pub(super) fn allocate(&mut self) {
        if !std::mem::take(&mut self.resize.ask) {
            return;
        }
        if Granted::of(&self.desired) == Granted::of(&self.pod) {
            self.resize.pending = None;
            self.cx.allocations.hold(self.uid(), Share::of(&self.pod));
            return;
        }
        let inbox = self.inbox.clone();
        let result = self.cx.allocations.resize(
            &self.desired,
            self.uid(),
            Share::of(&self.desired),
            self.cx.clock.now(),
            Arc::new(move || inbox.granted()),
        );
        match result {
            Ok(()) => self.granted(),
            Err(refusal) if self.resize.pending.as_ref() == Some(&refusal) => {}
            Err(refusal) => {
                let sentence = format!("Pod resize {}", refusal.reason);
                let text = resize::message(&sentence, &self.desired, Some(&refusal.message));
                let reason = match refusal.reason.as_str() {
                    "Infeasible" => "ResizeInfeasible",
                    _ => "ResizeDeferred",
                };
                self.cx.event(&self.desired, EventType::Warning, reason, text);
                self.resize.pending = Some(refusal);
            }
        }
    }

    fn granted(&mut self) {
        if let Err(error) = Granted::of(&self.desired).write(&self.cx.pod_dir(self.uid())) {
            // An agent that starts again would grant it again: nothing is lost.
            tracing::warn!(pod = self.key(), error, "what a pod was granted is not remembered");
        }
        let before = std::mem::replace(&mut self.pod, self.desired.clone());
        self.refresh_volumes |= crate::volume::shows_the_pod(&self.pod);
        let before = match self.resize.in_progress.take() {
            Some(earlier) => earlier.before,
            None => before,
        };
        self.resize.pending = None;
        self.resize.in_progress = Some(InProgress {
            generation: self.desired.metadata.generation,
            error: None,
            retry_at: None,
            before,
        });
        let text = resize::message("Pod resize started", &self.pod, None);
        self.cx.event(&self.pod, EventType::Normal, "ResizeStarted", text);
    }

    /// Gives running containers what the pod was granted. Returns when to try again though nothing happens.
    pub(super) fn actuate(&mut self) -> Option<Timestamp> {
        let sandbox = self.sandbox.as_ref().filter(|s| s.ready).map(|s| s.id.clone())?;
        if self.resize.under_way {
            return None;
        }
        let retry_at = self.resize.in_progress.as_ref().and_then(|p| p.retry_at);
        if let Some(at) = retry_at.filter(|at| *at > self.cx.clock.now()) {
            return Some(at);
        }
        let busy = self.busy.starting.clone();
        let settled = |name: &str| busy.as_deref() != Some(name);
        let changes = resize::changes(&self.pod, &self.instances);
        let (restarts, live): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .filter(|c| settled(&c.container))
            .partition(|c| c.restart);
        for change in restarts {
            let memory = self.memory.entry(change.container.clone()).or_default();
            let known = memory.condemned.as_ref().is_some_and(|c| c.id == change.id);
            if !known {
                memory.condemned = Some(Condemned {
                    message: format!("Container {} resize requires restart", change.container),
                    id: change.id,
                    by: Cause::Resize,
                    comes_back: true,
                });
                // The plan kills what is condemned.
                self.inbox.wake.notify_one();
            }
        }
        let before = self.resize.in_progress.as_ref().map(|p| p.before.clone());
        if live.is_empty() && (before.is_none() || self.restarts_for_resize()) {
            return None;
        }
        self.resize.under_way = true;
        let (runtime, pod) = (self.cx.runtime.clone(), self.pod.clone());
        let before = before.unwrap_or_else(|| pod.clone());
        self.ops
            .spawn(async move { Done::Resized(apply(runtime.as_ref(), &sandbox, &before, &pod, live).await) });
        None
    }

    /// A container is on its way to a new run for its resize's sake.
    fn restarts_for_resize(&self) -> bool {
        self.memory.iter().any(|(name, memory)| {
            let condemned = memory.condemned.as_ref().filter(|c| c.by == Cause::Resize);
            condemned.is_some_and(|c| latest(&self.instances, name).is_some_and(|i| i.id == c.id))
        })
    }

    pub(super) fn absorb_resize(&mut self, result: Result<Vec<ContainerId>, String>) {
        self.resize.under_way = false;
        match result {
            Ok(changed) => {
                for id in changed {
                    self.inbox.touched(id);
                }
                // With a container that must start anew the resize is over once it has.
                if !self.restarts_for_resize() && self.resize.in_progress.take().is_some() {
                    let text = resize::message("Pod resize completed", &self.pod, None);
                    self.cx.event(&self.pod, EventType::Normal, "ResizeCompleted", text);
                }
            }
            Err(error) => {
                let retry_at = self.cx.clock.now().checked_add(RETRY).ok();
                let progress = self.resize.in_progress.get_or_insert_with(|| InProgress {
                    generation: self.pod.metadata.generation,
                    error: None,
                    retry_at: None,
                    before: self.pod.clone(),
                });
                progress.retry_at = retry_at;
                if progress.error.as_ref() != Some(&error) {
                    let text = resize::message("Pod resize error", &self.pod, Some(&error));
                    self.cx.event(&self.pod, EventType::Warning, "ResizeError", text);
                    progress.error = Some(error);
                }
            }
        }
    }

    /// The conditions by which the API is told.
    pub(super) fn resize_conditions(&self) -> Vec<Told> {
        let pending = self.resize.pending.as_ref().map(|refusal| Told {
            kind: "PodResizePending",
            reason: Some(refusal.reason.clone()),
            message: Some(refusal.message.clone()),
            generation: self.desired.metadata.generation,
        });
        let progress = self.resize.in_progress.as_ref().map(|progress| Told {
            kind: "PodResizeInProgress",
            reason: progress.error.as_ref().map(|_| "Error".to_owned()),
            message: progress.error.clone(),
            generation: progress.generation,
        });
        pending.into_iter().chain(progress).collect()
    }
}

/// Changes the pod's limits and its containers' in an order in which each has room for the other. Returns what changed.
async fn apply(
    runtime: &dyn PodRuntime,
    sandbox: &SandboxId,
    before: &Pod,
    after: &Pod,
    changes: Vec<Change>,
) -> Result<Vec<ContainerId>, String> {
    for change in changes.iter().filter(|c| c.shrinks_memory) {
        let stats = runtime.container_stats(&change.id).await.map_err(|e| e.chain())?;
        let used = i64::try_from(stats.memory_working_set).unwrap_or(i64::MAX);
        let limit = change.to.memory_limit.unwrap_or(-1);
        if limit > 0 && used > limit {
            return Err(format!(
                "attempting to set container {} memory limit ({limit}) below current usage ({used})",
                change.container
            ));
        }
    }
    let pod = |limits: Resources| async move {
        let done = runtime.update_sandbox_resources(sandbox, limits).await;
        done.map_err(|e| e.chain())
    };
    let last = resize::pod_limits(after);
    let first = resize::roomiest(&resize::pod_limits(before), &last);
    // A container's limit may not exceed its pod's, not even between two writes.
    pod(first.clone()).await?;
    let mut changed = Vec::new();
    for Change { id, to, .. } in changes {
        runtime.update_resources(&id, to).await.map_err(|e| e.chain())?;
        changed.push(id);
    }
    if first != last {
        pod(last).await?;
    }
    Ok(changed)
}
