//! StatefulSets from end to end.

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::world::{World, image, label, names, ready};

fn set(spec: Value) -> Value {
    let mut all = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "serviceName": "peers", "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }}],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    all
}

fn to_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

async fn until_complete(world: &World, wanted: &str, count: i32) {
    world
        .until_one::<StatefulSet>("web", &format!("{count} replicas of {wanted}"), |set| {
            set.status.as_ref().is_some_and(|s| {
                s.observed_generation == set.metadata.generation
                    && s.current_revision == s.update_revision
                    && (
                        s.replicas,
                        s.ready_replicas.unwrap_or(0),
                        s.available_replicas.unwrap_or(0),
                    ) == (count, count, count)
            })
        })
        .await;
    world
        .until::<Pod>("all pods of the image", |all| {
            all.iter().all(|p| ready(p) && image(p) == wanted)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_have_a_name_and_storage_of_their_own_through_rollouts_and_back() {
    let world = World::new(&["a"]).await;
    world.create::<StatefulSet>(set(json!({}))).await;
    until_complete(&world, "v1", 3).await;
    let pods = world.until::<Pod>("three pods", |all| all.len() == 3).await;
    assert_eq!(names(&pods), ["web-0", "web-1", "web-2"]);
    let created = |n: usize| pods[n].metadata.resource_version.clone();
    assert!(created(0).is_some());
    assert_eq!(label(&pods[2], "apps.kubernetes.io/pod-index"), "2");
    let spec = pods[1].spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("web-1"), Some("peers"))
    );
    let claims = world
        .until::<PersistentVolumeClaim>("claims", |all| all.len() == 3)
        .await;
    assert_eq!(names(&claims), ["data-web-0", "data-web-1", "data-web-2"]);
    let uids: Vec<_> = claims.iter().map(|c| c.metadata.uid.clone()).collect();

    world.merge::<StatefulSet>("web", to_image("v2")).await;
    until_complete(&world, "v2", 3).await;
    let revisions = world
        .until::<ControllerRevision>("two revisions", |all| all.len() == 2)
        .await;
    let first = revisions.iter().find(|r| r.revision == Some(1)).unwrap();
    let sets = world.cluster.client.namespaced::<StatefulSet>("default");
    sets.patch("web", Patch::Strategic(first.data.0.clone())).await.unwrap();
    until_complete(&world, "v1", 3).await;

    world
        .merge::<StatefulSet>("web", json!({"spec": {"replicas": 1}}))
        .await;
    until_complete(&world, "v1", 1).await;
    let claims = world.until::<PersistentVolumeClaim>("claims", |_| true).await;
    let kept: Vec<_> = claims.iter().map(|c| c.metadata.uid.clone()).collect();
    assert_eq!(kept, uids, "the same claims as in the beginning");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn claims_go_with_pods_and_with_the_set_as_the_retention_policy_says() {
    let world = World::new(&["a"]).await;
    let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Delete"}});
    world.create::<StatefulSet>(set(policy)).await;
    until_complete(&world, "v1", 3).await;
    world
        .merge::<StatefulSet>("web", json!({"spec": {"replicas": 1}}))
        .await;
    // Protection of claims in use ends with the pods.
    let claims = world
        .until::<PersistentVolumeClaim>("one claim", |all| all.len() == 1)
        .await;
    assert_eq!(names(&claims), ["data-web-0"]);
    world
        .merge::<StatefulSet>("web", json!({"spec": {"replicas": 2}}))
        .await;
    until_complete(&world, "v1", 2).await;
    let sets = world.cluster.client.namespaced::<StatefulSet>("default");
    sets.delete("web", &DeleteOptions::default()).await.unwrap();
    world.until::<Pod>("no pods", |all| all.is_empty()).await;
    world
        .until::<PersistentVolumeClaim>("no claims", |all| all.is_empty())
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_rollout_stops_at_the_first_pod_and_a_deleted_pod_comes_back_as_itself() {
    let world = World::new(&["a"]).await;
    world.create::<StatefulSet>(set(json!({}))).await;
    until_complete(&world, "v1", 3).await;
    world.merge::<StatefulSet>("web", to_image("broken")).await;
    world
        .until_one::<Pod>("web-2", "the new pod", |p| image(p) == "broken")
        .await;
    world
        .until_one::<StatefulSet>("web", "one updated, two current", |set| {
            set.status.as_ref().is_some_and(|s| {
                (s.updated_replicas, s.current_replicas, s.ready_replicas) == (Some(1), Some(2), Some(2))
            })
        })
        .await;
    world.merge::<StatefulSet>("web", to_image("v1")).await;
    let pods = world.cluster.client.namespaced::<Pod>("default");
    pods.delete("web-2", &DeleteOptions::default()).await.unwrap();
    until_complete(&world, "v1", 3).await;
    world.stop().await;
}
