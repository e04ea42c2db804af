//! A node that falls silent, and what becomes of its pods.

use std::time::Duration;

use coracle_client::Patch;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::world::World;

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let mut texts: Vec<String> = taints.map(|t| format!("{}:{}", t.key, t.effect)).collect();
    texts.sort();
    texts
}

fn ready(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready")?;
    Some((ready.status.clone(), ready.reason.clone().unwrap_or_default()))
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_becomes_unknown_and_its_pods_go_when_their_time_is_over() {
    let world = World::start().await;
    world.node("a", "z").await;
    world.node("b", "z").await;
    world.silent_node("silent", "z").await;
    let start = world.clock.now();
    let tolerate = |seconds: Option<i64>| {
        let one = |key: &str| {
            let mut t = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
            if let Some(seconds) = seconds {
                t["tolerationSeconds"] = json!(seconds);
            }
            t
        };
        json!({"tolerations": [one("node.kubernetes.io/not-ready"), one("node.kubernetes.io/unreachable")]})
    };
    world
        .pod("short", "silent", "10.1.0.1", json!({}), tolerate(Some(60)))
        .await;
    world.pod("long", "silent", "10.1.0.2", json!({}), tolerate(None)).await;
    world
        .pod("elsewhere", "a", "10.1.0.3", json!({}), tolerate(Some(60)))
        .await;

    let nodes = world.api::<Node>();
    let unknown = ("Unknown".to_owned(), "NodeStatusUnknown".to_owned());
    world
        .wait(&nodes, "silent", |n| ready(n) == Some(unknown.clone()))
        .await;
    let silence = world.clock.now().duration_since(start).as_secs();
    assert!((50..=61).contains(&silence), "{silence}");
    world
        .wait(&nodes, "silent", |n| {
            taints(n)
                == [
                    "node.kubernetes.io/unreachable:NoExecute",
                    "node.kubernetes.io/unreachable:NoSchedule",
                ]
        })
        .await;
    let tainted = world.clock.now();
    let pods = world.api::<Pod>();
    let not_ready = |p: &Pod| {
        let conditions = p.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "False")
    };
    world.wait(&pods, "long", not_ready).await;
    let going = world
        .wait(&pods, "short", |p| p.metadata.deletion_timestamp.is_some())
        .await;
    let stayed = world.clock.now().duration_since(tainted).as_secs();
    assert!((59..=62).contains(&stayed), "{stayed}");
    let conditions = going.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(target.reason.as_deref(), Some("DeletionByTaintManager"));

    // It comes back.
    let well = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T01:00:00Z"}]}});
    nodes.status().patch("silent", Patch::Strategic(well)).await.unwrap();
    world.revive("silent");
    world.wait(&nodes, "silent", |n| taints(n).is_empty()).await;
    assert!(pods.get("long").await.unwrap().metadata.deletion_timestamp.is_none());
    let other = pods.get("elsewhere").await.unwrap();
    assert!(other.metadata.deletion_timestamp.is_none() && !not_ready(&other));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_every_node_is_silent_no_pod_is_evicted() {
    let world = World::start().await;
    world.silent_node("only", "z").await;
    let seconds = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30});
    let tolerations =
        json!({"tolerations": [seconds("node.kubernetes.io/not-ready"), seconds("node.kubernetes.io/unreachable")]});
    world.pod("p", "only", "10.1.0.1", json!({}), tolerations).await;
    let nodes = world.api::<Node>();
    world
        .wait(&nodes, "only", |n| {
            taints(n) == ["node.kubernetes.io/unreachable:NoSchedule"]
        })
        .await;
    world.clock.sleep(Duration::from_secs(600)).await;
    let node = nodes.get("only").await.unwrap();
    assert_eq!(taints(&node), ["node.kubernetes.io/unreachable:NoSchedule"]);
    let pod = world.api::<Pod>().get("p").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_none());
    world.stop().await;
}
