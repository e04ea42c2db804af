//! What a fake node does for one pod now. Pure.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use crate::config::Stages;
use crate::draw::Draw;
use crate::life::{self, Facts};
use crate::status::{self, Addresses, millis};

/// What is remembered of a pod, and what its node lends it.
pub(crate) struct Known<'a> {
    pub(crate) stages: &'a Stages,
    pub(crate) draw: Draw,
    pub(crate) accepted: i64,
    pub(crate) stopped: Option<i64>,
    pub(crate) addresses: Addresses,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The status to write, when it differs from the one there is.
    pub(crate) report: Option<Box<PodStatus>>,
    /// Nothing of it runs any more and its deletion was asked for: the object may go.
    pub(crate) remove: bool,
    /// Its own address is free again.
    pub(crate) release: bool,
    /// When to look again, in milliseconds of the time of day.
    pub(crate) next: Option<i64>,
}

/// Whether the pod has come to its end, by its status.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

/// When the pod's deletion was asked for, and how long it is given, in milliseconds.
pub(crate) fn deletion(pod: &Pod) -> Option<(i64, i64)> {
    let by = millis(pod.metadata.deletion_timestamp.as_ref()?.0);
    let grace = pod
        .metadata
        .deletion_grace_period_seconds
        .unwrap_or(0)
        .max(0)
        .saturating_mul(1000);
    Some((by.saturating_sub(grace), grace))
}

pub(crate) fn plan(pod: &Pod, known: Known<'_>, now: i64) -> Plan {
    let deletion = deletion(pod);
    if has_ended(pod) {
        return Plan {
            remove: deletion.is_some(),
            release: true,
            ..Plan::default()
        };
    }
    let Some(spec) = &pod.spec else {
        return Plan::default();
    };
    let grace = deletion.map_or_else(
        || {
            spec.termination_grace_period_seconds
                .unwrap_or(30)
                .max(0)
                .saturating_mul(1000)
        },
        |(_, grace)| grace,
    );
    let view = life::at(&Facts {
        spec,
        stages: known.stages,
        draw: known.draw,
        now,
        accepted: known.accepted,
        deleted: deletion.map(|(asked, _)| known.stopped.unwrap_or(asked)),
        grace,
        addressed: known.addresses.pod.is_some(),
    });
    let wanted = status::status(pod, &view, &known.addresses, known.accepted, now);
    let told = pod.status.as_ref().is_some_and(|told| status::same(told, &wanted));
    Plan {
        report: (!told).then(|| Box::new(wanted)),
        remove: view.ended && deletion.is_some(),
        release: view.ended,
        next: view.next,
    }
}

/// The status as a patch of the status subresource, good for this incarnation of the pod only.
pub(crate) fn report_patch(uid: &str, status: &PodStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // Conditions are merged by type: what a condition no longer says must be taken back.
    let conditions = value.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": uid}, "status": value})
}

#[cfg(test)]
mod tests;
