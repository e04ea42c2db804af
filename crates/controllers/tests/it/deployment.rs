//! Deployment, as <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/> and the fields' descriptions say.

mod rollout;

use std::sync::Arc;
use std::time::Duration;

use coracle_client::Patch;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet};
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use crate::world::{World, name, names, says, template, with};

const REVISION: &str = "deployment.kubernetes.io/revision";

fn deployment(spec: Value) -> Value {
    let base = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("web")});
    json!({"metadata": {"name": "web"}, "spec": with(base, spec)})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn condition<'d>(deployment: &'d Deployment, kind: &str) -> Option<&'d DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_.as_deref() == Some(kind))
}

fn reason(deployment: &Deployment, kind: &str) -> Option<String> {
    condition(deployment, kind)?.reason.clone()
}

fn is_complete(d: &Deployment) -> bool {
    let status = d.status.clone().unwrap_or_default();
    status.observed_generation == d.metadata.generation
        && reason(d, "Progressing").as_deref() == Some("NewReplicaSetAvailable")
        && status.updated_replicas == d.spec.replicas.filter(|n| *n > 0)
        && status.replicas == status.updated_replicas
}

impl World {
    async fn complete(&self) -> Arc<Deployment> {
        self.until::<Deployment>("web", is_complete).await
    }

    /// The sets by revision.
    async fn sets(&self) -> Vec<Arc<ReplicaSet>> {
        let mut sets = self.list::<ReplicaSet>().await;
        sets.sort_by_key(|s| {
            s.metadata.annotations.as_ref().unwrap()[REVISION]
                .parse::<i64>()
                .unwrap()
        });
        sets
    }

    async fn sizes(&self) -> Vec<i32> {
        let sets = self.sets().await;
        sets.iter().map(|s| s.spec.replicas.unwrap()).collect()
    }
}

fn revision(set: &ReplicaSet) -> &str {
    &set.metadata.annotations.as_ref().unwrap()[REVISION]
}

