//! What the documentation says of PodDisruptionBudgets, sentence by sentence.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::plan::{Expected, expected, failed, needs_scale, plan, stale_in};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let all = json!({"metadata": {"name": "b", "namespace": "x", "generation": 3}, "spec": spec, "status": status});
    serde_json::from_value(all).unwrap()
}

fn pod(name: &str, ready: bool, change: Value) -> Arc<Pod> {
    let mut all = json!({
        "metadata": {"name": name, "namespace": "x"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    json_patch::merge(&mut all, &change);
    Arc::new(serde_json::from_value(all).unwrap())
}

#[test]
fn how_many_have_to_be_healthy_is_a_number_or_a_share_rounded_up() {
    for (spec, pods, scale, healthy) in [
        (json!({"minAvailable": 2}), 5, false, 2),
        (json!({"minAvailable": "50%"}), 7, true, 4),
        (json!({"minAvailable": "100%"}), 3, true, 3),
        (json!({"maxUnavailable": 1}), 3, true, 2),
        (json!({"maxUnavailable": 5}), 3, true, 0),
        (json!({"maxUnavailable": "30%"}), 7, true, 4),
        (json!({"maxUnavailable": 0}), 3, true, 3),
    ] {
        let it = budget(spec.clone(), json!({}));
        assert_eq!(needs_scale(&it), scale, "{spec}");
        assert_eq!(expected(&it, pods), Ok(Expected { pods, healthy }), "{spec}");
    }
    assert!(expected(&budget(json!({"minAvailable": "many"}), json!({})), 3).is_err());
}

#[test]
fn as_many_may_be_disturbed_as_are_healthy_beyond_what_is_needed() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let three = || {
        vec![
            pod("a", true, json!({})),
            pod("b", true, json!({})),
            pod("c", true, json!({})),
        ]
    };
    for (pods, wanted, healthy, allowed) in [
        (three(), (3, 2), 3, 1),
        (three(), (3, 3), 3, 0),
        (three(), (3, 5), 3, 0),
        (three(), (0, 0), 3, 0),
        (vec![], (0, 0), 0, 0),
        (
            vec![pod("a", true, json!({})), pod("b", false, json!({}))],
            (2, 1),
            1,
            0,
        ),
        (vec![pod("a", true, json!({})), pod("b", true, going)], (2, 1), 1, 0),
    ] {
        let it = budget(json!({"minAvailable": 1}), json!({}));
        let wanted = Expected {
            pods: wanted.0,
            healthy: wanted.1,
        };
        let status = plan(&it, &pods, wanted, now()).status;
        assert_eq!(
            (status.current_healthy, status.disruptions_allowed),
            (Some(healthy), Some(allowed))
        );
        assert_eq!(
            (status.expected_pods, status.desired_healthy),
            (Some(wanted.pods), Some(wanted.healthy))
        );
        assert_eq!(status.observed_generation, Some(3));
        let condition = &status.conditions.unwrap()[0];
        let expected = if allowed > 0 {
            ("True", "SufficientPods")
        } else {
            ("False", "InsufficientPods")
        };
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
        assert_eq!(
            (condition.type_.as_str(), condition.observed_generation),
            ("DisruptionAllowed", Some(3))
        );
    }
}

#[test]
fn a_pod_whose_eviction_was_granted_is_not_healthy_for_two_minutes() {
    let disrupted = json!({
        "a": "2026-01-01T00:09:00Z", "b": "2026-01-01T00:07:00Z", "gone": "2026-01-01T00:09:59Z",
        "going": "2026-01-01T00:09:59Z",
    });
    let it = budget(json!({"minAvailable": 1}), json!({"disruptedPods": disrupted}));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:09:59Z"}});
    let pods = [
        pod("a", true, json!({})),
        pod("b", true, json!({})),
        pod("c", true, json!({})),
        pod("going", true, going),
    ];
    let plan = plan(&it, &pods, Expected { pods: 4, healthy: 1 }, now());
    assert_eq!(plan.status.current_healthy, Some(2));
    let left: Vec<String> = plan.status.disrupted_pods.unwrap().into_keys().collect();
    assert_eq!(left, ["a"]);
    let late: Vec<_> = plan
        .not_deleted
        .iter()
        .map(|p| p.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(late, ["b"]);
    assert_eq!(plan.check_again, Some(Duration::from_millis(60_001)));
}

#[test]
fn a_condition_keeps_its_time_while_it_stays_and_what_is_right_is_not_changed() {
    let first = budget(json!({"minAvailable": 1}), json!({}));
    let pods = [pod("a", true, json!({})), pod("b", true, json!({}))];
    let wanted = Expected { pods: 2, healthy: 1 };
    let mut written = first;
    written.status = Some(plan(&written, &pods, wanted, now()).status);
    let later = "2026-01-01T01:00:00Z".parse().unwrap();
    assert_eq!(Some(plan(&written, &pods, wanted, later).status), written.status);
    let fewer = plan(&written, &pods[..1], wanted, later).status.conditions.unwrap();
    assert_eq!(fewer[0].last_transition_time.0, later);
}

#[test]
fn when_nothing_can_be_known_nothing_may_be_disturbed() {
    let it = budget(
        json!({"minAvailable": "50%"}),
        json!({"disruptionsAllowed": 2, "currentHealthy": 4}),
    );
    let status = failed(&it, "found no controllers for pod \"a\"", now());
    assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(0), Some(4)));
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(
        (condition.reason.as_str(), condition.status.as_str()),
        ("SyncFailed", "False")
    );
    assert_eq!(condition.message, "found no controllers for pod \"a\"");
}

#[test]
fn a_pod_that_was_to_be_disturbed_and_was_not_says_so_for_two_minutes() {
    let target = |reason: &str, status: &str| {
        let condition = json!([{"type": "DisruptionTarget", "status": status, "reason": reason,
            "lastTransitionTime": "2026-01-01T00:09:00Z"}]);
        json!({"status": {"conditions": condition}})
    };
    let mut finished = target("EvictionByEvictionAPI", "True");
    finished["status"]["phase"] = json!("Failed");
    let mut going = target("EvictionByEvictionAPI", "True");
    going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:09:00Z"});
    for (change, expected) in [
        (target("EvictionByEvictionAPI", "True"), Some(60)),
        (target("PreemptionByScheduler", "True"), Some(60)),
        (target("TerminationByKubelet", "True"), None),
        (target("EvictionByEvictionAPI", "False"), None),
        (finished, None),
        (going, None),
        (json!({}), None),
    ] {
        let left = stale_in(&pod("a", true, change.clone()), now());
        assert_eq!(left.map(|l| l.as_secs()), expected, "{change}");
    }
}
