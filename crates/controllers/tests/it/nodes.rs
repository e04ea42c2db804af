//! Node lifecycle, taint eviction and pod garbage collection, as
//! <https://kubernetes.io/docs/concepts/architecture/nodes/>,
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/> and
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/> say.

mod conditions;
mod eviction;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use serde_json::{Value, json};

use crate::world::{World, names, says, template, with};

const READY: &str = "True";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let mut all: Vec<String> = taints
        .map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect))
        .collect();
    all.sort();
    all
}

fn condition<'n>(node: &'n Node, kind: &str) -> &'n NodeCondition {
    let conditions = node.status.as_ref().unwrap().conditions.as_ref().unwrap();
    conditions.iter().find(|c| c.type_ == kind).unwrap()
}

impl World {
    async fn node_in(&self, name: &str, zone: &str) {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        self.make::<Node>(json!({"metadata": {"name": name, "labels": labels}}))
            .await;
        self.heartbeat(name, READY).await;
    }

    async fn heartbeat(&self, node: &str, ready: &str) {
        let now = self.cluster.clock.now();
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now});
        let conditions = json!({"conditions": [condition("Ready", ready), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False")]});
        self.status::<Node>(node, conditions).await;
    }

    async fn pod_on(&self, node: &str, pod: &str, tolerations: Value) {
        let spec = with(
            template("web")["spec"].clone(),
            json!({"nodeName": node, "tolerations": tolerations}),
        );
        self.make::<Pod>(json!({"metadata": {"name": pod, "labels": {"app": "web"}}, "spec": spec}))
            .await;
        self.run(pod, true).await;
    }

    async fn node_taints(&self, node: &str) -> Vec<String> {
        self.settle().await;
        taints(&*self.get::<Node>(node).await)
    }

    async fn going(&self) -> Vec<String> {
        let pods: Vec<Arc<Pod>> = self.pods("web").await;
        let going: Vec<_> = pods
            .into_iter()
            .filter(|p| p.metadata.deletion_timestamp.is_some())
            .collect();
        names(&going)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_for_its_grace_becomes_unknown_and_is_tainted_unreachable() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.node_in("n2", "a").await;
    for _ in 0..5 {
        world.pass(seconds(20)).await;
        world.heartbeat("n2", READY).await;
    }
    let found = world.get::<Node>("n1").await;
    says(
        condition(&found, "Ready"),
        json!({"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}),
    );
    assert_eq!(taints(&found), ["unreachable:NoExecute", "unreachable:NoSchedule"]);
    assert!(world.node_taints("n2").await.is_empty());
    world.heartbeat("n1", READY).await;
    assert!(world.node_taints("n1").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_execute_evicts_at_once_after_toleration_seconds_or_never() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    let tolerating = |seconds: Value| json!([{"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    world.pod_on("n1", "never", tolerating(json!(null))).await;
    world.pod_on("n1", "later", tolerating(json!(20))).await;
    world.pod_on("n1", "now", json!(null)).await;
    let taint = json!({"spec": {"taints": [{"key": "own", "effect": "NoExecute"}]}});
    world.merge::<Node>("n1", taint).await;
    assert_eq!(world.going().await, ["now"]);
    world.kill("now").await;
    world.pass(seconds(18)).await;
    world.heartbeat("n1", READY).await;
    assert_eq!(world.going().await, ["later"]);
    world.kill("later").await;
    world.pass(seconds(600)).await;
    assert!(world.going().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_all_zones_are_completely_unhealthy_nothing_is_evicted() {
    let world = World::new().await;
    world.node_in("a", "a").await;
    world.node_in("b", "b").await;
    world.pod_on("a", "web", json!(null)).await;
    world.pass(seconds(900)).await;
    assert_eq!(world.node_taints("a").await, ["unreachable:NoSchedule"]);
    assert!(world.going().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_posts_a_status_is_unknown_after_its_startup_grace() {
    let world = World::new().await;
    world.make::<Node>(json!({"metadata": {"name": "n1"}})).await;
    world.pass(seconds(70)).await;
    let found = world.get::<Node>("n1").await;
    says(
        condition(&found, "Ready"),
        json!({"status": "Unknown", "reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status."}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn if_the_taint_is_removed_before_that_time_the_pod_will_not_be_evicted() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    let tolerations = json!([{"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}]);
    world.pod_on("n1", "web", tolerations).await;
    let taints = |taints: Value| json!({"spec": {"taints": taints}});
    world
        .merge::<Node>("n1", taints(json!([{"key": "own", "effect": "NoExecute"}])))
        .await;
    world.pass(seconds(10)).await;
    world.merge::<Node>("n1", taints(json!(null))).await;
    world.pass(seconds(30)).await;
    assert!(world.going().await.is_empty());
    let message = "Cancelling deletion of Pod default/web";
    world.told("web", "Normal TaintManagerEviction", message).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_nodes_of_a_zone_are_emptied_one_every_ten_seconds() {
    let world = World::new().await;
    for n in 0..7 {
        world.node_in(&format!("n{n}"), "a").await;
    }
    let failing = ["n0", "n1", "n2"];
    for node in failing {
        world.heartbeat(node, "False").await;
    }
    let mut emptied = Vec::new();
    for _ in 0..3 {
        let mut count = 0;
        for node in failing {
            let taints = world.node_taints(node).await;
            count += usize::from(taints.contains(&"not-ready:NoExecute".to_owned()));
        }
        emptied.push(count);
        world.pass(seconds(4)).await;
    }
    // 6 seconds of settling and 4 of waiting a round.
    assert_eq!(emptied, [1, 2, 3]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_no_longer_exists_fail_and_are_deleted() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.pod_on("n1", "web", json!(null)).await;
    world
        .merge::<Pod>("web", json!({"metadata": {"finalizers": ["example.com/hold"]}}))
        .await;
    world.delete::<Node>("n1").await;
    world.pass(seconds(60)).await;
    let pod = world.get::<Pod>("web").await;
    assert!(pod.metadata.deletion_timestamp.is_some());
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let conditions = status.conditions.as_ref().unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget");
    says(
        target.unwrap(),
        json!({"status": "True", "reason": "DeletionByPodGC", "message": "PodGC: node no longer exists",
            "observedGeneration": 1}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_pods_of_a_node_that_is_out_of_service_are_deleted_by_force() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.node_in("n2", "a").await;
    world.pod_on("n1", "web", json!([{"operator": "Exists"}])).await;
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.merge::<Pod>("web", held).await;
    world.delete::<Pod>("web").await;
    world.heartbeat("n1", "False").await;
    world.settle().await;
    assert_eq!(world.going().await, ["web"]);
    let taint = json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]);
    world.merge::<Node>("n1", json!({"spec": {"taints": taint}})).await;
    world.settle().await;
    let pod = world.get::<Pod>("web").await;
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(pod.metadata.deletion_grace_period_seconds, Some(0));
    // It had been deleted before: nothing disrupted it.
    let mut conditions = status.conditions.iter().flatten();
    assert!(conditions.all(|c| c.type_ != "DisruptionTarget"));
    world
        .merge::<Pod>("web", json!({"metadata": {"finalizers": null}}))
        .await;
    world.until_gone::<Pod>("web").await;
    world.stop().await;
}
