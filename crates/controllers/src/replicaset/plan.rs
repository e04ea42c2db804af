//! What one look at a ReplicaSet and its pods leads to. Pure.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::{Availability, availability, is_active, is_finished, is_ready, is_terminating, rank_for_deletion};

/// How many pods one reconcile creates or deletes at most.
pub const BURST: usize = 500;

#[derive(Debug, Default)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
    pub status: ReplicaSetStatus,
    /// When a ready pod will have been ready for minReadySeconds.
    pub check_again: Option<Duration>,
}

/// `owned` are the pods that the set controls; `related` tells those of sets with the same owner, for ranking: it is only
/// asked when pods have to go. With `may_act` false (the cache is behind) only the status is planned.
pub fn plan(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    may_act: bool,
    now: Timestamp,
) -> Plan {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|p| is_active(p)).cloned().collect();
    let mut plan = Plan::default();

    if may_act && set.metadata.deletion_timestamp.is_none() {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            let mut ranked = active.clone();
            rank_for_deletion(&mut ranked, &related(), now);
            ranked.truncate((active.len() - wanted).min(BURST));
            plan.delete = ranked;
        }
    }

    let labels = set.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    let labels = labels.and_then(|m| m.labels.clone()).unwrap_or_default();
    let fully_labeled = |p: &&Arc<Pod>| {
        let own = p.metadata.labels.as_ref();
        labels.iter().all(|(k, v)| own.and_then(|o| o.get(k)) == Some(v))
    };
    let mut available = 0;
    let mut next: Option<Timestamp> = None;
    for pod in &active {
        match availability(pod, min_ready, now) {
            Availability::Available => available += 1,
            Availability::At(at) => next = Some(next.map_or(at, |n| n.min(at))),
            Availability::NotReady => {}
        }
    }
    plan.check_again = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let old = set.status.clone().unwrap_or_default();
    plan.status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(count(active.iter().filter(fully_labeled).count())),
        ready_replicas: nonzero(count(active.iter().filter(|p| is_ready(p)).count())),
        available_replicas: nonzero(available),
        terminating_replicas: Some(count(
            owned.iter().filter(|p| is_terminating(p) && !is_finished(p)).count(),
        )),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    };
    plan
}

fn nonzero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// Sets or clears ReplicaFailure after the plan was carried out: `failure` is what creating or deleting said.
pub fn note_failure(status: &mut ReplicaSetStatus, failure: Option<(&str, String)>, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    match failure {
        None => conditions.retain(|c| c.type_.as_deref() != Some("ReplicaFailure")),
        Some((reason, message)) => {
            if !conditions.iter().any(|c| c.type_.as_deref() == Some("ReplicaFailure")) {
                conditions.push(ReplicaSetCondition {
                    type_: Some("ReplicaFailure".into()),
                    status: Some("True".into()),
                    reason: Some(reason.into()),
                    message: Some(message),
                    last_transition_time: Some(Time(now)),
                });
            }
        }
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    fn set(spec: Value) -> ReplicaSet {
        let mut all = json!({
            "metadata": {"name": "s", "generation": 4},
            "spec": {"replicas": 2, "selector": {}, "template": {"metadata": {"labels": {"app": "s", "tier": "x"}}}},
        });
        json_patch::merge(&mut all["spec"], &spec);
        serde_json::from_value(all).unwrap()
    }

    fn pod(name: &str, changes: Value) -> Arc<Pod> {
        let mut all = json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "s", "tier": "x"}},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T23:59:50Z"},
            ]},
        });
        json_patch::merge(&mut all, &changes);
        Arc::new(serde_json::from_value(all).unwrap())
    }

    fn of(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Plan {
        plan(set, pods, || pods.to_vec(), true, now())
    }

    #[test]
    fn pods_that_failed_succeeded_or_are_terminating_are_replaced() {
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        for (changes, terminating) in [
            (json!({"status": {"phase": "Failed"}}), 0),
            (json!({"status": {"phase": "Succeeded"}}), 0),
            (going, 1),
        ] {
            let plan = of(&set(json!({})), &[pod("a", json!({})), pod("b", changes.clone())]);
            assert_eq!((plan.create, plan.delete.len()), (1, 0), "{changes}");
            assert_eq!(
                (plan.status.replicas, plan.status.terminating_replicas),
                (1, Some(terminating))
            );
        }
    }

    #[test]
    fn the_status_tells_of_ready_available_and_fully_labeled_replicas() {
        let pods = [
            pod("a", json!({})),
            pod("b", json!({"metadata": {"labels": {"tier": null}}})),
        ];
        let plan = of(&set(json!({"minReadySeconds": 30})), &pods);
        let s = &plan.status;
        assert_eq!((s.replicas, s.ready_replicas, s.available_replicas), (2, Some(2), None));
        assert_eq!((s.fully_labeled_replicas, s.observed_generation), (Some(1), Some(4)));
        assert_eq!(plan.check_again.map(|d| d.as_secs()), Some(20));
        assert_eq!(
            of(&set(json!({"minReadySeconds": 10})), &pods)
                .status
                .available_replicas,
            Some(2)
        );
    }

    #[test]
    fn one_look_creates_or_deletes_500_pods_at_most_and_nothing_while_the_cache_is_behind() {
        assert_eq!(of(&set(json!({"replicas": 900})), &[]).create, 500);
        assert_eq!(plan(&set(json!({})), &[], Vec::new, false, now()).create, 0);
        let many: Vec<_> = (0..700).map(|n| pod(&n.to_string(), json!({}))).collect();
        assert_eq!(of(&set(json!({"replicas": 0})), &many).delete.len(), 500);
    }

    #[test]
    fn a_failure_is_told_once_and_taken_back_when_it_is_over() {
        let mut status = ReplicaSetStatus::default();
        note_failure(&mut status, Some(("FailedCreate", "no quota".into())), now());
        note_failure(&mut status, Some(("FailedCreate", "still none".into())), now());
        let conditions = status.conditions.clone().unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].message.as_deref(), Some("no quota"));
        note_failure(&mut status, None, now());
        assert_eq!(status.conditions, None);
    }
}
