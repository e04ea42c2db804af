//! Preemption over whole profiles: who has to go for whom.

use serde_json::{Value, json};

use super::*;
use crate::cycle::{NotFound, Search};
use crate::nominator::Nominator;
use crate::plugins::default_plugins;
use crate::profile::Profile;
use crate::snapshot::Snapshot;
use crate::testing::{node, pod_requesting};

fn pod(name: &str, priority: i32, cpu: &str, more: Value) -> PodInfo {
    let mut whole = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"priority": priority}});
    for (at, value) in more.as_object().unwrap() {
        for (key, value) in value.as_object().unwrap() {
            whole[at][key] = value.clone();
        }
    }
    pod_requesting(name, cpu, "1", whole)
}

fn started_at(second: u32) -> Value {
    json!({"status": {"startTime": format!("2026-01-01T00:00:{second:02}Z")}})
}

/// Nodes of 4 CPUs with these pods on them.
fn cluster(nodes: &[(&str, Vec<PodInfo>)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, pods) in nodes {
        snapshot.set_node(node(name, json!({}), json!({})));
        for pod in pods {
            assert!(snapshot.add_pod(name, pod.clone()));
        }
    }
    snapshot.settle();
    snapshot
}

fn budget(allowed: i32) -> k8s_openapi::api::policy::v1::PodDisruptionBudget {
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}))
    .unwrap()
}

fn preempt(snapshot: &Snapshot, pod: &PodInfo, budgets: Vec<i32>) -> NotFound {
    let listers = Arc::new(Listers::holding());
    listers.budgets.hold(budgets.into_iter().map(budget));
    let profile = Profile::new("default-scheduler", default_plugins(&listers));
    let mut search = Search::new(0, 0);
    match search.schedule(&profile, pod, snapshot, &Nominator::default().current()) {
        Ok(found) => panic!("it fits on {}", found.node),
        Err(not_found) => *not_found,
    }
}

fn outcome(snapshot: &Snapshot, pod: &PodInfo, budgets: Vec<i32>) -> (String, Vec<String>) {
    let action = preempt(snapshot, pod, budgets).action;
    let victims = action.victims.iter().map(|v| v.uid().to_owned()).collect();
    (action.nominate.as_deref().unwrap_or("-").to_owned(), victims)
}

#[test]
fn only_as_many_go_as_must_and_the_least_important_first() {
    let nodes = [(
        "n1",
        vec![
            pod("old", 0, "1", started_at(1)),
            pod("new", 0, "1", started_at(2)),
            pod("higher", 5, "1", started_at(3)),
            pod("highest", 50, "1", json!({})),
        ],
    )];
    let victims = |cpu: &str| outcome(&cluster(&nodes), &pod("x", 10, cpu, json!({})), vec![]).1;
    assert_eq!(victims("1"), ["new"]);
    assert_eq!(victims("2"), ["old", "new"]);
    assert_eq!(victims("3"), ["higher", "old", "new"]);
    assert!(victims("4").is_empty(), "nobody of higher priority goes");
}

#[test]
fn equals_are_never_evicted() {
    let full = cluster(&[("n1", vec![pod("a", 10, "4", json!({}))])]);
    assert_eq!(
        outcome(&full, &pod("x", 10, "1", json!({})), vec![]),
        (String::new(), vec![])
    );
}

#[test]
fn the_cheapest_node_is_chosen_by_the_documented_criteria_in_order() {
    let one = |name: &str, priority: i32| pod(name, priority, "4", started_at(5));
    for (what, nodes, expected) in [
        (
            "the lowest highest priority",
            vec![("n1", vec![one("a", 5)]), ("n2", vec![one("b", 3)])],
            "n2",
        ),
        (
            "the lowest sum of priorities",
            vec![
                ("n1", vec![pod("a", 5, "2", json!({})), pod("b", 4, "2", json!({}))]),
                ("n2", vec![pod("c", 5, "2", json!({})), pod("d", 3, "2", json!({}))]),
            ],
            "n2",
        ),
        (
            "the fewest victims",
            vec![
                ("n1", vec![pod("a", -5, "2", json!({})), pod("b", -5, "2", json!({}))]),
                ("n2", vec![one("c", -5)]),
            ],
            "n2",
        ),
        (
            "the latest start",
            vec![
                ("n1", vec![pod("a", 1, "4", started_at(1))]),
                ("n2", vec![pod("b", 1, "4", started_at(9))]),
            ],
            "n2",
        ),
    ] {
        let found = outcome(&cluster(&nodes), &pod("x", 10, "4", json!({})), vec![]);
        assert_eq!(found.0, expected, "{what}");
    }
}

