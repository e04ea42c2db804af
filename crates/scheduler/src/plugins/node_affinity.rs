//! NodeAffinity: `spec.nodeSelector` and required node affinity filter; preferred node affinity scores.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeAffinity as Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, Plugin, Rejection, normalize_to_max};

pub struct NodeAffinity;

fn affinity(spec: &PodSpec) -> Option<&Affinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|x| x != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(a, b)| a > b),
        "Lt" => number().is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

/// A term matches when all of its requirements do; an empty term matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |name: &str| {
        (name == "metadata.name")
            .then_some(node.metadata.name.as_deref())
            .flatten()
    };
    expressions
        .iter()
        .all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| requirement_matches(r, field(&r.key)))
}

/// Whether the node meets the pod's nodeSelector and required node affinity. DaemonSets ask this too.
pub fn matches_required(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = affinity(spec).and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_matches(t, node, labels)))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match &pod.pod.spec {
            Some(spec) if !matches_required(spec, &node.node) => Err(Rejection::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            )),
            _ => Ok(()),
        }
    }

    fn scores(&self) -> bool {
        true
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let none = BTreeMap::new();
        let labels = node.node.metadata.labels.as_ref().unwrap_or(&none);
        let preferred = pod
            .pod
            .spec
            .as_ref()
            .and_then(affinity)
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default();
        let matching = preferred
            .iter()
            .filter(|p| term_matches(&p.preference, &node.node, labels));
        matching.map(|p| i64::from(p.weight)).sum()
    }

    fn normalize(&self, _state: &CycleState, scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        let fits = |node: &Node| pod.pod.spec.as_ref().is_some_and(|s| matches_required(s, node));
        match event {
            ClusterEvent::NodeAdded(node) => fits(node),
            ClusterEvent::NodeChanged { new, .. } => fits(new),
            _ => false,
        }
    }
}
