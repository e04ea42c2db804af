//! ReplicationController: what ReplicaSet replaced. It is seen as a ReplicaSet whose selector is a plain map, and kept by
//! the [`replicaset`](crate::replicaset) controller's code.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::Context;
use crate::replicaset::{Replicating, run_for};

const NAME: &str = "replicationcontroller-controller";
/// The service account has a name of its own.
const ACCOUNT: &str = "replication-controller";

pub async fn run(cx: Context) {
    run_for::<ReplicationController>(cx, NAME, ACCOUNT).await;
}

impl Replicating for ReplicationController {
    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()?.labels.clone());
        let selector = spec.selector.filter(|s| !s.is_empty()).or(labels);
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: LabelSelector {
                    match_labels: selector,
                    match_expressions: None,
                },
                template: spec.template,
            },
            status: self.status.clone().map(to_set_status),
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status.conditions.map(|all| {
            let convert = |c: ReplicaSetCondition| ReplicationControllerCondition {
                type_: c.type_.unwrap_or_default(),
                status: c.status.unwrap_or_default(),
                reason: c.reason,
                message: c.message,
                last_transition_time: c.last_transition_time,
            };
            all.into_iter().map(convert).collect()
        });
        Self {
            status: Some(ReplicationControllerStatus {
                replicas: status.replicas,
                fully_labeled_replicas: status.fully_labeled_replicas,
                ready_replicas: status.ready_replicas,
                available_replicas: status.available_replicas,
                observed_generation: status.observed_generation,
                conditions,
            }),
            ..self.clone()
        }
    }
}

fn to_set_status(status: ReplicationControllerStatus) -> ReplicaSetStatus {
    let conditions = status.conditions.map(|all| {
        let convert = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: Some(c.type_),
            status: Some(c.status),
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        all.into_iter().map(convert).collect()
    });
    ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions,
        // Has no counterpart.
        terminating_replicas: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_replication_controller_is_a_replica_set_with_a_plain_selector() {
        let rc: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}}},
            "status": {"replicas": 2, "readyReplicas": 1, "conditions": [{"type": "ReplicaFailure", "status": "True"}]},
        }))
        .unwrap();
        let set = rc.as_set().into_owned();
        assert_eq!(set.spec.replicas, Some(2));
        assert_eq!(set.spec.selector.match_labels.as_ref().unwrap()["app"], "web");
        assert_eq!(rc.with_status(set.status.unwrap()), rc);
    }
}
