//! The status that the API is told: the newest one only, one write at a time, again until it is there.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::{Done, Stage, Worker};
use crate::objects::ApiError;
use crate::pod::plan;
use crate::pod::status::{Facts, Told, status};

/// The conditions that are the agent's to write.
const OWN_CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// Those of them that go away as well as come.
pub(crate) const REMOVABLE: [&str; 3] = ["PodResizePending", "PodResizeInProgress", RENEWING];

/// All of the pod's containers are being restarted.
const RENEWING: &str = "AllContainersRestarting";

/// Why a condition DisruptionTarget is the agent's: others disrupt as well.
pub(crate) const BY_NODE: &str = "TerminationByKubelet";

/// Whether the condition is the agent's.
pub(crate) fn is_own(condition: &PodCondition) -> bool {
    let kind = condition.type_.as_str();
    OWN_CONDITIONS.contains(&kind)
        || REMOVABLE.contains(&kind)
        || kind == "DisruptionTarget" && condition.reason.as_deref() == Some(BY_NODE)
}

impl Worker {
    /// What was reported last, with what others have written beside it.
    fn previous(&self) -> PodStatus {
        let mut previous = self.reported.clone();
        let shown = self.mirror.as_ref().unwrap_or(&self.pod);
        let own: Vec<_> = previous
            .conditions
            .take()
            .into_iter()
            .flatten()
            .filter(is_own)
            .collect();
        let foreign = shown.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let known = |kind: &str| own.iter().any(|c| c.type_ == kind);
        let foreign: Vec<_> = foreign.filter(|c| !is_own(c) && !known(&c.type_)).cloned().collect();
        let own = own.into_iter();
        previous.conditions = Some(own.chain(foreign).collect());
        previous
    }

    fn current(&self) -> PodStatus {
        let previous = self.previous();
        let node = self.cx.node();
        let runtime = self.cx.runtime.identity();
        let stopped = match self.stage {
            Stage::Live | Stage::Ending { .. } => false,
            Stage::Ended | Stage::Cleaning | Stage::Removing | Stage::Done => {
                !self.instances.values().any(super::is_running)
            }
        };
        status(&Facts {
            pod: &self.pod,
            previous: &previous,
            now: self.cx.clock.now(),
            start_time: self.start_time,
            sandbox: self.sandbox.as_ref(),
            instances: &self.instances,
            memory: &self.memory,
            messages: &self.messages,
            images: &self.images,
            pod_ips: &self.pod_ips,
            host_ips: &node.host_ips,
            stopping: self.is_ending(),
            stopped,
            ended: self.ended.as_ref(),
            starting: self.busy.starting.as_deref(),
            told: self.told(),
            runtime: &runtime.name,
        })
    }

    /// The conditions that come and go.
    fn told(&self) -> Vec<Told> {
        let mut told = if self.is_ending() {
            Vec::new()
        } else {
            self.resize_conditions()
        };
        if !self.is_ending() && plan::is_renewing(&self.pod, &self.instances) {
            told.push(Told {
                kind: RENEWING,
                reason: None,
                message: None,
                generation: self.pod.metadata.generation,
            });
        }
        if let Some(stop) = self.stop.as_ref().filter(|s| s.disruption && self.ended.is_some()) {
            told.push(Told {
                kind: "DisruptionTarget",
                reason: Some(BY_NODE.to_owned()),
                message: Some(stop.message.clone()),
                generation: self.pod.metadata.generation,
            });
        }
        told
    }

    /// The object that the API shows the pod by; none while a static pod has no mirror.
    fn object(&self) -> Option<&Arc<Pod>> {
        if crate::mirror::is_static(&self.pod) {
            return self.mirror.as_ref().filter(|m| crate::mirror::shows(m, &self.pod));
        }
        Some(&self.pod)
    }

    /// Whether the API has yet to be told something.
    pub(super) fn has_news(&self) -> bool {
        !self.was_terminal() && self.current() != self.previous()
    }

    /// The pod had ended before this agent saw it: its status is final.
    fn was_terminal(&self) -> bool {
        self.instances.is_empty() && matches!(self.reported.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    pub(super) fn report(&mut self) {
        let writable = matches!(self.stage, Stage::Live | Stage::Ending { .. } | Stage::Ended);
        if self.writing || self.gone || !writable || self.was_terminal() {
            return;
        }
        let Some(pod) = self.object().cloned() else { return };
        let current = self.current();
        if current == self.previous() {
            return;
        }
        self.writing = true;
        let delay = match self.write_failures {
            0 => Duration::ZERO,
            n => Duration::from_millis(250 << n.min(7)),
        };
        let cx = self.cx.clone();
        self.ops.spawn(async move {
            cx.clock.sleep(delay).await;
            let result = cx.objects.write_status(&pod, &current).await;
            Done::StatusWritten {
                status: Box::new(current),
                result,
            }
        });
    }

    pub(super) fn absorb_write(&mut self, status: PodStatus, result: Result<(), ApiError>) {
        self.writing = false;
        match result {
            Ok(()) => {
                self.write_failures = 0;
                self.reported = status;
            }
            Err(ApiError::Gone(reason)) => {
                tracing::debug!(pod = self.key(), reason, "the pod is gone; its status is not written");
                if crate::mirror::is_static(&self.pod) {
                    // Its mirror comes back.
                    self.mirror = None;
                } else {
                    self.gone = true;
                }
            }
            Err(error) => {
                self.write_failures = self.write_failures.saturating_add(1);
                tracing::warn!(pod = self.key(), %error, "a pod's status was not written; it is tried again");
            }
        }
    }
}
