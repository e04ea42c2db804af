//! Preemption over whole profiles: who has to go for whom.

use serde_json::{Value, json};

use super::*;
use crate::cycle::{NotFound, Search};
use crate::nominator::Nominator;
use crate::plugins::default_plugins;
use crate::profile::Profile;
use crate::snapshot::Snapshot;
use crate::testing::{cluster, node, pod_requesting};

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

fn affinity(kind: &str, key: &str, app: &str) -> Value {
    let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}});
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
}

#[test]
fn a_pod_evicts_nobody_whom_it_wants_to_be_with() {
    // With all less important pods gone it could not be there.
    let mut snapshot = cluster(&[("n1", vec![pod("a", 0, "4", json!({}))])]);
    let new = pod("x", 10, "1", affinity("podAffinity", "kubernetes.io/hostname", "web"));
    let other = json!({"metadata": {"labels": {"app": "other"}}, "spec": new.pod.spec.as_ref().unwrap()});
    let other = crate::testing::pod_with("x", other);
    snapshot.need_topology(&"kubernetes.io/hostname".into());
    snapshot.settle();
    assert_eq!(outcome(&snapshot, &other, vec![]), (String::new(), vec![]));
    // Unless another of them, as important as itself, stays.
    let beside = vec![pod("a", 0, "3", json!({})), pod("b", 10, "1", json!({}))];
    let mut snapshot = cluster(&[("n1", beside)]);
    snapshot.need_topology(&"kubernetes.io/hostname".into());
    snapshot.settle();
    assert_eq!(
        outcome(&snapshot, &other, vec![]),
        ("n1".to_owned(), vec!["a".to_owned()])
    );
}

#[test]
fn pods_on_other_nodes_are_not_evicted() {
    // The one in the way is in the same zone, on a node that takes no pods.
    let zone = json!({"zone": "a"});
    let cordoned = json!({"unschedulable": true});
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1", zone.clone(), json!({})));
    snapshot.set_node(crate::testing::node_with_spec("n2", zone, cordoned));
    assert!(snapshot.add_pod(
        "n1",
        pod("there", 0, "1", json!({"metadata": {"labels": {"app": "other"}}}))
    ));
    assert!(snapshot.add_pod("n2", pod("in-the-way", 0, "1", json!({}))));
    snapshot.need_topology(&"zone".into());
    snapshot.settle();
    let new = pod("x", 10, "1", affinity("podAntiAffinity", "zone", "web"));
    assert_eq!(outcome(&snapshot, &new, vec![]), (String::new(), vec![]));
}

#[test]
fn priority_alone_decides_who_goes() {
    let requests = json!({"cpu": "2", "memory": "1"});
    let guaranteed =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests, "limits": requests}}]}});
    for (what, lower, higher) in [
        ("not quality of service", guaranteed, json!({})),
        (
            "not whether it may preempt others itself",
            json!({"spec": {"preemptionPolicy": "Never"}}),
            json!({}),
        ),
        ("not how long it has run", started_at(1), started_at(9)),
    ] {
        let pods = vec![pod("lower", 1, "2", lower), pod("higher", 2, "2", higher)];
        let (_, victims) = outcome(&cluster(&[("n1", pods)]), &pod("x", 10, "2", json!({})), vec![]);
        assert_eq!(victims, ["lower"], "{what}");
    }
}

#[test]
fn what_is_known_of_a_node_is_found_out_anew_when_others_are_expected_there() {
    let full = || vec![pod("a", 0, "2", json!({})), pod("b", 1, "2", json!({}))];
    let snapshot = cluster(&[("n1", full())]);
    let listers = Arc::new(Listers::holding());
    let profile = Profile::new("default-scheduler", default_plugins(&listers));
    let (mut search, nominator) = (Search::new(0, 0), Nominator::default());
    let shapes = crate::shape::Shapes::default();
    let mut victims = |name: &str, nominator: &Nominator| -> Vec<String> {
        let new = shapes.info(&pod(name, 10, "2", json!({})).pod, None);
        let not_found = search.schedule(&profile, &new, &snapshot, &nominator.current()).err();
        let victims = not_found.map(|n| n.action.victims).unwrap_or_default();
        victims.iter().map(|v| v.uid().to_owned()).collect()
    };
    assert_eq!(victims("x", &nominator), ["a"]);
    nominator.nominate(pod("x", 10, "2", json!({})), "n1");
    assert_eq!(victims("y", &nominator), ["b", "a"], "room for both");
    assert_eq!(victims("x", &nominator), ["a"], "it leaves no room for itself");
    nominator.nominate(pod("y", 10, "2", json!({})), "n1");
    assert!(victims("z", &nominator).is_empty(), "three have no room");
    nominator.remove("x");
    nominator.remove("y");
    assert_eq!(victims("z", &nominator), ["a"]);
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
