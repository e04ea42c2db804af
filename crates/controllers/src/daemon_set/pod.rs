//! The pods of a DaemonSet: where one belongs, what it tolerates, how it is pinned to its node. Pure.

use coracle_api::placement::{NAME_FIELD, meets_required, pinned_node, untolerated};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::history::REVISION_LABEL;
use crate::owner::controller_reference;
use crate::template::pod_from_template;

/// The template's generation, which the API server counts in this annotation; pods carry it too.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// Taints of nodes that daemons run on all the same: key, effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And this one when they use the node's own network.
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The template's tolerations and those that every daemon has.
fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let network = (spec.host_network == Some(true)).then_some(NO_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let added = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        // One that differs only in how long it holds is replaced.
        let same = |t: &Toleration| {
            Toleration {
                toleration_seconds: None,
                ..t.clone()
            } == added
        };
        match all.iter_mut().find(|t| same(t)) {
            Some(there) => *there = added,
            None => all.push(added),
        }
    }
    all
}

/// What a DaemonSet wants of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// A pod is to be made there.
    pub run: bool,
    /// One that is there may stay.
    pub stay: bool,
}

/// Whether a pod of the set belongs on the node.
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    const NO: Fit = Fit {
        run: false,
        stay: false,
    };
    let Some(pod) = &set.spec.template.spec else {
        return NO;
    };
    let fixed = pod.node_name.as_deref().filter(|n| !n.is_empty());
    if fixed.is_some_and(|name| node.metadata.name.as_deref() != Some(name)) || !meets_required(pod, node) {
        return NO;
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerations = tolerations(pod);
    let has = |effects: &[&str]| untolerated(taints, &tolerations, effects).is_some();
    Fit {
        run: !has(&["NoSchedule", "NoExecute"]),
        stay: !has(&["NoExecute"]),
    }
}

/// The node that a pod runs on, or is meant for.
pub fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let bound = spec.node_name.as_deref().filter(|n| !n.is_empty());
    bound.or_else(|| pinned_node(spec))
}

/// Whether the pod is of the newest revision.
pub fn is_updated(pod: &Pod, hash: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|l| l.get(REVISION_LABEL)).is_some_and(|l| l == hash)
}

/// The pod of the set for this node. The scheduler binds it: it is pinned by affinity, not bound here.
pub fn make(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let prefix = set.metadata.name.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&set.spec.template, namespace, prefix, controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    let generation = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(TEMPLATE_GENERATION));
    if let Some(generation) = generation {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    if let Some(spec) = pod.spec.as_mut() {
        spec.tolerations = Some(tolerations(spec));
        let term = NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: NAME_FIELD.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        };
        // The template's own terms have been met already.
        let affinity = spec
            .affinity
            .get_or_insert_default()
            .node_affinity
            .get_or_insert_default();
        affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
            node_selector_terms: vec![term],
        });
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(pod: Value) -> DaemonSet {
        let mut spec = json!({"containers": [{"name": "c"}]});
        json_patch::merge(&mut spec, &pod);
        serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "ns", "annotations": {TEMPLATE_GENERATION: "3"}},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": spec}},
        }))
        .unwrap()
    }

    fn node(taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": {"taints": taints},
        }))
        .unwrap()
    }

    #[test]
    fn a_daemon_runs_on_every_node_that_its_selector_affinity_and_tolerations_allow() {
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        let (yes, stays, no) = (
            Fit { run: true, stay: true },
            Fit { run: false, stay: true },
            Fit {
                run: false,
                stay: false,
            },
        );
        for (pod, taints, expected) in [
            (json!({}), json!([]), yes),
            (json!({"nodeSelector": {"disk": "ssd"}}), json!([]), yes),
            (json!({"nodeSelector": {"disk": "hdd"}}), json!([]), no),
            (json!({"nodeName": "n1"}), json!([]), yes),
            (json!({"nodeName": "n2"}), json!([]), no),
            (json!({}), taint("own", "NoSchedule"), stays),
            (json!({}), taint("own", "NoExecute"), no),
            (json!({}), taint("own", "PreferNoSchedule"), yes),
            (
                json!({"tolerations": [{"operator": "Exists"}]}),
                taint("own", "NoExecute"),
                yes,
            ),
            (json!({}), taint("node.kubernetes.io/not-ready", "NoExecute"), yes),
            (json!({}), taint("node.kubernetes.io/not-ready", "NoSchedule"), stays),
            (json!({}), taint("node.kubernetes.io/unschedulable", "NoSchedule"), yes),
            (
                json!({}),
                taint("node.kubernetes.io/memory-pressure", "NoSchedule"),
                yes,
            ),
            (
                json!({}),
                taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
                stays,
            ),
            (
                json!({"hostNetwork": true}),
                taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
                yes,
            ),
        ] {
            assert_eq!(
                fit(&set(pod.clone()), &node(taints.clone())),
                expected,
                "{pod} {taints}"
            );
        }
    }

    #[test]
    fn a_daemon_is_pinned_to_its_node_by_name_and_tells_its_revision() {
        let own = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
        ]}});
        let pod = make(&set(json!({"affinity": {"nodeAffinity": own}})), "n1", "abc");
        assert_eq!(target(&pod), Some("n1"));
        let labels = pod.metadata.labels.as_ref().unwrap();
        assert_eq!(
            (labels["app"].as_str(), labels["controller-revision-hash"].as_str()),
            ("d", "abc")
        );
        assert_eq!(labels["pod-template-generation"], "3");
        assert!(is_updated(&pod, "abc") && !is_updated(&pod, "xyz"));
        let affinity = pod.spec.unwrap().affinity.unwrap().node_affinity.unwrap();
        let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap();
        assert_eq!(terms.node_selector_terms.len(), 1);
    }

    #[test]
    fn a_toleration_of_limited_time_is_made_to_last() {
        let limited = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 30}]);
        let pod = make(&set(json!({"tolerations": limited})), "n1", "abc");
        let all = pod.spec.unwrap().tolerations.unwrap();
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|t| t.toleration_seconds.is_none()));
    }
}
