//! Tells why a pod has no node: an event, the PodScheduled condition, and the node it is nominated to.

use std::sync::Arc;

use coracle_client::event::EventType;
use coracle_client::{Patch, gone_is_done};
use coracle_clock::Instant;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::Shared;
use crate::diagnosis::FitError;
use crate::framework::{Rejection, Severity};
use crate::queue::Attempt;
use crate::shape::PodInfo;

/// What is told of a pod that has no node.
pub(super) struct Told {
    reason: &'static str,
    message: String,
}

impl From<FitError> for Told {
    fn from(error: FitError) -> Self {
        match error.is_error {
            true => Self {
                reason: "SchedulerError",
                message: error.pre_filter.unwrap_or_default(),
            },
            false => Self {
                reason: "Unschedulable",
                message: error.to_string(),
            },
        }
    }
}

impl Shared {
    /// A node was found, but the pod could not be bound to it.
    pub(super) fn failed_after(&self, rejection: &Rejection) -> Told {
        Told {
            reason: match rejection.severity {
                Severity::Error => "SchedulerError",
                Severity::Unschedulable | Severity::Unresolvable => "Unschedulable",
            },
            message: rejection.to_string(),
        }
    }

    /// Beside the loop. `nominate` is written too: a node, or nothing instead of one.
    pub(super) fn tell(
        self: &Arc<Self>,
        attempt: Attempt,
        profile: usize,
        told: impl Into<Told>,
        nominate: Option<Arc<str>>,
        started: Instant,
    ) {
        let told = told.into();
        let result = match told.reason {
            "SchedulerError" => "error",
            _ => "unschedulable",
        };
        self.metrics
            .attempt(result, &self.profiles[profile].scheduler_name, started.elapsed());
        let this = self.clone();
        let mut turn = self.turns.take(attempt.pod.uid());
        self.tasks.spawn(async move {
            let others = turn.come().await;
            let _turn = this.writes.acquire().await;
            this.tell_now(&attempt.pod, profile, told, nominate, others).await;
        });
    }

    /// `others` have written since the pod was looked at.
    async fn tell_now(&self, info: &PodInfo, profile: usize, told: Told, nominate: Option<Arc<str>>, others: bool) {
        let pod = &info.pod;
        let Told { reason, message } = told;
        tracing::debug!(pod = info.key(), message, "no node");
        self.events[profile].event(&**pod, EventType::Warning, "FailedScheduling", message.clone());
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let current = conditions.into_iter().find(|c| c.type_ == "PodScheduled");
        let says = |c: &PodCondition| {
            c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(&message)
        };
        let nomination = nominate.filter(|node| others || info.nominated_node().unwrap_or_default() != &**node);
        if current.is_some_and(says) && nomination.is_none() && !others {
            return;
        }
        let since = current
            .filter(|c| c.status == "False")
            .and_then(|c| c.last_transition_time.clone());
        let condition = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(|| Time(self.clock.now()))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = nomination {
            status["nominatedNodeName"] = match &*node {
                "" => serde_json::Value::Null,
                node => node.into(),
            };
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        let pods = self.client.namespaced::<Pod>(info.namespace()).status();
        if let Err(error) = gone_is_done(pods.patch(info.name(), Patch::Strategic(patch)).await) {
            tracing::warn!(pod = info.key(), %error, "the PodScheduled condition could not be written");
        }
    }
}
