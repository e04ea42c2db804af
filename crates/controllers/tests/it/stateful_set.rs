//! StatefulSet, as <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/> and the fields' descriptions
//! say.

mod rollout;

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{DeleteOptions, ListOptions, Propagation};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::world::{World, name, names, says, template, with};

fn set(spec: Value) -> Value {
    let base = json!({"replicas": 3, "serviceName": "peers", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db")});
    json!({"metadata": {"name": "db"}, "spec": with(base, spec)})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn parallel() -> Value {
    json!({"podManagementPolicy": "Parallel"})
}

/// Names of the pods with their images.
fn images(pods: &[Arc<Pod>]) -> Vec<String> {
    let image = |p: &Pod| p.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    pods.iter().map(|p| format!("{} {}", name(&**p), image(p))).collect()
}

impl World {
    /// With such a set whose pods are all ready.
    async fn serving(spec: Value) -> Self {
        let world = Self::new().await;
        world.make::<StatefulSet>(set(spec)).await;
        world.all_ready().await;
        world
    }

    async fn db(&self) -> Vec<String> {
        names(&self.pods("db").await)
    }

    async fn replicas(&self, count: i32) {
        self.merge::<StatefulSet>("db", json!({"spec": {"replicas": count}}))
            .await;
    }

    /// Every pod is ready as soon as it is there.
    async fn all_ready(&self) {
        loop {
            let pods = self.pods("db").await;
            let unready = pods.iter().filter(|p| !is_ready(p)).cloned().collect::<Vec<_>>();
            if unready.is_empty() {
                return;
            }
            self.ready(&unready).await;
        }
    }

    async fn set_status(&self, wanted: Value) {
        self.settle().await;
        says(&self.get::<StatefulSet>("db").await.status, wanted);
    }

    async fn claims(&self) -> Vec<String> {
        self.settle().await;
        let all = self.list::<PersistentVolumeClaim>().await;
        let living = all.iter().filter(|c| c.metadata.deletion_timestamp.is_none());
        living.map(|c| name(&**c)).collect()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[tokio::test(start_paused = true)]
async fn pods_are_created_sequentially_in_order_each_when_its_predecessors_are_running_and_ready() {
    let world = World::new().await;
    world.make::<StatefulSet>(set(json!({}))).await;
    assert_eq!(world.db().await, ["db-0"]);
    world.run("db-0", false).await;
    assert_eq!(world.db().await, ["db-0"]);
    world.run("db-0", true).await;
    assert_eq!(world.db().await, ["db-0", "db-1"]);
    world.run("db-1", true).await;
    assert_eq!(world.db().await, ["db-0", "db-1", "db-2"]);
    // One that fails meanwhile holds up what comes after.
    world.run("db-0", false).await;
    world.replicas(4).await;
    world.run("db-2", true).await;
    assert_eq!(world.db().await.len(), 3);
    world.run("db-0", true).await;
    assert_eq!(world.db().await.len(), 4);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_a_stable_name_host_name_subdomain_and_labels() {
    let world = World::new().await;
    let made = world.make::<StatefulSet>(set(json!({}))).await;
    world.settle().await;
    let pod = world.get::<Pod>("db-0").await;
    let update = world
        .get::<StatefulSet>("db")
        .await
        .status
        .clone()
        .unwrap()
        .update_revision
        .unwrap();
    says(
        &pod.metadata,
        json!({"labels": {"app": "db", "statefulset.kubernetes.io/pod-name": "db-0",
            "apps.kubernetes.io/pod-index": "0", "controller-revision-hash": update}}),
    );
    says(&pod.spec, json!({"hostname": "db-0", "subdomain": "peers"}));
    assert_eq!(
        pod.metadata.owner_references.as_ref().unwrap()[0].uid,
        *made.metadata.uid.as_ref().unwrap()
    );
    world
        .told(
            "db",
            "Normal SuccessfulCreate",
            "create Pod db-0 in StatefulSet db successful",
        )
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_deleted_in_reverse_order_each_when_its_successors_are_completely_shut_down() {
    let world = World::serving(json!({"template": {"spec": {"nodeName": "n1"}}})).await;
    world.replicas(0).await;
    for last in (0..3).rev() {
        let pods = world.pods("db").await;
        let going: Vec<_> = pods
            .iter()
            .filter(|p| p.metadata.deletion_timestamp.is_some())
            .map(|p| name(&**p))
            .collect();
        assert_eq!(going, [format!("db-{last}")]);
        assert_eq!(pods.len(), last + 1);
        world.kill(&format!("db-{last}")).await;
    }
    assert!(world.db().await.is_empty());
    world
        .told(
            "db",
            "Normal SuccessfulDelete",
            "delete Pod db-0 in StatefulSet db successful",
        )
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn before_a_pod_is_terminated_in_scaling_down_its_predecessors_have_to_be_ready() {
    let world = World::serving(json!({})).await;
    world.run("db-0", false).await;
    world.replicas(1).await;
    assert_eq!(world.db().await, ["db-0", "db-1", "db-2"]);
    world.run("db-0", true).await;
    assert_eq!(world.db().await, ["db-0"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_parallel_pod_management_all_pods_come_and_go_at_once() {
    let world = World::new().await;
    world.make::<StatefulSet>(set(parallel())).await;
    assert_eq!(world.db().await, ["db-0", "db-1", "db-2"]);
    world.replicas(0).await;
    assert!(world.db().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ordinals_begin_at_the_start_that_is_given() {
    let world = World::new().await;
    world
        .make::<StatefulSet>(set(with(parallel(), json!({"ordinals": {"start": 5}}))))
        .await;
    assert_eq!(world.db().await, ["db-5", "db-6", "db-7"]);
    world
        .merge::<StatefulSet>("db", json!({"spec": {"ordinals": {"start": 6}}}))
        .await;
    assert_eq!(world.db().await, ["db-6", "db-7", "db-8"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_lost_or_has_ended_is_made_again_under_its_name() {
    let world = World::serving(json!({})).await;
    let uid = |pod: Arc<Pod>| pod.metadata.uid.clone();
    for (code, pod) in [(1, "db-0"), (0, "db-1")] {
        let before = uid(world.get(pod).await);
        world.end(pod, code).await;
        world.settle().await;
        assert_ne!(uid(world.get(pod).await), before);
        world.all_ready().await;
    }
    let before = uid(world.get("db-2").await);
    world.kill("db-2").await;
    world.settle().await;
    assert_ne!(uid(world.get("db-2").await), before);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_pods_by_readiness_availability_and_revision() {
    let world = World::new().await;
    world
        .make::<StatefulSet>(set(with(parallel(), json!({"minReadySeconds": 20}))))
        .await;
    world
        .set_status(
            json!({"replicas": 3, "currentReplicas": 3, "updatedReplicas": 3, "availableReplicas": 0,
            "readyReplicas": null, "observedGeneration": 1, "collisionCount": 0}),
        )
        .await;
    world.all_ready().await;
    world
        .set_status(json!({"readyReplicas": 3, "availableReplicas": 0}))
        .await;
    world.pass(Duration::from_secs(20)).await;
    world
        .set_status(json!({"readyReplicas": 3, "availableReplicas": 3}))
        .await;
    let found = world.get::<StatefulSet>("db").await;
    let status = found.status.as_ref().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rolling_update_goes_from_the_largest_ordinal_to_the_smallest_one_pod_at_a_time() {
    let world = World::serving(json!({})).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v2"]);
    world
        .set_status(json!({"currentReplicas": 2, "updatedReplicas": 1, "replicas": 3}))
        .await;
    world.run("db-2", true).await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v2", "db-2 v2"]);
    world.run("db-1", true).await;
    world.run("db-0", true).await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v2", "db-1 v2", "db-2 v2"]);
    let found = world.get::<StatefulSet>("db").await;
    let status = found.status.as_ref().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    says(status, json!({"currentReplicas": 3, "updatedReplicas": 3}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_with_an_ordinal_less_than_the_partition_are_not_updated_even_if_they_are_deleted() {
    let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
    let world = World::serving(partition).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v2"]);
    world.kill("db-0").await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_greater_than_the_replicas_updates_nothing() {
    let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 9}}});
    let world = World::serving(partition).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn max_unavailable_says_how_many_pods_may_be_down_during_an_update() {
    let bound = json!({"replicas": 5, "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}});
    let world = World::serving(with(bound, parallel())).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    let new = |images: Vec<String>| images.into_iter().filter(|i| i.ends_with("v2")).collect::<Vec<_>>();
    assert_eq!(new(images(&world.pods("db").await)), ["db-3 v2", "db-4 v2"]);
    world.run("db-4", true).await;
    assert_eq!(new(images(&world.pods("db").await)), ["db-2 v2", "db-3 v2", "db-4 v2"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_on_delete_the_controller_will_not_automatically_update_the_pods() {
    let world = World::serving(json!({"updateStrategy": {"type": "OnDelete"}})).await;
    world.merge::<StatefulSet>("db", image("v2")).await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v1"]);
    world.kill("db-1").await;
    world.all_ready().await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v2", "db-2 v1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_update_waits_for_its_pod_and_reverting_needs_the_broken_pod_to_be_deleted() {
    let world = World::serving(json!({})).await;
    world.merge::<StatefulSet>("db", image("broken")).await;
    world.settle().await;
    world.run("db-2", false).await;
    world.merge::<StatefulSet>("db", image("v1")).await;
    // The known issue of forced rollback: it waits for the broken pod to become ready, which never happens.
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 broken"]);
    world.kill("db-2").await;
    assert_eq!(images(&world.pods("db").await), ["db-0 v1", "db-1 v1", "db-2 v1"]);
    world.stop().await;
}

fn claimed(policy: Value) -> Value {
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}});
    let spec = json!({"replicas": 2, "volumeClaimTemplates": [claim], "persistentVolumeClaimRetentionPolicy": policy});
    with(spec, parallel())
}

#[tokio::test(start_paused = true)]
async fn each_pod_receives_a_claim_of_its_own_that_is_not_deleted_with_it() {
    let world = World::new().await;
    world.make::<StatefulSet>(set(claimed(Value::Null))).await;
    assert_eq!(world.claims().await, ["data-db-0", "data-db-1"]);
    let pod = world.get::<Pod>("db-1").await;
    let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    says(
        &volumes[0],
        json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}),
    );
    world
        .told(
            "db",
            "Normal SuccessfulCreate",
            "create Pod db-1 in StatefulSet db successful",
        )
        .await;
    world.replicas(0).await;
    assert!(world.db().await.is_empty());
    assert_eq!(world.claims().await, ["data-db-0", "data-db-1"]);
    world.delete::<StatefulSet>("db").await;
    world.until_gone::<StatefulSet>("db").await;
    assert_eq!(world.claims().await, ["data-db-0", "data-db-1"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_when_scaled_delete_the_claims_of_excess_pods_go_with_them() {
    let world = World::new().await;
    let policy = json!({"whenDeleted": "Retain", "whenScaled": "Delete"});
    world.make::<StatefulSet>(set(claimed(policy))).await;
    world.settle().await;
    world.replicas(1).await;
    assert_eq!(world.claims().await, ["data-db-0"]);
    world.delete::<StatefulSet>("db").await;
    world.until_gone::<StatefulSet>("db").await;
    assert_eq!(world.claims().await, ["data-db-0"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_when_deleted_delete_the_claims_go_with_the_set_and_not_when_it_is_scaled() {
    let world = World::new().await;
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    world.make::<StatefulSet>(set(claimed(policy))).await;
    world.settle().await;
    world.replicas(1).await;
    assert_eq!(world.claims().await, ["data-db-0", "data-db-1"]);
    world.delete::<StatefulSet>("db").await;
    world.until_gone::<StatefulSet>("db").await;
    assert!(world.claims().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_default_policy_is_to_retain_and_a_change_of_policy_counts_for_claims_that_are_there() {
    let world = World::new().await;
    let made = world.make::<StatefulSet>(set(claimed(Value::Null))).await;
    says(
        &made.spec.persistent_volume_claim_retention_policy,
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    world.all_ready().await;
    let delete = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}});
    world.merge::<StatefulSet>("db", delete).await;
    world.settle().await;
    let claim = world.get::<PersistentVolumeClaim>("data-db-0").await;
    assert_eq!(claim.metadata.owner_references.as_ref().unwrap()[0].kind, "StatefulSet");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_a_set_gives_no_order_and_orphaned_pods_are_adopted_by_the_next_set() {
    let world = World::serving(parallel()).await;
    let before: Vec<_> = world.pods("db").await.iter().map(|p| p.metadata.uid.clone()).collect();
    let orphan = DeleteOptions {
        propagation: Some(Propagation::Orphan),
        ..DeleteOptions::default()
    };
    world.api::<StatefulSet>().delete("db", &orphan).await.unwrap();
    world.until_gone::<StatefulSet>("db").await;
    let again = world.make::<StatefulSet>(set(parallel())).await;
    let pods = world.pods("db").await;
    let after: Vec<_> = pods.iter().map(|p| p.metadata.uid.clone()).collect();
    assert_eq!(before, after);
    assert_eq!(
        pods[0].metadata.owner_references.as_ref().unwrap()[0].uid,
        *again.metadata.uid.as_ref().unwrap()
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_name_is_not_one_of_the_sets_is_not_adopted() {
    let world = World::new().await;
    for strange in ["other-0", "db-x", "db"] {
        let bare = json!({"metadata": {"name": strange, "labels": {"app": "db"}}, "spec": template("db")["spec"]});
        world.make::<Pod>(bare).await;
    }
    world.make::<StatefulSet>(set(parallel())).await;
    for pod in world.pods("db").await {
        let ours = pod.metadata.owner_references.is_some();
        assert_eq!(ours, ["db-0", "db-1", "db-2"].contains(&name(&*pod).as_str()));
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn revision_history_limit_counts_the_revisions_that_are_not_in_use() {
    let world = World::new().await;
    world
        .make::<StatefulSet>(set(with(parallel(), json!({"revisionHistoryLimit": 1}))))
        .await;
    for next in ["v2", "v3", "v4"] {
        world.all_ready().await;
        world.merge::<StatefulSet>("db", image(next)).await;
    }
    world.all_ready().await;
    let options = ListOptions {
        label_selector: "app=db".into(),
        ..ListOptions::default()
    };
    let mut left = world.api::<ControllerRevision>().list(&options).await.unwrap().items;
    left.sort_by_key(|r| r.revision);
    assert_eq!(left.iter().map(|r| r.revision.unwrap()).collect::<Vec<_>>(), [3, 4]);
    world.stop().await;
}
