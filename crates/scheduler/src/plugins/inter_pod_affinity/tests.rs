//! Tables of affinity between pods: who is where, and where one more may go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::testing::{node, pod_with};

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(kind: &str, terms: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn preferred(kind: &str, weight: i64, term: Value) -> Value {
    let terms = json!([{"weight": weight, "podAffinityTerm": term}]);
    json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn pod(name: &str, app: &str, spec: Value) -> PodInfo {
    pod_with(name, json!({"metadata": {"labels": {"app": app}}, "spec": spec}))
}

/// `n1` and `n2` in zone a, `n3` in zone b, `n4` in none.
fn cluster(pods: &[(&str, PodInfo)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b"), ("n4", "")] {
        let labels = if zone.is_empty() {
            json!({})
        } else {
            json!({"zone": zone})
        };
        snapshot.set_node(node(name, labels, json!({})));
    }
    for (node, pod) in pods {
        assert!(snapshot.add_pod(node, pod.clone()));
    }
    snapshot
}

fn plugin() -> InterPodAffinity {
    let listers = Listers::holding();
    listers.namespaces.hold([
        serde_json::from_value(json!({"metadata": {"name": "default", "labels": {"team": "a"}}})).unwrap(),
        serde_json::from_value(json!({"metadata": {"name": "other", "labels": {"team": "b"}}})).unwrap(),
    ]);
    InterPodAffinity::new(Arc::new(listers))
}

fn verdicts(pods: &[(&str, PodInfo)], new: &PodInfo) -> Vec<String> {
    let mut snapshot = cluster(pods);
    new.shape.topology_keys().for_each(|key| snapshot.need_topology(key));
    snapshot.settle();
    let (plugin, mut state) = (plugin(), CycleState::default());
    plugin.pre_filter(&mut state, new, &snapshot).unwrap();
    let mut nodes: Vec<_> = snapshot.nodes().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let word = |r: Rejection| match r.to_string().as_str() {
        "node(s) didn't match pod affinity rules" => "not with",
        "node(s) didn't match pod anti-affinity rules" => "not apart",
        "node(s) didn't satisfy existing pods anti-affinity rules" => "shunned",
        _ => "?",
    };
    let verdict = |n: &&NodeInfo| plugin.filter(&state, new, n).map_or_else(word, |()| "fits");
    nodes.iter().map(|n| verdict(n).to_owned()).collect()
}

#[test]
fn required_terms_of_both_sides_decide() {
    let db = || pod("db", "db", json!({}));
    let shy = |key: &str| pod("shy", "shy", required("podAntiAffinity", json!([term("web", key)])));
    let web = |kind: &str, terms: Value| pod("new", "web", required(kind, terms));
    for (what, pods, new, expected) in [
        (
            "with the database's zone",
            vec![("n1", db())],
            web("podAffinity", json!([term("db", "zone")])),
            ["fits", "fits", "not with", "not with"],
        ),
        (
            "with nobody there yet",
            vec![],
            web("podAffinity", json!([term("db", "zone")])),
            ["not with", "not with", "not with", "not with"],
        ),
        (
            "with one's like, the first of them",
            vec![],
            web("podAffinity", json!([term("web", "zone")])),
            ["fits", "fits", "fits", "not with"],
        ),
        (
            "with one's like, the second of them",
            vec![("n3", pod("first", "web", json!({})))],
            web("podAffinity", json!([term("web", "zone")])),
            ["not with", "not with", "fits", "not with"],
        ),
        (
            "apart from the database",
            vec![("n1", db())],
            web("podAntiAffinity", json!([term("db", "kubernetes.io/hostname")])),
            ["not apart", "fits", "fits", "fits"],
        ),
        (
            "apart by zone, where nodes without one are free",
            vec![("n1", db())],
            web("podAntiAffinity", json!([term("db", "zone")])),
            ["not apart", "not apart", "fits", "fits"],
        ),
        (
            "shunned by a placed pod",
            vec![("n3", shy("zone"))],
            pod("new", "web", json!({})),
            ["fits", "fits", "shunned", "fits"],
        ),
        (
            "a placed pod that shuns others",
            vec![("n3", shy("zone"))],
            pod("new", "db", json!({})),
            ["fits", "fits", "fits", "fits"],
        ),
        (
            "all terms at once, by one pod",
            vec![("n1", db())],
            web("podAffinity", json!([term("db", "zone"), term("cache", "zone")])),
            ["not with", "not with", "not with", "not with"],
        ),
        (
            "all terms at once, each by its own topology",
            vec![("n1", db())],
            web(
                "podAffinity",
                json!([term("db", "zone"), term("db", "kubernetes.io/hostname")]),
            ),
            ["fits", "not with", "not with", "not with"],
        ),
        (
            "with one's like by several terms, the first of them",
            vec![],
            web(
                "podAffinity",
                json!([term("web", "zone"), term("web", "kubernetes.io/hostname")]),
            ),
            ["fits", "fits", "fits", "not with"],
        ),
        (
            "with one's like by one term of two",
            vec![],
            web("podAffinity", json!([term("web", "zone"), term("db", "zone")])),
            ["not with", "not with", "not with", "not with"],
        ),
        (
            "apart from one's like, the first of them",
            vec![],
            web("podAntiAffinity", json!([term("web", "zone")])),
            ["fits", "fits", "fits", "fits"],
        ),
        (
            "apart by any of the terms",
            vec![("n1", db()), ("n3", pod("cache", "cache", json!({})))],
            web(
                "podAntiAffinity",
                json!([term("db", "kubernetes.io/hostname"), term("cache", "zone")]),
            ),
            ["not apart", "fits", "not apart", "fits"],
        ),
        (
            "shunned by a placed pod by node",
            vec![("n2", shy("kubernetes.io/hostname"))],
            pod("new", "web", json!({})),
            ["fits", "shunned", "fits", "fits"],
        ),
        (
            "shunned by a placed pod on a node without the label",
            vec![("n4", shy("zone"))],
            pod("new", "web", json!({})),
            ["fits", "fits", "fits", "fits"],
        ),
        (
            "with and apart at once",
            vec![("n1", db()), ("n2", pod("cache", "cache", json!({})))],
            pod(
                "new",
                "web",
                json!({"affinity": {
                    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("db", "zone")]},
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                        [term("cache", "kubernetes.io/hostname")]}}}),
            ),
            ["fits", "not apart", "not with", "not with"],
        ),
    ] {
        assert_eq!(verdicts(&pods, &new), expected, "{what}");
    }
}

