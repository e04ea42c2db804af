//! How a Deployment goes from one template to the next, within which bounds, and back.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Api, ListOptions};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::world::{World, name, names, says};

#[tokio::test(start_paused = true)]
async fn a_rollout_is_triggered_if_and_only_if_the_template_is_changed() {
    let world = World::with_nodes(2, "").await;
    world.make::<Deployment>(deployment(json!({}))).await;
    world.complete().await;
    world
        .merge::<Deployment>(
            "web",
            json!({"spec": {"replicas": 5, "minReadySeconds": 1, "revisionHistoryLimit": 3}}),
        )
        .await;
    world.complete().await;
    let sets = world.sets().await;
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].spec.min_ready_seconds, Some(1));
    world
        .merge::<Deployment>(
            "web",
            json!({"spec": {"template": {"metadata": {"labels": {"tier": "x"}}}}}),
        )
        .await;
    world.complete().await;
    assert_eq!(world.sizes().await, [0, 5]);
    world.stop().await;
}

/// Follows the pods of a rollout: how many there were at the most, and how few were ready at the least.
async fn bounds(pods: Api<Pod>, mut revision: u64) -> (usize, usize) {
    use coracle_client::WatchEvent;
    use futures::StreamExt;
    let list = pods.list(&ListOptions::default()).await.unwrap();
    let mut known: std::collections::HashMap<String, Arc<Pod>> =
        list.items.into_iter().map(|p| (name(&*p), p)).collect();
    revision = revision.max(list.revision);
    let options = ListOptions {
        resource_version: revision.to_string(),
        ..ListOptions::default()
    };
    let (mut most, mut least) = (0, usize::MAX);
    let mut changes = pods.watch(&options).await.unwrap();
    while let Some(Ok(change)) = changes.next().await {
        match change {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => drop(known.insert(name(&*pod), pod)),
            WatchEvent::Deleted(pod) => drop(known.remove(&name(&*pod))),
            WatchEvent::Bookmark { .. } => continue,
        }
        let living = known.values().filter(|p| p.metadata.deletion_timestamp.is_none());
        let ready = |p: &&Arc<Pod>| {
            let conditions = p.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        most = most.max(living.clone().count());
        least = least.min(living.clone().filter(ready).count());
        let done = |p: &Arc<Pod>| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2");
        if living.clone().all(done) && living.clone().filter(ready).count() >= 4 && known.len() == living.count() {
            break;
        }
    }
    (most, least)
}

/// Rolls 4 pods from v1 to v2 under these bounds.
async fn rolled(max_surge: Value, max_unavailable: Value) -> (usize, usize) {
    let world = World::with_nodes(2, "rules:\n- ready: 5s\n").await;
    let strategy = json!({"replicas": 4, "strategy": {"rollingUpdate": {"maxSurge": max_surge, "maxUnavailable": max_unavailable}}});
    world.make::<Deployment>(deployment(strategy)).await;
    world.complete().await;
    let watching = tokio::spawn(bounds(world.api::<Pod>(), 0));
    world.settle().await;
    world.merge::<Deployment>("web", image("v2")).await;
    let found = watching.await.unwrap();
    world.complete().await;
    assert_eq!(world.sizes().await, [0, 4]);
    world.stop().await;
    found
}

#[tokio::test(start_paused = true)]
async fn by_default_at_least_75_percent_are_up_and_at_most_125_percent_run() {
    assert_eq!(rolled(Value::Null, Value::Null).await, (5, 3));
}

#[tokio::test(start_paused = true)]
async fn with_max_unavailable_0_no_pod_goes_before_its_successor_is_ready() {
    assert_eq!(rolled(json!(2), json!(0)).await, (6, 4));
}

#[tokio::test(start_paused = true)]
async fn with_max_surge_0_pods_go_first() {
    assert_eq!(rolled(json!(0), json!("50%")).await, (4, 2));
}

#[tokio::test(start_paused = true)]
async fn max_surge_is_rounded_up_and_max_unavailable_down() {
    // 10 % of 4: one more, none fewer.
    assert_eq!(rolled(json!("10%"), json!("10%")).await, (5, 4));
}

#[tokio::test(start_paused = true)]
async fn max_surge_and_max_unavailable_can_not_both_be_0() {
    let world = World::new().await;
    let none = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}});
    let refused = world
        .api::<Deployment>()
        .create(&crate::harness::from(deployment(none)))
        .await
        .unwrap_err();
    let message = "spec.strategy.rollingUpdate.maxUnavailable: Invalid value";
    assert!(refused.to_string().contains(message), "{refused}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn recreate_kills_all_existing_pods_before_new_ones_are_created() {
    let world = World::new().await;
    let spec = json!({"strategy": {"type": "Recreate"}, "template": {"spec": {"nodeName": "n1"}}});
    world.make::<Deployment>(deployment(spec)).await;
    let old = world.pods("web").await;
    world.ready(&old).await;
    world.complete().await;
    world.merge::<Deployment>("web", image("v2")).await;
    let going = world.pods("web").await;
    assert_eq!(names(&going), names(&old));
    assert!(going.iter().all(|p| p.metadata.deletion_timestamp.is_some()));
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"terminatingReplicas": 3, "replicas": null}),
    );
    for pod in &old[..2] {
        world.kill(&name(&**pod)).await;
    }
    assert_eq!(world.pods("web").await.len(), 1);
    world.kill(&name(&*old[2])).await;
    let new = world.active("web").await;
    assert_eq!(new.len(), 3);
    assert_eq!(world.sizes().await, [0, 3]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_recreate_a_pod_that_is_deleted_by_hand_is_replaced_while_it_still_terminates() {
    let world = World::new().await;
    let spec = json!({"strategy": {"type": "Recreate"}, "template": {"spec": {"nodeName": "n1"}}});
    world.make::<Deployment>(deployment(spec)).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world.delete::<Pod>(&name(&*pods[0])).await;
    assert_eq!((world.pods("web").await.len(), world.active("web").await.len()), (4, 3));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollover_starts_killing_the_pods_of_an_unfinished_rollout_at_once() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({"replicas": 4}))).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world.merge::<Deployment>("web", image("v2")).await;
    world.settle().await;
    assert_eq!(world.sizes().await, [3, 2]);
    world.merge::<Deployment>("web", image("v3")).await;
    world.settle().await;
    // v2's pods serve nobody yet: they go first.
    assert_eq!(world.sizes().await, [3, 0, 2]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_does_not_progress_within_its_deadline_has_failed_progressing() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"progressDeadlineSeconds": 60})))
        .await;
    world.settle().await;
    let set = name(&*world.sets().await[0]);
    world.pass(Duration::from_secs(57)).await;
    let found = world.get::<Deployment>("web").await;
    assert_eq!(
        condition(&found, "Progressing").unwrap().status.as_deref(),
        Some("True")
    );
    let found = world
        .until::<Deployment>("web", |d| {
            reason(d, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
    says(
        condition(&found, "Progressing").unwrap(),
        json!({"status": "False", "message": format!("ReplicaSet \"{set}\" has timed out progressing.")}),
    );
    // What comes too late is welcome all the same.
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    let found = world.complete().await;
    assert_eq!(
        condition(&found, "Progressing").unwrap().status.as_deref(),
        Some("True")
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_without_enough_quota_fails_progressing_and_is_complete_when_there_is_enough() {
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "3"}}});
    world.make::<ResourceQuota>(quota).await;
    world
        .until::<ResourceQuota>("few", |q| q.status.as_ref().is_some_and(|s| s.used.is_some()))
        .await;
    let spec = json!({"replicas": 4, "progressDeadlineSeconds": 60});
    world.make::<Deployment>(deployment(spec)).await;
    world.ready(&world.pods("web").await).await;
    let found = world.get::<Deployment>("web").await;
    let reasons = |d: &Deployment| ["Available", "Progressing", "ReplicaFailure"].map(|kind| reason(d, kind));
    let told = |all: [&str; 3]| all.map(|r| Some(r.to_owned()).filter(|r| !r.is_empty()));
    assert_eq!(
        reasons(&found),
        told(["MinimumReplicasAvailable", "ReplicaSetUpdated", "FailedCreate"])
    );
    world.pass(Duration::from_secs(65)).await;
    let found = world.get::<Deployment>("web").await;
    assert_eq!(
        reasons(&found),
        told(["MinimumReplicasAvailable", "ProgressDeadlineExceeded", "FailedCreate"])
    );
    says(condition(&found, "Progressing").unwrap(), json!({"status": "False"}));
    world
        .merge::<ResourceQuota>("few", json!({"spec": {"hard": {"pods": "4"}}}))
        .await;
    world
        .until::<Deployment>("web", |d| condition(d, "ReplicaFailure").is_none())
        .await;
    world.ready(&world.pods("web").await).await;
    let found = world.complete().await;
    assert_eq!(
        reasons(&found),
        told(["MinimumReplicasAvailable", "NewReplicaSetAvailable", ""])
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn progress_restarts_the_deadline() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"progressDeadlineSeconds": 60})))
        .await;
    for pod in world.pods("web").await {
        world.pass(Duration::from_secs(50)).await;
        world.run(&name(&*pod), true).await;
    }
    let found = world.complete().await;
    assert!(found.status.is_some());
    let passed =
        world.cluster.clock.now().as_second() - found.metadata.creation_timestamp.as_ref().unwrap().0.as_second();
    assert!(passed >= 150, "{passed}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_scales_and_is_rolled_out_when_it_is_resumed() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({}))).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world
        .merge::<Deployment>("web", json!({"spec": {"paused": true}}))
        .await;
    world.settle().await;
    let found = world.get::<Deployment>("web").await;
    says(
        condition(&found, "Progressing").unwrap(),
        json!({"status": "Unknown", "reason": "DeploymentPaused", "message": "Deployment is paused"}),
    );
    world.merge::<Deployment>("web", image("v2")).await;
    world.merge::<Deployment>("web", json!({"spec": {"replicas": 5}})).await;
    world.settle().await;
    assert_eq!(world.sizes().await, [5]);
    // It may stay so for longer than any deadline.
    world.pass(Duration::from_secs(3600)).await;
    let found = world.get::<Deployment>("web").await;
    assert_eq!(reason(&found, "Progressing").as_deref(), Some("DeploymentPaused"));
    world
        .merge::<Deployment>("web", json!({"spec": {"paused": false}}))
        .await;
    world.settle().await;
    assert_eq!(world.sizes().await.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn scaling_in_the_middle_of_a_rollout_is_spread_in_proportion() {
    let world = World::new().await;
    let spec = json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}});
    world.make::<Deployment>(deployment(spec)).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world.merge::<Deployment>("web", image("nosuch")).await;
    world.settle().await;
    assert_eq!(world.sizes().await, [8, 5]);
    world
        .merge::<Deployment>("web", json!({"spec": {"replicas": 15}}))
        .await;
    world.settle().await;
    // The documentation's own figures: 3 of the 5 new ones to the old set, 2 to the new.
    assert_eq!(world.sizes().await, [11, 7]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rolling_back_to_an_earlier_template_gives_its_set_a_new_revision() {
    let world = World::with_nodes(2, "").await;
    world.make::<Deployment>(deployment(json!({}))).await;
    world.complete().await;
    let first = name(&*world.sets().await[0]);
    for next in ["v2", "v1"] {
        world.merge::<Deployment>("web", image(next)).await;
        world.complete().await;
    }
    let sets = world.sets().await;
    assert_eq!(sets.iter().map(|s| revision(s)).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(name(&*sets[1]), first);
    says(
        &sets[1].metadata,
        json!({"annotations": {"deployment.kubernetes.io/revision-history": "1"}}),
    );
    says(
        &world.get::<Deployment>("web").await.metadata,
        json!({"annotations": {REVISION: "3"}}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn revision_history_limit_says_how_many_old_sets_are_kept() {
    let world = World::with_nodes(2, "").await;
    world
        .make::<Deployment>(deployment(json!({"revisionHistoryLimit": 2})))
        .await;
    world.complete().await;
    for next in ["v2", "v3", "v4", "v5"] {
        world.merge::<Deployment>("web", image(next)).await;
        world.complete().await;
        world.settle().await;
    }
    let revisions = |sets: &[Arc<ReplicaSet>]| sets.iter().map(|s| revision(s).to_owned()).collect::<Vec<_>>();
    assert_eq!(revisions(&world.sets().await), ["3", "4", "5"]);
    world
        .merge::<Deployment>("web", json!({"spec": {"revisionHistoryLimit": 0}}))
        .await;
    world.settle().await;
    assert_eq!(revisions(&world.sets().await), ["5"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn by_default_10_old_sets_are_kept() {
    let world = World::with_nodes(2, "").await;
    world.make::<Deployment>(deployment(json!({"replicas": 1}))).await;
    for next in 2..=13 {
        world.complete().await;
        world.merge::<Deployment>("web", image(&format!("v{next}"))).await;
    }
    world.complete().await;
    world.settle().await;
    let sets = world.sets().await;
    assert_eq!((sets.len(), revision(&sets[0])), (11, "3"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_has_failed_progressing_can_be_scaled_rolled_back_and_paused() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"progressDeadlineSeconds": 60})))
        .await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world.merge::<Deployment>("web", image("broken")).await;
    world
        .until::<Deployment>("web", |d| {
            reason(d, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
    assert_eq!(world.sizes().await, [3, 1]);
    world.merge::<Deployment>("web", json!({"spec": {"replicas": 6}})).await;
    world.settle().await;
    // The new pods go where those are that serve.
    assert_eq!(world.sizes().await.iter().sum::<i32>(), 8);
    world.merge::<Deployment>("web", image("v1")).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    assert_eq!(world.sizes().await, [0, 6]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_deployment_is_paused_does_not_count_towards_its_deadline() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"progressDeadlineSeconds": 60})))
        .await;
    world.pass(Duration::from_secs(40)).await;
    world
        .merge::<Deployment>("web", json!({"spec": {"paused": true}}))
        .await;
    world.pass(Duration::from_secs(600)).await;
    world
        .merge::<Deployment>("web", json!({"spec": {"paused": false}}))
        .await;
    world.pass(Duration::from_secs(40)).await;
    let found = world.get::<Deployment>("web").await;
    assert_ne!(
        reason(&found, "Progressing").as_deref(),
        Some("ProgressDeadlineExceeded")
    );
    let found = world
        .until::<Deployment>("web", |d| {
            reason(d, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
    assert!(found.status.is_some());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_progress_deadline_must_be_greater_than_min_ready_seconds() {
    let world = World::new().await;
    let spec = json!({"progressDeadlineSeconds": 10, "minReadySeconds": 10});
    let refused = world
        .api::<Deployment>()
        .create(&crate::harness::from(deployment(spec)))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("must be greater than minReadySeconds"), "{refused}");
    world.stop().await;
}
