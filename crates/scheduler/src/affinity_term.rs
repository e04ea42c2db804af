//! One term of a pod's affinity to other pods, parsed once: which pods it speaks of, and within what topology.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

/// A term of `podAffinity` or `podAntiAffinity`.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub selector: LabelSelector,
    pub topology_key: Arc<str>,
    namespaces: Box<[String]>,
    namespace_selector: LabelSelector,
}

/// Labels of namespaces by name, for terms that select namespaces by label.
pub trait NamespaceLabels {
    /// `None` when the namespace is not known.
    fn labels_match(&self, namespace: &str, selector: &LabelSelector) -> bool;
}

/// For pods without terms that select namespaces.
pub struct NoNamespaces;

impl NamespaceLabels for NoNamespaces {
    fn labels_match(&self, _namespace: &str, selector: &LabelSelector) -> bool {
        selector.is_everything()
    }
}

impl AffinityTerm {
    /// The term of a pod in `own` namespace: without namespaces and a selector of them it speaks of that one alone. A
    /// selector that does not parse (the API lets none in) selects nothing.
    pub fn parse(term: &PodAffinityTerm, own: &str) -> Self {
        let selector = |s| LabelSelector::from_typed(s).unwrap_or_else(|_| LabelSelector::nothing());
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(own.to_owned());
        }
        Self {
            selector: selector(term.label_selector.as_ref()),
            topology_key: term.topology_key.as_str().into(),
            namespaces: namespaces.into(),
            namespace_selector: selector(term.namespace_selector.as_ref()),
        }
    }

    pub fn parse_all(terms: Option<&Vec<PodAffinityTerm>>, own: &str) -> Box<[Self]> {
        terms.into_iter().flatten().map(|t| Self::parse(t, own)).collect()
    }

    pub fn parse_weighted(terms: Option<&Vec<WeightedPodAffinityTerm>>, own: &str) -> Box<[(i64, Self)]> {
        let terms = terms.into_iter().flatten();
        terms
            .map(|t| (i64::from(t.weight), Self::parse(&t.pod_affinity_term, own)))
            .collect()
    }

    /// Whether labels of namespaces decide (an empty selector selects all of them without looking).
    pub fn selects_namespaces(&self) -> bool {
        !self.namespace_selector.is_nothing() && !self.namespace_selector.is_everything()
    }

    /// Does the term speak of a pod with these labels in this namespace?
    pub fn matches(&self, namespace: &str, labels: &BTreeMap<String, String>, all: &dyn NamespaceLabels) -> bool {
        let in_namespace = self.namespaces.iter().any(|n| n == namespace)
            || self.namespace_selector.is_everything()
            || (!self.namespace_selector.is_nothing() && all.labels_match(namespace, &self.namespace_selector));
        in_namespace && self.selector.matches_labels(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Team(&'static str);

    impl NamespaceLabels for Team {
        fn labels_match(&self, namespace: &str, selector: &LabelSelector) -> bool {
            selector.matches(|key| (key == "team" && namespace == self.0).then_some("a"))
        }
    }

    fn matches(term: serde_json::Value, namespace: &str) -> bool {
        let mut whole = serde_json::json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}});
        for (key, value) in term.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let term: PodAffinityTerm = serde_json::from_value(whole).unwrap();
        let labels = BTreeMap::from([("app".to_owned(), "x".to_owned())]);
        AffinityTerm::parse(&term, "own").matches(namespace, &labels, &Team("teamed"))
    }

    #[test]
    fn namespaces_and_their_selector_are_joined_and_neither_means_the_pods_own() {
        let by_label = serde_json::json!({"matchLabels": {"team": "a"}});
        for (term, own, listed, teamed) in [
            (serde_json::json!({}), true, false, false),
            (serde_json::json!({"namespaces": ["listed"]}), false, true, false),
            (serde_json::json!({"namespaceSelector": {}}), true, true, true),
            (serde_json::json!({"namespaceSelector": by_label}), false, false, true),
            (
                serde_json::json!({"namespaces": ["listed"], "namespaceSelector": by_label}),
                false,
                true,
                true,
            ),
        ] {
            let found = ["own", "listed", "teamed"].map(|n| matches(term.clone(), n));
            assert_eq!(found, [own, listed, teamed], "{term}");
        }
    }

    #[test]
    fn an_absent_label_selector_matches_no_pod() {
        assert!(!matches(serde_json::json!({"labelSelector": null}), "own"));
    }
}