#[test]
fn operators_select_pods_as_documented() {
    // Elsewhere, so that the new pod is not one of those that it looks for.
    let meta = json!({"namespace": "other", "labels": {"app": "db"}});
    let pods = [("n1", pod_with("db", json!({"metadata": meta})))];
    for (expression, first) in [
        (
            json!({"key": "app", "operator": "In", "values": ["db", "cache"]}),
            "fits",
        ),
        (json!({"key": "app", "operator": "In", "values": ["cache"]}), "not with"),
        (json!({"key": "app", "operator": "NotIn", "values": ["cache"]}), "fits"),
        (json!({"key": "app", "operator": "NotIn", "values": ["db"]}), "not with"),
        (json!({"key": "app", "operator": "Exists"}), "fits"),
        (json!({"key": "tier", "operator": "Exists"}), "not with"),
        (json!({"key": "tier", "operator": "DoesNotExist"}), "fits"),
        (json!({"key": "tier", "operator": "NotIn", "values": ["x"]}), "fits"),
    ] {
        let selector = json!({"matchExpressions": [expression]});
        let term = json!({"topologyKey": "zone", "namespaces": ["other"], "labelSelector": selector});
        let new = pod("new", "web", required("podAffinity", json!([term])));
        assert_eq!(verdicts(&pods, &new)[0], first, "{expression}");
    }
}

#[test]
fn namespaces_are_named_or_selected() {
    let elsewhere = pod_with(
        "db",
        json!({"metadata": {"namespace": "other", "labels": {"app": "db"}}}),
    );
    let pods = [("n1", elsewhere)];
    for (more, first) in [
        (json!({}), "fits"),
        (json!({"namespaces": ["other"]}), "not apart"),
        (json!({"namespaceSelector": {}}), "not apart"),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}),
            "not apart",
        ),
        (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), "fits"),
    ] {
        let mut term = term("db", "kubernetes.io/hostname");
        for (key, value) in more.as_object().unwrap() {
            term[key] = value.clone();
        }
        let new = pod("new", "web", required("podAntiAffinity", json!([term])));
        assert_eq!(verdicts(&pods, &new)[0], first, "{more}");
    }
}

