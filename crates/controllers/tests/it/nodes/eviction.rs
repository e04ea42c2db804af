//! Whose pods have to go, when, and how fast.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{READY, seconds};
use crate::world::{World, says, template};

#[tokio::test(start_paused = true)]
async fn pods_stay_for_five_minutes_on_a_node_with_a_problem_unless_they_say_otherwise() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    world.pod_on("n1", "web", json!(null)).await;
    let tolerations = world.get::<Pod>("web").await.spec.clone().unwrap().tolerations.unwrap();
    for (toleration, key) in tolerations.iter().zip(["not-ready", "unreachable"]) {
        says(
            toleration,
            json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}),
        );
    }
    world.heartbeat("n1", "False").await;
    for _ in 0..14 {
        world.pass(seconds(20)).await;
        world.heartbeat("n1", "False").await;
        world.heartbeat("n2", READY).await;
    }
    assert!(world.going().await.is_empty());
    world.pass(seconds(30)).await;
    assert_eq!(world.going().await, ["web"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_node_that_is_well_again_in_time_stays() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    world.pod_on("n1", "web", json!(null)).await;
    world.heartbeat("n1", "False").await;
    for step in 0..20 {
        world.pass(seconds(30)).await;
        world.heartbeat("n1", if step < 5 { "False" } else { READY }).await;
        world.heartbeat("n2", READY).await;
    }
    assert!(world.going().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_taints_the_shortest_toleration_counts_and_one_that_is_not_tolerated_evicts_at_once() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    let tolerating = |key: &str, seconds: u64| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    world
        .pod_on("n1", "web", json!([tolerating("a", 100), tolerating("b", 20)]))
        .await;
    world.pod_on("n1", "other", json!([tolerating("a", 100)])).await;
    let taints = json!([{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]);
    world.merge::<Node>("n1", json!({"spec": {"taints": taints}})).await;
    assert_eq!(world.going().await, ["other"]);
    world.kill("other").await;
    world.pass(seconds(15)).await;
    world.heartbeat("n1", READY).await;
    world.pass(seconds(5)).await;
    assert_eq!(world.going().await, ["web"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_evicted_by_a_taint_says_so_in_its_disruption_target_condition() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.pod_on("n1", "web", json!(null)).await;
    let taint = json!({"spec": {"taints": [{"key": "own", "effect": "NoExecute"}]}});
    world.merge::<Node>("n1", taint).await;
    world.settle().await;
    let pod = world.get::<Pod>("web").await;
    let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget");
    says(
        target.unwrap(),
        json!({"status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "observedGeneration": 1}),
    );
    world
        .told(
            "web",
            "Normal TaintManagerEviction",
            "Marking for deletion Pod default/web",
        )
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_no_schedule_taint_evicts_nobody() {
    let world = World::new().await;
    world.node_in("n1", "a").await;
    world.pod_on("n1", "web", json!(null)).await;
    let taints = json!([{"key": "own", "effect": "NoSchedule"}, {"key": "own", "effect": "PreferNoSchedule"}]);
    world.merge::<Node>("n1", json!({"spec": {"taints": taints}})).await;
    world.pass(seconds(30)).await;
    assert!(world.going().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_small_zone_of_which_55_percent_are_unhealthy_evictions_are_stopped() {
    let world = World::new().await;
    for n in 0..5 {
        world.node_in(&format!("n{n}"), "a").await;
    }
    world.node_in("far", "b").await;
    for n in 0..3 {
        world.heartbeat(&format!("n{n}"), "False").await;
    }
    let mut emptied = 0;
    for _ in 0..4 {
        world.pass(seconds(30)).await;
        for n in 0..5 {
            let truth = if n < 3 { "False" } else { READY };
            world.heartbeat(&format!("n{n}"), truth).await;
        }
        world.heartbeat("far", READY).await;
    }
    for n in 0..3 {
        let taints = world.node_taints(&format!("n{n}")).await;
        emptied += usize::from(taints.contains(&"not-ready:NoExecute".to_owned()));
    }
    // The first two were emptied before the zone was known to be partially disrupted.
    assert!(emptied < 3, "{emptied}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_terminating_pod_that_never_got_a_node_is_deleted() {
    let world = World::new().await;
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}, "finalizers": ["example.com/hold"]},
        "spec": template("web")["spec"]});
    world.make::<Pod>(pod).await;
    world.delete::<Pod>("web").await;
    world.settle().await;
    let found = world.get::<Pod>("web").await;
    assert!(found.metadata.deletion_timestamp.is_some());
    world
        .merge::<Pod>("web", json!({"metadata": {"finalizers": null}}))
        .await;
    world.until_gone::<Pod>("web").await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn static_pods_and_daemons_tolerate_every_problem_of_their_node() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node_in(node, "a").await;
    }
    world.pod_on("n1", "web", json!([{"operator": "Exists"}])).await;
    world.heartbeat("n1", "False").await;
    for _ in 0..30 {
        world.pass(seconds(30)).await;
        world.heartbeat("n1", "False").await;
        world.heartbeat("n2", READY).await;
    }
    assert!(world.going().await.is_empty());
    world.stop().await;
}
