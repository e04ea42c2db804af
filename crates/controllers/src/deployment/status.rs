//! A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure with upstream's reasons,
//! which `kubectl rollout status` reads.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{available, replicas, scale::fenceposts, wanted};

pub const AVAILABLE: &str = "Available";
pub const PROGRESSING: &str = "Progressing";
pub const REPLICA_FAILURE: &str = "ReplicaFailure";
pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

pub fn condition(kind: &str, status: bool, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(if status { "True" } else { "False" }.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub fn find<'s>(status: &'s DeploymentStatus, kind: &str) -> Option<&'s DeploymentCondition> {
    status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_.as_deref() == Some(kind))
}

/// Sets a condition; the same status and reason change nothing, the same status keeps its transition time.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(at) = conditions.iter().position(|c| c.type_ == condition.type_) {
        if conditions[at].status == condition.status && conditions[at].reason == condition.reason {
            return;
        }
        let old = conditions.remove(at);
        if old.status == condition.status {
            condition.last_transition_time = old.last_transition_time;
        }
    }
    conditions.push(condition);
}

pub fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = status.conditions.as_mut() {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

/// Counts and the Available condition, from the sets' statuses.
pub fn counted(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let of = |f: fn(&ReplicaSet) -> i32| all.iter().map(|s| f(s)).sum::<i32>();
    let status_of = |s: &ReplicaSet| s.status.as_ref().map_or(0, |st| st.replicas);
    let ready_of = |s: &ReplicaSet| s.status.as_ref().and_then(|st| st.ready_replicas).unwrap_or(0);
    let terminating = |s: &Arc<ReplicaSet>| s.status.as_ref().and_then(|st| st.terminating_replicas);
    let available_replicas = of(available);
    let nonzero = |n: i32| (n != 0).then_some(n);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(of(status_of)),
        updated_replicas: nonzero(new.map_or(0, status_of)),
        ready_replicas: nonzero(of(ready_of)),
        available_replicas: nonzero(available_replicas),
        unavailable_replicas: nonzero((of(replicas) - available_replicas).max(0)),
        // Not known before every set has told of its own.
        terminating_replicas: all.iter().map(terminating).sum(),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = available_replicas >= wanted(deployment) - fenceposts(deployment).1;
    let available = if enough {
        condition(
            AVAILABLE,
            true,
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.".into();
        condition(AVAILABLE, false, "MinimumReplicasUnavailable", message, now)
    };
    set(&mut status, available);
    status
}

/// All replicas are of the newest template and available, and no old ones are left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Some(wanted(deployment));
    let or_zero = |n: Option<i32>| Some(n.unwrap_or(0));
    or_zero(status.updated_replicas) == wanted
        && or_zero(status.replicas) == wanted
        && or_zero(status.available_replicas) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// How long a rollout may make no progress; without it, nothing is said of progress.
pub fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(limit), Some(current)) = (deadline(deployment), find(status, PROGRESSING)) else {
        return false;
    };
    match current.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(DEADLINE_EXCEEDED) => true,
        _ => current
            .last_update_time
            .as_ref()
            .is_some_and(|t| now.duration_since(t.0) > limit),
    }
}

/// Sets Progressing and ReplicaFailure on the counted status of a Deployment that is rolling.
pub fn progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) {
    if deadline(deployment).is_none() {
        remove(status, PROGRESSING);
    }
    let old = deployment.status.clone().unwrap_or_default();
    let named = |set: &ReplicaSet| format!("ReplicaSet {:?}", set.metadata.name.as_deref().unwrap_or_default());
    let subject = new.map_or_else(
        || {
            format!(
                "Deployment {:?}",
                deployment.metadata.name.as_deref().unwrap_or_default()
            )
        },
        named,
    );
    let current = find(status, PROGRESSING).cloned();
    let done = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if deadline(deployment).is_some() && !done {
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set(status, condition(PROGRESSING, true, NEW_SET_AVAILABLE, message, now));
        } else if progressed(&old, status) {
            let mut fresh = condition(
                PROGRESSING,
                true,
                "ReplicaSetUpdated",
                format!("{subject} is progressing."),
                now,
            );
            // Progress restarts the deadline, so the update time changes even when nothing else does.
            if let Some(current) = current.filter(|c| c.status.as_deref() == Some("True")) {
                fresh.last_transition_time = current.last_transition_time;
            }
            remove(status, PROGRESSING);
            set(status, fresh);
        } else if timed_out(deployment, status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(status, condition(PROGRESSING, false, DEADLINE_EXCEEDED, message, now));
        }
    }
    match failure(new, all) {
        Some((reason, message)) => set(status, condition(REPLICA_FAILURE, true, &reason, message, now)),
        None => remove(status, REPLICA_FAILURE),
    }
}

/// The ReplicaFailure of the new set, or else of any.
fn failure(new: Option<&ReplicaSet>, all: &[Arc<ReplicaSet>]) -> Option<(String, String)> {
    let of = |s: &ReplicaSet| {
        let conditions = s.status.as_ref()?.conditions.as_ref()?;
        let found = conditions
            .iter()
            .find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE) && c.status.as_deref() == Some("True"))?;
        Some((
            found.reason.clone().unwrap_or_default(),
            found.message.clone().unwrap_or_default(),
        ))
    };
    new.and_then(of).or_else(|| all.iter().find_map(|s| of(s)))
}

/// When to look again because the deadline will have passed by then.
pub fn check_again(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let limit = deadline(deployment)?;
    let current = find(status, PROGRESSING)?;
    // One that was complete stays so, whatever becomes of its pods.
    let decided = matches!(current.reason.as_deref(), Some(DEADLINE_EXCEEDED | NEW_SET_AVAILABLE));
    if decided || is_complete(deployment, status) {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    let left = limit
        .saturating_sub(now.duration_since(since))
        .saturating_add(SignedDuration::from_secs(1));
    // Never at once: a look that changes nothing would lead to the next.
    let soon = Duration::from_secs(1);
    Some(Duration::try_from(left).map_or(soon, |left| left.max(soon)))
}
