//! The volume claims of a StatefulSet's pods: one for each template and ordinal, and who owns them, which is what
//! `persistentVolumeClaimRetentionPolicy` comes to. Pure.
//!
//! | whenDeleted | whenScaled | owner |
//! |---|---|---|
//! | Retain | Retain | none |
//! | Delete | Retain | the set |
//! | Retain | Delete | the pod, once it is one too many |
//! | Delete | Delete | the set, or the pod once it is one too many |

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::identity::{has_ordinal, name};
use crate::owner::controller_reference;

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

/// Volume and claim of each template for an ordinal.
pub fn names(set: &StatefulSet, ordinal: i32) -> Vec<(String, String)> {
    let volume = |t: &PersistentVolumeClaim| t.metadata.name.clone().unwrap_or_default();
    let both = |volume: String| {
        let claim = format!("{volume}-{}-{ordinal}", name(set));
        (volume, claim)
    };
    templates(set).iter().map(volume).map(both).collect()
}

/// Whether a claim of this name can be one of the set's.
pub fn is_named_after(set: &StatefulSet, claim: &str) -> bool {
    let Some((rest, ordinal)) = claim.rsplit_once('-') else {
        return false;
    };
    let of = |t: &PersistentVolumeClaim| {
        let volume = t.metadata.name.as_deref().unwrap_or_default();
        rest.strip_prefix(volume).and_then(|r| r.strip_prefix('-')) == Some(name(set))
    };
    ordinal.parse::<u32>().is_ok() && templates(set).iter().any(of)
}

/// The claims of an ordinal as they are to be made.
pub fn make(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.selector.match_labels.clone();
    let named = templates(set).iter().zip(names(set, ordinal));
    named
        .map(|(template, (_, claim))| {
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(selected.clone().unwrap_or_default());
            let mut owners = template.metadata.owner_references.clone().unwrap_or_default();
            if policy(set).when_deleted {
                owners.push(controller_reference(set));
            }
            PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(claim),
                    namespace: set.metadata.namespace.clone(),
                    labels: (!labels.is_empty()).then_some(labels),
                    owner_references: (!owners.is_empty()).then_some(owners),
                    annotations: template.metadata.annotations.clone(),
                    finalizers: template.metadata.finalizers.clone(),
                    ..ObjectMeta::default()
                },
                spec: template.spec.clone(),
                status: None,
            }
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Policy {
    /// Claims go with the set.
    when_deleted: bool,
    /// Claims go with pods that are one too many.
    when_scaled: bool,
}

fn policy(set: &StatefulSet) -> Policy {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |value: Option<&String>| value.is_some_and(|v| v == "Delete");
    Policy {
        when_deleted: deletes(policy.and_then(|p| p.when_deleted.as_ref())),
        when_scaled: deletes(policy.and_then(|p| p.when_scaled.as_ref())),
    }
}

fn refers(reference: &OwnerReference, kind: &str, group: &str, name: &str) -> bool {
    let of = reference.api_version.split_once('/').map_or("", |(g, _)| g);
    reference.kind == kind && of == group && reference.name == name
}

/// The owners that a claim should have, if it has others.
pub fn owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
    ordinal: i32,
) -> Option<Vec<OwnerReference>> {
    let there = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let to_set = |r: &&OwnerReference| refers(r, "StatefulSet", "apps", name(set));
    let to_pod = |r: &&OwnerReference| refers(r, "Pod", "", pod_name);
    let is = |r: &OwnerReference, uid: &Option<String>| uid.as_deref().is_some_and(|uid| uid == r.uid);
    let stale = |r: &OwnerReference| to_set(&r) && !is(r, &set.metadata.uid) || to_pod(&r) && !is(r, &pod.metadata.uid);
    if there.iter().any(stale) {
        // Left by a set or a pod of this name that is no more: the garbage collector's.
        return None;
    }
    let policy = policy(set);
    let ours = |r: &OwnerReference| to_set(&r) || to_pod(&r);
    let mut wanted: Vec<OwnerReference> = there.iter().filter(|r| !ours(r)).cloned().collect();
    let retains = !policy.when_deleted && !policy.when_scaled;
    let strange = !retains && wanted.iter().any(|r| r.controller == Some(true));
    if !strange {
        let superfluous = policy.when_scaled && !has_ordinal(set, ordinal);
        if superfluous {
            wanted.push(controller_reference(pod));
        } else if policy.when_deleted {
            wanted.push(controller_reference(set));
        }
    }
    let same = |a: &OwnerReference, b: &OwnerReference| a.uid == b.uid && a.controller == b.controller;
    let unchanged = wanted.len() == there.len() && wanted.iter().all(|w| there.iter().any(|t| same(w, t)));
    (!unchanged).then_some(wanted)
}

