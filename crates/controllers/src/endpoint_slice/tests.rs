//! What the documentation says of EndpointSlices, sentence by sentence.

use std::sync::Arc;

use coracle_clock::{Clock, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::metrics::Sync;
use super::plan::Plan;
use super::topology::{Ratios, ratios};
use super::tracker::Tracker;
use super::trigger::Triggers;

fn service(spec: Value) -> Service {
    let mut all = json!({
        "metadata": {"name": "web", "namespace": "x", "uid": "u", "labels": {"team": "a"},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    json_patch::merge(&mut all["spec"], &spec);
    serde_json::from_value(all).unwrap()
}

fn pod_with(name: &str, number: usize, change: Value) -> Arc<Pod> {
    let ip = format!("10.1.{}.{}", number / 250, number % 250 + 1);
    let mut all = json!({
        "metadata": {"name": name, "namespace": "x", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8000, "protocol": "TCP"}]}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}],
        },
    });
    json_patch::merge(&mut all, &change);
    Arc::new(serde_json::from_value(all).unwrap())
}

fn pod(number: usize) -> Arc<Pod> {
    pod_with(&format!("p{number:03}"), number, json!({}))
}

fn pods(numbers: std::ops::Range<usize>) -> Vec<Arc<Pod>> {
    numbers.map(pod).collect()
}

fn not_ready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

fn node(name: &str) -> Option<Arc<Node>> {
    let labels = json!({"topology.kubernetes.io/zone": "z1"});
    let node = json!({"metadata": {"name": name, "labels": labels}});
    (name == "n").then(|| Arc::new(serde_json::from_value(node).unwrap()))
}

fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> Plan {
    super::plan::plan(service, pods, slices, node, &Ratios::new())
}

/// What the server would make of a plan.
fn apply(slices: &[Arc<EndpointSlice>], plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    let name = |s: &EndpointSlice| s.metadata.name.clone();
    let mut after: Vec<_> = slices
        .iter()
        .filter(|s| !plan.delete.iter().any(|d| name(d) == name(s)))
        .map(|s| match plan.update.iter().find(|u| name(u) == name(s)) {
            Some(updated) => Arc::new(updated.clone()),
            None => s.clone(),
        })
        .collect();
    for (at, created) in plan.create.iter().enumerate() {
        let mut slice = created.clone();
        slice.metadata.name = Some(format!("web-{}-{at}", after.len()));
        after.push(Arc::new(slice));
    }
    after
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect()
}

fn settled(service: &Service, pods: &[Arc<Pod>]) -> Vec<Arc<EndpointSlice>> {
    let slices = apply(&[], &plan(service, pods, &[], node));
    let again = plan(service, pods, &slices, node);
    assert!(again.is_empty(), "a second look writes nothing: {again:?}");
    slices
}

#[test]
fn a_slice_names_its_service_its_maker_and_its_owner() {
    let slices = settled(&service(json!({})), &pods(0..1));
    let expected = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-0-0", "generateName": "web-", "namespace": "x",
            "labels": {
                "team": "a", "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u",
                "controller": true, "blockOwnerDeletion": true}],
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "n", "zone": "z1",
            "targetRef": {"kind": "Pod", "namespace": "x", "name": "p000", "uid": "p000"},
        }],
    });
    assert_eq!(serde_json::to_value(&*slices[0]).unwrap(), expected);
}

#[test]
fn conditions_tell_ready_serving_and_terminating_apart() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:02:00Z"}});
    let mut going_not_ready = going.clone();
    json_patch::merge(&mut going_not_ready, &not_ready());
    for (state, publish, expected) in [
        (json!({}), false, Some((true, true, false))),
        (not_ready(), false, Some((false, false, false))),
        (not_ready(), true, Some((true, false, false))),
        (going.clone(), false, Some((false, true, true))),
        (going, true, Some((true, true, true))),
        (going_not_ready, false, Some((false, false, true))),
        (json!({"status": {"phase": "Succeeded"}}), true, None),
        (json!({"status": {"phase": "Failed"}}), true, None),
        (json!({"status": {"podIP": null, "podIPs": null}}), true, None),
    ] {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        let slices = settled(&service, &[pod_with("p", 0, state.clone())]);
        let endpoint = slices[0].endpoints.as_ref().and_then(|e| e.first());
        let conditions = endpoint.and_then(|e| e.conditions.as_ref()).map(|c| {
            (
                c.ready.unwrap_or(false),
                c.serving.unwrap_or(false),
                c.terminating.unwrap_or(false),
            )
        });
        assert_eq!(conditions, expected, "{state} {publish}");
    }
}