#[test]
fn taking_pods_away_and_putting_them_back_changes_nothing_in_the_end() {
    let shy = pod("shy", "shy", required("podAntiAffinity", json!([term("web", "zone")])));
    let mut snapshot = cluster(&[("n1", shy.clone()), ("n2", pod("db", "db", json!({})))]);
    let new = pod("new", "web", required("podAntiAffinity", json!([term("db", "zone")])));
    new.shape.topology_keys().for_each(|key| snapshot.need_topology(key));
    snapshot.settle();
    let (plugin, mut state) = (plugin(), CycleState::default());
    plugin.pre_filter(&mut state, &new, &snapshot).unwrap();
    let (n1, n2) = (snapshot.named("n1").unwrap(), snapshot.named("n2").unwrap());
    plugin.remove_pod(&mut state, &new, &n2.pods[0], n2);
    assert!(
        plugin
            .filter(&state, &new, n1)
            .unwrap_err()
            .to_string()
            .contains("existing pods")
    );
    plugin.remove_pod(&mut state, &new, &shy, n1);
    assert_eq!(plugin.filter(&state, &new, n1), Ok(()));
    plugin.add_pod(&mut state, &new, &shy, n1);
    plugin.add_pod(&mut state, &new, &n2.pods[0], n2);
    assert!(
        plugin
            .filter(&state, &new, n1)
            .unwrap_err()
            .to_string()
            .contains("pod anti-affinity")
    );
}

#[test]
fn weights_of_both_sides_score_domains() {
    let scores = |plugin: &InterPodAffinity, pods: &[(&str, PodInfo)], new: &PodInfo| {
        let mut snapshot = cluster(pods);
        new.shape.topology_keys().for_each(|key| snapshot.need_topology(key));
        snapshot.settle();
        let nodes: Vec<&NodeInfo> = (0..4).filter_map(|n| snapshot.node(n)).collect();
        let mut state = CycleState::default();
        if plugin.pre_score(&mut state, new, &nodes, &snapshot) == PreScore::Skip {
            return None;
        }
        let mut scores: Vec<i64> = nodes.iter().map(|n| plugin.score(&state, new, n)).collect();
        plugin.normalize(&state, &nodes, &mut scores);
        Some(scores)
    };
    let db = |name: &str| pod(name, "db", json!({}));
    let near = pod("new", "web", preferred("podAffinity", 10, term("db", "zone")));
    assert_eq!(
        scores(&plugin(), &[("n1", db("a")), ("n2", db("b")), ("n3", db("c"))], &near),
        Some(vec![100, 100, 50, 0])
    );
    let far = pod(
        "new",
        "web",
        preferred("podAntiAffinity", 10, term("db", "kubernetes.io/hostname")),
    );
    assert_eq!(
        scores(&plugin(), &[("n1", db("a"))], &far),
        Some(vec![0, 100, 100, 100])
    );
    // Symmetry: a placed pod that requires, or prefers, to be with this one draws it.
    let plain = pod("new", "web", json!({}));
    let drawn = pod("db", "db", required("podAffinity", json!([term("web", "zone")])));
    assert_eq!(
        scores(&plugin(), &[("n3", drawn.clone())], &plain),
        Some(vec![0, 0, 100, 0])
    );
    let unweighted = InterPodAffinity {
        hard_pod_affinity_weight: 0,
        ..plugin()
    };
    assert_eq!(scores(&unweighted, &[("n3", drawn)], &plain), None);
    let fond = pod("db", "db", preferred("podAffinity", 5, term("web", "zone")));
    let aloof = InterPodAffinity {
        ignore_preferred_terms_of_existing_pods: true,
        ..plugin()
    };
    assert_eq!(
        scores(&plugin(), &[("n3", fond.clone())], &plain),
        Some(vec![0, 0, 100, 0])
    );
    assert_eq!(scores(&aloof, &[("n3", fond)], &plain), None);
}

#[test]
fn only_pods_that_the_terms_speak_of_wake() {
    let new = pod("new", "web", required("podAffinity", json!([term("db", "zone")])));
    let placed = |app: &str| ClusterEvent::PodPlaced(pod("x", app, json!({})));
    assert!(plugin().may_help(&placed("db"), &new));
    assert!(!plugin().may_help(&placed("web"), &new));
    let own = pod("new", "web", required("podAffinity", json!([term("web", "zone")])));
    let last = ClusterEvent::PodGone(pod("x", "web", json!({})));
    assert!(plugin().may_help(&last, &own), "the first of its like may go anywhere");
    assert!(!plugin().may_help(&last, &new));
    let plain = pod("new", "web", json!({}));
    let gone = |spec: Value| ClusterEvent::PodGone(pod("x", "shy", spec));
    assert!(plugin().may_help(&gone(required("podAntiAffinity", json!([term("web", "zone")]))), &plain));
    assert!(!plugin().may_help(&gone(json!({})), &plain));
}
