//! Which nodes a pod or a volume wants: node selector terms, parsed once so that matching a node allocates nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector as ApiSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
    PreferredSchedulingTerm, TopologySelectorTerm,
};

#[derive(Clone, Debug)]
enum Test {
    In(Box<[String]>),
    NotIn(Box<[String]>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator or number that does not parse matches nothing.
    Never,
}

impl Test {
    fn parse(requirement: &NodeSelectorRequirement) -> Self {
        let values = || requirement.values.clone().unwrap_or_default().into_boxed_slice();
        let number = || requirement.values.as_ref()?.first()?.parse().ok();
        match requirement.operator.as_str() {
            "In" => Self::In(values()),
            "NotIn" => Self::NotIn(values()),
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => number().map_or(Self::Never, Self::Gt),
            "Lt" => number().map_or(Self::Never, Self::Lt),
            _ => Self::Never,
        }
    }

    fn is_met_by(&self, value: Option<&str>) -> bool {
        let number = || -> Option<i64> { value?.parse().ok() };
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt(least) => number().is_some_and(|n| n > *least),
            Self::Lt(most) => number().is_some_and(|n| n < *most),
            Self::Never => false,
        }
    }
}

/// All of its requirements must be met; a term without any matches nothing.
#[derive(Clone, Debug)]
pub struct Term {
    labels: Box<[(String, Test)]>,
    names: Box<[Test]>,
}

impl Term {
    pub fn parse(term: &NodeSelectorTerm) -> Self {
        let list = |l: &Option<Vec<NodeSelectorRequirement>>| l.clone().unwrap_or_default();
        Self {
            labels: list(&term.match_expressions)
                .iter()
                .map(|r| (r.key.clone(), Test::parse(r)))
                .collect(),
            names: list(&term.match_fields)
                .iter()
                .map(|r| match r.key.as_str() {
                    "metadata.name" => Test::parse(r),
                    _ => Test::Never,
                })
                .collect(),
        }
    }

    pub fn matches(&self, node: &Node) -> bool {
        if self.labels.is_empty() && self.names.is_empty() {
            return false;
        }
        let labels = node.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
        self.labels.iter().all(|(key, test)| test.is_met_by(label(key)))
            && self.names.iter().all(|t| t.is_met_by(node.metadata.name.as_deref()))
    }

    /// The only names that can match, if the term names any.
    fn only_names(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut out: Option<BTreeSet<Arc<str>>> = None;
        for test in &self.names {
            if let Test::In(values) = test {
                let named: BTreeSet<Arc<str>> = values.iter().map(|v| Arc::from(v.as_str())).collect();
                out = Some(match out {
                    None => named,
                    Some(before) => &before & &named,
                });
            }
        }
        out
    }
}

/// One of its terms must match.
#[derive(Clone, Debug)]
pub struct NodeSelector(Box<[Term]>);

impl NodeSelector {
    pub fn parse(selector: &ApiSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(Term::parse).collect())
    }

    pub fn matches(&self, node: &Node) -> bool {
        self.0.iter().any(|t| t.matches(node))
    }

    fn only_names(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut out = BTreeSet::new();
        for term in &self.0 {
            out.extend(term.only_names()?);
        }
        (!self.0.is_empty()).then_some(out)
    }
}

/// What a pod asks of its node: `nodeSelector`, and required and preferred node affinity.
#[derive(Clone, Debug, Default)]
pub struct NodeWish {
    labels: Box<[(String, String)]>,
    required: Option<NodeSelector>,
    pub preferred: Box<[(i64, Term)]>,
}

pub fn parse_preferred(terms: Option<&Vec<PreferredSchedulingTerm>>) -> Box<[(i64, Term)]> {
    let terms = terms.into_iter().flatten();
    terms
        .map(|t| (i64::from(t.weight), Term::parse(&t.preference)))
        .collect()
}

impl NodeWish {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let labels = spec.node_selector.iter().flatten();
        Self {
            labels: labels.map(|(k, v)| (k.clone(), v.clone())).collect(),
            ..Self::of_affinity(affinity)
        }
    }

    pub fn of_affinity(affinity: Option<&NodeAffinity>) -> Self {
        Self {
            labels: Box::default(),
            required: affinity
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .map(NodeSelector::parse),
            preferred: parse_preferred(
                affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
        }
    }

    /// Any node will do.
    pub fn is_free(&self) -> bool {
        self.labels.is_empty() && self.required.is_none()
    }

    pub fn matches(&self, node: &Node) -> bool {
        let labels = node.metadata.labels.as_ref();
        let selected = self
            .labels
            .iter()
            .all(|(k, v)| labels.and_then(|l| l.get(k)).is_some_and(|x| x == v));
        selected && self.required.as_ref().is_none_or(|r| r.matches(node))
    }

    /// The names of the only nodes that can match, if every term names its nodes.
    pub fn only_names(&self) -> Option<BTreeSet<Arc<str>>> {
        self.required.as_ref()?.only_names()
    }
}

