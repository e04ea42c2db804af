//! ReplicaSet and ReplicationController, as
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/> and the fields' descriptions say.

use std::time::Duration;

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController, ResourceQuota};
use serde_json::{Value, json};

use crate::world::{World, name, names, says, template, with};

fn set(spec: Value) -> Value {
    let base = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web")});
    json!({"metadata": {"name": "web"}, "spec": with(base, spec)})
}

fn bare_pod(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": template("web")["spec"]})
}

/// On a node, so that a deletion waits for the kubelet.
fn on_node() -> Value {
    json!({"template": {"spec": {"nodeName": "n1"}}})
}

#[tokio::test(start_paused = true)]
async fn a_replica_set_fulfills_its_purpose_by_creating_and_deleting_pods_to_reach_the_desired_number() {
    let world = World::new().await;
    let made = world.make::<ReplicaSet>(set(json!({}))).await;
    let pods = world.pods("web").await;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert!(name(&**pod).starts_with("web-"));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
        let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(Some(&owner.uid), made.metadata.uid.as_ref());
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    }
    let events = world.events("web").await;
    assert!(events["Normal SuccessfulCreate"].starts_with("Created pod: web-"));
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 0}})).await;
    assert!(world.pods("web").await.is_empty());
    let events = world.events("web").await;
    assert!(events["Normal SuccessfulDelete"].starts_with("Deleted pod: web-"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_controller_that_matches_the_selector_is_immediately_acquired() {
    let world = World::new().await;
    world.make::<Pod>(bare_pod("bare", json!({"app": "web"}))).await;
    let made = world.make::<ReplicaSet>(set(json!({}))).await;
    let pods = world.pods("web").await;
    assert_eq!(pods.len(), 2);
    let bare = world.get::<Pod>("bare").await;
    assert_eq!(
        bare.metadata.owner_references.as_ref().unwrap()[0].uid,
        *made.metadata.uid.as_ref().unwrap()
    );
    // One that comes later is acquired too, and is then one too many.
    world.make::<Pod>(bare_pod("late", json!({"app": "web"}))).await;
    assert_eq!(world.pods("web").await.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn you_can_remove_pods_from_a_replica_set_by_changing_their_labels_and_they_are_replaced() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    let before = names(&world.pods("web").await);
    world
        .merge::<Pod>(&before[0], json!({"metadata": {"labels": {"app": "debug"}}}))
        .await;
    let after = names(&world.pods("web").await);
    assert_eq!(after.len(), 2);
    assert!(!after.contains(&before[0]));
    let released = world.get::<Pod>(&before[0]).await;
    assert_eq!(released.metadata.owner_references, None);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_controller_is_not_acquired() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    let other = with(set(json!({})), json!({"metadata": {"name": "other"}}));
    world.make::<ReplicaSet>(other).await;
    assert_eq!(world.pods("web").await.len(), 4);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_are_deleted_or_terminated_are_replaced() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(on_node())).await;
    let pods = names(&world.pods("web").await);
    world.end(&pods[0], 1).await;
    world.delete::<Pod>(&pods[1]).await;
    // The one that ends is still there; its replacement does not wait for it.
    let active = names(&world.active("web").await);
    assert_eq!(active.len(), 2);
    assert!(!active.contains(&pods[0]) && !active.contains(&pods[1]));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_create_its_pods_says_so_in_its_replica_failure_condition() {
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    world.make::<ResourceQuota>(quota).await;
    world
        .until::<ResourceQuota>("few", |q| q.status.as_ref().is_some_and(|s| s.used.is_some()))
        .await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    let failed = world
        .until::<ReplicaSet>("web", |s| s.status.as_ref().is_some_and(|s| s.conditions.is_some()))
        .await;
    let condition = &failed.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    says(
        condition,
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}),
    );
    assert!(condition.message.as_ref().unwrap().contains("exceeded quota: few"));
    assert_eq!(world.pods("web").await.len(), 1);
    let events = world.events("web").await;
    assert!(events["Warning FailedCreate"].contains("Error creating: pods \"web-"));
    world.delete::<ResourceQuota>("few").await;
    world
        .until::<ReplicaSet>("web", |s| {
            s.status
                .as_ref()
                .is_some_and(|s| s.conditions.is_none() && s.replicas == 2)
        })
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_scaling_down_pods_go_in_the_documented_order() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({"replicas": 5}))).await;
    let pods = names(&world.pods("web").await);
    // [0] stays pending; [1] runs and is not ready; [2] costs less; [3] is ready for a shorter time; [4] is best.
    world.run(&pods[1], false).await;
    world.run(&pods[2], true).await;
    world.run(&pods[4], true).await;
    world.pass(Duration::from_secs(3600)).await;
    world.run(&pods[3], true).await;
    let cheap = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}});
    world.merge::<Pod>(&pods[2], cheap).await;
    world.settle().await;
    for left in (0..5).rev() {
        world
            .merge::<ReplicaSet>("web", json!({"spec": {"replicas": left}}))
            .await;
        let mut expected = pods[5 - left..].to_vec();
        expected.sort();
        assert_eq!(names(&world.pods("web").await), expected, "{left} left");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn you_can_delete_a_replica_set_without_affecting_its_pods_by_orphaning_them() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    let before = names(&world.pods("web").await);
    let orphan = DeleteOptions {
        propagation: Some(coracle_client::Propagation::Orphan),
        ..DeleteOptions::default()
    };
    world.api::<ReplicaSet>().delete("web", &orphan).await.unwrap();
    world.until_gone::<ReplicaSet>("web").await;
    let pods = world.pods("web").await;
    assert_eq!(names(&pods), before);
    assert!(pods.iter().all(|p| p.metadata.owner_references.is_none()));
    // A new set of the same selector adopts them, and does not make them match its own template.
    let new = set(json!({"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}));
    world.make::<ReplicaSet>(new).await;
    let pods = world.pods("web").await;
    assert_eq!(names(&pods), before);
    let image = |p: &Pod| p.spec.as_ref().unwrap().containers[0].image.clone();
    assert!(pods.iter().all(|p| image(p).as_deref() == Some("v1")));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn to_delete_a_replica_set_and_all_of_its_pods_the_garbage_collector_deletes_the_dependents() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    assert_eq!(world.pods("web").await.len(), 2);
    world.delete::<ReplicaSet>("web").await;
    world.until_gone::<ReplicaSet>("web").await;
    assert!(world.pods("web").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_scale_subresource_reads_and_sets_the_replicas() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({}))).await;
    world.settle().await;
    let scale = world.api::<ReplicaSet>().scale();
    says(
        &*scale.get("web").await.unwrap(),
        json!({"spec": {"replicas": 2}, "status": {"replicas": 2, "selector": "app=web"}}),
    );
    let more = Patch::Merge(json!({"spec": {"replicas": 4}}));
    scale.patch("web", more).await.unwrap();
    assert_eq!(world.pods("web").await.len(), 4);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_keeps_as_many_pods_with_a_plain_selector() {
    let world = World::new().await;
    let rc = json!({"metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template("web")}});
    world.make::<ReplicationController>(rc).await;
    let pods = world.pods("web").await;
    assert_eq!(pods.len(), 2);
    assert_eq!(
        pods[0].metadata.owner_references.as_ref().unwrap()[0].kind,
        "ReplicationController"
    );
    world.ready(&pods).await;
    let found = world.get::<ReplicationController>("web").await;
    says(
        &found.status,
        json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}),
    );
    world.kill(&name(&*pods[0])).await;
    assert_eq!(world.pods("web").await.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_pods_by_labels_readiness_and_availability() {
    let world = World::new().await;
    let spec = with(on_node(), json!({"replicas": 3, "minReadySeconds": 20}));
    world.make::<ReplicaSet>(set(spec)).await;
    let pods = world.pods("web").await;
    let status = |wanted: Value| {
        let world = &world;
        async move {
            world.settle().await;
            says(&world.get::<ReplicaSet>("web").await.status, wanted);
        }
    };
    status(
        json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": null, "availableReplicas": null,
        "terminatingReplicas": 0, "observedGeneration": 1}),
    )
    .await;
    world.ready(&pods[..2]).await;
    status(json!({"readyReplicas": 2, "availableReplicas": null})).await;
    world.pass(Duration::from_secs(20)).await;
    status(json!({"readyReplicas": 2, "availableReplicas": 2})).await;
    world.run(&name(&*pods[0]), false).await;
    status(json!({"readyReplicas": 1, "availableReplicas": 1})).await;
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 2}})).await;
    status(json!({"replicas": 2, "terminatingReplicas": 1, "observedGeneration": 2})).await;
    for pod in world.pods("web").await {
        if pod.metadata.deletion_timestamp.is_some() {
            world.kill(&name(&*pod)).await;
        }
    }
    status(json!({"replicas": 2, "terminatingReplicas": 0})).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_lack_a_label_of_the_template_are_not_fully_labeled() {
    let world = World::new().await;
    world.make::<Pod>(bare_pod("bare", json!({"app": "web"}))).await;
    let template = json!({"template": {"metadata": {"labels": {"app": "web", "tier": "front"}}}});
    world.make::<ReplicaSet>(set(template)).await;
    world.settle().await;
    says(
        &world.get::<ReplicaSet>("web").await.status,
        json!({"replicas": 2, "fullyLabeledReplicas": 1}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_on_nodes_with_more_of_them_go_first() {
    let world = World::new().await;
    let owned = |name: &str, node: &str| {
        let mut pod = bare_pod(name, json!({"app": "web"}));
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    // Two on the first node; the one that is alone is the youngest.
    for (name, node) in [("a", "n1"), ("b", "n1"), ("c", "n2")] {
        world.make::<Pod>(owned(name, node)).await;
        world.run(name, true).await;
    }
    world.make::<ReplicaSet>(set(json!({"replicas": 3}))).await;
    world.settle().await;
    world.merge::<ReplicaSet>("web", json!({"spec": {"replicas": 2}})).await;
    let left = names(&world.active("web").await);
    assert!(left.contains(&"c".to_owned()), "{left:?}");
    assert_eq!(left.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_cost_says_which_pod_is_cheaper_to_lose_and_a_broken_one_is_none() {
    let world = World::new().await;
    world.make::<ReplicaSet>(set(json!({"replicas": 3}))).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    let cost = |cost: &str| json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}});
    let pods = names(&pods);
    world.merge::<Pod>(&pods[0], cost("10")).await;
    world.merge::<Pod>(&pods[1], cost("-5")).await;
    let refused = world.api::<Pod>().patch(&pods[2], Patch::Merge(cost("much"))).await;
    assert!(refused.is_err());
    for left in [2, 1] {
        world
            .merge::<ReplicaSet>("web", json!({"spec": {"replicas": left}}))
            .await;
        world.settle().await;
    }
    assert_eq!(names(&world.active("web").await), [pods[0].clone()]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_selector_must_match_the_template_and_cannot_be_changed() {
    let world = World::new().await;
    let other = set(json!({"selector": {"matchLabels": {"app": "other"}}}));
    let refused = world
        .api::<ReplicaSet>()
        .create(&crate::harness::from(other))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("`selector` does not match template `labels`")
    );
    world.make::<ReplicaSet>(set(json!({}))).await;
    let patch = json!({"spec": {"selector": {"matchLabels": {"tier": "x"}}, "template": {"metadata": {"labels": {"tier": "x"}}}}});
    let refused = world.api::<ReplicaSet>().patch("web", Patch::Merge(patch)).await;
    assert!(refused.unwrap_err().to_string().contains("field is immutable"));
    world.stop().await;
}
