//! Which claims get which volume, and what becomes of it.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::plan::{self, Claimed, Released};

fn merged(mut base: Value, change: Value) -> Value {
    json_patch::merge(&mut base, &change);
    base
}

fn claim(change: Value) -> PersistentVolumeClaim {
    let base = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "u", "annotations": {
            "volume.kubernetes.io/storage-provisioner": "coracle.dev/local",
            "volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "3Gi"}}},
    });
    serde_json::from_value(merged(base, change)).unwrap()
}

fn class(change: Value) -> StorageClass {
    let base = json!({"metadata": {"name": "standard"}, "provisioner": "coracle.dev/local", "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer"});
    serde_json::from_value(merged(base, change)).unwrap()
}

fn node(change: Value) -> Node {
    let base = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "host-1"},
        "annotations": {"coracle.dev/local-volumes": "/data/volumes"}}});
    serde_json::from_value(merged(base, change)).unwrap()
}

#[test]
fn a_claim_gets_a_directory_of_the_selected_node() {
    let Claimed::Create(volume) = plan::claim(&claim(json!({})), Some(&class(json!({}))), Some(&node(json!({}))))
    else {
        panic!("no volume");
    };
    let volume = serde_json::to_value(&*volume).unwrap();
    assert_eq!(volume["metadata"]["name"], "pvc-u");
    assert_eq!(volume["metadata"]["finalizers"], json!(["coracle.dev/local-volume"]));
    let spec = &volume["spec"];
    assert_eq!(spec["local"]["path"], "/data/volumes/pvc-u");
    assert_eq!(spec["capacity"]["storage"], "3Gi");
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(
        (&spec["claimRef"]["uid"], &spec["claimRef"]["name"]),
        (&json!("u"), &json!("c"))
    );
    assert_eq!(
        spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0],
        json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["host-1"]})
    );
}

#[test]
fn what_a_directory_cannot_do_is_refused() {
    for (spec, of_class, words) in [
        (json!({"accessModes": ["ReadWriteMany"]}), json!({}), "ReadWriteMany"),
        (json!({"volumeMode": "Block"}), json!({}), "block device"),
        (json!({"selector": {"matchLabels": {"a": "b"}}}), json!({}), "Selector"),
        (
            json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}),
            json!({}),
            "data source",
        ),
        (json!({}), json!({"parameters": {"path": "/x"}}), "\"path\""),
        (json!({}), json!({"mountOptions": ["ro"]}), "mountOptions"),
    ] {
        let claim = claim(json!({"spec": spec}));
        match plan::claim(&claim, Some(&class(of_class)), Some(&node(json!({})))) {
            Claimed::Refuse(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn the_scheduler_chooses_the_node() {
    let unselected = claim(json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": null}}}));
    let immediate = class(json!({"volumeBindingMode": "Immediate"}));
    let ours = class(json!({}));
    assert!(matches!(plan::claim(&unselected, Some(&ours), None), Claimed::Wait));
    assert!(matches!(
        plan::claim(&unselected, Some(&immediate), None),
        Claimed::Refuse(_)
    ));
    assert!(matches!(plan::claim(&claim(json!({})), None, None), Claimed::Wait));
}

#[test]
fn a_node_that_cannot_hold_the_volume_is_not_insisted_on() {
    let annotated =
        |directory: Value| node(json!({"metadata": {"annotations": {"coracle.dev/local-volumes": directory}}}));
    for (node, words) in [
        (None, "not found"),
        (Some(annotated(json!(null))), "provides no local volumes"),
        (Some(annotated(json!("/a/../b"))), "provides no local volumes"),
        (Some(annotated(json!("volumes"))), "provides no local volumes"),
        (
            Some(node(json!({"metadata": {"labels": {"kubernetes.io/hostname": null}}}))),
            "no label kubernetes.io/hostname",
        ),
    ] {
        match plan::claim(&claim(json!({})), Some(&class(json!({}))), node.as_ref()) {
            Claimed::Reschedule(why) => assert!(why.contains(words) && why.contains("another one"), "{why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn only_claims_handed_to_this_provisioner_are_its_business() {
    assert!(plan::is_ours(&claim(json!({}))));
    for change in [
        json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "other"}}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"volumeName": "v"}}),
    ] {
        assert!(!plan::is_ours(&claim(change.clone())), "{change}");
    }
}

#[test]
fn a_released_volume_is_deleted_by_policy_and_let_go_when_its_node_is_gone() {
    let volume = |phase: &str, policy: &str, deleted: bool| -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "v", "finalizers": ["coracle.dev/local-volume"],
                "annotations": {"pv.kubernetes.io/provisioned-by": "coracle.dev/local"},
                "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
            "spec": {"persistentVolumeReclaimPolicy": policy},
            "status": {"phase": phase},
        }))
        .unwrap()
    };
    for (phase, policy, deleted, node, wanted) in [
        ("Released", "Delete", false, true, Released::Delete),
        ("Released", "Retain", false, true, Released::Wait),
        ("Bound", "Delete", false, true, Released::Wait),
        ("Released", "Delete", true, true, Released::Wait),
        ("Released", "Delete", true, false, Released::LetGo),
        ("Bound", "Delete", true, false, Released::Wait),
        ("Bound", "Delete", false, false, Released::Wait),
    ] {
        assert_eq!(
            plan::volume(&volume(phase, policy, deleted), node),
            wanted,
            "{phase} {policy} {deleted} {node}"
        );
    }
}
