//! Deployments and ReplicaSets from end to end.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use crate::world::{World, image, ready};

fn deployment(spec: Value) -> Value {
    let mut all = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    all
}

fn reason(deployment: &Deployment, kind: &str) -> String {
    let conditions = deployment.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut found = conditions.filter(|c| c.type_.as_deref() == Some(kind));
    found.next().and_then(|c| c.reason.clone()).unwrap_or_default()
}

fn to_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_makes_no_progress_is_told_by_the_timer_alone_and_a_new_template_ends_it() {
    let world = World::new(&["a"]).await;
    world
        .create::<Deployment>(deployment(json!({"progressDeadlineSeconds": 60})))
        .await;
    world
        .until_one::<Deployment>("web", "complete", |d| {
            reason(d, "Progressing") == "NewReplicaSetAvailable"
        })
        .await;
    let since = world.cluster.clock.instant();
    world.merge::<Deployment>("web", to_image("broken")).await;
    world
        .until_one::<Deployment>("web", "stuck", |d| {
            reason(d, "Progressing") == "ProgressDeadlineExceeded"
        })
        .await;
    assert!((60..=63).contains(&since.elapsed().as_secs()));
    world.merge::<Deployment>("web", to_image("v2")).await;
    world
        .until_one::<Deployment>("web", "complete again", |d| {
            let updated = d.status.as_ref().and_then(|s| s.updated_replicas);
            reason(d, "Progressing") == "NewReplicaSetAvailable" && updated == Some(3)
        })
        .await;
    let pods = world
        .until::<Pod>("three ready pods", |all| all.len() == 3 && all.iter().all(|p| ready(p)))
        .await;
    assert!(pods.iter().all(|p| image(p) == "v2"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_gone_around_by_the_collision_count() {
    let world = World::new(&["a"]).await;
    world.create::<Deployment>(deployment(json!({}))).await;
    let sets = world.until::<ReplicaSet>("a set", |all| all.len() == 1).await;
    let taken = sets[0].metadata.name.clone().unwrap();
    let deployments = world.cluster.client.namespaced::<Deployment>("default");
    deployments.delete("web", &Default::default()).await.unwrap();
    world.until::<ReplicaSet>("no set", |all| all.is_empty()).await;
    let stranger = json!({
        "metadata": {"name": taken, "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "other"}}, "template": {
            "metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "c", "image": "x"}]},
        }},
    });
    world.create::<ReplicaSet>(stranger).await;
    world.create::<Deployment>(deployment(json!({}))).await;
    let made = world
        .until_one::<Deployment>("web", "complete", |d| {
            reason(d, "Progressing") == "NewReplicaSetAvailable"
        })
        .await;
    assert_eq!(made.status.as_ref().and_then(|s| s.collision_count), Some(1));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_reached_is_told_as_replica_failure_and_by_an_event() {
    let world = World::new(&["a"]).await;
    // A pod that names a service account that does not exist is refused at admission.
    let refused = json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {
        "serviceAccountName": "nobody", "containers": [{"name": "c", "image": "v1"}],
    }}});
    world.create::<Deployment>(deployment(refused)).await;
    world
        .until_one::<Deployment>("web", "the failure", |d| reason(d, "ReplicaFailure") == "FailedCreate")
        .await;
    world
        .until::<Event>("the event", |all| {
            let is = |e: &Event| {
                e.reason.as_deref() == Some("FailedCreate")
                    && e.message.as_deref().is_some_and(|m| m.starts_with("Error creating: "))
            };
            all.iter().any(|e| is(e))
        })
        .await;
    world.stop().await;
}
