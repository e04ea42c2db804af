//! What of a pod an update may change.

use serde_json::{Value, json};

use super::super::super::check::tests::{defaulted, refuses_update, updated, with};
use super::super::*;
use super::{full, pod};

const MAY_CHANGE: &str = "spec: Forbidden: pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)\nchanged: ";

#[test]
fn an_update_changes_little() {
    let valid = full();
    for (pointer, value) in [
        ("/spec/containers/0/image", json!("nginx:2")),
        ("/spec/initContainers/0/image", json!("busybox:2")),
        ("/spec/activeDeadlineSeconds", json!(5)),
        ("/spec/tolerations/0/tolerationSeconds", json!(5)),
        ("/spec/tolerations/1", json!({"key": "k2", "operator": "Exists"})),
        ("/spec/schedulingGates", json!([])),
        ("/spec/nodeSelector", json!({"a": "b"})),
        ("/spec/hostNetwork", json!(false)),
        ("/spec/containers/0/resources/limits/cpu", json!("1000m")),
        ("/metadata/labels/x", json!("y")),
    ] {
        // The defaults of the changed image differ; a client sends back what it read.
        let mut object = with(&defaulted(&row(), valid.clone()), pointer, value);
        object.as_object_mut().unwrap().remove("status");
        assert_eq!(updated(&row(), valid.clone(), object), [""; 0], "{pointer}");
    }
    refuses_update(
        &row(),
        &valid,
        &[
            (
                "/spec/containers/1",
                json!({"name": "b", "image": "x"}),
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ),
            (
                "/spec/containers/0/command",
                json!(["x"]),
                &format!("{MAY_CHANGE}containers"),
            ),
            ("/spec/hostUsers", json!(true), &format!("{MAY_CHANGE}hostUsers")),
            (
                "/spec/tolerations",
                json!([]),
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ),
            (
                "/spec/schedulingGates/1",
                json!({"name": "example.com/more"}),
                "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate \
                 'example.com/more'",
            ),
            (
                "/metadata/annotations",
                json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}),
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: Forbidden: may not add \
                 AppArmor annotations",
            ),
        ],
    );
    let ungated = with(&valid, "/spec/schedulingGates", json!(null));
    assert_eq!(
        updated(
            &row(),
            ungated.clone(),
            with(&ungated, "/spec/nodeSelector", json!({"a": "b"}))
        ),
        [format!("{MAY_CHANGE}nodeSelector")]
    );
}

#[test]
fn a_deadline_only_comes_nearer() {
    let object = with(&pod(), "/spec/activeDeadlineSeconds", json!(10));
    let with_deadline = |value: Value| {
        updated(
            &row(),
            object.clone(),
            with(&object, "/spec/activeDeadlineSeconds", value),
        )
    };
    assert_eq!(with_deadline(json!(5)), [""; 0]);
    assert_eq!(
        with_deadline(json!(11)),
        ["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"]
    );
    assert_eq!(
        with_deadline(json!(null)),
        ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"]
    );
}