#[test]
fn a_service_without_endpoints_has_one_empty_slice_for_each_family() {
    for (families, expected) in [
        (json!(["IPv4"]), vec!["IPv4"]),
        (json!(["IPv6", "IPv4"]), vec!["IPv6", "IPv4"]),
    ] {
        let slices = settled(&service(json!({"ipFamilies": families})), &[]);
        let kinds: Vec<&str> = slices.iter().map(|s| s.address_type.as_str()).collect();
        assert_eq!(kinds, expected);
        assert_eq!(sizes(&slices).iter().sum::<usize>(), 0);
    }
    // The last endpoint that goes leaves its slice behind, empty: it is used again.
    let service = service(json!({}));
    let full = settled(&service, &pods(0..1));
    let plan = plan(&service, &[], &full, node);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    assert_eq!(plan.update[0].ports.as_ref().map(Vec::len), Some(0));
}

#[test]
fn families_have_slices_of_their_own_and_addresses_of_their_own() {
    let dual = pod_with(
        "p",
        0,
        json!({"status": {"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00:0::1"}]}}),
    );
    let both = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let slices = settled(&both, &[dual.clone(), pod(7)]);
    let of = |family: &str| {
        let slice = slices.iter().find(|s| s.address_type == family).unwrap();
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(|e| e.addresses.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("IPv4"), [["10.1.0.1"], ["10.1.0.8"]]);
    assert_eq!(of("IPv6"), [["fd00::1"]]);
    // A family that the service no longer has goes with its slices.
    let single = service(json!({}));
    let plan = plan(&single, &[dual, pod(7)], &slices, node);
    assert_eq!(
        plan.delete.iter().map(|s| s.address_type.as_str()).collect::<Vec<_>>(),
        ["IPv6"]
    );
    assert!(plan.update.is_empty() && plan.create.is_empty());
}

#[test]
fn a_port_by_name_is_looked_up_in_each_pod_and_pods_with_the_same_ports_share_slices() {
    let by_name = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}));
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9000}]}]}});
    let udp = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 1, "protocol": "UDP"}]}]}});
    let sidecar = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [
        {"name": "s", "restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 8000}]}]}});
    let all = [
        pod(0),
        pod_with("b", 1, other),
        pod_with("c", 2, udp),
        pod_with("d", 3, sidecar),
    ];
    let slices = settled(&by_name, &all);
    let mut found: Vec<(Vec<i32>, usize)> = slices
        .iter()
        .map(|s| {
            let ports = s.ports.iter().flatten().filter_map(|p| p.port).collect();
            (ports, s.endpoints.as_ref().map_or(0, Vec::len))
        })
        .collect();
    found.sort();
    assert_eq!(found, [(vec![], 1), (vec![8000], 2), (vec![9000], 1)]);
}

#[test]
fn a_headless_service_says_so_and_may_have_no_ports() {
    let slices = settled(&service(json!({"clusterIP": "None", "ports": null})), &pods(0..2));
    assert_eq!(sizes(&slices), [2]);
    assert!(slices[0].ports.as_ref().is_none_or(Vec::is_empty));
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(
        labels.get("service.kubernetes.io/headless").map(String::as_str),
        Some("")
    );
}

#[test]
fn a_pod_that_has_a_name_in_the_services_domain_is_listed_by_it() {
    let named = |subdomain: &str| pod_with("p", 0, json!({"spec": {"hostname": "db-0", "subdomain": subdomain}}));
    for (subdomain, expected) in [("web", Some("db-0")), ("other", None)] {
        let slices = settled(&service(json!({})), &[named(subdomain)]);
        let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.hostname.as_deref(), expected);
    }
}

