//! What decoding keeps, drops, fills in and refuses, by example.

use super::*;
use crate::schema::{built_in, type_node};
use serde_json::json;

fn schema(name: &str) -> Schema<'static> {
    built_in().at(type_node(&format!("io.k8s.api.{name}")).unwrap())
}

fn whole(name: &str, mut value: Value) -> Value {
    assert_eq!(
        decode(&mut value, schema(name), Mode::Whole).unwrap().unknown,
        Vec::<String>::new()
    );
    value
}

fn first_error(name: &str, mut value: Value) -> String {
    decode(&mut value, schema(name), Mode::Whole)
        .unwrap_err()
        .remove(0)
        .message
}

#[test]
fn a_wrong_type_is_reported_as_upstream_words_it() {
    let error = first_error("apps.v1.Deployment", json!({"spec": {"replicas": "3"}}));
    let start = "json: cannot unmarshal string into Go struct field";
    assert_eq!(error, format!("{start} DeploymentSpec.spec.replicas of type int32"));
    let error = first_error("core.v1.Pod", json!({"spec": {"containers": [{"name": 5}]}}));
    let start = "json: cannot unmarshal number into Go struct field";
    assert_eq!(error, format!("{start} Container.spec.containers.name of type string"));
    let error = first_error("core.v1.Pod", json!({"spec": {"containers": {}}}));
    let start = "json: cannot unmarshal object into Go struct field";
    assert_eq!(error, format!("{start} PodSpec.spec.containers of type []v1.Container"));
    assert_eq!(
        first_error("core.v1.Pod", json!([])),
        "json: cannot unmarshal array into Go value of type v1.Pod"
    );
    assert_eq!(
        first_error("apps.v1.Deployment", json!({"spec": {"replicas": 3_000_000_000_i64}})),
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        first_error("core.v1.Secret", json!({"data": {"a": "?"}})),
        "illegal base64 data at input byte 0"
    );
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let mut value = json!({"spec": {"foo": 1, "containers": [{"name": "a"}, {"name": "b", "image": "c", "bar": {}}]}});
    let decoded = decode(&mut value, schema("core.v1.Pod"), Mode::Whole).unwrap();
    assert_eq!(decoded.unknown, ["spec.containers[1].bar", "spec.foo"]);
    assert_eq!(
        value,
        json!({"metadata": {}, "status": {}, "spec": {"containers": [
            {"name": "a", "resources": {}}, {"name": "b", "image": "c", "resources": {}}]}})
    );
}

#[test]
fn unset_is_what_go_takes_for_unset() {
    let spec = json!({"replicas": 0, "paused": false, "selector": {"matchLabels": {}}, "minReadySeconds": 0, "strategy": {},
        "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": [], "hostNetwork": false,
        "automountServiceAccountToken": false, "nodeSelector": null, "volumes": [{"name": "x", "emptyDir": {}}]}}});
    assert_eq!(
        whole("apps.v1.DeploymentSpec", spec),
        json!({"replicas": 0, "selector": {}, "strategy": {}, "template": {"metadata": {}, "spec": {
            "automountServiceAccountToken": false, "volumes": [{"name": "x", "emptyDir": {}}]}}})
    );
}

#[test]
fn structs_that_upstream_always_prints_are_filled_in() {
    assert_eq!(
        whole("core.v1.Service", json!({"metadata": {"name": "a"}})),
        json!({"metadata": {"name": "a"}, "spec": {}, "status": {"loadBalancer": {}}})
    );
    assert_eq!(
        whole("core.v1.Node", json!({}))["status"]["daemonEndpoints"],
        json!({"kubeletEndpoint": {"Port": 0}})
    );
    // Behind a pointer nothing is filled in.
    assert_eq!(whole("apps.v1.DeploymentStrategy", json!({})), json!({}));
    let mut partial = json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
    let before = partial.clone();
    decode(&mut partial, schema("apps.v1.Deployment"), Mode::Partial).unwrap();
    assert_eq!(partial, before);
}

#[test]
fn scalars_that_upstream_always_prints_are_filled_in() {
    assert_eq!(
        whole("apps.v1.DaemonSet", json!({"status": {}}))["status"],
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
    );
    let mut partial = json!({"status": {"numberReady": 0, "numberAvailable": 0, "conditions": []}});
    let before = partial.clone();
    decode(&mut partial, schema("apps.v1.DaemonSet"), Mode::Partial).unwrap();
    assert_eq!(partial, before);
}

#[test]
fn scalars_take_their_canonical_form() {
    let value = json!({"metadata": {"creationTimestamp": "2024-01-01T02:00:00.5+02:00", "labels": {"a": null}},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": " 1024Mi "}},
            "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "web"}}}]}});
    assert_eq!(
        whole("core.v1.Pod", value),
        json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z", "labels": {"a": ""}},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "web"}}}]}, "status": {}})
    );
}

#[test]
fn free_form_parts_are_left_alone() {
    let value = json!({"metadata": {}, "data": {"x": null, "y": [null, {}]}, "revision": 1});
    assert_eq!(whole("apps.v1.ControllerRevision", value.clone()), value);
}
