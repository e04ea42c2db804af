//! What controllers ask of pods: active, ready, available, and which to delete first.

use std::cmp::Reverse;
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

/// How old something is, by the logarithm: times of about the same age are not told apart. What has no time yet comes
/// before everything.
fn age(time: Option<Timestamp>, now: Timestamp) -> Option<Option<u32>> {
    let age = u128::try_from(now.duration_since(time?).as_nanos()).unwrap_or(0);
    Some(age.checked_ilog2())
}

/// Sorts pods so that those to delete first come first: unscheduled, then pending, then not ready, then lower deletion
/// cost, then on nodes with more related pods, then ready for a shorter time, then more restarts (of sidecars last), then
/// younger; the uid decides in the end.
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
    pods.sort_by_cached_key(|pod| {
        (
            !node_name(pod).is_empty(),
            phase_order(pod),
            is_ready(pod),
            deletion_cost(pod),
            Reverse(on_node.get(node_name(pod)).copied()),
            age(ready_since(pod).flatten(), now),
            Reverse(restarts(pod)),
            age(pod.metadata.creation_timestamp.as_ref().map(|t| t.0), now),
            pod.metadata.uid.clone(),
        )
    });
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

    /// Of three pods each may come before the next by another criterion; no order may go round in a circle.
    #[test]
    fn the_order_does_not_depend_on_where_pods_stood_before() {
        let at = |n: usize, since: usize, made: usize, restarts: usize| {
            let second = |offset: usize| format!("2026-01-01T00:00:{:02}Z", offset % 60);
            pod(
                &format!("{:03}", (n * 37) % 101),
                json!({
                    "metadata": {"creationTimestamp": if made == 0 { "2025-01-01T00:00:00Z".to_owned() } else { second(made) }},
                    "spec": {"nodeName": "n"},
                    "status": {
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": second(since)}],
                        "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                            "restartCount": restarts}],
                    },
                }),
            )
        };
        let names = |pods: &[Arc<Pod>]| -> Vec<_> { pods.iter().map(|p| p.metadata.name.clone()).collect() };
        let mut first: Vec<_> = (0..100).map(|n| at(n, n % 7, n % 3, n % 2)).collect();
        let mut other = first.clone();
        other.rotate_left(41);
        other[20..80].reverse();
        rank_for_deletion(&mut first, &[], now());
        rank_for_deletion(&mut other, &[], now());
        assert_eq!(names(&first), names(&other));
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
