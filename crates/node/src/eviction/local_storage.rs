//! The disk space that a pod is limited to: by its emptyDir volumes' sizes, and by its containers' ephemeral storage. Pure.

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::pod::amount::{whole, whole_of};
use crate::pod::resources;

const STORAGE: &str = "ephemeral-storage";

/// Bytes that a pod uses, by container and by volume.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) containers: Vec<(String, u64)>,
    pub(crate) volumes: Vec<(String, u64)>,
}

fn size_limit(volume: &Volume) -> Option<(&str, i64, &str)> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    Some((volume.name.as_str(), whole(limit), limit.0.as_str())).filter(|(_, bytes, _)| *bytes > 0)
}

/// Whether anything limits the pod, so that it has to be measured.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(size_limit).next().is_some() || resources::limited(pod, STORAGE).is_some()
}

/// Why the pod has to go, if it does, in upstream's words.
pub(crate) fn over_limit(pod: &Pod, used: &Used) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let exceeds = |bytes: u64, limit: i64| i128::from(bytes) > i128::from(limit);
    for (name, limit, written) in spec.volumes.iter().flatten().filter_map(size_limit) {
        let volume = used.volumes.iter().find(|(volume, _)| volume == name);
        if volume.is_some_and(|(_, bytes)| exceeds(*bytes, limit)) {
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {written:?}. "
            ));
        }
    }
    if let Some(limit) = resources::limited(pod, STORAGE) {
        let all = used.containers.iter().chain(&used.volumes);
        if exceeds(all.map(|(_, bytes)| bytes).sum(), limit) {
            let format = coracle_api::quantity::QuantityFormat::BinarySi;
            let limit = coracle_api::quantity::Quantity::new(limit, format);
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            ));
        }
    }
    for container in &spec.containers {
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        let Some(limit) = whole_of(limits, STORAGE).filter(|l| *l > 0) else {
            continue;
        };
        let own = used.containers.iter().find(|(name, _)| *name == container.name);
        if own.is_some_and(|(_, bytes)| exceeds(*bytes, limit)) {
            let written = limits.and_then(|l| l.get(STORAGE)).map_or("", |q| q.0.as_str());
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit {written:?}. ",
                container.name
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn used(containers: &[(&str, u64)], volumes: &[(&str, u64)]) -> Used {
        let owned = |list: &[(&str, u64)]| list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        Used {
            containers: owned(containers),
            volumes: owned(volumes),
        }
    }

    #[test]
    fn a_pod_goes_when_a_volume_a_container_or_all_together_exceed_their_limit() {
        let limited = |a: &str, b: &str| {
            json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}], "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": a}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": b}}}]})
        };
        for (spec, used, expected) in [
            (
                limited("1Ki", "1Ki"),
                used(&[("a", 1000), ("b", 20)], &[("v", 1024)]),
                None,
            ),
            (
                limited("1Gi", "1Gi"),
                used(&[], &[("v", 1025)]),
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". "),
            ),
            (
                limited("1Ki", "1Ki"),
                used(&[("a", 1024), ("b", 1)], &[("v", 1024)]),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Ki. "),
            ),
            (
                limited("1Ki", "1Gi"),
                used(&[("a", 1025)], &[]),
                Some("Container a exceeded its local ephemeral storage limit \"1Ki\". "),
            ),
        ] {
            let pod = pod(spec);
            assert!(is_limited(&pod));
            assert_eq!(over_limit(&pod, &used).as_deref(), expected);
        }
        let free = pod(json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "a"}]}));
        assert!(!is_limited(&free));
        assert_eq!(over_limit(&free, &used(&[("a", 1 << 40)], &[("v", 1 << 40)])), None);
    }
}
