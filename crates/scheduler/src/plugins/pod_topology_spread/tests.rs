//! Tables of spreading, as the documentation draws them: nodes with pods on them, and where one more may go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::framework::Severity;
use crate::testing::{node, node_with_spec, pod_with};

fn plugin() -> PodTopologySpread {
    PodTopologySpread::new(Arc::new(Listers::holding()), Defaults::System)
}

fn constraint(key: &str, hard: bool, more: Value) -> Value {
    let mut out = json!({"maxSkew": 1, "topologyKey": key,
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
        "labelSelector": {"matchLabels": {"app": "web"}}});
    for (key, value) in more.as_object().unwrap() {
        out[key] = value.clone();
    }
    out
}

fn web(name: &str, constraints: Value) -> PodInfo {
    pod_with(
        name,
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": constraints}}),
    )
}

/// Nodes `n1`... in these zones, with as many pods of the app.
fn cluster(nodes: &[(&str, usize)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (i, (zone, pods)) in nodes.iter().enumerate() {
        let name = format!("n{}", i + 1);
        let labels = if zone.is_empty() {
            json!({})
        } else {
            json!({"zone": zone})
        };
        snapshot.set_node(node(&name, labels, json!({})));
        for pod in 0..*pods {
            snapshot.add_pod(&name, web(&format!("{name}-{pod}"), json!([])));
        }
    }
    snapshot
}

fn prepared(snapshot: &mut Snapshot, pod: &PodInfo) {
    pod.shape.topology_keys().for_each(|key| snapshot.need_topology(key));
    snapshot.settle();
}

fn fits(mut snapshot: Snapshot, pod: &PodInfo) -> Vec<String> {
    prepared(&mut snapshot, pod);
    let (plugin, mut state) = (plugin(), CycleState::default());
    plugin.pre_filter(&mut state, pod, &snapshot).unwrap();
    let mut out: Vec<String> = snapshot
        .nodes()
        .filter(|n| plugin.filter(&state, pod, n).is_ok())
        .map(|n| n.name.to_string())
        .collect();
    out.sort();
    out
}

#[test]
fn a_domain_may_have_so_many_more_than_the_emptiest() {
    let zone = || constraint("zone", true, json!({}));
    let hostname = || constraint("kubernetes.io/hostname", true, json!({}));
    let doc = vec![("a", 1), ("a", 1), ("b", 1), ("b", 0)];
    for (nodes, constraints, expected) in [
        (
            vec![("a", 2), ("a", 1), ("b", 1), ("b", 0)],
            json!([zone()]),
            vec!["n3", "n4"],
        ),
        (vec![("a", 1), ("b", 1)], json!([zone()]), vec!["n1", "n2"]),
        (
            vec![("a", 2), ("b", 0)],
            json!([constraint("zone", true, json!({"maxSkew": 3}))]),
            vec!["n1", "n2"],
        ),
        // Both must hold: the emptiest node of the emptier zone.
        (
            vec![("a", 2), ("a", 1), ("b", 2), ("b", 0)],
            json!([zone(), constraint("kubernetes.io/hostname", true, json!({}))]),
            vec!["n4"],
        ),
        // A node without the label is out, and its pods do not count.
        (vec![("a", 1), ("", 5)], json!([zone()]), vec!["n1"]),
        // As long as there are fewer domains than wanted, the emptiest counts as empty.
        (
            vec![("a", 1), ("b", 1)],
            json!([constraint("zone", true, json!({"minDomains": 3}))]),
            vec![],
        ),
        (
            vec![("a", 1), ("b", 0)],
            json!([constraint("zone", true, json!({"minDomains": 3}))]),
            vec!["n2"],
        ),
        (
            vec![("a", 5), ("b", 0)],
            json!([constraint("zone", false, json!({}))]),
            vec!["n1", "n2"],
        ),
        // The documentation's examples, on four nodes in two zones.
        (doc.clone(), json!([zone()]), vec!["n3", "n4"]),
        (
            doc.clone(),
            json!([constraint("zone", true, json!({"maxSkew": 2}))]),
            vec!["n1", "n2", "n3", "n4"],
        ),
        (doc.clone(), json!([hostname()]), vec!["n4"]),
        (doc.clone(), json!([zone(), hostname()]), vec!["n4"]),
        // By zone it would have to be n3, by node n2.
        (vec![("a", 2), ("a", 1), ("b", 2)], json!([zone(), hostname()]), vec![]),
        // The API reference's: three zones with 2, 2 and 1.
        (vec![("a", 2), ("b", 2), ("c", 1)], json!([zone()]), vec!["n3"]),
        (
            vec![("a", 2), ("b", 2), ("c", 1)],
            json!([constraint("zone", true, json!({"maxSkew": 2}))]),
            vec!["n1", "n2", "n3"],
        ),
        // ... and with 2 each, where five domains are wanted.
        (
            vec![("a", 2), ("b", 2), ("c", 2)],
            json!([constraint("zone", true, json!({"maxSkew": 2, "minDomains": 5}))]),
            vec![],
        ),
        (
            vec![("a", 2), ("b", 2), ("c", 2)],
            json!([constraint("zone", true, json!({"maxSkew": 2, "minDomains": 3}))]),
            vec!["n1", "n2", "n3"],
        ),
        // Without a selector nobody is counted, not even the pod itself.
        (
            vec![("a", 5), ("b", 0)],
            json!([constraint("zone", true, json!({"labelSelector": null}))]),
            vec!["n1", "n2"],
        ),
        // An empty one counts everybody.
        (
            vec![("a", 1), ("b", 0)],
            json!([constraint("zone", true, json!({"labelSelector": {}}))]),
            vec!["n2"],
        ),
        // Expressions select as well as labels do.
        (
            vec![("a", 1), ("b", 0)],
            json!([constraint(
                "zone",
                true,
                json!({"labelSelector":
                {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}})
            )]),
            vec!["n2"],
        ),
    ] {
        assert_eq!(
            fits(cluster(&nodes), &web("new", constraints.clone())),
            expected,
            "{nodes:?} {constraints}"
        );
    }
}

#[test]
fn a_refusal_tells_a_missing_label_from_a_full_domain() {
    let mut snapshot = cluster(&[("a", 1), ("b", 0), ("", 0)]);
    let pod = web("new", json!([constraint("zone", true, json!({}))]));
    prepared(&mut snapshot, &pod);
    let (plugin, mut state) = (plugin(), CycleState::default());
    plugin.pre_filter(&mut state, &pod, &snapshot).unwrap();
    let refusal = |name: &str| plugin.filter(&state, &pod, snapshot.named(name).unwrap()).unwrap_err();
    assert_eq!(
        refusal("n1").to_string(),
        "node(s) didn't match pod topology spread constraints"
    );
    assert_eq!(refusal("n1").severity, Severity::Unschedulable);
    assert_eq!(
        refusal("n3").to_string(),
        "node(s) didn't match pod topology spread constraints (missing required label)"
    );
    assert_eq!(refusal("n3").severity, Severity::Unresolvable);
}

#[test]
fn zones_that_the_pods_affinity_leaves_out_do_not_count() {
    // The documentation's example: n5 is the emptiest node, in a zone where the pod may not go.
    let nodes = cluster(&[("a", 1), ("a", 1), ("b", 1), ("b", 0), ("c", 0)]);
    let not_c = json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}]});
    let pod = pod_with(
        "new",
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [not_c]}}},
            "topologySpreadConstraints": [constraint("zone", true, json!({}))]}}),
    );
    // To keep it from n5 is the affinity's.
    assert_eq!(fits(nodes, &pod), ["n3", "n4", "n5"]);
}

