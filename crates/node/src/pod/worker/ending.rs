//! The end of a pod: containers, sandbox, network, volumes, the last status, and at the very last the API's object.

use std::sync::Arc;
use std::time::Duration;

use coracle_runtime::{ContainerState, SandboxState};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::{Done, Stage, Worker};
use crate::mirror;
use crate::objects::ApiError;
use crate::pod::context::Context;
use crate::pod::plan::{init_containers, is_sidecar};
use crate::pod::termination::{self, Victim};
use crate::volume::mounts;

const RETRY: SignedDuration = SignedDuration::from_secs(5);

impl Worker {
    /// All has run, or its time is over: ends what still runs.
    pub(super) fn finish(&mut self) {
        let spec = self.pod.spec.as_ref();
        let limit = spec
            .and_then(|s| s.active_deadline_seconds)
            .map(SignedDuration::from_secs);
        let over = limit.is_some_and(|limit| self.cx.clock.now().duration_since(self.start_time) >= limit);
        let running = self.instances.values().any(|i| i.state == ContainerState::Running);
        if over && (running || self.sandbox.is_none()) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.ended = Some(("DeadlineExceeded".into(), message));
        }
        self.end();
    }

    /// How long the pod's containers have from now on.
    fn grace(&self) -> Duration {
        let meta = &self.pod.metadata;
        let spec = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds)
            .unwrap_or(30);
        let seconds = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (Some(_), Some(grace)) => grace,
            // The object is gone and nobody waits. (A static pod has none: it goes with its manifest, in its own time.)
            _ if self.gone && meta.deletion_timestamp.is_none() && !mirror::is_static(&self.pod) => spec.min(1),
            _ => spec,
        };
        let own = Duration::from_secs(seconds.max(1).unsigned_abs());
        match self.stop.as_ref().and_then(|s| s.grace) {
            Some(most) => own.min(most.max(Duration::from_secs(1))),
            None => own,
        }
    }

    /// Begins to stop everything.
    pub(super) fn end(&mut self) {
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
        self.busy.starting = None;
        self.stop_probes(false);
        let (sender, deadline) = watch::channel(self.cx.clock.instant() + self.grace());
        self.stage = Stage::Ending { deadline: sender };
        let uid = self.uid().to_owned();
        for making in self.making_volumes.drain(..) {
            making.abort();
        }
        let making = self.making.clone();
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
        let pod_ip = self.pod_ips.first().cloned().unwrap_or_default();
        let specs: Vec<_> = self.all_specs();
        self.ops.spawn(async move {
            // An interrupted start may have made what the worker has not seen.
            let all = cx.runtime.containers().await;
            let own = all
                .into_iter()
                .filter(|c| crate::pod::start::sandbox::uid_of(&c.sandbox) == uid);
            let victims = own.filter(|c| c.state == ContainerState::Running).filter_map(|c| {
                let (container, sidecar) = specs.iter().find(|(spec, _)| spec.name == c.name)?.clone();
                Some(Victim {
                    id: c.id,
                    container,
                    sidecar,
                })
            });
            let victims = victims.collect();
            termination::kill_pod(cx.clone(), pod, victims, pod_ip, deadline).await;
            // What is still being made appears first, and is taken down with the rest.
            drop(making.write().await);
            let mut result = stop_sandboxes(&cx, &uid).await;
            if result.is_ok() {
                result = remove_volumes(&cx, &uid).await;
            }
            Done::Ended(result)
        });
    }

    fn all_specs(&self) -> Vec<(Arc<k8s_openapi::api::core::v1::Container>, Option<usize>)> {
        let Some(spec) = &self.pod.spec else { return Vec::new() };
        let ephemeral = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .map(|e| (Arc::new(super::super::status::from_ephemeral(e)), None));
        let init = init_containers(spec)
            .enumerate()
            .map(|(i, c)| (Arc::new(c.clone()), is_sidecar(c).then_some(i)));
        let main = spec.containers.iter().map(|c| (Arc::new(c.clone()), None));
        init.chain(main).chain(ephemeral).collect()
    }

    /// A second deletion with a shorter grace, or a forced one, moves the deadline closer.
    pub(super) fn hurry(&mut self) {
        let Stage::Ending { deadline } = &self.stage else {
            return;
        };
        let sooner = if self.gone || self.stop.as_ref().is_some_and(|s| s.grace.is_some()) {
            Some(self.cx.clock.instant() + self.grace())
        } else {
            self.deletion_deadline()
        };
        if let Some(sooner) = sooner.filter(|s| *s < *deadline.borrow()) {
            deadline.send_replace(sooner);
        }
    }

    /// When the API says that the pod should have ended.
    fn deletion_deadline(&self) -> Option<coracle_clock::Instant> {
        let at = self.pod.metadata.deletion_timestamp.as_ref()?.0;
        let left = Duration::try_from(at.duration_since(self.cx.clock.now())).unwrap_or(Duration::from_secs(1));
        Some(self.cx.clock.instant() + left.max(Duration::from_secs(1)))
    }

    pub(super) fn absorb_end(&mut self, result: Result<(), String>) {
        if let Err(error) = result {
            tracing::warn!(pod = self.key(), error, "a pod was not stopped cleanly");
            let (cx, uid) = (self.cx.clone(), self.uid().to_owned());
            self.ops.spawn(async move {
                cx.clock.sleep(Duration::from_secs(5)).await;
                Done::Ended(stop_sandboxes(&cx, &uid).await)
            });
            return;
        }
        self.stop_probes(true);
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.ready = false;
        }
        self.busy = super::Busy::default();
        self.stage = Stage::Ended;
        // What was killed with the sandbox has ended now.
        self.inbox.recheck();
    }

    /// With everything stopped: waits for the deletion, then cleans up.
    pub(super) fn after_end(&mut self) {
        let deleted = self.gone || self.pod.metadata.deletion_timestamp.is_some();
        let still = self.instances.values().any(|i| i.state == ContainerState::Running);
        if !deleted || still || self.retry_at.is_some_and(|at| at > self.cx.clock.now()) {
            return;
        }
        self.retry_at = None;
        // The last states must have been written before what they are read from is removed.
        if !self.gone && (self.writing || self.has_news()) {
            return;
        }
        self.stage = Stage::Cleaning;
        let (cx, uid) = (self.cx.clone(), self.uid().to_owned());
        let logs = self.cx.log_dir(&self.pod);
        self.ops
            .spawn(async move { Done::Cleaned(clean(&cx, &uid, Some(logs)).await) });
    }

    pub(super) fn absorb_cleaning(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) if self.gone => self.stage = Stage::Done,
            Ok(()) => {
                self.stage = Stage::Removing;
                self.forget(Duration::ZERO);
            }
            Err(error) => {
                tracing::warn!(
                    pod = self.key(),
                    error,
                    "what a pod left was not removed; it is tried again"
                );
                self.stage = Stage::Ended;
                self.retry_at = self.cx.clock.now().checked_add(RETRY).ok();
            }
        }
    }

    fn forget(&mut self, delay: Duration) {
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
        self.ops.spawn(async move {
            cx.clock.sleep(delay).await;
            Done::Forgotten(cx.objects.remove(&pod).await)
        });
    }

    pub(super) fn absorb_forgetting(&mut self, result: Result<(), ApiError>) {
        match result {
            Ok(()) | Err(ApiError::Gone(_)) => self.stage = Stage::Done,
            Err(error) if self.gone => {
                tracing::debug!(%error, "the pod was gone already");
                self.stage = Stage::Done;
            }
            Err(error) => {
                tracing::warn!(pod = self.key(), %error, "the API did not remove an ended pod; it is tried again");
                self.forget(Duration::from_secs(1));
            }
        }
    }
}

