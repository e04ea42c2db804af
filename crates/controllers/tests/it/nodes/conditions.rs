//! What conditions and heartbeats of nodes lead to: taints, labels, events, and pods that are not ready.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{READY, condition, seconds, taints};
use crate::world::{World, says};

#[tokio::test(start_paused = true)]
async fn the_control_plane_translates_node_conditions_to_no_schedule_taints_and_takes_them_back() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    for (kind, truth, taint) in [
        ("MemoryPressure", "True", "memory-pressure"),
        ("DiskPressure", "True", "disk-pressure"),
        ("PIDPressure", "True", "pid-pressure"),
        ("NetworkUnavailable", "True", "network-unavailable"),
    ] {
        let now = world.cluster.clock.now();
        let told = |kind: &str, truth: &str| json!({"type": kind, "status": truth, "lastHeartbeatTime": now, "lastTransitionTime": now});
        let conditions = json!({"conditions": [told("Ready", READY), told(kind, truth)]});
        world.status::<Node>("n1", conditions).await;
        assert_eq!(world.node_taints("n1").await, [format!("{taint}:NoSchedule")]);
    }
    world.heartbeat("n1", READY).await;
    assert!(world.node_taints("n1").await.is_empty());
    world
        .merge::<Node>("n1", json!({"spec": {"unschedulable": true}}))
        .await;
    assert_eq!(world.node_taints("n1").await, ["unschedulable:NoSchedule"]);
    world
        .merge::<Node>("n1", json!({"spec": {"unschedulable": null}}))
        .await;
    assert!(world.node_taints("n1").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn not_ready_false_is_another_taint_than_unknown_and_one_takes_the_place_of_the_other() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    world.heartbeat("n1", "False").await;
    assert_eq!(
        world.node_taints("n1").await,
        ["not-ready:NoExecute", "not-ready:NoSchedule"]
    );
    for _ in 0..5 {
        world.pass(seconds(20)).await;
        world.heartbeat("n2", READY).await;
    }
    assert_eq!(
        world.node_taints("n1").await,
        ["unreachable:NoExecute", "unreachable:NoSchedule"]
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn taints_of_others_are_left_as_they_are() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    let own = json!({"spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]}});
    world.merge::<Node>("n1", own).await;
    world.heartbeat("n1", "False").await;
    assert_eq!(
        world.node_taints("n1").await,
        ["not-ready:NoExecute", "not-ready:NoSchedule", "own:NoSchedule"]
    );
    world.heartbeat("n1", READY).await;
    assert_eq!(world.node_taints("n1").await, ["own:NoSchedule"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_is_a_heartbeat_as_good_as_a_status() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    let leases = world.cluster.client.namespaced::<Lease>("kube-node-lease");
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40}});
    leases.create(&crate::harness::from(lease)).await.unwrap();
    for _ in 0..10 {
        world.pass(seconds(10)).await;
        let now = json!({"spec": {"renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(world.cluster.clock.now())}});
        leases.patch("n1", coracle_client::Patch::Merge(now)).await.unwrap();
    }
    assert!(world.node_taints("n1").await.is_empty());
    says(
        condition(&*world.get::<Node>("n1").await, "Ready"),
        json!({"status": "True"}),
    );
    world.pass(seconds(60)).await;
    says(
        condition(&*world.get::<Node>("n1").await, "Ready"),
        json!({"status": "Unknown"}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_unreachable_are_not_ready_and_events_tell_of_it() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    world.pod_on("n1", "web", json!([{"operator": "Exists"}])).await;
    for _ in 0..3 {
        world.pass(seconds(20)).await;
        world.heartbeat("n2", READY).await;
    }
    world.settle().await;
    let pod = world.get::<Pod>("web").await;
    let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    says(ready, json!({"status": "False"}));
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    world.told("web", "Warning NodeNotReady", "Node is not ready").await;
    world
        .told("n1", "Normal NodeNotReady", "Node n1 status is now: NodeNotReady")
        .await;
    world
        .told("n1", "Normal RegisteredNode", "Registered Node n1 in Controller")
        .await;
    world.delete::<Node>("n1").await;
    world
        .told("n1", "Normal RemovingNode", "Removing Node n1 from Controller")
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_old_names_of_the_labels_of_system_and_architecture_follow_the_new_ones() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    let labels = json!({"metadata": {"labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}}});
    world.merge::<Node>("n1", labels).await;
    world.settle().await;
    says(
        &world.get::<Node>("n1").await.metadata.labels,
        json!({"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "arm64"}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_taints_of_its_own_stays_schedulable_whatever_comes_and_goes() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.node_in("n2", "a").await;
    for truth in ["False", READY, "Unknown", READY] {
        world.heartbeat("n1", truth).await;
        world.settle().await;
    }
    assert!(taints(&*world.get::<Node>("n1").await).is_empty());
    world.stop().await;
}
