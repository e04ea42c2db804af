//! What the documentation says of mirrored EndpointSlices, sentence by sentence.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::is_mirrored;
use super::plan::{CAPACITY, Mirror, plan};

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {
            "name": "db", "namespace": "x", "uid": "e", "labels": {"team": "a"},
            "annotations": {"note": "n", "endpoints.kubernetes.io/last-change-trigger-time": "t",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "subsets": subsets,
    }))
    .unwrap()
}

fn subset(addresses: Value, not_ready: Value) -> Value {
    json!({"addresses": addresses, "notReadyAddresses": not_ready, "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}]})
}

fn made(mirror: &Mirror) -> Vec<Arc<EndpointSlice>> {
    let named = mirror.plan.create.iter().enumerate().map(|(at, slice)| {
        let mut slice = slice.clone();
        slice.metadata.name = Some(format!("db-{at}"));
        Arc::new(slice)
    });
    named.collect()
}

#[test]
fn each_family_of_a_subset_is_a_slice_with_the_endpoints_labels_and_annotations() {
    let it = endpoints(json!([subset(
        json!([{"ip": "10.0.0.9", "hostname": "h", "nodeName": "n"}]),
        json!([{"ip": "fd00::2"}])
    )]));
    let mirror = plan(&it, &[]);
    assert_eq!((mirror.plan.create.len(), mirror.invalid, mirror.skipped), (2, 0, 0));
    let slice = mirror.plan.create.iter().find(|s| s.address_type == "IPv4").unwrap();
    assert_eq!(
        serde_json::to_value(slice).unwrap(),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "generateName": "db-", "namespace": "x", "annotations": {"note": "n"},
                "labels": {
                    "team": "a", "kubernetes.io/service-name": "db",
                    "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "e",
                    "controller": true, "blockOwnerDeletion": true}],
            },
            "addressType": "IPv4",
            "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": true}, "hostname": "h", "nodeName": "n"}],
        })
    );
    let other = mirror.plan.create.iter().find(|s| s.address_type == "IPv6").unwrap();
    let ready = other.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready;
    assert_eq!(ready, Some(false));
    assert!(plan(&it, &made(&mirror)).plan.is_empty());
}

#[test]
fn a_change_updates_the_slice_and_ports_that_go_give_theirs_to_those_that_come() {
    let one = endpoints(json!([subset(json!([{"ip": "10.0.0.1"}]), json!([]))]));
    let slices = made(&plan(&one, &[]));
    let two = endpoints(json!([subset(
        json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
        json!([])
    )]));
    let changed = plan(&two, &slices).plan;
    assert_eq!(
        (changed.create.len(), changed.update.len(), changed.delete.len()),
        (0, 1, 0)
    );
    assert_eq!(changed.update[0].endpoints.as_ref().map(Vec::len), Some(2));

    let moved = endpoints(json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "pg", "port": 5433}]}]));
    let moved = plan(&moved, &slices).plan;
    assert_eq!((moved.create.len(), moved.update.len(), moved.delete.len()), (0, 1, 0));
    assert_eq!(moved.update[0].metadata.name.as_deref(), Some("db-0"));

    let emptied = plan(&endpoints(json!([])), &slices).plan;
    assert_eq!((emptied.update.len(), emptied.delete.len()), (0, 1));
}

#[test]
fn what_is_no_address_or_too_much_is_skipped_and_counted() {
    let many: Vec<Value> = (0..CAPACITY + 5)
        .map(|n| json!({"ip": format!("10.{}.{}.{}", n / 40000, n / 200 % 200, n % 200)}))
        .collect();
    let mirror = plan(&endpoints(json!([subset(json!(many), json!([]))])), &[]);
    assert_eq!((mirror.invalid, mirror.skipped), (0, 5));
    assert_eq!(mirror.plan.create[0].endpoints.as_ref().map(Vec::len), Some(CAPACITY));
    let mirror = plan(
        &endpoints(json!([subset(
            json!([{"ip": "nowhere"}, {"ip": "10.0.0.1"}]),
            json!([])
        )])),
        &[],
    );
    assert_eq!((mirror.invalid, mirror.skipped, mirror.plan.create.len()), (1, 1, 1));
}

#[test]
fn objects_of_others_are_not_mirrored() {
    let with = |labels: Value, annotations: Value| {
        let all = json!({"metadata": {"name": "e", "labels": labels, "annotations": annotations}});
        is_mirrored(&serde_json::from_value(all).unwrap())
    };
    assert!(with(json!({}), json!({})));
    assert!(!with(
        json!({"endpointslice.kubernetes.io/skip-mirror": "true"}),
        json!({})
    ));
    assert!(with(
        json!({"endpointslice.kubernetes.io/skip-mirror": "false"}),
        json!({})
    ));
    assert!(!with(
        json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"}),
        json!({})
    ));
    assert!(!with(
        json!({}),
        json!({"control-plane.alpha.kubernetes.io/leader": "{}"})
    ));
}
