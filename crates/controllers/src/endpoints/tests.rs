//! What the documentation says of Endpoints, sentence by sentence.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use serde_json::{Value, json};

use super::plan::plan;

fn service(spec: Value) -> Service {
    let mut all = json!({
        "metadata": {"name": "web", "namespace": "x", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    json_patch::merge(&mut all["spec"], &spec);
    serde_json::from_value(all).unwrap()
}

fn pod(number: usize, ready: bool, change: Value) -> Arc<Pod> {
    let ip = format!("10.1.{}.{}", number / 250, number % 250 + 1);
    let mut all = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "x", "uid": format!("u{number}")},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8000}]}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    });
    json_patch::merge(&mut all, &change);
    Arc::new(serde_json::from_value(all).unwrap())
}

fn subsets(endpoints: &Endpoints) -> Value {
    serde_json::to_value(&endpoints.subsets).unwrap()
}

fn address(number: usize) -> Value {
    json!({
        "ip": format!("10.1.0.{}", number + 1), "nodeName": "n",
        "targetRef": {"kind": "Pod", "namespace": "x", "name": format!("p{number}"), "uid": format!("u{number}")},
    })
}

#[test]
fn ready_and_unready_addresses_share_the_subset_of_their_ports() {
    let pods = [
        pod(1, true, json!({})),
        pod(0, true, json!({})),
        pod(2, false, json!({})),
    ];
    let endpoints = plan(&service(json!({})), &pods, None, None).unwrap();
    assert_eq!(
        subsets(&endpoints),
        json!([{
            "addresses": [address(0), address(1)],
            "notReadyAddresses": [address(2)],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }])
    );
    assert_eq!(
        serde_json::to_value(&endpoints.metadata.labels).unwrap(),
        json!({"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );
}

#[test]
fn pods_whose_named_port_differs_are_in_subsets_of_their_own() {
    let by_name = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}));
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9000}]}]}});
    let without = json!({"spec": {"containers": [{"name": "c"}]}});
    let pods = [pod(0, true, json!({})), pod(1, true, other), pod(2, true, without)];
    let endpoints = plan(&by_name, &pods, None, None).unwrap();
    let port = |number| json!([{"name": "http", "port": number, "protocol": "TCP"}]);
    assert_eq!(
        subsets(&endpoints),
        json!([
            {"addresses": [address(0)], "ports": port(8000)},
            {"addresses": [address(1)], "ports": port(9000)},
        ])
    );
}

#[test]
fn terminating_pods_are_left_out_unless_all_are_published() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let pods = [pod(0, true, going), pod(1, false, json!({}))];
    let listed = |publish: bool| {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        subsets(&plan(&service, &pods, None, None).unwrap())[0].clone()
    };
    assert_eq!(listed(false)["notReadyAddresses"], json!([address(1)]));
    assert_eq!(listed(false)["addresses"], Value::Null);
    assert_eq!(listed(true)["addresses"], json!([address(0), address(1)]));
}

#[test]
fn a_headless_service_may_have_no_ports_and_any_other_must_have_some() {
    let pods = [pod(0, true, json!({}))];
    let of = |ip: &str| plan(&service(json!({"clusterIP": ip, "ports": null})), &pods, None, None).unwrap();
    assert_eq!(subsets(&of("None")), json!([{"addresses": [address(0)]}]));
    assert_eq!(
        of("None").metadata.labels.unwrap()["service.kubernetes.io/headless"],
        ""
    );
    assert_eq!(subsets(&of("10.0.0.1")), json!([]));
}

#[test]
fn the_first_family_of_the_service_is_the_one_listed() {
    let dual = pod(
        0,
        true,
        json!({"status": {"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}}),
    );
    let service = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    let endpoints = plan(&service, &[dual, pod(1, true, json!({}))], None, None).unwrap();
    assert_eq!(subsets(&endpoints)[0]["addresses"].as_array().unwrap().len(), 1);
    assert_eq!(subsets(&endpoints)[0]["addresses"][0]["ip"], "fd00::1");
}

#[test]
fn what_is_right_is_not_written_again() {
    let (service, pods) = (service(json!({})), [pod(0, true, json!({}))]);
    let first = plan(&service, &pods, None, "2026-01-01T00:00:00Z".parse().ok()).unwrap();
    let annotations = first.metadata.annotations.clone().unwrap();
    assert_eq!(
        annotations["endpoints.kubernetes.io/last-change-trigger-time"],
        "2026-01-01T00:00:00Z"
    );
    assert!(plan(&service, &pods, Some(&first), None).is_none());
    let changed = plan(&service, &[], Some(&first), None).unwrap();
    assert_eq!(changed.metadata.annotations, Some(Default::default()));
}

#[test]
fn a_thousand_addresses_fit_and_ready_ones_come_first() {
    for (ready, unready, kept) in [(900, 200, (900, 100)), (1200, 50, (1000, 0)), (600, 400, (600, 400))] {
        let pods: Vec<_> = (0..ready)
            .map(|n| pod(n, true, json!({})))
            .chain((ready..ready + unready).map(|n| pod(n, false, json!({}))))
            .collect();
        let endpoints = plan(&service(json!({})), &pods, None, None).unwrap();
        let all = endpoints.subsets.iter().flatten();
        let counts = all.fold((0, 0), |(r, u), s| {
            (
                r + s.addresses.as_ref().map_or(0, Vec::len),
                u + s.not_ready_addresses.as_ref().map_or(0, Vec::len),
            )
        });
        assert_eq!(counts, kept);
        let said = endpoints
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get("endpoints.kubernetes.io/over-capacity"));
        assert_eq!(
            said.map(String::as_str),
            (ready + unready > 1000).then_some("truncated")
        );
    }
}