#[test]
fn a_pod_that_its_own_selector_leaves_out_does_not_count_itself() {
    let other = pod_with(
        "new",
        json!({"spec": {"topologySpreadConstraints": [constraint("zone", true, json!({}))]}}),
    );
    assert_eq!(fits(cluster(&[("a", 1), ("b", 0)]), &other), ["n1", "n2"]);
}

#[test]
fn terminating_pods_and_those_of_other_namespaces_do_not_count() {
    let mut snapshot = cluster(&[("a", 0), ("b", 0)]);
    for (name, meta) in [
        (
            "going",
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}}),
        ),
        ("elsewhere", json!({"namespace": "other", "labels": {"app": "web"}})),
    ] {
        snapshot.add_pod("n1", pod_with(name, json!({"metadata": meta})));
    }
    assert_eq!(
        fits(snapshot, &web("new", json!([constraint("zone", true, json!({}))]))),
        ["n1", "n2"]
    );
}

#[test]
fn inclusion_policies_decide_which_nodes_count() {
    // n2 is the emptiest, but the pod cannot go there.
    let tainted = || {
        let mut snapshot = cluster(&[("a", 1)]);
        let taints = json!({"taints": [{"key": "x", "effect": "NoSchedule"}]});
        snapshot.set_node(node_with_spec("n2", json!({"zone": "b"}), taints));
        snapshot
    };
    let with = |more: Value| web("new", json!([constraint("zone", true, more)]));
    assert_eq!(
        fits(tainted(), &with(json!({}))),
        ["n2"],
        "taints are ignored by default"
    );
    assert_eq!(
        fits(tainted(), &with(json!({"nodeTaintsPolicy": "Honor"}))),
        ["n1", "n2"]
    );
    let selecting = |more: Value| {
        let constraints = json!([constraint("zone", true, more)]);
        pod_with(
            "new",
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"nodeSelector": {"zone": "a"},
            "topologySpreadConstraints": constraints}}),
        )
    };
    let nodes = || cluster(&[("a", 1), ("b", 0)]);
    assert_eq!(
        fits(nodes(), &selecting(json!({}))),
        ["n1", "n2"],
        "affinity is honoured by default"
    );
    assert_eq!(
        fits(nodes(), &selecting(json!({"nodeAffinityPolicy": "Ignore"}))),
        ["n2"]
    );
}