#[test]
fn pods_of_unknown_nodes_are_left_out_unless_all_are_published() {
    let stray = pod_with("p", 0, json!({"spec": {"nodeName": "gone"}}));
    for (publish, expected) in [(false, 0), (true, 1)] {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        let slices = apply(&[], &plan(&service, std::slice::from_ref(&stray), &[], node));
        assert_eq!(sizes(&slices).iter().sum::<usize>(), expected);
    }
}

#[test]
fn a_slice_holds_a_hundred_and_changes_touch_as_few_slices_as_can_be() {
    let service = service(json!({}));
    let full = settled(&service, &pods(0..250));
    assert_eq!(sizes(&full), [100, 100, 50]);

    // One more goes into the slice that has room for it.
    let plan_more = plan(&service, &pods(0..251), &full, node);
    assert_eq!((plan_more.create.len(), plan_more.update.len()), (0, 1));
    assert_eq!(sizes(&apply(&full, &plan_more)), [100, 100, 51]);

    // One goes: its slice alone is written, and what comes meanwhile fills the gap.
    let swapped: Vec<_> = pods(0..250).into_iter().skip(1).chain([pod(300)]).collect();
    let plan_swap = plan(&service, &swapped, &full, node);
    assert_eq!((plan_swap.create.len(), plan_swap.update.len()), (0, 1));
    assert_eq!(sizes(&apply(&full, &plan_swap)), [100, 100, 50]);

    // What does not fit into one slice beside the others gets a new one.
    let plan_many = plan(&service, &pods(0..310), &full, node);
    assert_eq!((plan_many.create.len(), plan_many.update.len()), (1, 0));
    assert_eq!(sizes(&apply(&full, &plan_many)), [100, 100, 50, 60]);

    // Slices are not balanced when endpoints go.
    let fewer: Vec<_> = pods(0..250).into_iter().step_by(2).collect();
    assert_eq!(sizes(&apply(&full, &plan(&service, &fewer, &full, node))), [50, 50, 25]);
}

#[test]
fn slices_of_a_service_that_had_this_name_before_go() {
    let mut old = service(json!({}));
    old.metadata.uid = Some("before".into());
    let left = settled(&old, &pods(0..2));
    let plan = plan(&service(json!({})), &pods(0..2), &left, node);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 1));
}

#[test]
fn a_service_that_is_going_gets_no_new_slices() {
    let mut going = service(json!({}));
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert!(plan(&going, &pods(0..2), &[], node).create.is_empty());
}

#[test]
fn the_services_labels_are_the_slices_labels() {
    let slices = settled(&service(json!({})), &pods(0..1));
    let mut renamed = service(json!({}));
    renamed.metadata.labels =
        serde_json::from_value(json!({"team": "b", "kubernetes.io/service-name": "forged"})).unwrap();
    let plan = plan(&renamed, &pods(0..1), &slices, node);
    let labels = plan.update[0].metadata.labels.as_ref().unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels["kubernetes.io/service-name"].as_str()),
        ("b", "web")
    );
}

#[test]
fn traffic_distribution_becomes_hints_for_ready_endpoints() {
    for (wanted, zones, nodes) in [
        (None, None, None),
        (Some("PreferClose"), Some("z1"), None),
        (Some("PreferSameZone"), Some("z1"), None),
        (Some("PreferSameNode"), Some("z1"), Some("n")),
    ] {
        let service = service(json!({"trafficDistribution": wanted}));
        let slices = settled(&service, &[pod(0), pod_with("q", 1, not_ready())]);
        let endpoints = slices[0].endpoints.as_ref().unwrap();
        let hints = endpoints[0].hints.as_ref();
        let zone = hints.and_then(|h| h.for_zones.as_ref()).map(|z| z[0].name.as_str());
        let node_hint = hints.and_then(|h| h.for_nodes.as_ref()).map(|n| n[0].name.as_str());
        assert_eq!((zone, node_hint), (zones, nodes), "{wanted:?}");
        assert_eq!(endpoints[1].hints, None);
        // Taken back when the service no longer asks for it.
        let plain = super::tests::service(json!({}));
        let plan = plan(&plain, &[pod(0), pod_with("q", 1, not_ready())], &slices, node);
        let cleared = plan.update.iter().flat_map(|s| s.endpoints.iter().flatten());
        assert!(cleared.clone().all(|e| e.hints.is_none()));
        assert_eq!(plan.update.len(), usize::from(wanted.is_some()));
    }
}

