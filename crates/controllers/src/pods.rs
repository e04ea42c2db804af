//! What controllers ask of pods: active, ready, available, and which to delete first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use coracle_informer::SharedInformer;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Finished for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted: it counts as a replica.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Being deleted but still there.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

pub fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// Since when the pod has been ready, if it is.
fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|t| t.0))
}

pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// From when on the pod is available, if it is ready and stays so: once it has been ready for `min_ready_seconds`.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let since = ready_since(pod)?;
    if min_ready_seconds <= 0 {
        return Some(Timestamp::MIN);
    }
    let at = since?.saturating_add(SignedDuration::from_secs(min_ready_seconds.into()));
    Some(at.unwrap_or(Timestamp::MAX))
}

/// Ready for at least `min_ready_seconds`; otherwise when it will be, if it stays ready.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    match available_at(pod, min_ready_seconds) {
        None => Availability::NotReady,
        Some(at) if at <= now => Availability::Available,
        Some(at) => Availability::At(at),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    NotReady,
    /// Ready, and available at this time if it stays so.
    At(Timestamp),
    Available,
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// The index of pods by the node they are on.
pub const BY_NODE: &str = "node";

pub fn index_by_node(pods: &SharedInformer<Pod>) {
    pods.add_index(BY_NODE, |pod: &Pod| {
        Some(node_name(pod).to_owned()).filter(|n| !n.is_empty())
    });
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST));
    cost.and_then(|c| c.parse().ok()).unwrap_or(0)
}

/// The most restarts of a container, and of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let status = pod.status.as_ref();
    let containers = status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let inits = status.iter().flat_map(|s| s.init_container_statuses.iter().flatten());
    let is_sidecar = |name: &str| {
        let mut specs = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        specs.any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = inits.filter(|c| is_sidecar(&c.name));
    (
        containers.map(|c| c.restart_count).max().unwrap_or(0),
        sidecars.map(|c| c.restart_count).max().unwrap_or(0),
    )
}

/// Of two times the later one goes first, and none before any. Times of about the same age (by the logarithm) are not
/// told apart; the uid then decides.
fn later_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp, by_uid: Ordering) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else {
        return a.cmp(&b);
    };
    if a == b {
        return Ordering::Equal;
    }
    let magnitude = |t: Timestamp| {
        let age = u128::try_from(now.duration_since(t).as_nanos()).unwrap_or(0);
        age.checked_ilog2()
    };
    magnitude(a).cmp(&magnitude(b)).then(by_uid)
}

/// Sorts pods so that those to delete first come first: unscheduled, then pending, then not ready, then lower deletion
/// cost, then on nodes with more related pods, then ready for a shorter time, then more restarts (of sidecars last), then
/// younger.
/// `related` are the pods that count for "doubled up on a node".
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<String, usize> = HashMap::new();
    for pod in related.iter().filter(|p| is_active(p)) {
        *on_node.entry(node_name(pod).to_owned()).or_default() += 1;
    }
    let phase_order = |p: &Pod| match phase(p) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let by_uid = |a: &Pod, b: &Pod| a.metadata.uid.cmp(&b.metadata.uid);
    let by = |a: &Arc<Pod>, b: &Arc<Pod>| -> Ordering {
        let unassigned = |p: &Pod| node_name(p).is_empty();
        unassigned(b)
            .cmp(&unassigned(a))
            .then(phase_order(a).cmp(&phase_order(b)))
            .then(is_ready(a).cmp(&is_ready(b)))
            .then(deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| on_node.get(node_name(b)).cmp(&on_node.get(node_name(a))))
            .then_with(|| later_first(ready_since(a).flatten(), ready_since(b).flatten(), now, by_uid(a, b)))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| later_first(created(a), created(b), now, by_uid(a, b)))
            .then_with(|| by_uid(a, b))
    };
    pods.sort_by(by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    /// A ready pod on a node, a day old, unless changed.
    fn pod(name: &str, changes: Value) -> Arc<Pod> {
        let mut all = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": name, "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        json_patch::merge(&mut all, &changes);
        Arc::new(serde_json::from_value(all).unwrap())
    }

    #[test]
    fn of_two_pods_the_one_goes_first_that() {
        let not_ready = json!([{"type": "Ready", "status": "False"}]);
        let since = |time: &str| {
            json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": time},
            ]}})
        };
        let restarted = json!({"status": {"containerStatuses": [
            {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3},
        ]}});
        let sidecar = json!({
            "spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"initContainerStatuses": [
                {"name": "s", "image": "", "imageID": "", "ready": true, "restartCount": 1},
            ]},
        });
        let cost = |cost: &str| json!({"metadata": {"annotations": {DELETION_COST: cost}}});
        for (sentence, first, second) in [
            (
                "is unscheduled, even if the other is not ready",
                json!({"spec": {"nodeName": null}}),
                json!({"status": {"conditions": not_ready}}),
            ),
            ("is pending", json!({"status": {"phase": "Pending"}}), json!({})),
            (
                "is not ready, whatever the deletion costs",
                json!({"status": {"conditions": not_ready}, "metadata": {"annotations": {DELETION_COST: "9"}}}),
                cost("-9"),
            ),
            ("has the lower deletion cost", cost("-5"), json!({})),
            ("has the lower of two deletion costs", cost("1"), cost("2")),
            (
                "has been ready for a shorter time",
                since("2026-01-01T23:59:00Z"),
                json!({}),
            ),
            ("has restarted more often", restarted, json!({})),
            ("has a sidecar that has restarted more often", sidecar, json!({})),
            (
                "was created later",
                json!({"metadata": {"creationTimestamp": "2026-01-01T23:00:00Z"}}),
                json!({}),
            ),
        ] {
            for swapped in [false, true] {
                let mut pods = vec![pod("first", first.clone()), pod("second", second.clone())];
                if swapped {
                    pods.reverse();
                }
                rank_for_deletion(&mut pods, &[], now());
                assert_eq!(pods[0].metadata.name.as_deref(), Some("first"), "{sentence}");
            }
        }
    }

    #[test]
    fn a_pod_on_a_node_with_more_related_pods_goes_first() {
        let at = |name: &str, node: &str| pod(name, json!({"spec": {"nodeName": node}}));
        let mut pods = vec![at("alone", "n1"), at("doubled", "n2")];
        let related = [pods.clone(), vec![at("other", "n2")]].concat();
        rank_for_deletion(&mut pods, &related, now());
        assert_eq!(pods[0].metadata.name.as_deref(), Some("doubled"));
    }

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_for_min_ready_seconds() {
        let ready = pod("p", json!({}));
        let day = 24 * 3600;
        assert_eq!(availability(&ready, day, now()), Availability::Available);
        let later = now().checked_add(SignedDuration::from_secs(1)).unwrap();
        assert_eq!(availability(&ready, day + 1, now()), Availability::At(later));
        let not_ready = pod("p", json!({"status": {"conditions": null}}));
        assert_eq!(availability(&not_ready, 0, now()), Availability::NotReady);
    }
}
