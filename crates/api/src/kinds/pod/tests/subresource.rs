//! Containers for debugging, and resizing.

use serde_json::{Value, json};

use super::super::super::check::tests::{defaulted, texts, with};
use super::super::*;
use super::pod;

#[test]
fn ephemeral_containers_come_and_stay() {
    let row = row();
    let old = Object::from_value(defaulted(&row, pod())).unwrap();
    let check = |old: &Object, change: &[(&str, Value)]| {
        let mut new = old.clone().into_value();
        for (pointer, value) in change {
            new = with(&new, pointer, value.clone());
        }
        let mut new = Object::from_value(new).unwrap();
        Pod.set_defaults(&mut new);
        Pod.prepare_for_subresource_update("ephemeralcontainers", &mut new, old);
        let (value, old) = (new.clone().into_value(), old.clone().into_value());
        let mut errors = ErrorList::new();
        Pod.validate_subresource_update(
            "ephemeralcontainers",
            &Cursor::root(&value, Some(row.schema())),
            &Cursor::root(&old, Some(row.schema())),
            &mut errors,
        );
        (new, texts(&errors))
    };
    let debugger = json!([{"name": "debug", "image": "busybox", "targetContainerName": "a"}]);
    let (new, errors) = check(
        &old,
        &[
            ("/spec/ephemeralContainers", debugger.clone()),
            ("/spec/hostNetwork", json!(true)),
        ],
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(new.get(&["spec", "hostNetwork"]), None, "only the containers are taken");
    assert_eq!(new.str(&["metadata", "name"]), Some("web"));
    assert_eq!(
        check(&new, &[("/spec/ephemeralContainers", json!([]))]).1,
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"]
    );
    for (field, value, expected) in [
        (
            "ports",
            json!([{"containerPort": 1}]),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            "targetContainerName",
            json!("b"),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"b\"",
        ),
        (
            "name",
            json!("a"),
            "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
        ),
    ] {
        let list = with(&debugger, &format!("/0/{field}"), value);
        assert_eq!(check(&old, &[("/spec/ephemeralContainers", list)]).1, [expected]);
    }
}

#[test]
fn a_resize_changes_cpu_and_memory_within_the_class() {
    let row = row();
    let valid = with(
        &pod(),
        "/spec/containers/0/resources",
        json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
    );
    let old = Object::from_value(defaulted(&row, valid)).unwrap();
    let check = |resources: Value| {
        let changed = with(&old.clone().into_value(), "/spec/containers/0/resources", resources);
        let mut new = Object::from_value(changed).unwrap();
        new.set(&["spec", "nodeName"], "elsewhere");
        Pod.prepare_for_subresource_update("resize", &mut new, &old);
        assert_eq!(new.get(&["spec", "nodeName"]), None);
        let (new, old) = (new.into_value(), old.clone().into_value());
        let mut errors = ErrorList::new();
        Pod.validate_subresource_update(
            "resize",
            &Cursor::root(&new, Some(row.schema())),
            &Cursor::root(&old, Some(row.schema())),
            &mut errors,
        );
        errors
            .as_slice()
            .iter()
            .map(|e| format!("{}: {}", e.path, e.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(check(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), [""; 0]);
    assert_eq!(
        check(json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})),
        ["spec: Pod QOS Class may not change as a result of resizing"]
    );
    assert_eq!(
        check(json!({"requests": {"cpu": "2"}})),
        ["spec.containers[0].resources.requests: resource requests cannot be removed"]
    );
    assert_eq!(
        check(json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}})),
        ["spec: only cpu and memory resources are mutable"]
    );
}

#[test]
fn some_pods_are_never_resized() {
    let row = row();
    let check = |valid: Value| {
        let old = defaulted(&row, valid);
        let mut errors = ErrorList::new();
        Pod.validate_subresource_update(
            "resize",
            &Cursor::root(&old, Some(row.schema())),
            &Cursor::root(&old, Some(row.schema())),
            &mut errors,
        );
        errors
            .as_slice()
            .iter()
            .map(|e| e.detail.to_string())
            .collect::<Vec<_>>()
    };
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(
        check(with(&pod(), "/metadata/annotations", mirror)),
        ["static pods cannot be resized"]
    );
    assert_eq!(
        check(with(&pod(), "/spec/os", json!({"name": "windows"}))),
        ["windows pods cannot be resized"]
    );
}