/// Whether a StorageClass's `allowedTopologies` allow the node; none at all allow every node.
pub fn topology_allows(terms: &[TopologySelectorTerm], labels: &BTreeMap<String, String>) -> bool {
    terms.is_empty()
        || terms.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            !expressions.is_empty()
                && expressions
                    .iter()
                    .all(|e| labels.get(&e.key).is_some_and(|v| e.values.contains(v)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let node = serde_json::json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}});
        serde_json::from_value(node).unwrap()
    }

    fn wish(spec: serde_json::Value) -> NodeWish {
        let mut whole = serde_json::json!({"containers": []});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        NodeWish::of(&serde_json::from_value(whole).unwrap())
    }

    fn required(terms: serde_json::Value) -> NodeWish {
        let selector = serde_json::json!({"nodeSelectorTerms": terms});
        wish(serde_json::json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}))
    }

    #[test]
    fn operators_are_read_as_documented() {
        for (key, operator, values, expected) in [
            ("zone", "In", vec!["a", "b"], true),
            ("zone", "In", vec!["b"], false),
            ("rack", "In", vec!["b"], false),
            ("zone", "NotIn", vec!["a"], false),
            ("rack", "NotIn", vec!["a"], true),
            ("zone", "Exists", vec![], true),
            ("rack", "Exists", vec![], false),
            ("zone", "DoesNotExist", vec![], false),
            ("rack", "DoesNotExist", vec![], true),
            ("cores", "Gt", vec!["7"], true),
            ("cores", "Gt", vec!["8"], false),
            ("cores", "Lt", vec!["9"], true),
            ("zone", "Lt", vec!["9"], false),
            ("cores", "Gt", vec!["many"], false),
            ("cores", "About", vec!["8"], false),
        ] {
            let terms =
                serde_json::json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
            assert_eq!(
                required(terms).matches(&node()),
                expected,
                "{key} {operator} {values:?}"
            );
        }
    }

    #[test]
    fn terms_are_alternatives_and_requirements_within_one_are_joined() {
        let zone = |v: &str| serde_json::json!({"key": "zone", "operator": "In", "values": [v]});
        let cores = serde_json::json!({"key": "cores", "operator": "Gt", "values": ["16"]});
        for (terms, expected) in [
            (serde_json::json!([{"matchExpressions": [zone("a"), cores]}]), false),
            (
                serde_json::json!([{"matchExpressions": [cores]}, {"matchExpressions": [zone("a")]}]),
                true,
            ),
            // Of fields only the name is one.
            (
                serde_json::json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
                true,
            ),
            (
                serde_json::json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]),
                false,
            ),
            (
                serde_json::json!([{"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["n1"]}]}]),
                false,
            ),
            (
                serde_json::json!([{"matchExpressions": [zone("b")],
                    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
                false,
            ),
            // An empty term beside one that matches does not matter.
            (serde_json::json!([{}, {"matchExpressions": [zone("a")]}]), true),
            (serde_json::json!([{}]), false),
            (serde_json::json!([]), false),
        ] {
            assert_eq!(required(terms.clone()).matches(&node()), expected, "{terms}");
        }
    }

    #[test]
    fn a_node_selector_is_required_beside_the_affinity() {
        assert!(wish(serde_json::json!({"nodeSelector": {"zone": "a"}})).matches(&node()));
        assert!(!wish(serde_json::json!({"nodeSelector": {"zone": "a", "rack": "1"}})).matches(&node()));
        assert!(wish(serde_json::json!({})).is_free());
        let both = |selected: &str, required: &str| {
            let term =
                serde_json::json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [required]}]});
            wish(
                serde_json::json!({"nodeSelector": {"zone": selected}, "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
            )
        };
        assert!(both("a", "a").matches(&node()));
        assert!(!both("b", "a").matches(&node()) && !both("a", "b").matches(&node()));
    }

    #[test]
    fn only_terms_that_all_name_nodes_narrow_the_search() {
        let field = |names: &[&str]| serde_json::json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]});
        let names = |w: NodeWish| {
            w.only_names()
                .map(|n| n.iter().map(|x| x.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(
            names(required(serde_json::json!([field(&["n2"]), field(&["n1"])]))),
            Some(vec!["n1".to_owned(), "n2".to_owned()])
        );
        let zone = serde_json::json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
        assert_eq!(names(required(serde_json::json!([field(&["n2"]), zone]))), None);
        assert!(required(serde_json::json!([field(&["n1"])])).matches(&node()));
    }
}