#[test]
fn match_label_keys_spread_each_revision_by_itself() {
    let revision = |name: &str, hash: &str| {
        let constraints = json!([constraint("zone", true, json!({"matchLabelKeys": ["hash"]}))]);
        pod_with(
            name,
            json!({"metadata": {"labels": {"app": "web", "hash": hash}},
            "spec": {"topologySpreadConstraints": constraints}}),
        )
    };
    let snapshot = || {
        let mut snapshot = cluster(&[("a", 0), ("b", 0)]);
        snapshot.add_pod("n1", revision("old", "1"));
        snapshot
    };
    assert_eq!(fits(snapshot(), &revision("new", "2")), ["n1", "n2"]);
    assert_eq!(fits(snapshot(), &revision("new", "1")), ["n2"]);
}

#[test]
fn taking_pods_away_and_putting_them_back_changes_nothing_in_the_end() {
    let mut snapshot = cluster(&[("a", 2), ("b", 0)]);
    let pod = web("new", json!([constraint("zone", true, json!({}))]));
    prepared(&mut snapshot, &pod);
    let (plugin, mut state) = (plugin(), CycleState::default());
    plugin.pre_filter(&mut state, &pod, &snapshot).unwrap();
    let full = snapshot.named("n1").unwrap();
    assert!(plugin.filter(&state, &pod, full).is_err());
    for other in &full.pods {
        plugin.remove_pod(&mut state, &pod, other, full);
    }
    assert!(plugin.filter(&state, &pod, full).is_ok());
    for other in &full.pods {
        plugin.add_pod(&mut state, &pod, other, full);
    }
    assert!(plugin.filter(&state, &pod, full).is_err());
}

#[test]
fn emptier_domains_score_higher_and_nodes_without_the_label_nothing() {
    let score = |nodes: &[(&str, usize)], constraints: Value| {
        let (mut snapshot, pod) = (cluster(nodes), web("new", constraints));
        prepared(&mut snapshot, &pod);
        let nodes: Vec<&NodeInfo> = (0..nodes.len() as u32).filter_map(|n| snapshot.node(n)).collect();
        let (plugin, mut state) = (plugin(), CycleState::default());
        if plugin.pre_score(&mut state, &pod, &nodes, &snapshot) == PreScore::Skip {
            return Vec::new();
        }
        let mut scores: Vec<i64> = nodes.iter().map(|n| plugin.score(&state, &pod, n)).collect();
        plugin.normalize(&state, &nodes, &mut scores);
        scores
    };
    let soft = |key: &str| json!([constraint(key, false, json!({}))]);
    assert_eq!(score(&[("a", 0), ("b", 0)], soft("zone")), [100, 100]);
    assert_eq!(score(&[("a", 2), ("a", 0), ("b", 0)], soft("zone")), [0, 0, 100]);
    assert_eq!(
        score(&[("a", 2), ("a", 1), ("b", 0)], soft("kubernetes.io/hostname")),
        [0, 33, 100]
    );
    assert_eq!(score(&[("a", 1), ("", 0)], soft("zone")), [100, 0]);
    let four = [("a", 2), ("a", 1), ("b", 0), ("b", 3)];
    assert_eq!(score(&four, soft("kubernetes.io/hostname")), [20, 60, 100, 0]);
    // The more skew is allowed, the less it matters.
    let loose = json!([constraint("kubernetes.io/hostname", false, json!({"maxSkew": 2}))]);
    assert_eq!(score(&four, loose), [33, 66, 100, 16]);
    assert_eq!(score(&four, soft("zone")), [100, 100, 100, 100]);
    let both = json!([
        constraint("zone", false, json!({})),
        constraint("kubernetes.io/hostname", false, json!({}))
    ]);
    assert_eq!(score(&four, both.clone()), [60, 80, 100, 40]);
    // A node that lacks the label of one of them scores nothing.
    assert_eq!(score(&[("a", 1), ("b", 0), ("", 0)], both), [0, 100, 0]);
    assert!(score(&[("a", 1)], json!([constraint("zone", true, json!({}))])).is_empty());
}

#[test]
fn only_pods_that_count_and_nodes_with_the_labels_wake() {
    let pod = web("new", json!([constraint("zone", true, json!({}))]));
    let gone = |labels: Value| ClusterEvent::PodGone(pod_with("x", json!({"metadata": {"labels": labels}})));
    let added = |labels: Value| ClusterEvent::NodeAdded(node("n", labels, json!({})));
    for (event, expected) in [
        (gone(json!({"app": "web"})), true),
        (gone(json!({"app": "db"})), false),
        (added(json!({"zone": "c"})), true),
        (added(json!({})), false),
    ] {
        assert_eq!(plugin().may_help(&event, &pod), expected, "{event:?}");
    }
}