/// Whether a claim still belongs to an earlier pod of a new one's name, which was one too many: the claim is going.
pub fn is_leftover(claim: &Arc<PersistentVolumeClaim>, set: &StatefulSet, pod: &Pod) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut owners = claim.metadata.owner_references.iter().flatten();
    policy(set).when_scaled && owners.any(|r| refers(r, "Pod", "", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(policy: Value) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {
                "serviceName": "peers", "replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"tier": "x"}}}],
                "persistentVolumeClaimRetentionPolicy": policy,
            },
        }))
        .unwrap()
    }

    fn pod(ordinal: i32) -> Pod {
        let meta = json!({"name": format!("web-{ordinal}"), "uid": format!("p{ordinal}")});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn claim(owners: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "data-web-0", "ownerReferences": owners}})).unwrap()
    }

    fn reference(kind: &str, name: &str, uid: &str, controller: bool) -> Value {
        let version = if kind == "StatefulSet" { "apps/v1" } else { "v1" };
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller})
    }

    #[test]
    fn a_claim_is_named_after_its_template_and_pod_and_carries_the_selectors_labels() {
        let claims = make(&set(json!(null)), 3);
        assert_eq!(claims[0].metadata.name.as_deref(), Some("data-web-3"));
        let labels = claims[0].metadata.labels.as_ref().unwrap();
        assert_eq!((labels["tier"].as_str(), labels["app"].as_str()), ("x", "web"));
        assert_eq!(claims[0].metadata.owner_references, None);
        for (name, is) in [
            ("data-web-3", true),
            ("data-web-x", false),
            ("log-web-3", false),
            ("data-webs-3", false),
        ] {
            assert_eq!(is_named_after(&set(json!(null)), name), is, "{name}");
        }
    }

    #[test]
    fn the_retention_policy_decides_who_owns_a_claim() {
        let both = |deleted: &str, scaled: &str| json!({"whenDeleted": deleted, "whenScaled": scaled});
        // The pod of ordinal 0 is wanted, that of 1 is one too many.
        for (policy, ordinal, expected) in [
            (both("Retain", "Retain"), 0, vec![]),
            (both("Retain", "Retain"), 1, vec![]),
            (both("Delete", "Retain"), 0, vec!["s"]),
            (both("Delete", "Retain"), 1, vec!["s"]),
            (both("Retain", "Delete"), 0, vec![]),
            (both("Retain", "Delete"), 1, vec!["p1"]),
            (both("Delete", "Delete"), 0, vec!["s"]),
            (both("Delete", "Delete"), 1, vec!["p1"]),
        ] {
            let set = set(policy.clone());
            let uids = |all: Vec<OwnerReference>| all.into_iter().map(|r| r.uid).collect::<Vec<_>>();
            let from_none = owners(&claim(json!([])), &set, &pod(ordinal), ordinal);
            assert_eq!(uids(from_none.unwrap_or_default()), expected, "{policy} {ordinal}");
            // Whatever was before, it comes to the same.
            let before = claim(json!([reference("StatefulSet", "web", "s", false)]));
            assert_eq!(
                uids(owners(&before, &set, &pod(ordinal), ordinal).unwrap()),
                expected,
                "{policy} {ordinal}"
            );
        }
    }

    #[test]
    fn a_claim_with_another_controller_or_of_an_earlier_set_is_left_alone() {
        let set = set(json!({"whenDeleted": "Delete"}));
        let foreign = reference("Other", "x", "o", true);
        assert_eq!(owners(&claim(json!([foreign])), &set, &pod(0), 0), None);
        let stale = reference("StatefulSet", "web", "earlier", true);
        assert_eq!(owners(&claim(json!([stale])), &set, &pod(0), 0), None);
        let both = claim(json!([foreign, reference("StatefulSet", "web", "s", true)]));
        assert_eq!(owners(&both, &set, &pod(0), 0).unwrap().len(), 1);
    }

    #[test]
    fn a_claim_of_an_earlier_pod_that_was_one_too_many_is_going() {
        let set = set(json!({"whenScaled": "Delete"}));
        let new: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0"}})).unwrap();
        let left = Arc::new(claim(json!([reference("Pod", "web-0", "earlier", true)])));
        assert!(is_leftover(&left, &set, &new));
        assert!(!is_leftover(&Arc::new(claim(json!([]))), &set, &new));
    }
}