#[test]
fn budgets_are_kept_where_they_can_be_and_exceeded_where_they_must() {
    let other = json!({"metadata": {"labels": {"app": "other"}}});
    let kept = pod("kept", 0, "2", json!({}));
    let free = pod("free", 1, "2", other.clone());
    let one = cluster(&[("n1", vec![kept.clone(), free.clone()])]);
    // Without a budget the lower priority goes; with one that allows nothing, the other.
    assert_eq!(outcome(&one, &pod("x", 10, "2", json!({})), vec![]).1, ["kept"]);
    assert_eq!(outcome(&one, &pod("x", 10, "2", json!({})), vec![0]).1, ["free"]);
    assert_eq!(outcome(&one, &pod("x", 10, "2", json!({})), vec![1]).1, ["kept"]);
    assert_eq!(
        outcome(&one, &pod("x", 10, "4", json!({})), vec![0]).1,
        ["free", "kept"]
    );
    // A node where no budget is exceeded comes before one of lower priority.
    let two = cluster(&[
        ("n1", vec![pod("kept", 0, "4", json!({}))]),
        ("n2", vec![pod("free", 9, "4", other)]),
    ]);
    assert_eq!(outcome(&two, &pod("x", 10, "4", json!({})), vec![0]).0, "n2");
}

#[test]
fn who_may_not_preempt_says_so() {
    let full = cluster(&[("n1", vec![pod("a", 0, "4", json!({}))])]);
    let never = pod("x", 10, "4", json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(
        preempt(&full, &never, vec![]).error.to_string(),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
    let going = pod(
        "a",
        0,
        "4",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}}),
    );
    let nominated = pod("x", 10, "4", json!({"status": {"nominatedNodeName": "n1"}}));
    assert_eq!(
        preempt(&cluster(&[("n1", vec![going])]), &nominated, vec![])
            .error
            .post_filter,
        "preemption: not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn the_message_counts_nodes_where_it_does_not_help() {
    let snapshot = cluster(&[
        ("n1", vec![pod("a", 20, "4", json!({}))]),
        ("n2", vec![pod("b", 20, "4", json!({}))]),
    ]);
    assert_eq!(
        preempt(&snapshot, &pod("x", 10, "2", json!({})), vec![])
            .error
            .to_string(),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
         2 No preemption victims found for incoming pod."
    );
    assert_eq!(
        preempt(&snapshot, &pod("x", 10, "8", json!({})), vec![])
            .error
            .to_string(),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
         2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn nodes_that_nothing_helps_are_counted_apart_from_those_without_victims() {
    let mut snapshot = cluster(&[("n1", vec![pod("a", 20, "4", json!({}))])]);
    let tainted = json!({"taints": [{"key": "x", "effect": "NoSchedule"}]});
    snapshot.set_node(crate::testing::node_with_spec("n2", json!({}), tainted));
    snapshot.set_node(crate::testing::node_with_spec(
        "n3",
        json!({}),
        json!({"unschedulable": true}),
    ));
    snapshot.settle();
    assert_eq!(
        preempt(&snapshot, &pod("x", 10, "2", json!({})), vec![])
            .error
            .to_string(),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn enough_candidates_are_looked_for_and_no_more() {
    let mut plugin = DefaultPreemption::new(Arc::new(Listers::holding()));
    let enough = |plugin: &DefaultPreemption| [10, 100, 500, 5000].map(|n| plugin.enough_candidates(n));
    assert_eq!(enough(&plugin), [10, 100, 100, 500]);
    plugin.min_candidate_nodes_absolute = 1;
    plugin.min_candidate_nodes_percentage = 50;
    assert_eq!(enough(&plugin), [5, 50, 250, 2500]);
}
