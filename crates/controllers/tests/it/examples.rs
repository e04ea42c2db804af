//! The jobs of `examples/jobs` do what their comments say.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::world::{World, name, says};

fn manifest(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn is_complete(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Complete" && c.status == "True")
}

async fn completed(file: &str, job: &str) -> (World, std::sync::Arc<Job>) {
    let world = World::with_nodes(2, "rules:\n- init: 5s\n  run: 10s\n").await;
    world.make::<Job>(manifest(file)).await;
    let done = world.until::<Job>(job, is_complete).await;
    (world, done)
}

#[tokio::test(start_paused = true)]
async fn sequence_runs_its_steps_one_after_the_other_and_is_gone_an_hour_later() {
    let (world, done) = completed(include_str!("../../../../examples/jobs/sequence.yaml"), "sequence").await;
    let status = done.status.as_ref().unwrap();
    let took = status
        .completion_time
        .as_ref()
        .unwrap()
        .0
        .duration_since(status.start_time.as_ref().unwrap().0);
    assert!(took.as_secs() >= 5 + 5 + 10, "{took}");
    assert_eq!(world.list::<Pod>().await.len(), 1);
    world.pass(Duration::from_secs(3500)).await;
    assert!(world.find::<Job>("sequence").await.is_some());
    world.pass(Duration::from_secs(200)).await;
    assert!(world.find::<Job>("sequence").await.is_none());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn indexed_gives_every_index_a_share_of_its_own() {
    let (world, done) = completed(include_str!("../../../../examples/jobs/indexed.yaml"), "indexed").await;
    says(
        &done.status,
        json!({"completedIndexes": "0-4", "succeeded": 5, "failedIndexes": ""}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn parallel_goes_from_0_to_8_two_at_a_time() {
    let (world, done) = completed(include_str!("../../../../examples/jobs/parallel.yaml"), "parallel").await;
    let status = done.status.as_ref().unwrap();
    says(status, json!({"succeeded": 8}));
    let took = status
        .completion_time
        .as_ref()
        .unwrap()
        .0
        .duration_since(status.start_time.as_ref().unwrap().0);
    // Four rounds of ten seconds.
    assert!((40..60).contains(&took.as_secs()), "{took}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nightly_starts_at_half_past_two_in_berlin() {
    let world = World::new().await;
    world
        .make::<CronJob>(manifest(include_str!("../../../../examples/jobs/nightly.yaml")))
        .await;
    world.pass(Duration::from_secs(86_400)).await;
    let jobs = world.list::<Job>().await;
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    let at = &job.metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(at, "2026-01-01T02:30:00+01:00");
    assert!(name(&**job).starts_with("nightly-"));
    world.stop().await;
}
