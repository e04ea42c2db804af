//! EndpointSlice, Endpoints and mirroring, as
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>,
//! <https://kubernetes.io/docs/concepts/services-networking/service/> and the fields' descriptions say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_informer::{CancellationToken, InformerFactory};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::{Value, json};

use crate::world::{World, name, says, with};

fn service(spec: Value) -> Value {
    let base = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    json!({"metadata": {"name": "web"}, "spec": with(base, spec)})
}

fn of(slices: &[Arc<EndpointSlice>]) -> Vec<&Endpoint> {
    let mut all: Vec<_> = slices.iter().flat_map(|s| s.endpoints.iter().flatten()).collect();
    all.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    all
}

impl World {
    async fn zone(&self, node: &str, zone: &str) {
        let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": node});
        self.make::<Node>(json!({"metadata": {"name": node, "labels": labels}}))
            .await;
        let cpu = json!({"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]});
        self.status::<Node>(node, cpu).await;
    }

    /// A pod on a node, with an address that ends in this number.
    async fn backend(&self, number: u8, node: &str, changes: Value) -> String {
        let pod = json!({"metadata": {"name": format!("web-{number}"), "labels": {"app": "web"}}, "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "v1", "ports": [{"name": "web", "containerPort": 9090}]}]}});
        let pod = name(&*self.make::<Pod>(with(pod, changes)).await);
        self.serve(&pod, number, true).await;
        pod
    }

    async fn serve(&self, pod: &str, number: u8, ready: bool) {
        let now = self.cluster.clock.now();
        let ip = format!("10.1.0.{number}");
        let truth = if ready { "True" } else { "False" };
        let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": truth, "lastTransitionTime": now}]});
        self.status::<Pod>(pod, status).await;
    }

    async fn slices(&self) -> Vec<Arc<EndpointSlice>> {
        self.settle().await;
        let mut slices = self.list::<EndpointSlice>().await;
        slices.retain(|s| {
            s.metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.get("kubernetes.io/service-name").is_some_and(|n| n == "web"))
        });
        slices
    }
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_creates_endpoint_slices_for_any_service_that_has_a_selector() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    let made = world.make::<Service>(service(json!({}))).await;
    let pod = world.backend(1, "n1", json!({})).await;
    let slices = world.slices().await;
    let [slice] = slices.as_slice() else {
        panic!("{slices:?}")
    };
    says(
        &slice.metadata,
        json!({"generateName": "web-", "labels": {"kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}),
    );
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(Some(&owner.uid), made.metadata.uid.as_ref());
    assert_eq!(slice.address_type, "IPv4");
    says(&slice.ports, json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let uid = world.get::<Pod>(&pod).await.metadata.uid.clone();
    says(
        &slice.endpoints,
        json!([{"addresses": ["10.1.0.1"], "nodeName": "n1", "zone": "a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": uid}}]),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ready_is_serving_and_not_terminating() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({}))).await;
    let pod = world.backend(1, "n1", json!({})).await;
    let conditions = |ready: bool, serving: bool, terminating: bool| {
        let world = &world;
        async move {
            let slices = world.slices().await;
            says(
                &of(&slices)[0].conditions,
                json!({"ready": ready, "serving": serving, "terminating": terminating}),
            );
        }
    };
    conditions(true, true, false).await;
    world.serve(&pod, 1, false).await;
    conditions(false, false, false).await;
    world.serve(&pod, 1, true).await;
    world.delete::<Pod>(&pod).await;
    conditions(false, true, true).await;
    world.serve(&pod, 1, false).await;
    conditions(false, false, true).await;
    world.kill(&pod).await;
    assert!(of(&world.slices().await).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_publish_not_ready_addresses_every_endpoint_is_ready() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world
        .make::<Service>(service(json!({"publishNotReadyAddresses": true})))
        .await;
    let pod = world.backend(1, "n1", json!({})).await;
    world.serve(&pod, 1, false).await;
    says(
        &of(&world.slices().await)[0].conditions,
        json!({"ready": true, "serving": false, "terminating": false}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_port_by_name_may_be_another_number_in_each_pod() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world
        .make::<Service>(service(
            json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}),
        ))
        .await;
    world.backend(1, "n1", json!({})).await;
    let other = json!({"spec": {"containers": [{"name": "c", "image": "v1", "ports": [{"name": "web", "containerPort": 9091}]}]}});
    world.backend(2, "n1", other).await;
    let slices = world.slices().await;
    let mut ports: Vec<i32> = slices
        .iter()
        .map(|s| s.ports.as_ref().unwrap()[0].port.unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [9090, 9091]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_headless_services_slices_say_so_and_list_host_names() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({"clusterIP": "None"}))).await;
    world
        .backend(1, "n1", json!({"spec": {"hostname": "first", "subdomain": "web"}}))
        .await;
    let slices = world.slices().await;
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert!(labels.contains_key("service.kubernetes.io/headless"));
    says(of(&slices)[0], json!({"hostname": "first"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_selector_gets_no_slices_and_one_that_loses_it_keeps_those_it_has() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({"selector": null}))).await;
    world.backend(1, "n1", json!({})).await;
    assert!(world.slices().await.is_empty());
    world
        .merge::<Service>("web", json!({"spec": {"selector": {"app": "web"}}}))
        .await;
    assert_eq!(world.slices().await.len(), 1);
    world.merge::<Service>("web", json!({"spec": {"selector": null}})).await;
    assert_eq!(of(&world.slices().await).len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slices_go_with_their_service_and_slices_of_others_are_left_alone() {
    let world = World::new().await;
    let foreign = json!({"metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "me"}}, "addressType": "IPv4", "endpoints": [], "ports": []});
    world.make::<EndpointSlice>(foreign).await;
    world.make::<Service>(service(json!({}))).await;
    assert_eq!(world.slices().await.len(), 2);
    world.delete::<Service>("web").await;
    let left = world.slices().await;
    assert_eq!(left.len(), 1);
    assert_eq!(name(&*left[0]), "by-hand");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_deleted_or_changed_by_hand_is_put_right() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({}))).await;
    world.backend(1, "n1", json!({})).await;
    let slice = name(&*world.slices().await[0]);
    world.merge::<EndpointSlice>(&slice, json!({"endpoints": []})).await;
    assert_eq!(of(&world.slices().await).len(), 1);
    world.delete::<EndpointSlice>(&slice).await;
    assert_eq!(of(&world.slices().await).len(), 1);
    world.stop().await;
}

async fn hinted(distribution: &str) -> Value {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.zone("n2", "b").await;
    world
        .make::<Service>(service(json!({"trafficDistribution": distribution})))
        .await;
    world.backend(1, "n1", json!({})).await;
    world.backend(2, "n2", json!({})).await;
    let slices = world.slices().await;
    let hints: Vec<_> = of(&slices).iter().map(|e| e.hints.clone()).collect();
    let found = serde_json::to_value(hints).unwrap();
    // Taken back when it is no longer asked for.
    world
        .merge::<Service>("web", json!({"spec": {"trafficDistribution": null}}))
        .await;
    let slices = world.slices().await;
    assert!(of(&slices).iter().all(|e| e.hints.is_none()));
    world.stop().await;
    found
}

#[tokio::test(start_paused = true)]
async fn traffic_distribution_prefers_endpoints_of_the_same_zone() {
    let zones = json!([{"forZones": [{"name": "a"}]}, {"forZones": [{"name": "b"}]}]);
    assert_eq!(hinted("PreferSameZone").await, zones);
    assert_eq!(hinted("PreferClose").await, zones);
}

#[tokio::test(start_paused = true)]
async fn traffic_distribution_prefers_endpoints_of_the_same_node() {
    assert_eq!(
        hinted("PreferSameNode").await,
        json!([{"forNodes": [{"name": "n1"}], "forZones": [{"name": "a"}]},
            {"forNodes": [{"name": "n2"}], "forZones": [{"name": "b"}]}])
    );
}

#[tokio::test(start_paused = true)]
async fn topology_mode_auto_gives_hints_when_every_zone_has_enough_endpoints_and_takes_them_back_when_not() {
    let world = World::new().await;
    for (node, zone) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        world.zone(node, zone).await;
    }
    let mut auto = service(json!({}));
    auto["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto"});
    world.make::<Service>(auto).await;
    for number in 1..=9 {
        world
            .backend(number, &format!("n{}", (number - 1) % 3 + 1), json!({}))
            .await;
    }
    let slices = world.slices().await;
    for endpoint in of(&slices) {
        let hints = endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap();
        assert_eq!(Some(&hints[0].name), endpoint.zone.as_ref());
    }
    world
        .told(
            "web",
            "Normal TopologyAwareHintsEnabled",
            "Topology Aware Hints has been enabled, addressType: IPv4",
        )
        .await;
    for number in 2..=9 {
        world.kill(&format!("web-{number}")).await;
    }
    let slices = world.slices().await;
    assert!(of(&slices).iter().all(|e| e.hints.is_none()));
    let events = world.events("web").await;
    assert!(events["Warning TopologyAwareHintsDisabled"].starts_with("Insufficient number of endpoints"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_trigger_time_of_the_last_change_is_written_to_slices_and_endpoints() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({}))).await;
    world.settle().await;
    let before = world.cluster.clock.now();
    world.backend(1, "n1", json!({})).await;
    const KEY: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    let slice = &world.slices().await[0];
    let at: jiff::Timestamp = slice.metadata.annotations.as_ref().unwrap()[KEY].parse().unwrap();
    assert!(at.as_second() >= before.as_second());
    let endpoints = world.get::<Endpoints>("web").await;
    assert!(endpoints.metadata.annotations.as_ref().unwrap().contains_key(KEY));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_list_ready_and_unready_addresses_with_their_ports() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({}))).await;
    world.backend(1, "n1", json!({})).await;
    let second = world.backend(2, "n1", json!({})).await;
    world.serve(&second, 2, false).await;
    world.settle().await;
    let found = world.get::<Endpoints>("web").await;
    let target = |number: u8| json!({"kind": "Pod", "namespace": "default", "name": format!("web-{number}")});
    let subset = &found.subsets.as_ref().unwrap()[0];
    for (list, number) in [(&subset.addresses, 1), (&subset.not_ready_addresses, 2)] {
        says(
            &list.as_ref().unwrap()[0],
            json!({"ip": format!("10.1.0.{number}"), "nodeName": "n1", "targetRef": target(number)}),
        );
    }
    says(
        &subset.ports,
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}]),
    );
    world.delete::<Service>("web").await;
    world.until_gone::<Endpoints>("web").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_written_by_hand_are_mirrored_to_slices() {
    let world = World::new().await;
    world.make::<Service>(service(json!({"selector": null}))).await;
    let by_hand = json!({"metadata": {"name": "web", "labels": {"own": "label"}}, "subsets": [{
        "addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}],
        "ports": [{"name": "http", "port": 80}]}]});
    world.make::<Endpoints>(by_hand).await;
    let slices = world.slices().await;
    let [slice] = slices.as_slice() else {
        panic!("{slices:?}")
    };
    says(
        &slice.metadata.labels,
        json!({"own": "label", "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"}),
    );
    let ready: Vec<_> = of(&slices)
        .iter()
        .map(|e| e.conditions.as_ref().unwrap().ready)
        .collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    world.merge::<Endpoints>("web", json!({"subsets": []})).await;
    assert!(of(&world.slices().await).is_empty());
    world.delete::<Endpoints>("web").await;
    assert!(world.slices().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_not_mirrored_for_leaders_for_services_with_a_selector_or_when_they_say_so() {
    let world = World::new().await;
    world.make::<Service>(service(json!({"selector": null}))).await;
    let by_hand = |meta: Value| {
        json!({"metadata": with(json!({"name": "web"}), meta),
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]})
    };
    for meta in [
        json!({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}),
        json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}),
    ] {
        world.make::<Endpoints>(by_hand(meta.clone())).await;
        assert!(world.slices().await.is_empty(), "{meta}");
        world.delete::<Endpoints>("web").await;
        world.settle().await;
    }
    world.make::<Endpoints>(by_hand(json!({}))).await;
    assert_eq!(world.slices().await.len(), 1);
    // The service's own controller takes over.
    world
        .merge::<Service>("web", json!({"spec": {"selector": {"app": "none"}}}))
        .await;
    let slices = world.slices().await;
    let managers: Vec<_> = slices
        .iter()
        .map(|s| s.metadata.labels.as_ref().unwrap()["endpointslice.kubernetes.io/managed-by"].as_str())
        .collect();
    assert_eq!(managers, ["endpointslice-controller.k8s.io"]);
    world.stop().await;
}

/// So many more pods of a group that serve, from this number on.
async fn backends(world: &World, group: &str, from: u32, count: u32) {
    for number in from..from + count {
        let labels = json!({"app": "web", "group": group});
        let pod = json!({"metadata": {"name": format!("many-{number}"), "labels": labels}, "spec": {
            "nodeName": "n1", "containers": [{"name": "c", "image": "v1"}]}});
        let pod = name(&*world.make::<Pod>(pod).await);
        let ip = format!("10.2.{}.{}", number / 200, number % 200 + 1);
        let now = world.cluster.clock.now();
        let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]});
        world.status::<Pod>(&pod, status).await;
    }
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut sizes: Vec<_> = slices
        .iter()
        .map(|s| s.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    sizes.sort_unstable();
    sizes
}

