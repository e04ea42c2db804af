//! How many of a budget's pods may be disturbed now. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods::{condition, is_finished, is_ready};

/// How long an eviction that was granted is waited for.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
/// How long a pod that was to be disturbed and was not keeps the condition that says so.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// How many pods there should be, of which how many have to be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub pods: i32,
    pub healthy: i32,
}

/// Whether the budget counts by what its pods' controllers want, instead of the pods that there are.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let min = spec.and_then(|s| s.min_available.as_ref());
    let max = spec.and_then(|s| s.max_unavailable.as_ref());
    max.is_some() || matches!(min, Some(IntOrString::String(_)))
}

/// `pods` is the number of pods, or what their controllers want if the budget [needs it](needs_scale).
pub fn expected(budget: &PodDisruptionBudget, pods: i32) -> Result<Expected, String> {
    let spec = budget.spec.as_ref();
    let max = spec.and_then(|s| s.max_unavailable.as_ref());
    let min = spec.and_then(|s| s.min_available.as_ref());
    let healthy = match (max, min) {
        (Some(max), _) => (pods - of(max, pods)?).max(0),
        (None, Some(min)) => of(min, pods)?,
        (None, None) => 0,
    };
    let pods = if max.is_none() && min.is_none() { 0 } else { pods };
    Ok(Expected { pods, healthy })
}

/// A number, or a percentage of `total` rounded up.
fn of(value: &IntOrString, total: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok());
            let percent =
                percent.ok_or_else(|| format!("invalid value for IntOrString: {text:?} is not a percentage"))?;
            let share = (percent * i64::from(total) + 99).div_euclid(100);
            Ok(i32::try_from(share).unwrap_or(i32::MAX))
        }
    }
}

/// The status, pods that were to go and did not, and when one of them has to be looked at again.
#[derive(Debug)]
pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    pub not_deleted: Vec<Arc<Pod>>,
    pub check_again: Option<Duration>,
}

pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: Expected, now: Timestamp) -> Plan {
    let old = budget.status.clone().unwrap_or_default();
    let granted = old.disrupted_pods.clone().unwrap_or_default();
    let mut disrupted = BTreeMap::new();
    let mut not_deleted = Vec::new();
    let mut check_at: Option<Timestamp> = None;
    let mut healthy = 0;
    for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let until = |at: &Time| at.0.saturating_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX);
        let mut awaited = false;
        match granted.get(&name) {
            Some(at) if until(at) < now => not_deleted.push(pod.clone()),
            Some(at) => {
                awaited = until(at) > now;
                check_at = Some(check_at.map_or(until(at), |c| c.min(until(at))));
                disrupted.insert(name, at.clone());
            }
            None => {}
        }
        if !awaited && is_ready(pod) {
            healthy += 1;
        }
    }
    let allowed = if expected.pods <= 0 {
        0
    } else {
        (healthy - expected.healthy).max(0)
    };
    let generation = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: Some(set_condition(
            old.conditions.unwrap_or_default(),
            allowed > 0,
            None,
            generation,
            now,
        )),
    };
    Plan {
        status,
        not_deleted,
        check_again: check_at.map(|at| {
            // A moment later: the pod is waited for until then.
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            left + Duration::from_millis(1)
        }),
    }
}

/// The status when nothing can be known: nothing may be disturbed.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let conditions = old.conditions.clone().unwrap_or_default();
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: Some(set_condition(
            conditions,
            false,
            Some(why),
            old.observed_generation,
            now,
        )),
        ..old
    }
}

fn set_condition(
    mut conditions: Vec<Condition>,
    allowed: bool,
    failure: Option<&str>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let reason = match (failure, allowed) {
        (Some(_), _) => "SyncFailed",
        (None, true) => "SufficientPods",
        (None, false) => "InsufficientPods",
    };
    let status = if allowed { "True" } else { "False" };
    let mut condition = Condition {
        type_: ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: failure.unwrap_or_default().to_owned(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == ALLOWED) {
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    conditions
}

/// How long until a pod's word that it is about to be disturbed is no longer true; `None` if it does not say so.
pub fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pod.metadata.deletion_timestamp.is_some() || is_finished(pod) {
        return None;
    }
    let target = condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    // The node may take as long as it needs.
    if target.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = target.last_transition_time.as_ref().map_or(Timestamp::MIN, |t| t.0);
    let end = since.saturating_add(STALE_AFTER).unwrap_or(Timestamp::MAX);
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}