#[tokio::test(start_paused = true)]
async fn a_deployment_creates_a_replica_set_named_after_it_and_the_hash_of_its_template() {
    let world = World::new().await;
    let made = world.make::<Deployment>(deployment(json!({}))).await;
    let pods = world.pods("web").await;
    assert_eq!(pods.len(), 3);
    let sets = world.sets().await;
    let [set] = sets.as_slice() else { panic!("{sets:?}") };
    let hash = &set.metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(name(&**set), format!("web-{hash}"));
    let labels = json!({"app": "web", "pod-template-hash": hash});
    says(&set.spec.selector, json!({"matchLabels": labels}));
    for pod in &pods {
        assert_eq!(serde_json::to_value(&pod.metadata.labels).unwrap(), labels);
    }
    says(
        &set.metadata,
        json!({"annotations": {REVISION: "1", "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4"}}),
    );
    assert_eq!(
        set.metadata.owner_references.as_ref().unwrap()[0].uid,
        *made.metadata.uid.as_ref().unwrap()
    );
    let message = format!("Scaled up replica set {} from 0 to 3", name(&**set));
    world.told("web", "Normal ScalingReplicaSet", &message).await;
    let found = world.get::<Deployment>("web").await;
    says(&found.metadata, json!({"annotations": {REVISION: "1"}}));
    says(
        &found.status,
        json!({"replicas": 3, "updatedReplicas": 3, "unavailableReplicas": 3, "observedGeneration": 1,
            "terminatingReplicas": 0}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_tell_progressing_then_complete() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({}))).await;
    let pods = world.pods("web").await;
    let set = name(&*world.sets().await[0]);
    let found = world.get::<Deployment>("web").await;
    says(
        condition(&found, "Progressing").unwrap(),
        json!({"status": "True", "reason": "ReplicaSetUpdated", "message": format!("ReplicaSet \"{set}\" is progressing.")}),
    );
    says(
        condition(&found, "Available").unwrap(),
        json!({"status": "False", "reason": "MinimumReplicasUnavailable",
            "message": "Deployment does not have minimum availability."}),
    );
    world.ready(&pods).await;
    let found = world.complete().await;
    says(
        condition(&found, "Progressing").unwrap(),
        json!({"status": "True", "reason": "NewReplicaSetAvailable",
            "message": format!("ReplicaSet \"{set}\" has successfully progressed.")}),
    );
    says(
        condition(&found, "Available").unwrap(),
        json!({"status": "True", "reason": "MinimumReplicasAvailable", "message": "Deployment has minimum availability."}),
    );
    says(
        &found.status,
        json!({"readyReplicas": 3, "availableReplicas": 3, "unavailableReplicas": null}),
    );
    // Once complete it stays so, though a pod is lost.
    world.run(&name(&*pods[0]), false).await;
    world.settle().await;
    let found = world.get::<Deployment>("web").await;
    assert_eq!(reason(&found, "Progressing").as_deref(), Some("NewReplicaSetAvailable"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn min_ready_seconds_makes_a_pod_available_only_when_it_has_been_ready_so_long() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"minReadySeconds": 10})))
        .await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"readyReplicas": 3, "availableReplicas": null, "unavailableReplicas": 3}),
    );
    world.pass(Duration::from_secs(9)).await;
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"availableReplicas": 3}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_was_paused_from_the_start_makes_nothing() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({"paused": true}))).await;
    world.settle().await;
    assert!(world.sets().await.is_empty());
    let found = world.get::<Deployment>("web").await;
    says(&found.status, json!({"observedGeneration": 1, "replicas": null}));
    assert_eq!(reason(&found, "Progressing").as_deref(), Some("DeploymentPaused"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn annotations_of_the_deployment_are_its_newest_sets_too_but_for_those_of_kubectl() {
    let world = World::new().await;
    let mut made = deployment(json!({}));
    made["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}"});
    world.make::<Deployment>(made).await;
    world.settle().await;
    let annotations = |set: &ReplicaSet| set.metadata.annotations.clone().unwrap();
    let found = annotations(&world.sets().await[0]);
    assert_eq!(found["kubernetes.io/change-cause"], "first");
    assert!(!found.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    let second = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "second"}}});
    world.merge::<Deployment>("web", second).await;
    world.settle().await;
    assert_eq!(
        annotations(&world.sets().await[0])["kubernetes.io/change-cause"],
        "second"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn insufficient_quota_shows_in_the_replica_failure_condition() {
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}});
    world.make::<ResourceQuota>(quota).await;
    world
        .until::<ResourceQuota>("few", |q| q.status.as_ref().is_some_and(|s| s.used.is_some()))
        .await;
    world.make::<Deployment>(deployment(json!({}))).await;
    let found = world
        .until::<Deployment>("web", |d| condition(d, "ReplicaFailure").is_some())
        .await;
    says(
        condition(&found, "ReplicaFailure").unwrap(),
        json!({"status": "True", "reason": "FailedCreate"}),
    );
    world.delete::<ResourceQuota>("few").await;
    world
        .until::<Deployment>("web", |d| condition(d, "ReplicaFailure").is_none())
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_of_the_same_name_that_is_somebody_elses_is_a_collision_and_the_hash_changes() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({}))).await;
    world.settle().await;
    let taken = name(&*world.sets().await[0]);
    let orphan = coracle_client::DeleteOptions {
        propagation: Some(coracle_client::Propagation::Orphan),
        ..Default::default()
    };
    world.api::<Deployment>().delete("web", &orphan).await.unwrap();
    world.until_gone::<Deployment>("web").await;
    let other = json!({"metadata": {"labels": {"app": "other", "pod-template-hash": null}},
        "spec": {"replicas": 0}});
    world.merge::<ReplicaSet>(&taken, other).await;
    world.make::<Deployment>(deployment(json!({}))).await;
    world.settle().await;
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"collisionCount": 1}),
    );
    let found = world.list::<ReplicaSet>().await;
    assert_eq!(found.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphaned_sets_that_match_are_adopted_and_the_equal_one_is_used() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({}))).await;
    let pods = names(&world.pods("web").await);
    let orphan = coracle_client::DeleteOptions {
        propagation: Some(coracle_client::Propagation::Orphan),
        ..Default::default()
    };
    world.api::<Deployment>().delete("web", &orphan).await.unwrap();
    world.until_gone::<Deployment>("web").await;
    let again = world.make::<Deployment>(deployment(json!({}))).await;
    assert_eq!(names(&world.pods("web").await), pods);
    let sets = world.sets().await;
    assert_eq!(sets.len(), 1);
    assert_eq!(
        sets[0].metadata.owner_references.as_ref().unwrap()[0].uid,
        *again.metadata.uid.as_ref().unwrap()
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_was_scaled_by_hand_is_brought_back() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({}))).await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    let set = name(&*world.sets().await[0]);
    for strange in [1, 7] {
        let patch = Patch::Merge(json!({"spec": {"replicas": strange}}));
        world.api::<ReplicaSet>().scale().patch(&set, patch).await.unwrap();
        assert_eq!(world.pods("web").await.len(), 3, "{strange}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn terminating_replicas_are_counted_until_the_kubelet_lets_them_go() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"template": {"spec": {"nodeName": "n1"}}})))
        .await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.merge::<Deployment>("web", json!({"spec": {"replicas": 1}})).await;
    world.settle().await;
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"replicas": 1, "terminatingReplicas": 2}),
    );
    for pod in world.pods("web").await {
        if pod.metadata.deletion_timestamp.is_some() {
            world.kill(&name(&*pod)).await;
        }
    }
    world.settle().await;
    says(
        &world.get::<Deployment>("web").await.status,
        json!({"replicas": 1, "terminatingReplicas": 0}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn minimum_availability_is_the_replicas_less_those_that_may_be_unavailable() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({"replicas": 4}))).await;
    let pods = world.pods("web").await;
    for (ready, available) in [(2, "False"), (3, "True"), (4, "True")] {
        world.run(&name(&*pods[ready - 1]), true).await;
        if ready == 2 {
            world.run(&name(&*pods[0]), true).await;
        }
        world.settle().await;
        let found = world.get::<Deployment>("web").await;
        let condition = condition(&found, "Available").unwrap();
        assert_eq!(condition.status.as_deref(), Some(available), "{ready} ready");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_of_no_replicas_is_available_and_complete() {
    let world = World::new().await;
    world.make::<Deployment>(deployment(json!({"replicas": 0}))).await;
    world.settle().await;
    let found = world.get::<Deployment>("web").await;
    assert_eq!(reason(&found, "Available").as_deref(), Some("MinimumReplicasAvailable"));
    assert_eq!(reason(&found, "Progressing").as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(world.sizes().await, [0]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_selector_is_immutable_and_has_to_match_the_template() {
    let world = World::new().await;
    let other = deployment(json!({"selector": {"matchLabels": {"app": "other"}}}));
    let refused = world.api::<Deployment>().create(&crate::harness::from(other)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("`selector` does not match template `labels`"),
        "{refused}"
    );
    world.make::<Deployment>(deployment(json!({}))).await;
    let patch = json!({"spec": {"selector": {"matchLabels": {"tier": "x"}}, "template": {"metadata": {"labels": {"tier": "x"}}}}});
    let refused = world.api::<Deployment>().patch("web", Patch::Merge(patch)).await;
    assert!(refused.unwrap_err().to_string().contains("field is immutable"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_lost_after_completion_is_replaced_and_nothing_is_said_of_progress() {
    let world = World::new().await;
    world
        .make::<Deployment>(deployment(json!({"progressDeadlineSeconds": 30})))
        .await;
    let pods = world.pods("web").await;
    world.ready(&pods).await;
    world.complete().await;
    world.kill(&name(&*pods[0])).await;
    world.pass(Duration::from_secs(600)).await;
    let found = world.get::<Deployment>("web").await;
    says(
        condition(&found, "Progressing").unwrap(),
        json!({"status": "True", "reason": "NewReplicaSetAvailable"}),
    );
    says(
        &found.status,
        json!({"replicas": 3, "availableReplicas": 2, "unavailableReplicas": 1}),
    );
    world.stop().await;
}