#[tokio::test(start_paused = true)]
async fn a_slice_has_no_more_than_100_endpoints_and_one_that_has_room_is_filled_before_a_new_one_is_made() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    backends(&world, "first", 0, 250).await;
    world
        .make::<Service>(service(json!({"selector": {"group": "first"}})))
        .await;
    assert_eq!(sizes(&world.slices().await), [50, 100, 100]);
    // Those that go leave room in their slices: nothing is moved about to fill it.
    for number in 0..20 {
        world.kill(&format!("many-{number}")).await;
    }
    assert_eq!(sizes(&world.slices().await), [50, 90, 90]);
    // What comes together goes into the fullest slice that has room for all of it.
    backends(&world, "second", 250, 10).await;
    let of = |group: Value| json!({"spec": {"selector": {"group": group}}});
    world.merge::<Service>("web", of(Value::Null)).await;
    assert_eq!(sizes(&world.slices().await), [50, 90, 100]);
    // What has no room in any one slice gets a new one: few changes are worth more than full slices.
    world.merge::<Service>("web", of("first".into())).await;
    assert_eq!(sizes(&world.slices().await), [50, 90, 90]);
    backends(&world, "second", 260, 50).await;
    world.merge::<Service>("web", of(Value::Null)).await;
    assert_eq!(sizes(&world.slices().await), [50, 60, 90, 90]);
    // One after the other they fill slices up, the fullest first.
    for number in 310..340 {
        backends(&world, "third", number, 1).await;
        world.settle().await;
    }
    assert_eq!(sizes(&world.slices().await), [50, 70, 100, 100]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_cut_at_1000_addresses_and_say_so_until_there_are_fewer() {
    const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
    let world = World::new().await;
    world.zone("n1", "a").await;
    backends(&world, "first", 0, 1001).await;
    world.make::<Service>(service(json!({}))).await;
    let found = || async {
        world.settle().await;
        let endpoints = world.get::<Endpoints>("web").await;
        let subsets = endpoints.subsets.iter().flatten();
        let addresses: usize = subsets.map(|s| s.addresses.as_ref().map_or(0, Vec::len)).sum();
        let said = endpoints
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(OVER_CAPACITY).cloned());
        (addresses, said)
    };
    assert_eq!(found().await, (1000, Some("truncated".to_owned())));
    // Slices have them all.
    assert_eq!(sizes(&world.slices().await).iter().sum::<usize>(), 1001);
    world.kill("many-0").await;
    assert_eq!(found().await, (1000, None));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_have_ended_or_have_no_address_are_no_endpoints() {
    let world = World::new().await;
    world.zone("n1", "a").await;
    world.make::<Service>(service(json!({}))).await;
    let pod = world.backend(1, "n1", json!({})).await;
    world.backend(2, "n1", json!({})).await;
    world.end(&pod, 0).await;
    let waiting = json!({"metadata": {"name": "waiting", "labels": {"app": "web"}}, "spec": {"nodeName": "n1",
        "containers": [{"name": "c", "image": "v1"}]}});
    world.make::<Pod>(waiting).await;
    let slices = world.slices().await;
    let all = of(&slices);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].addresses, ["10.1.0.2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_large_service_are_told_together_and_those_of_a_small_one_at_once() {
    for (pods, fewest, most) in [(60, 60, 60), (250, 10, 25)] {
        let world = World::new().await;
        world.zone("n1", "a").await;
        world.make::<Service>(service(json!({}))).await;
        for number in 0..pods {
            world.backend(number, "n1", json!({})).await;
        }
        world.settle().await;
        let (client, clock, stop) = (
            world.cluster.client.clone(),
            world.cluster.clock,
            CancellationToken::new(),
        );
        let informers = InformerFactory::new(client, clock, stop);
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        informers.informer::<Endpoints>().add_handler(move |change| {
            if change.old().is_some() && change.object().metadata.name.as_deref() == Some("web") {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        informers.synced().await;
        // Each a moment after the one before.
        for number in 0..pods {
            world.serve(&format!("web-{number}"), number, false).await;
            world.pass(Duration::from_millis(1)).await;
        }
        let slices = world.slices().await;
        let not_ready = |e: &&Endpoint| e.conditions.as_ref().is_some_and(|c| c.ready == Some(false));
        assert_eq!(of(&slices).into_iter().filter(not_ready).count(), usize::from(pods));
        let endpoints = world.get::<Endpoints>("web").await;
        let subsets = endpoints.subsets.as_ref().unwrap();
        assert_eq!(
            subsets[0].not_ready_addresses.as_ref().unwrap().len(),
            usize::from(pods)
        );
        let written = written.load(Ordering::Relaxed);
        assert!((fewest..=most).contains(&written), "{written} times for {pods} pods");
        world.stop().await;
    }
}