/// Stops every sandbox that the pod has had, and takes back its addresses.
async fn stop_sandboxes(cx: &Context, uid: &str) -> Result<(), String> {
    for sandbox in cx.runtime.sandboxes().await {
        if crate::pod::start::sandbox::uid_of(&sandbox.id) == uid {
            if sandbox.state == SandboxState::Ready {
                cx.runtime.stop_sandbox(&sandbox.id).await.map_err(|e| e.chain())?;
            }
            cx.network.detach(sandbox.id.as_str()).await?;
        }
    }
    Ok(())
}

/// An ended pod keeps its logs and last words, not its volumes.
async fn remove_volumes(cx: &Context, uid: &str) -> Result<(), String> {
    let dir = cx.pod_dir(uid);
    let removal = tokio::task::spawn_blocking(move || {
        ["volume-subpaths", "volumes"].iter().try_for_each(|part| {
            let part = dir.join(part);
            mounts::remove_tree(&part).map_err(|e| format!("remove {}: {e}", part.display()))
        })
    });
    removal.await.map_err(|e| e.to_string())?
}

/// Removes everything of a pod from this node: sandboxes with their containers and cgroups, addresses, volumes, files,
/// logs. Idempotent.
pub(crate) async fn clean(cx: &Context, uid: &str, logs: Option<std::path::PathBuf>) -> Result<(), String> {
    // Addresses go before the sandboxes that tell whose they are.
    stop_sandboxes(cx, uid).await?;
    for sandbox in cx.runtime.sandboxes().await {
        if crate::pod::start::sandbox::uid_of(&sandbox.id) == uid {
            cx.runtime.remove_sandbox(&sandbox.id).await.map_err(|e| e.chain())?;
        }
    }
    let dir = cx.pod_dir(uid);
    let removal = tokio::task::spawn_blocking(move || {
        mounts::remove_tree(&dir).map_err(|e| format!("remove {}: {e}", dir.display()))?;
        match logs {
            Some(logs) => mounts::remove_tree(&logs).map_err(|e| format!("remove {}: {e}", logs.display())),
            None => Ok(()),
        }
    });
    removal.await.map_err(|e| e.to_string())?
}
