//! Who a pod of a StatefulSet is: its ordinal, and from it the name, host name, labels and volumes. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use serde_json::{Map, Value, json};

use super::claims;
use crate::history::REVISION_LABEL;
use crate::owner::controller_reference;
use crate::template::pod_from_template;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub fn name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The set's ordinals: the first, and how many.
pub fn ordinals(set: &StatefulSet) -> (i32, i32) {
    let start = set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    let replicas = set.spec.replicas.unwrap_or(1);
    (start, replicas.max(0))
}

/// Whether the set has this ordinal now.
pub fn has_ordinal(set: &StatefulSet, ordinal: i32) -> bool {
    let (start, replicas) = ordinals(set);
    ordinal >= start && ordinal < start.saturating_add(replicas)
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name(set))
}

/// The ordinal that a name carries, if it is one of the set's.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let (parent, ordinal) = pod.rsplit_once('-')?;
    let ordinal = ordinal.parse().ok().filter(|o| *o >= 0)?;
    (parent == name(set) && pod == pod_name(set, ordinal)).then_some(ordinal)
}

/// The revision that a pod is of.
pub fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|l| l.get(REVISION_LABEL)).map_or("", String::as_str)
}

/// A new pod of the set.
pub fn make(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(template, namespace, "", controller_reference(set));
    let own = pod_name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(own.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    labels.insert(NAME_LABEL.to_owned(), own.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    if let Some(spec) = pod.spec.as_mut() {
        spec.hostname = Some(own);
        spec.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
        // The set's claims take the place of the template's volumes of the same name.
        let claims: Vec<(String, String)> = claims::names(set, ordinal);
        let claimed = claims.iter().map(|(volume, claim)| Volume {
            name: volume.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: None,
            }),
            ..Volume::default()
        });
        let mut volumes: Vec<Volume> = claimed.collect();
        let others = spec.volumes.take().unwrap_or_default();
        volumes.extend(
            others
                .into_iter()
                .filter(|v| claims.iter().all(|(name, _)| *name != v.name)),
        );
        spec.volumes = (!volumes.is_empty()).then_some(volumes);
    }
    pod
}

/// The merge patch that gives a pod the labels of its identity, if it lacks any.
pub fn mend(pod: &Pod, ordinal: i32) -> Option<Value> {
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let mut labels = Map::new();
    for (key, value) in [(NAME_LABEL, own.to_owned()), (INDEX_LABEL, ordinal.to_string())] {
        let there = pod.metadata.labels.as_ref().and_then(|l| l.get(key));
        if there != Some(&value) {
            labels.insert(key.to_owned(), value.into());
        }
    }
    (!labels.is_empty()).then(|| json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-db", "namespace": "ns", "uid": "u"},
            "spec": {
                "serviceName": "peers", "selector": {}, "replicas": 3, "ordinals": {"start": 2},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {
                    "containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                }},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_known_by_its_ordinal() {
        for (name, expected) in [
            ("web-db-0", Some(0)),
            ("web-db-12", Some(12)),
            ("web-db-01", None),
            ("web-1", None),
            ("web-db-x", None),
            ("web-db--1", None),
            ("other-web-db-1", None),
        ] {
            assert_eq!(ordinal(&set(), name), expected, "{name}");
        }
        let inside: Vec<i32> = (0..8).filter(|o| has_ordinal(&set(), *o)).collect();
        assert_eq!(inside, [2, 3, 4]);
    }

    #[test]
    fn a_pod_gets_its_name_host_name_subdomain_labels_and_volumes_from_its_ordinal() {
        let set = set();
        let template = set.spec.template.clone();
        let pod = make(&set, &template, "web-db-abc", 2);
        assert_eq!(pod.metadata.name.as_deref(), Some("web-db-2"));
        let labels = pod.metadata.labels.clone().unwrap();
        for (key, value) in [
            ("app", "db"),
            ("statefulset.kubernetes.io/pod-name", "web-db-2"),
            ("apps.kubernetes.io/pod-index", "2"),
            ("controller-revision-hash", "web-db-abc"),
        ] {
            assert_eq!(labels[key], value);
        }
        assert_eq!(mend(&pod, 2), None);
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(
            (spec.hostname.as_deref(), spec.subdomain.as_deref()),
            (Some("web-db-2"), Some("peers"))
        );
        let volumes = spec.volumes.as_ref().unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(
            volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name,
            "data-web-db-2"
        );
        assert_eq!(volumes[1].name, "tmp");
    }

    #[test]
    fn lost_labels_of_identity_are_put_back() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-db-2".into());
        let patch = mend(&pod, 2).unwrap();
        assert_eq!(patch["metadata"]["labels"][INDEX_LABEL], "2");
    }
}
