//! Where a pod may run, as far as its spec and a node's labels and taints tell: node selectors, required node affinity,
//! tolerations. Whoever places pods (the scheduler, daemon sets) or volumes asks the same questions here. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

/// The field that `matchFields` may name.
pub const NAME_FIELD: &str = "metadata.name";

/// Whether the node meets the pod's `nodeSelector` and its required node affinity.
pub fn meets_required(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let mut wanted = spec.node_selector.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value)) && required(spec).is_none_or(|r| selects(r, node))
}

fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

/// Whether any term of the selector matches the node; one without terms matches none.
pub fn selects(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// A term matches when all of its requirements do; an empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == NAME_FIELD);
    expressions.iter().all(|r| is_met(r, label(&r.key))) && fields.iter().all(|r| is_met(r, field(&r.key)))
}

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|x| x != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(a, b)| a > b),
        "Lt" => numbers().is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

/// The one node that required node affinity pins the pod to by its name, as daemon sets do.
pub fn pinned_node(spec: &PodSpec) -> Option<&str> {
    let terms = &required(spec)?.node_selector_terms;
    let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let mut names = fields.filter(|r| r.key == NAME_FIELD && r.operator == "In");
    match names.next()?.values.as_deref() {
        Some([name]) => Some(name),
        _ => None,
    }
}

/// Whether one toleration matches the taint. An empty key with `Exists` matches every taint, an empty effect every effect.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let tainted = taint.value.as_deref().unwrap_or_default();
    let numbers = || -> Option<(i64, i64)> { Some((tainted.parse().ok()?, value.parse().ok()?)) };
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "" | "Equal" => !key.is_empty() && value == tainted,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(a, b)| a < b),
        "Gt" => numbers().is_some_and(|(a, b)| a > b),
        _ => false,
    }
}

/// The first taint with one of these effects that none of the tolerations match.
pub fn untolerated<'t>(taints: &'t [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'t Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}}});
        serde_json::from_value(node).unwrap()
    }

    fn spec(terms: Value) -> PodSpec {
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        serde_json::from_value(json!({"containers": [], "affinity": {"nodeAffinity": required}})).unwrap()
    }

    #[test]
    fn a_node_must_have_every_label_of_the_node_selector() {
        for (selector, fits) in [
            (json!({}), true),
            (json!({"disk": "ssd"}), true),
            (json!({"disk": "ssd", "gpu": "yes"}), false),
            (json!({"disk": "hdd"}), false),
        ] {
            let spec = serde_json::from_value(json!({"containers": [], "nodeSelector": selector})).unwrap();
            assert_eq!(meets_required(&spec, &node()), fits, "{selector}");
        }
    }

    #[test]
    fn terms_are_ored_and_their_requirements_anded() {
        let has =
            |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
        let rows = [
            (json!([]), false),
            (json!([{}]), false),
            (
                json!([{"matchExpressions": [has("disk", "In", json!(["ssd", "nvme"]))]}]),
                true,
            ),
            (
                json!([{"matchExpressions": [has("disk", "NotIn", json!(["ssd"]))]}]),
                false,
            ),
            (json!([{"matchExpressions": [has("gpu", "NotIn", json!(["a"]))]}]), true),
            (json!([{"matchExpressions": [has("disk", "Exists", json!([]))]}]), true),
            (
                json!([{"matchExpressions": [has("gpu", "DoesNotExist", json!([]))]}]),
                true,
            ),
            (json!([{"matchExpressions": [has("cores", "Gt", json!(["4"]))]}]), true),
            (json!([{"matchExpressions": [has("cores", "Lt", json!(["8"]))]}]), false),
            (json!([{"matchExpressions": [has("disk", "Gt", json!(["4"]))]}]), false),
            (
                json!([{"matchFields": [has("metadata.name", "In", json!(["n1"]))]}]),
                true,
            ),
            (
                json!([{"matchFields": [has("metadata.name", "NotIn", json!(["n1"]))]}]),
                false,
            ),
            (
                json!([{"matchExpressions": [has("disk", "Exists", json!([])), has("gpu", "Exists", json!([]))]}]),
                false,
            ),
            (
                json!([{"matchExpressions": [has("gpu", "Exists", json!([]))]},
                       {"matchExpressions": [has("disk", "Exists", json!([]))]}]),
                true,
            ),
        ];
        for (terms, fits) in rows {
            assert_eq!(meets_required(&spec(terms.clone()), &node()), fits, "{terms}");
        }
    }

    #[test]
    fn a_pod_is_pinned_by_the_name_of_one_node() {
        let by = |values: Value| json!([{"matchFields": [{"key": NAME_FIELD, "operator": "In", "values": values}]}]);
        assert_eq!(pinned_node(&spec(by(json!(["n2"])))), Some("n2"));
        assert_eq!(pinned_node(&spec(by(json!(["n1", "n2"])))), None);
        assert_eq!(pinned_node(&spec(json!([{"matchExpressions": []}]))), None);
    }

    #[test]
    fn a_toleration_matches_by_key_value_and_effect() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "5", "effect": "NoSchedule"})).unwrap();
        for (toleration, matches) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "k", "value": "5"}), true),
            (json!({"key": "k", "value": "6", "operator": "Equal"}), false),
            (json!({"value": "5"}), false),
            (json!({"key": "k", "value": "6", "operator": "Lt"}), true),
            (json!({"key": "k", "value": "6", "operator": "Gt"}), false),
        ] {
            let toleration: Toleration = serde_json::from_value(toleration).unwrap();
            assert_eq!(tolerates(&toleration, &taint), matches, "{toleration:?}");
        }
        assert!(untolerated(std::slice::from_ref(&taint), &[], &["NoExecute"]).is_none());
        assert!(untolerated(&[taint], &[], &["NoSchedule", "NoExecute"]).is_some());
    }
}