fn zoned(name: &str, zone: &str, cpu: &str, ready: bool) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {
            "allocatable": {"cpu": cpu},
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

#[test]
fn zones_share_by_the_cpu_of_their_ready_nodes() {
    let of = |nodes: &[Arc<Node>]| ratios(nodes.iter().map(|n| &**n));
    let two = [
        zoned("a", "z1", "1", true),
        zoned("b", "z2", "3", true),
        zoned("c", "z1", "8", false),
    ];
    let expected: Ratios = [("z1".to_owned(), 0.25), ("z2".to_owned(), 0.75)].into();
    assert_eq!(of(&two), expected);
    assert!(of(&two[..1]).is_empty());
    let unknown = [two[0].clone(), two[1].clone(), zoned("d", "", "1", true)];
    assert!(of(&unknown).is_empty());
}

#[test]
fn topology_mode_gives_each_zone_its_share_of_the_endpoints() {
    let mut service = service(json!({}));
    let annotations = [("service.kubernetes.io/topology-mode".to_owned(), "Auto".to_owned())];
    service.metadata.annotations = Some(annotations.into());
    let shares = |z1: f64| -> Ratios { [("z1".to_owned(), z1), ("z2".to_owned(), 1.0 - z1)].into() };
    let on =
        |number: usize, zone: &str| pod_with(&format!("p{number:03}"), number, json!({"spec": {"nodeName": zone}}));
    let node = |zone: &str| Some(zoned(zone, zone, "1", true));
    for (in_z1, in_z2, ratio, expected) in [
        (3, 3, 0.5, Some((3, 3))),
        (6, 0, 0.5, Some((3, 3))),
        (4, 6, 0.5, Some((5, 5))),
        (9, 3, 0.25, Some((3, 9))),
        // Too few to give each zone enough.
        (1, 0, 0.5, None),
        (2, 1, 0.5, None),
    ] {
        let pods: Vec<_> = (0..in_z1)
            .map(|n| on(n, "z1"))
            .chain((in_z1..in_z1 + in_z2).map(|n| on(n, "z2")))
            .collect();
        let first = super::plan::plan(&service, &pods, &[], node, &shares(ratio));
        let slices = apply(&[], &first);
        let for_zone = |zone: &str| {
            let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
            let hints = endpoints.filter_map(|e| e.hints.as_ref()?.for_zones.as_ref());
            hints.filter(|z| z[0].name == zone).count()
        };
        assert_eq!(
            (for_zone("z1"), for_zone("z2")),
            expected.unwrap_or((0, 0)),
            "{in_z1} {in_z2} {ratio}"
        );
        assert_eq!(first.told.len(), 1);
        assert_eq!(first.told[0].0, expected.is_some(), "{:?}", first.told);
        let again = super::plan::plan(&service, &pods, &slices, node, &shares(ratio));
        assert!(again.is_empty(), "{again:?}");
    }
    // Without the zones' shares there are no hints, and old ones go.
    let pods: Vec<_> = (0..3).map(|n| on(n, "z1")).chain((3..6).map(|n| on(n, "z2"))).collect();
    let slices = apply(&[], &super::plan::plan(&service, &pods, &[], node, &shares(0.5)));
    let gone = plan(&service, &pods, &slices, node);
    assert!(gone.update[0].endpoints.iter().flatten().all(|e| e.hints.is_none()));
    assert!(gone.told[0].1.starts_with("Insufficient Node information"));
}

#[test]
fn the_trigger_is_the_earliest_change_that_was_not_told_of_yet() {
    let triggers = Triggers::default();
    let service = service(json!({}));
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let changed = |when: &str| {
        let condition = json!([{"type": "Ready", "status": "True", "lastTransitionTime": when}]);
        pod_with("p001", 1, json!({"status": {"conditions": condition}}))
    };
    let observe = |pods: &[Arc<Pod>]| triggers.observe("x/web", &service, pods);
    assert_eq!(observe(&pods(0..2)), Some(at("2026-01-01T00:00:00Z")));
    assert_eq!(observe(&pods(0..2)), None);
    assert_eq!(
        observe(&[pod(0), changed("2026-01-01T00:05:00Z")]),
        Some(at("2026-01-01T00:05:00Z"))
    );
    assert_eq!(observe(&[pod(0)]), None);
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_stale_until_it_shows_what_was_written_but_not_for_ever() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let tracker = Tracker::new(clock);
    let slice = |version: &str| -> Arc<EndpointSlice> {
        let meta = json!({"name": "s", "uid": "s", "resourceVersion": version});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "addressType": "IPv4", "endpoints": []})).unwrap())
    };
    tracker.wrote("k", &slice("7"));
    assert!(tracker.is_stale("k", &[]));
    assert!(tracker.is_stale("k", &[slice("6")]));
    assert!(!tracker.is_stale("other", &[]));
    assert!(!tracker.is_stale("k", &[slice("7")]));
    tracker.deleted("k", &slice("7"));
    assert!(tracker.is_stale("k", &[slice("7")]));
    assert!(!tracker.is_stale("k", &[]));
    tracker.wrote("k", &slice("9"));
    tracker.is_gone("k", "s");
    assert!(!tracker.is_stale("k", &[]));
    tracker.wrote("k", &slice("9"));
    clock.sleep(super::tracker::PATIENCE).await;
    assert!(!tracker.is_stale("k", &[]));
}

