//! The nodes themselves.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{DeleteOptions, ListOptions};
use coracle_fake_node::{Config, Fleet, FleetOptions, NodeTemplate};
use coracle_testkit::{Clock, FakeNodes, Options, TestCluster};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::harness::{START, cluster, is_ready, object, phase, pod, settled, until};

fn ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn renewed(cluster: &TestCluster, node: &str) -> Option<coracle_clock::Timestamp> {
    let leases = cluster.client.namespaced::<Lease>("kube-node-lease");
    let lease = leases.find(node).await.unwrap()?;
    lease.spec.as_ref()?.renew_time.as_ref().map(|t| t.0)
}

fn age(cluster: &TestCluster, time: coracle_clock::Timestamp) -> i64 {
    cluster.clock.now().duration_since(time).as_secs()
}

#[tokio::test(start_paused = true)]
async fn nodes_look_like_their_template_and_are_ready_from_the_start() {
    let template = "metadata: {labels: {zone: 'z{index%2}'}}\nspec: {taints: [{key: k, effect: NoSchedule}]}\n\
                    status: {capacity: {cpu: 4}, images: [{names: ['a:1']}]}\n";
    let options = Options {
        clock: Clock::starting_at(START.parse().unwrap()),
        fake_nodes: FakeNodes {
            template: NodeTemplate::parse(template).unwrap(),
            ..FakeNodes::new(3)
        },
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    let nodes = cluster
        .client
        .all::<Node>()
        .list(&ListOptions::default())
        .await
        .unwrap()
        .items;
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|n| ready(n)));
    let node = cluster.client.all::<Node>().get("fake-1").await.unwrap();
    assert_eq!(node.metadata.labels.as_ref().unwrap()["zone"], "z1");
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.allocatable.as_ref().unwrap()["cpu"].0, "4");
    assert_eq!(status.images.as_ref().unwrap().len(), 1);
    assert!(
        status
            .daemon_endpoints
            .as_ref()
            .unwrap()
            .kubelet_endpoint
            .as_ref()
            .unwrap()
            .port
            > 0
    );
    let spec = node.spec.as_ref().unwrap();
    assert_eq!(spec.pod_cidr.as_deref(), Some("10.128.1.0/24"));
    assert!(spec.taints.as_ref().unwrap().iter().any(|t| t.key == "k"));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_beat_by_lease_and_tell_their_status_every_few_minutes() {
    let cluster = cluster(4, "").await;
    cluster.clock.sleep(Duration::from_secs(1000)).await;
    let mut times = std::collections::HashSet::new();
    for n in 0..4 {
        let at = renewed(&cluster, &format!("fake-{n}")).await.unwrap();
        assert!(age(&cluster, at) <= 11);
        times.insert(at);
        let node = cluster.client.all::<Node>().get(&format!("fake-{n}")).await.unwrap();
        let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let beat = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert!(age(&cluster, beat.last_heartbeat_time.as_ref().unwrap().0) <= 301);
        assert!(age(&cluster, beat.last_transition_time.as_ref().unwrap().0) >= 999);
    }
    assert_eq!(times.len(), 4, "their renewals are spread");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_stays_deleted_and_one_that_is_made_by_hand_lives() {
    let cluster = cluster(2, "").await;
    let nodes = cluster.client.all::<Node>();
    nodes.delete("fake-1", &DeleteOptions::default()).await.unwrap();
    cluster.clock.sleep(Duration::from_secs(900)).await;
    assert!(nodes.find("fake-1").await.unwrap().is_none());
    assert_eq!(renewed(&cluster, "fake-1").await, None, "the lease went with its node");
    assert!(renewed(&cluster, "fake-0").await.is_some());

    let made: Node = object(json!({
        "metadata": {"name": "by-autoscaler", "labels": {"fake.coracle.io/fleet": "fake"}},
        "status": {"capacity": {"cpu": "2", "pods": "10", "memory": "4Gi"}},
    }));
    nodes.create(&made).await.unwrap();
    let all = until(cluster.clock, &nodes, |all| {
        all.iter().filter(|n| ready(n)).count() == 2
    })
    .await;
    let made = all
        .iter()
        .find(|n| n.metadata.name.as_deref() == Some("by-autoscaler"))
        .unwrap();
    let labels = made.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/hostname"], "by-autoscaler");
    assert_eq!(
        made.status.as_ref().unwrap().allocatable.as_ref().unwrap()["cpu"].0,
        "2"
    );
    let pods = cluster.client.namespaced::<Pod>("default");
    pods.create(&pod("p", Some("by-autoscaler"), json!({}))).await.unwrap();
    let seen = until(cluster.clock, &pods, |all| all.iter().any(|p| is_ready(p))).await;
    let address = seen[0].status.as_ref().unwrap().pod_ip.clone().unwrap();
    assert!(
        address.starts_with("10.128.2."),
        "{address} is of a range that no numbered node has"
    );
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_beats_no_more_and_does_nothing_for_its_pods_until_it_is_back() {
    let config = "nodes:\n  outages:\n  - {nodes: [fake-1], after: 60s, lasting: 10m}\n";
    let cluster = cluster(2, config).await;
    cluster.clock.sleep(Duration::from_secs(300)).await;
    let silent = renewed(&cluster, "fake-1").await.unwrap();
    assert!(age(&cluster, silent) >= 240, "{}", age(&cluster, silent));
    assert!(age(&cluster, renewed(&cluster, "fake-0").await.unwrap()) <= 11);

    let pods = cluster.client.namespaced::<Pod>("default");
    pods.create(&pod(
        "stuck",
        Some("fake-1"),
        json!({"spec": {"tolerations": [{"operator": "Exists"}]}}),
    ))
    .await
    .unwrap();
    cluster.clock.sleep(Duration::from_secs(200)).await;
    assert_eq!(phase(&pods.get("stuck").await.unwrap()), "Pending");
    let seen = until(cluster.clock, &pods, |all| all.iter().all(|p| phase(p) == "Running")).await;
    let back = START.parse::<coracle_clock::Timestamp>().unwrap() + Duration::from_secs(660);
    assert!(cluster.clock.now() >= back);
    let begun = seen[0].status.as_ref().unwrap().start_time.as_ref().unwrap().0;
    assert!(begun >= back, "it was taken up when the node was back: {begun}");
    cluster.clock.sleep(Duration::from_secs(20)).await;
    assert!(age(&cluster, renewed(&cluster, "fake-1").await.unwrap()) <= 11);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_starts_again_takes_up_its_nodes_and_pods_where_they_are() {
    let options = Options {
        clock: Clock::starting_at(START.parse().unwrap()),
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    settled(&cluster).await;
    let fleet = || FleetOptions {
        clock: cluster.clock,
        config: Config::parse("rules:\n- run: 1h\n").unwrap(),
        ..FleetOptions::new(cluster.client_as("system:coracle:fake-node", &[]), 2)
    };
    let options = fleet();
    let stop = options.shutdown.clone();
    let first = Fleet::start(options).await.unwrap();
    let pods = cluster.client.namespaced::<Pod>("default");
    for name in ["a", "b"] {
        pods.create(&pod(name, Some("fake-0"), json!({"spec": {"restartPolicy": "Never"}})))
            .await
            .unwrap();
    }
    let ready_pods = |all: &[Arc<Pod>]| all.iter().filter(|p| is_ready(p)).count() == 2;
    let before = until(cluster.clock, &pods, ready_pods).await;
    stop.cancel();
    first.ended().await;

    // Not so long that the control plane gives the nodes up.
    cluster.clock.sleep(Duration::from_secs(30)).await;
    let second = Fleet::start(fleet()).await.unwrap();
    assert_eq!((second.nodes(), second.pods()), (2, 2));
    pods.create(&pod("c", Some("fake-0"), json!({}))).await.unwrap();
    let after = until(cluster.clock, &pods, |all| {
        all.iter().filter(|p| is_ready(p)).count() == 3
    })
    .await;
    let address = |p: &Arc<Pod>| p.status.as_ref().unwrap().pod_ip.clone().unwrap();
    let mut addresses: Vec<_> = after.iter().map(address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "the new pod has an address that neither has");
    for old in &before {
        let new = after.iter().find(|p| p.metadata.uid == old.metadata.uid).unwrap();
        assert_eq!(
            new.metadata.resource_version, old.metadata.resource_version,
            "nothing has changed for it"
        );
    }
    // The hour counts from when they were accepted.
    until(cluster.clock, &pods, |all| {
        all.iter().filter(|p| phase(p) == "Succeeded").count() == 2
    })
    .await;
    let hour = START.parse::<coracle_clock::Timestamp>().unwrap() + Duration::from_secs(3600);
    assert!(cluster.clock.now() < hour + Duration::from_secs(60));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_does_not_take_over_a_node_that_is_not_its_own() {
    let cluster = cluster(0, "").await;
    let node: Node = object(json!({"metadata": {"name": "fake-0"}}));
    cluster.client.all::<Node>().create(&node).await.unwrap();
    let options = FleetOptions::new(cluster.client.clone(), 1);
    let Err(error) = Fleet::start(options).await else {
        panic!("it started")
    };
    assert!(
        error
            .to_string()
            .contains("fake-0 is there and is no node of this fleet"),
        "{error}"
    );

    let mut options = FleetOptions::new(cluster.client.clone(), 100_000);
    options.name = "many".into();
    let Err(error) = Fleet::start(options).await else {
        panic!("it started")
    };
    assert!(error.to_string().contains("nodes.podCIDR"), "{error}");
    cluster.stop().await;
}
