//! Gives back what decoding reserved and did not use. A list of JSON does not say how long it is, so that room for four
//! elements is made for the first one: of a pod, the objects of which there are most, that is a fifth.

use std::any::Any;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

/// Fits the lists of a pod; other kinds stay as they are.
pub(super) fn fit(object: &mut dyn Any) {
    let Some(pod) = object.downcast_mut::<Pod>() else {
        return;
    };
    shrink(&mut pod.metadata.owner_references);
    shrink(&mut pod.metadata.finalizers);
    if let Some(spec) = &mut pod.spec {
        fit_spec(spec);
    }
    if let Some(status) = &mut pod.status {
        fit_status(status);
    }
}

fn shrink<T>(list: &mut Option<Vec<T>>) {
    if let Some(list) = list {
        list.shrink_to_fit();
    }
}

fn fit_spec(spec: &mut PodSpec) {
    spec.containers.shrink_to_fit();
    shrink(&mut spec.init_containers);
    spec.containers.iter_mut().for_each(fit_container);
    spec.init_containers.iter_mut().flatten().for_each(fit_container);
    shrink(&mut spec.tolerations);
    shrink(&mut spec.image_pull_secrets);
    shrink(&mut spec.topology_spread_constraints);
    shrink(&mut spec.volumes);
    for volume in spec.volumes.iter_mut().flatten() {
        let Some(projected) = &mut volume.projected else {
            continue;
        };
        shrink(&mut projected.sources);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(map) = &mut source.config_map {
                shrink(&mut map.items);
            }
            if let Some(downward) = &mut source.downward_api {
                shrink(&mut downward.items);
            }
        }
    }
}

fn fit_container(container: &mut Container) {
    shrink(&mut container.args);
    shrink(&mut container.command);
    shrink(&mut container.env);
    shrink(&mut container.env_from);
    shrink(&mut container.ports);
    shrink(&mut container.volume_mounts);
}

fn fit_status(status: &mut PodStatus) {
    shrink(&mut status.conditions);
    shrink(&mut status.container_statuses);
    shrink(&mut status.init_container_statuses);
    shrink(&mut status.host_ips);
    shrink(&mut status.pod_ips);
    let containers = status.container_statuses.iter_mut().flatten();
    for container in containers.chain(status.init_container_statuses.iter_mut().flatten()) {
        shrink(&mut container.volume_mounts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_s_lists_hold_what_is_in_them_and_no_more() {
        let mut pod: Pod = serde_json::from_str(
            &json!({
                "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "u"}]},
                "spec": {
                    "containers": [{"name": "c", "env": [{"name": "A"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
                    "volumes": [{"name": "v", "projected": {"sources": [
                        {"configMap": {"name": "m", "items": [{"key": "a", "path": "b"}]}},
                    ]}}],
                    "tolerations": [{"operator": "Exists"}],
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0}],
                },
            })
            .to_string(),
        )
        .unwrap();
        let before = pod.clone();
        fit(&mut pod);
        assert_eq!(pod, before);
        let (spec, status) = (pod.spec.unwrap(), pod.status.unwrap());
        assert_eq!(spec.tolerations.unwrap().capacity(), 1);
        assert_eq!(spec.containers[0].env.as_ref().unwrap().capacity(), 1);
        assert_eq!(status.container_statuses.unwrap().capacity(), 1);
        let projected = spec.volumes.unwrap().remove(0).projected.unwrap();
        let sources = projected.sources.unwrap();
        assert_eq!(sources.capacity(), 1);
        let map = sources[0].config_map.as_ref().unwrap();
        assert_eq!(map.items.as_ref().unwrap().capacity(), 1);
    }
}
