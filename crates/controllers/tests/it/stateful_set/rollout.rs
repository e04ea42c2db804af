//! What an update may take away at a time, and what it waits for.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::{claimed, image, images, parallel, set};
use crate::world::{World, with};

fn rolling(replicas: i32, rolling: Value) -> Value {
    json!({"replicas": replicas, "updateStrategy": {"rollingUpdate": rolling}})
}

async fn updated(world: &World) -> Vec<String> {
    let pods = images(&world.pods("db").await);
    let new = pods.into_iter().filter(|p| p.ends_with("v2"));
    new.map(|p| p.trim_end_matches(" v2").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn max_unavailable_counts_with_ordered_pods_too() {
    let world = World::serving(rolling(4, json!({"maxUnavailable": 2}))).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    assert_eq!(updated(&world).await.len(), 1, "made again one after the other");
    let pods = world.pods("db").await;
    // Both have gone, and the first of them is back.
    assert_eq!(pods.len(), 3);
    world.all_ready().await;
    assert_eq!(updated(&world).await, ["db-0", "db-1", "db-2", "db-3"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn max_unavailable_may_be_a_share_of_the_replicas_and_is_at_least_one() {
    for (share, replicas, at_once) in [("50%", 4, 2), ("10%", 4, 1)] {
        let spec = rolling(replicas, json!({"maxUnavailable": share}));
        let world = World::serving(with(spec, parallel())).await;
        world.merge::<StatefulSet>("db", image("v2")).await;
        assert_eq!(updated(&world).await.len(), at_once, "{share}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_unavailable_already_count_against_max_unavailable() {
    let spec = rolling(5, json!({"maxUnavailable": 2, "partition": 2}));
    let world = World::serving(with(spec, parallel())).await;
    world.run("db-0", false).await;
    world.settle().await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    assert_eq!(updated(&world).await, ["db-4"]);
    world.run("db-0", true).await;
    assert_eq!(updated(&world).await, ["db-3", "db-4"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lowered_step_by_step_is_a_phased_rollout() {
    let world = World::serving(rolling(3, json!({"partition": 3}))).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    world.all_ready().await;
    assert!(updated(&world).await.is_empty());
    for partition in (0..3).rev() {
        let lower = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}});
        world.merge::<StatefulSet>("db", lower).await;
        world.all_ready().await;
        assert_eq!(updated(&world).await.len(), 3 - partition);
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn min_ready_seconds_makes_pods_available_later_and_what_comes_next_waits_for_it() {
    let world = World::new().await;
    let spec = json!({"minReadySeconds": 30, "replicas": 2});
    world.make::<StatefulSet>(set(spec)).await;
    assert_eq!(world.db().await, ["db-0"]);
    world.run("db-0", true).await;
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(world.db().await, ["db-0"]);
    world.pass(Duration::from_secs(15)).await;
    assert_eq!(world.db().await, ["db-0", "db-1"]);
    world.run("db-1", true).await;
    world.pass(Duration::from_secs(35)).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    assert_eq!(updated(&world).await, ["db-1"]);
    world.run("db-1", true).await;
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(updated(&world).await, ["db-1"]);
    world.pass(Duration::from_secs(15)).await;
    assert_eq!(updated(&world).await, ["db-0", "db-1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_updated_keeps_its_claim() {
    let world = World::serving(claimed(Value::Null)).await;
    let uid = |claim: &str| {
        let (world, claim) = (&world, claim.to_owned());
        async move { world.get::<PersistentVolumeClaim>(&claim).await.metadata.uid.clone() }
    };
    let before = uid("data-db-1").await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    world.all_ready().await;
    assert_eq!(updated(&world).await, ["db-0", "db-1"]);
    assert_eq!(uid("data-db-1").await, before);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_both_policies_delete_claims_go_when_the_set_shrinks_and_when_it_goes() {
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let world = World::serving(claimed(policy)).await;
    world.replicas(1).await;
    assert_eq!(world.claims().await, ["data-db-0"]);
    world.replicas(2).await;
    world.all_ready().await;
    assert_eq!(world.claims().await, ["data-db-0", "data-db-1"]);
    world.delete::<StatefulSet>("db").await;
    world.until_gone::<StatefulSet>("db").await;
    assert!(world.claims().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fails_is_replaced_with_its_claim_whatever_the_policies() {
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let world = World::serving(claimed(policy)).await;
    let claim = world.get::<PersistentVolumeClaim>("data-db-0").await;
    world.end("db-0", 1).await;
    world.all_ready().await;
    let after = world.get::<PersistentVolumeClaim>("data-db-0").await;
    assert_eq!(after.metadata.uid, claim.metadata.uid);
    assert_eq!(after.metadata.deletion_timestamp, None);
    world.stop().await;
}
