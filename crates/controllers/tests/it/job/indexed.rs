//! Indexed Jobs: what an index is told, retries and failure of one index, and when some indexes are enough.

use std::time::Duration;

use coracle_client::Patch;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::world::{World, name, says, with};

#[tokio::test(start_paused = true)]
async fn each_pod_of_an_indexed_job_gets_its_index_as_annotation_label_host_name_and_variable() {
    let world = World::new().await;
    world.make::<Job>(job(indexed(3))).await;
    let pods = world.pods("work").await;
    assert_eq!(world.indexes().await, [0, 1, 2]);
    for pod in &pods {
        let index = index(pod).to_string();
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[INDEX], index);
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.hostname, Some(format!("work-{index}")));
        assert!(name(&**pod).starts_with(&format!("work-{index}-")));
        let variable = &spec.containers[0].env.as_ref().unwrap()[0];
        says(
            variable,
            json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
                "fieldPath": format!("metadata.labels['{INDEX}']")}}}),
        );
    }
    for done in [0, 2] {
        let pod = world.of_index(done).await.unwrap();
        world.end(&pod, 0).await;
    }
    world
        .job_status(json!({"completedIndexes": "0,2", "succeeded": 2, "active": 1}))
        .await;
    world.end_all(0).await;
    let done = world.finished("Complete").await;
    says(&done.status, json!({"completedIndexes": "0-2", "succeeded": 3}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_index_whose_pod_fails_is_tried_again_and_counts_once() {
    let world = World::new().await;
    world.make::<Job>(job(indexed(2))).await;
    let pod = world.of_index(1).await.unwrap();
    world.end(&pod, 1).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.indexes().await, [0, 1]);
    world.end_all(0).await;
    let done = world.finished("Complete").await;
    says(&done.status, json!({"succeeded": 2, "failed": 1}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_scales_by_completions_and_parallelism_together() {
    let world = World::new().await;
    world.make::<Job>(job(indexed(4))).await;
    world.settle().await;
    let scaled = |n: i32| json!({"spec": {"completions": n, "parallelism": n}});
    world.merge::<Job>("work", scaled(2)).await;
    assert_eq!(world.indexes().await, [0, 1]);
    world.merge::<Job>("work", scaled(5)).await;
    assert_eq!(world.indexes().await, [0, 1, 2, 3, 4]);
    let alone = world
        .api::<Job>()
        .patch("work", Patch::Merge(json!({"spec": {"completions": 6}})))
        .await;
    assert!(alone.unwrap_err().to_string().contains("spec.completions"));
    world.stop().await;
}

fn per_index() -> Value {
    with(indexed(3), json!({"backoffLimitPerIndex": 1}))
}

#[tokio::test(start_paused = true)]
async fn with_a_back_off_limit_per_index_an_index_fails_alone_and_the_others_go_on() {
    let world = World::new().await;
    let made = world.make::<Job>(job(per_index())).await;
    assert_eq!(made.spec.as_ref().unwrap().backoff_limit, Some(i32::MAX));
    for count in 0..2 {
        let pod = world.of_index(1).await.unwrap();
        let annotations = world.get::<Pod>(&pod).await.metadata.annotations.clone().unwrap();
        assert_eq!(
            annotations["batch.kubernetes.io/job-index-failure-count"],
            count.to_string()
        );
        world.end(&pod, 1).await;
        world.pass(Duration::from_secs(12)).await;
    }
    assert_eq!(world.of_index(1).await, None);
    world
        .job_status(json!({"failedIndexes": "1", "failed": 2, "active": 2}))
        .await;
    world.end_all(0).await;
    let failed = world.finished("Failed").await;
    says(
        &failed.status,
        json!({"completedIndexes": "0,2", "failedIndexes": "1", "succeeded": 2, "failed": 2}),
    );
    for condition in conditions(&failed) {
        says(
            condition,
            json!({"reason": "FailedIndexes", "message": "Job has failed indexes"}),
        );
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_more_indexes_fail_than_max_failed_indexes_the_job_is_failed_at_once() {
    let world = World::new().await;
    let spec = with(indexed(4), json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1}));
    world.make::<Job>(job(spec)).await;
    for index in [0, 3] {
        assert_eq!(world.active("work").await.len(), if index == 0 { 4 } else { 3 });
        let pod = world.of_index(index).await.unwrap();
        world.end(&pod, 1).await;
    }
    let failed = world.finished("Failed").await;
    for condition in conditions(&failed) {
        says(
            condition,
            json!({"reason": "MaxFailedIndexesExceeded",
                "message": "Job has exceeded the specified maximal number of failed indexes"}),
        );
    }
    assert!(world.active("work").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_with_a_success_policy_ends_when_a_rule_is_met_and_its_lingering_pods_are_terminated() {
    let world = World::new().await;
    let policy = json!({"successPolicy": {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 1}]}});
    world.make::<Job>(job(with(indexed(5), policy))).await;
    let other = world.of_index(1).await.unwrap();
    world.end(&other, 0).await;
    world.settle().await;
    assert!(kinds(&*world.get::<Job>("work").await).is_empty());
    let leader = world.of_index(2).await.unwrap();
    world.end(&leader, 0).await;
    let done = world.finished("Complete").await;
    assert_eq!(kinds(&done), ["SuccessCriteriaMet", "Complete"]);
    for condition in conditions(&done) {
        says(
            condition,
            json!({"reason": "SuccessPolicy", "message": "Matched rules at index 0"}),
        );
    }
    says(&done.status, json!({"succeeded": 2, "completedIndexes": "1,2"}));
    assert!(world.active("work").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_success_policy_may_ask_for_indexes_for_a_number_or_for_both_and_the_first_rule_that_is_met_decides() {
    for (rules, ended, message) in [
        (
            json!([{"succeededIndexes": "0-1"}]),
            vec![0, 1],
            "Matched rules at index 0",
        ),
        (json!([{"succeededCount": 2}]), vec![4, 2], "Matched rules at index 0"),
        (
            json!([{"succeededIndexes": "0"}, {"succeededIndexes": "2-4", "succeededCount": 2}]),
            vec![4, 3],
            "Matched rules at index 1",
        ),
    ] {
        let world = World::new().await;
        let spec = with(indexed(5), json!({"successPolicy": {"rules": rules}}));
        world.make::<Job>(job(spec)).await;
        for (at, index) in ended.iter().enumerate() {
            world.settle().await;
            assert!(kinds(&*world.get::<Job>("work").await).is_empty(), "{at} of {rules}");
            let pod = world.of_index(*index).await.unwrap();
            world.end(&pod, 0).await;
        }
        let done = world.finished("Complete").await;
        for condition in conditions(&done) {
            says(condition, json!({"reason": "SuccessPolicy", "message": message}));
        }
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn indexes_that_still_run_when_a_success_policy_is_met_have_neither_completed_nor_failed() {
    for (fails, per_index, wanted) in [
        (None, Value::Null, json!({"failed": null, "failedIndexes": null})),
        (None, json!(0), json!({"failed": null, "failedIndexes": ""})),
        // It stands above indexes that have failed.
        (Some(0), json!(0), json!({"failed": 1, "failedIndexes": "0"})),
    ] {
        let world = World::new().await;
        let policy = json!({"rules": [{"succeededIndexes": "2"}]});
        let spec = json!({"backoffLimitPerIndex": per_index, "successPolicy": policy});
        world.make::<Job>(job(with(indexed(5), spec))).await;
        if let Some(index) = fails {
            let pod = world.of_index(index).await.unwrap();
            world.end(&pod, 1).await;
            world.settle().await;
        }
        let pod = world.of_index(2).await.unwrap();
        world.end(&pod, 0).await;
        let done = world.finished("Complete").await;
        says(
            &done.status,
            json!({"completedIndexes": "2", "succeeded": 1, "active": null, "terminating": 0}),
        );
        says(&done.status, wanted);
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn init_containers_know_the_index_too_and_a_variable_of_ones_own_is_left_alone() {
    let world = World::new().await;
    let own = json!([{"name": "JOB_COMPLETION_INDEX", "value": "mine"}]);
    let pod = json!({"spec": {"initContainers": [{"name": "first", "image": "v1"}],
        "containers": [{"name": "c", "image": "v1", "env": own}]}});
    world.make::<Job>(job(with(indexed(1), json!({"template": pod})))).await;
    let pod = world.pods("work").await.remove(0);
    let spec = pod.spec.as_ref().unwrap();
    says(&spec.containers[0].env, own);
    says(
        &spec.init_containers.as_ref().unwrap()[0].env.as_ref().unwrap()[0],
        json!({"name": "JOB_COMPLETION_INDEX"}),
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_retries_of_an_index_have_a_back_off_of_their_own() {
    let world = World::new().await;
    let spec = with(indexed(2), json!({"backoffLimitPerIndex": 3}));
    world.make::<Job>(job(spec)).await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        let pod = world.of_index(0).await.unwrap();
        world.end(&pod, 1).await;
        let since = world.cluster.clock.now();
        while world.of_index(0).await.is_none() {
            assert!(world.of_index(1).await.is_some(), "the other goes on");
        }
        waits.push(world.cluster.clock.now().duration_since(since).as_secs());
    }
    // It is looked for every two seconds or four.
    for (wait, wanted) in waits.iter().zip([10, 20, 40]) {
        assert!((wanted..wanted + 6).contains(wait), "{waits:?}");
    }
    world.stop().await;
}
