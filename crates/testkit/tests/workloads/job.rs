//! Jobs and CronJobs from end to end.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::world::{World, names};

fn job(name: &str, spec: Value, image: &str) -> Value {
    let mut all = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        all["spec"][key] = value.clone();
    }
    all
}

fn conditions(job: &Job) -> Vec<&str> {
    let all = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    all.filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn eight_completions_two_at_a_time_are_counted_once_each_and_the_conditions_come_in_order() {
    let world = World::new(&["a"]).await;
    world
        .create::<Job>(job("j", json!({"completions": 8, "parallelism": 2}), "task"))
        .await;
    let done = world
        .until_one::<Job>("j", "complete", |j| conditions(j).contains(&"Complete"))
        .await;
    assert_eq!(conditions(&done), ["SuccessCriteriaMet", "Complete"]);
    let status = done.status.as_ref().unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(8), None, None));
    assert!(status.completion_time.is_some() && status.start_time.is_some());
    let pods = world.until::<Pod>("the pods are let go", |all| {
        all.len() == 8 && all.iter().all(|p| p.metadata.finalizers.is_none())
    });
    pods.await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_past_its_back_off_limit_fails_after_the_waits_of_its_retries() {
    let world = World::new(&["a"]).await;
    let since = world.cluster.clock.instant();
    world
        .create::<Job>(job("j", json!({"backoffLimit": 2}), "failing"))
        .await;
    let failed = world
        .until_one::<Job>("j", "failed", |j| conditions(j).contains(&"Failed"))
        .await;
    assert_eq!(conditions(&failed), ["FailureTarget", "Failed"]);
    assert_eq!(failed.status.as_ref().unwrap().failed, Some(3));
    // 10 s before the first retry, 20 s before the second.
    assert!((30..34).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_day_of_cron_jobs_runs_each_tick_once() {
    let world = World::new(&["a"]).await;
    let template = job("x", json!({}), "task")["spec"].clone();
    world
        .create::<CronJob>(json!({
            "metadata": {"name": "c", "namespace": "default"},
            "spec": {"schedule": "0 * * * *", "successfulJobsHistoryLimit": 100, "jobTemplate": {"spec": template}},
        }))
        .await;
    let clock = world.cluster.clock;
    clock.sleep(Duration::from_secs(24 * 3600 + 60)).await;
    let jobs = world
        .until::<Job>("a day's jobs are done", |all| {
            all.len() == 24 && all.iter().all(|j| conditions(j).contains(&"Complete"))
        })
        .await;
    // Minutes since 1970 of 1 January 2026, 1:00 and of each hour after.
    let expected: Vec<String> = (1..=24).map(|hour| format!("c-{}", 29_453_760 + hour * 60)).collect();
    assert_eq!(names(&jobs), expected);
    let cron = world
        .until_one::<CronJob>("c", "nothing runs", |c| {
            c.status.as_ref().is_some_and(|s| s.active.is_none())
        })
        .await;
    let last = cron.status.as_ref().unwrap().last_schedule_time.as_ref().unwrap().0;
    assert_eq!(last, "2026-01-02T00:00:00Z".parse().unwrap());
    world.stop().await;
}