/// What `/metrics` says, line by line.
fn exposed(metrics: &crate::Metrics) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn syncs_are_counted_under_upstreams_names() {
    let metrics = crate::Metrics::default();
    let counted = &metrics.endpoint_slices;
    let web = service(json!({}));
    let first = plan(&web, &pods(0..150), &[], node);
    counted.synced("x/web", &Sync::of(&[], &first), false, Some("PreferSameZone"));
    counted.ended("success");
    let slices = apply(&[], &first);
    let second = plan(&web, &pods(0..120), &slices, node);
    counted.synced("x/web", &Sync::of(&slices, &second), false, Some("PreferSameZone"));
    let text = exposed(&metrics);
    for line in [
        "endpoint_slice_controller_endpoints_added_per_sync_sum 150.0",
        "endpoint_slice_controller_endpoints_removed_per_sync_sum 30.0",
        "endpoint_slice_controller_endpoints_desired 120",
        "endpoint_slice_controller_num_endpoint_slices 2",
        "endpoint_slice_controller_desired_endpoint_slices 2",
        "endpoint_slice_controller_changes{operation=\"create\"} 2",
        "endpoint_slice_controller_changes{operation=\"update\"} 1",
        "endpoint_slice_controller_syncs{result=\"success\"} 1",
        "endpoint_slice_controller_services_count_by_traffic_distribution{traffic_distribution=\"PreferSameZone\"} 1",
        "endpoint_slice_controller_endpointslices_changed_per_sync_count{topology=\"Disabled\",\
         traffic_distribution=\"PreferSameZone\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    counted.forget("x/web");
    let text = exposed(&metrics);
    for line in [
        "endpoint_slice_controller_endpoints_desired 0",
        "endpoint_slice_controller_num_endpoint_slices 0",
        "endpoint_slice_controller_services_count_by_traffic_distribution{traffic_distribution=\"PreferSameZone\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}
