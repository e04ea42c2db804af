//! The constraints of pods that have none of their own: the profile's, over the pods that the pod's services and controller
//! select.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;

use crate::listers::{Listers, Needs};
use crate::shape::{PodInfo, SpreadConstraint};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A constraint without a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultConstraint {
    pub max_skew: i64,
    pub topology_key: Arc<str>,
    pub hard: bool,
    pub min_domains: i64,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// Kubernetes' own: softly over hosts and zones.
    System,
    List(Vec<DefaultConstraint>),
}

impl Defaults {
    fn list(&self) -> Vec<DefaultConstraint> {
        match self {
            Self::System => [(HOSTNAME, 3), (ZONE, 5)]
                .map(|(key, max_skew)| DefaultConstraint {
                    max_skew,
                    topology_key: key.into(),
                    hard: false,
                    min_domains: 1,
                    honor_affinity: true,
                    honor_taints: false,
                })
                .into(),
            Self::List(list) => list.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::List(list) if list.is_empty())
    }

    pub fn has_hard(&self) -> bool {
        matches!(self, Self::List(list) if list.iter().any(|c| c.hard))
    }

    pub fn topology_keys(&self) -> Vec<Arc<str>> {
        self.list().into_iter().map(|c| c.topology_key).collect()
    }

    /// None at all if nothing selects the pod.
    pub fn for_pod(&self, pod: &PodInfo, listers: &Listers) -> Arc<[SpreadConstraint]> {
        if self.is_empty() {
            return Arc::default();
        }
        let selector = default_selector(pod, listers);
        if selector.is_everything() {
            return Arc::default();
        }
        let constraints = self.list().into_iter().map(|c| SpreadConstraint {
            max_skew: c.max_skew,
            topology_key: c.topology_key,
            hard: c.hard,
            selector: selector.clone(),
            min_domains: c.min_domains,
            honor_affinity: c.honor_affinity,
            honor_taints: c.honor_taints,
        });
        constraints.collect()
    }
}

fn owner(pod: &PodInfo) -> Option<(&str, &str)> {
    let owners = pod.pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = match (group, owner.kind.as_str()) {
        ("", "ReplicationController") | ("apps", "ReplicaSet" | "StatefulSet") => owner.kind.as_str(),
        _ => return None,
    };
    Some((kind, &owner.name))
}

pub fn needs(pod: &PodInfo) -> Needs {
    Needs::SERVICES
        | match owner(pod) {
            Some(("ReplicationController", _)) => Needs::REPLICATION_CONTROLLERS,
            Some(("ReplicaSet", _)) => Needs::REPLICA_SETS,
            Some(("StatefulSet", _)) => Needs::STATEFUL_SETS,
            _ => Needs::NOTHING,
        }
}

/// What the services that select the pod, and its controller, select together.
fn default_selector(pod: &PodInfo, listers: &Listers) -> LabelSelector {
    let labels = pod.shape.labels();
    let mut equal: BTreeMap<String, String> = BTreeMap::new();
    let mut services = listers.services.in_namespace(pod.namespace());
    services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for service in services {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        let Some(selector) = selector.filter(|s| !s.is_empty()) else {
            continue;
        };
        if selector.iter().all(|(k, v)| labels.get(k) == Some(v)) {
            equal.extend(selector.clone());
        }
    }
    let mut more = None;
    match owner(pod) {
        Some(("ReplicationController", name)) => {
            let controller = listers.replication_controllers.find(pod.namespace(), name);
            let selector = controller.and_then(|c| c.spec.as_ref()?.selector.clone());
            equal.extend(selector.unwrap_or_default());
        }
        Some(("ReplicaSet", name)) => {
            let set = listers.replica_sets.find(pod.namespace(), name);
            more = set.and_then(|s| LabelSelector::from_typed(Some(&s.spec.selector)).ok());
        }
        Some(("StatefulSet", name)) => {
            let set = listers.stateful_sets.find(pod.namespace(), name);
            more = set.and_then(|s| LabelSelector::from_typed(Some(&s.spec.selector)).ok());
        }
        _ => {}
    }
    let mut selector = LabelSelector::from_labels(&equal).unwrap_or_else(|_| LabelSelector::everything());
    for requirement in more.iter().flat_map(LabelSelector::requirements) {
        selector = selector.with(requirement.clone());
    }
    selector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_with;
    use serde_json::json;

    #[test]
    fn services_and_the_controller_select_together() {
        let listers = Listers::holding();
        listers.services.hold([
            serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "web"},
                "spec": {"selector": {"app": "web"}}}))
            .unwrap(),
            serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "other"},
                "spec": {"selector": {"app": "db"}}}))
            .unwrap(),
        ]);
        listers.replica_sets.hold([serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": "web-1"},
            "spec": {"selector": {"matchLabels": {"hash": "1"}}}}),
        )
        .unwrap()]);
        let owned = |owner: &str| {
            pod_with(
                "a",
                json!({"metadata": {"labels": {"app": "web", "hash": "1"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": true}]}}),
            )
        };
        assert_eq!(
            default_selector(&owned("web-1"), &listers).to_string(),
            "app=web,hash=1"
        );
        assert_eq!(default_selector(&owned("gone"), &listers).to_string(), "app=web");
        let lone = pod_with("b", json!({"metadata": {"labels": {"app": "lone"}}}));
        assert!(Defaults::System.for_pod(&lone, &listers).is_empty());
        let constraints = Defaults::System.for_pod(&owned("web-1"), &listers);
        let skews: Vec<_> = constraints
            .iter()
            .map(|c| (&*c.topology_key, c.max_skew, c.hard))
            .collect();
        assert_eq!(skews, [(HOSTNAME, 3, false), (ZONE, 5, false)]);
    }
}
