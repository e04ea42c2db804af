//! The status that the API is told: the newest one only, one write at a time, again until it is there.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;

use super::{Done, Stage, Worker};
use crate::objects::ApiError;
use crate::pod::status::{Facts, status};

/// The conditions that are the agent's to write.
pub(crate) const OWN_CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

impl Worker {
    /// What was reported last, with what others have written beside it.
    fn previous(&self) -> PodStatus {
        let mut previous = self.reported.clone();
        let foreign = self.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let foreign = foreign.filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str())).cloned();
        let own = previous
            .conditions
            .take()
            .into_iter()
            .flatten()
            .filter(|c| OWN_CONDITIONS.contains(&c.type_.as_str()));
        previous.conditions = Some(own.chain(foreign).collect());
        previous
    }

    fn current(&self) -> PodStatus {
        let previous = self.previous();
        let node = self.cx.node();
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
        })
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
        let current = self.current();
        if current == self.previous() {
            return;
        }
        self.writing = true;
        let delay = match self.write_failures {
            0 => Duration::ZERO,
            n => Duration::from_millis(250 << n.min(7)),
        };
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
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
                self.gone = true;
            }
            Err(error) => {
                self.write_failures = self.write_failures.saturating_add(1);
                tracing::warn!(pod = self.key(), %error, "a pod's status was not written; it is tried again");
            }
        }
    }
}
