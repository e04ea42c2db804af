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

/// `owned` are the pods that the set controls; `related` those of sets with the same owner (for ranking). With
/// `may_act` false (the cache is behind) only the status is planned.
pub fn plan(set: &ReplicaSet, owned: &[Arc<Pod>], related: &[Arc<Pod>], may_act: bool, now: Timestamp) -> Plan {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|p| is_active(p)).cloned().collect();
    let mut plan = Plan::default();

    if may_act && set.metadata.deletion_timestamp.is_none() {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            let mut ranked = active.clone();
            rank_for_deletion(&mut ranked, related, now);
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
