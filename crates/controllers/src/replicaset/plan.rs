//! What one look at a ReplicaSet and its pods leads to. Pure.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::tally::Totals;
use crate::pods::{is_active, rank_for_deletion};

/// How many pods one reconcile creates or deletes at most.
pub const BURST: usize = 500;

#[derive(Debug, Default)]
pub struct Plan {
    pub create: usize,
    /// Whether pods have to go; [`doomed`] says which.
    pub shrink: bool,
    pub status: ReplicaSetStatus,
    /// When a ready pod will have been ready for minReadySeconds.
    pub check_again: Option<Duration>,
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1).max(0)
}

fn burst(pods: i32) -> usize {
    usize::try_from(pods).unwrap_or(0).min(BURST)
}

/// `totals` are what the pods that the set controls add up to. With `may_act` false (the cache is behind) only the status
/// is planned.
pub fn plan(set: &ReplicaSet, totals: &Totals, may_act: bool, now: Timestamp) -> Plan {
    let acts = may_act && set.metadata.deletion_timestamp.is_none();
    let lacking = wanted(set) - totals.active;
    let old = set.status.clone().unwrap_or_default();
    Plan {
        create: if acts { burst(lacking) } else { 0 },
        shrink: acts && lacking < 0,
        status: ReplicaSetStatus {
            replicas: totals.active,
            fully_labeled_replicas: nonzero(totals.labeled),
            ready_replicas: nonzero(totals.ready),
            available_replicas: nonzero(totals.available),
            terminating_replicas: Some(totals.terminating),
            observed_generation: set.metadata.generation,
            conditions: old.conditions,
        },
        check_again: totals
            .next
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok()),
    }
}

/// Which of the pods that the set controls have to go. `related` are those of sets with the same owner, for ranking.
pub fn doomed(set: &ReplicaSet, owned: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|p| is_active(p)).cloned().collect();
    let surplus = i32::try_from(active.len()).unwrap_or(i32::MAX) - wanted(set);
    if surplus <= 0 {
        return Vec::new();
    }
    rank_for_deletion(&mut active, related, now);
    active.truncate(burst(surplus));
    active
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
    use crate::replicaset::tally::Basis;
    use coracle_api::selector::LabelSelector;
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
        let basis = Basis::of(set, LabelSelector::everything());
        let mut totals = Totals::default();
        pods.iter().for_each(|pod| totals.add(&basis.share(pod), now()));
        plan(set, &totals, true, now())
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
            assert_eq!((plan.create, plan.shrink), (1, false), "{changes}");
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
        assert_eq!(plan(&set(json!({})), &Totals::default(), false, now()).create, 0);
        let many: Vec<_> = (0..700).map(|n| pod(&n.to_string(), json!({}))).collect();
        let none = set(json!({"replicas": 0}));
        assert!(of(&none, &many).shrink);
        assert_eq!(doomed(&none, &many, &many, now()).len(), 500);
        assert_eq!(doomed(&set(json!({"replicas": 690})), &many, &many, now()).len(), 10);
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
