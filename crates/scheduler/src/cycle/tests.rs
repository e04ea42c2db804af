//! Whole cycles, sentence by sentence of the documentation of kube-scheduler, its tuning, and nominated nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::listers::Listers;
use crate::nominator::Nominator;
use crate::plugins::default_plugins;
use crate::plugins::node_unschedulable::NodeUnschedulable;
use crate::testing::{cluster, node, pod, pod_requesting};

fn default_profile() -> Profile {
    Profile::new("default-scheduler", default_plugins(&Arc::new(Listers::holding())))
}

fn asking(name: &str, cpu: &str, priority: i32, status: Value) -> PodInfo {
    pod_requesting(
        name,
        cpu,
        "1",
        json!({"spec": {"priority": priority}, "status": status}),
    )
}

/// The node chosen, or why there is none.
fn place(snapshot: &Snapshot, pod: &PodInfo, nominator: &Nominator, seed: u64) -> Result<String, String> {
    let found = Search::new(seed, 0).schedule(&default_profile(), pod, snapshot, &nominator.current());
    found
        .map(|f| f.node.to_string())
        .map_err(|not_found| not_found.error.reasons.into_keys().collect::<Vec<_>>().join(", "))
}

#[test]
fn large_clusters_are_searched_in_part_as_documented() {
    for (nodes, percentage, expected) in [
        (0, 0, 0),
        (10, 0, 10),
        (99, 10, 99),
        (100, 0, 100),
        (1000, 0, 420),
        (1000, 100, 1000),
        (1000, 30, 300),
        (1000, 5, 100),
        (5000, 0, 500),
        (6000, 0, 300),
        (10_000, 0, 500),
    ] {
        assert_eq!(
            enough_nodes(nodes, percentage),
            expected,
            "{nodes} nodes, {percentage} %"
        );
    }
}

#[test]
fn the_profiles_percentage_goes_before_the_schedulers() {
    let mut snapshot = Snapshot::default();
    (0..500).for_each(|n| snapshot.set_node(node(&format!("n{n:03}"), json!({}), json!({}))));
    snapshot.settle();
    for (of_profile, of_scheduler, expected) in [(None, 30, 150), (Some(50), 30, 250), (Some(0), 30, 230)] {
        let mut profile = default_profile();
        profile.percentage_of_nodes_to_score = of_profile;
        let found = Search::new(0, of_scheduler)
            .schedule(
                &profile,
                &pod("p", json!({})),
                &snapshot,
                &Nominator::default().current(),
            )
            .map_err(|not_found| not_found.error.to_string())
            .unwrap();
        assert_eq!((found.feasible, found.evaluated), (expected, expected));
    }
}

#[test]
fn nodes_take_turns_across_zones_and_the_next_pod_goes_on_where_the_last_ended() {
    // The documentation's six nodes in two zones. Without scores the first node that fits is taken.
    let mut snapshot = Snapshot::default();
    for (name, zone) in [("1", "1"), ("2", "1"), ("3", "1"), ("4", "1"), ("5", "2"), ("6", "2")] {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        snapshot.set_node(node(name, labels, json!({})));
    }
    snapshot.settle();
    let profile = Profile::new("default-scheduler", vec![(Arc::new(NodeUnschedulable), 0)]);
    let mut search = Search::new(0, 0);
    let mut next = || {
        let (pod, none) = (pod("p", json!({})), Nominator::default().current());
        let found = search.schedule(&profile, &pod, &snapshot, &none);
        found.map(|f| f.node.to_string()).unwrap_or_default()
    };
    let order: Vec<String> = (0..8).map(|_| next()).collect();
    assert_eq!(order, ["1", "5", "2", "6", "3", "4", "1", "5"]);
}

#[test]
fn of_nodes_with_equal_scores_one_is_taken_at_random() {
    let busy = vec![asking("there", "2", 0, json!({}))];
    let snapshot = cluster(&[("n1", vec![]), ("n2", busy), ("n3", vec![])]);
    let pod = asking("p", "1", 0, json!({}));
    let taken: BTreeSet<String> = (0..50)
        .map(|seed| place(&snapshot, &pod, &Nominator::default(), seed).unwrap())
        .collect();
    assert_eq!(taken, BTreeSet::from(["n1".to_owned(), "n3".to_owned()]));
}

#[test]
fn the_nominated_node_is_tried_before_any_other_and_others_if_it_does_not_fit() {
    let busy = |cpu: &str| vec![asking("there", cpu, 0, json!({}))];
    let nominated = asking("p", "1", 10, json!({"nominatedNodeName": "n2"}));
    let nominator = Nominator::default();
    nominator.nominate(nominated.clone(), "n2");
    // n1 has more room.
    let snapshot = cluster(&[("n1", vec![]), ("n2", busy("3"))]);
    assert_eq!(place(&snapshot, &nominated, &nominator, 0).as_deref(), Ok("n2"));
    let snapshot = cluster(&[("n1", vec![]), ("n2", busy("4"))]);
    assert_eq!(place(&snapshot, &nominated, &nominator, 0).as_deref(), Ok("n1"));
    let gone = asking("p", "1", 10, json!({"nominatedNodeName": "n9"}));
    assert_eq!(place(&snapshot, &gone, &nominator, 0).as_deref(), Ok("n1"));
}

#[test]
fn room_that_was_made_for_a_pod_is_left_to_it_except_by_more_important_ones() {
    let snapshot = cluster(&[("n1", vec![])]);
    let nominator = Nominator::default();
    nominator.nominate(asking("expected", "3", 10, json!({})), "n1");
    let full = Err("Insufficient cpu".to_owned());
    for (name, cpu, priority, expected) in [
        ("lower", "2", 5, full.clone()),
        ("equal", "2", 10, full),
        ("higher", "2", 11, Ok("n1".to_owned())),
        ("small", "1", 5, Ok("n1".to_owned())),
        ("expected", "3", 10, Ok("n1".to_owned())),
    ] {
        let pod = asking(name, cpu, priority, json!({}));
        assert_eq!(place(&snapshot, &pod, &nominator, 0), expected, "{name}");
    }
}

#[test]
fn what_is_known_of_a_node_is_asked_anew_when_others_are_expected_there() {
    let snapshot = cluster(&[("n1", vec![])]);
    let (profile, nominator) = (default_profile(), Nominator::default());
    let mut search = Search::new(0, 0);
    let shapes = crate::shape::Shapes::default();
    let mut fits = |name: &str, nominator: &Nominator| {
        let pod = shapes.info(&asking(name, "2", 0, json!({})).pod, None);
        search.schedule(&profile, &pod, &snapshot, &nominator.current()).is_ok()
    };
    assert!(fits("a", &nominator));
    nominator.nominate(asking("x", "3", 0, json!({})), "n1");
    assert!(!fits("b", &nominator) && !fits("c", &nominator));
    nominator.nominate(asking("y", "1", 0, json!({})), "n1");
    nominator.remove("x");
    assert!(fits("d", &nominator));
    nominator.remove("y");
    assert!(fits("e", &nominator));
    // One that is nominated itself leaves no room for itself, unlike others of its shape.
    nominator.nominate(asking("f", "3", 0, json!({})), "n1");
    assert!(!fits("g", &nominator));
    assert!(fits("f", &nominator));
    assert!(!fits("h", &nominator));
}
