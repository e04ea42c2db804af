//! DaemonSets from end to end.

use coracle_client::Patch;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde_json::{Value, json};

use crate::world::{World, image, label, ready};

fn set(spec: Value) -> Value {
    let mut all = json!({
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
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

async fn until_all_run(world: &World, wanted: &str, count: usize) {
    world
        .until::<Pod>(&format!("{count} ready pods of {wanted}"), |all| {
            all.len() == count && all.iter().all(|p| ready(p) && image(p) == wanted)
        })
        .await;
    let count = i32::try_from(count).unwrap();
    world
        .until_one::<DaemonSet>("d", "the status tells of it", |set| {
            set.status.as_ref().is_some_and(|s| {
                s.observed_generation == set.metadata.generation
                    && (s.desired_number_scheduled, s.number_ready) == (count, count)
                    && (s.updated_number_scheduled, s.number_available) == (Some(count), Some(count))
            })
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_nodes_and_rolls_out_and_back() {
    let world = World::new(&["a", "b"]).await;
    world.create::<DaemonSet>(set(json!({}))).await;
    until_all_run(&world, "v1", 2).await;

    world.node("c").await;
    until_all_run(&world, "v1", 3).await;

    world.merge::<DaemonSet>("d", to_image("v2")).await;
    until_all_run(&world, "v2", 3).await;
    let revisions = world
        .until::<ControllerRevision>("two revisions", |all| all.len() == 2)
        .await;
    let numbered = |n: i64| revisions.iter().find(|r| r.revision == Some(n)).unwrap().clone();
    let pods = world.until::<Pod>("pods", |_| true).await;
    let hash = numbered(2).metadata.labels.as_ref().unwrap()["controller-revision-hash"].clone();
    assert!(pods.iter().all(|p| label(p, "controller-revision-hash") == hash));
    assert!(pods.iter().all(|p| label(p, "pod-template-generation") == "2"));

    // What `kubectl rollout undo` sends: the revision's own data.
    let sets = world.cluster.client.namespaced::<DaemonSet>("default");
    sets.patch("d", Patch::Strategic(numbered(1).data.0.clone()))
        .await
        .unwrap();
    until_all_run(&world, "v1", 3).await;
    world
        .until::<ControllerRevision>("the old revision is the newest", |all| {
            let mut numbers: Vec<_> = all.iter().filter_map(|r| r.revision).collect();
            numbers.sort_unstable();
            numbers == [2, 3]
        })
        .await;
    let events = world
        .until::<Event>("an event for each pod", |all| {
            all.iter()
                .filter(|e| e.reason.as_deref() == Some("SuccessfulCreate"))
                .count()
                >= 9
        })
        .await;
    let created = events
        .iter()
        .find(|e| e.reason.as_deref() == Some("SuccessfulCreate"))
        .unwrap();
    assert!(created.message.as_deref().unwrap().starts_with("Created pod: d-"));
    assert_eq!(
        created.source.as_ref().unwrap().component.as_deref(),
        Some("daemonset-controller")
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_leave_nodes_that_no_longer_match_and_history_is_kept_to_its_limit() {
    let world = World::new(&["a", "b"]).await;
    let selecting = json!({
        "revisionHistoryLimit": 1,
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
            "nodeSelector": {"role": "edge"}, "containers": [{"name": "c", "image": "v1"}],
        }},
    });
    world.create::<DaemonSet>(set(selecting)).await;
    world
        .until_one::<DaemonSet>("d", "no node is wanted", |s| {
            s.status
                .as_ref()
                .is_some_and(|s| s.observed_generation == Some(1) && s.desired_number_scheduled == 0)
        })
        .await;
    let role = |value: Value| json!({"metadata": {"labels": {"role": value}}});
    let nodes = world.cluster.client.all::<Node>();
    nodes.patch("b", Patch::Merge(role(json!("edge")))).await.unwrap();
    until_all_run(&world, "v1", 1).await;
    for version in ["v2", "v3", "v4"] {
        world.merge::<DaemonSet>("d", to_image(version)).await;
        until_all_run(&world, version, 1).await;
    }
    world
        .until::<ControllerRevision>("the current and one old revision", |all| {
            let mut numbers: Vec<_> = all.iter().filter_map(|r| r.revision).collect();
            numbers.sort_unstable();
            numbers == [3, 4]
        })
        .await;
    nodes.patch("b", Patch::Merge(role(json!(null)))).await.unwrap();
    world.until::<Pod>("no pods", |all| all.is_empty()).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_daemon_is_replaced_each_time_later() {
    let world = World::new(&["a"]).await;
    world.create::<DaemonSet>(set(json!({}))).await;
    until_all_run(&world, "v1", 1).await;
    let clock = world.cluster.clock;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let pods = world
            .until::<Pod>("the pod runs", |all| all.len() == 1 && ready(&all[0]))
            .await;
        let (name, uid) = (pods[0].metadata.name.clone().unwrap(), pods[0].metadata.uid.clone());
        let api = world.cluster.client.namespaced::<Pod>("default");
        let failed = json!({"status": {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]}});
        api.status().patch(&name, Patch::Strategic(failed)).await.unwrap();
        let since = clock.instant();
        world
            .until::<Pod>("another pod", |all| all.iter().any(|p| p.metadata.uid != uid))
            .await;
        waits.push(since.elapsed().as_secs_f64().round());
    }
    assert_eq!(waits, [0.0, 1.0, 2.0, 4.0]);
    world.stop().await;
}
