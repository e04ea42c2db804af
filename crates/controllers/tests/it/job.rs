//! Job, as <https://kubernetes.io/docs/concepts/workloads/controllers/job/> and the fields' descriptions say.

mod failure;
mod indexed;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::world::{World, name, names, says, template, with};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

fn job(spec: Value) -> Value {
    let mut pod = with(template("work"), json!({"spec": {"restartPolicy": "Never"}}));
    if let Some(changes) = spec.get("template") {
        pod = with(pod, changes.clone());
    }
    let mut spec = spec;
    spec["template"] = pod;
    json!({"metadata": {"name": "work"}, "spec": spec})
}

fn indexed(completions: i32) -> Value {
    json!({"completionMode": "Indexed", "completions": completions, "parallelism": completions})
}

/// The conditions that hold, in their order.
fn conditions(job: &Job) -> Vec<&JobCondition> {
    let all = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    all.filter(|c| c.status == "True").collect()
}

fn kinds(job: &Job) -> Vec<&str> {
    conditions(job).into_iter().map(|c| c.type_.as_str()).collect()
}

fn is(job: &Job, kind: &str) -> bool {
    kinds(job).contains(&kind)
}

fn index(pod: &Pod) -> i32 {
    pod.metadata.annotations.as_ref().unwrap()[INDEX].parse().unwrap()
}

impl World {
    async fn job_status(&self, wanted: Value) {
        self.settle().await;
        says(&self.get::<Job>("work").await.status, wanted);
    }

    async fn finished(&self, kind: &str) -> Arc<Job> {
        self.until::<Job>("work", |j| is(j, kind)).await
    }

    async fn end_all(&self, code: i32) {
        for pod in self.active("work").await {
            self.end(&name(&*pod), code).await;
        }
        self.settle().await;
    }

    async fn of_index(&self, wanted: i32) -> Option<String> {
        let pods = self.active("work").await;
        pods.iter().find(|p| index(p) == wanted).map(|p| name(&**p))
    }

    async fn indexes(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self.active("work").await.iter().map(|p| index(p)).collect();
        all.sort_unstable();
        all
    }
}

#[tokio::test(start_paused = true)]
async fn a_non_parallel_job_is_complete_as_soon_as_its_pod_terminates_successfully() {
    let world = World::new().await;
    let made = world.make::<Job>(job(json!({}))).await;
    says(
        &made.spec,
        json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed"}),
    );
    let pods = world.pods("work").await;
    assert_eq!(pods.len(), 1);
    let labels = pods[0].metadata.labels.as_ref().unwrap();
    let uid = made.metadata.uid.as_ref().unwrap();
    for (key, value) in [
        ("batch.kubernetes.io/job-name", "work"),
        ("job-name", "work"),
        ("batch.kubernetes.io/controller-uid", uid),
        ("controller-uid", uid),
    ] {
        assert_eq!(labels[key], value);
    }
    assert_eq!(
        pods[0].metadata.finalizers.as_deref(),
        Some([FINALIZER.to_owned()].as_slice())
    );
    world.run(&name(&*pods[0]), true).await;
    world
        .job_status(
            json!({"active": 1, "ready": 1, "terminating": 0, "succeeded": null, "uncountedTerminatedPods": {}}),
        )
        .await;
    world.end(&name(&*pods[0]), 0).await;
    let done = world.finished("Complete").await;
    assert_eq!(kinds(&done), ["SuccessCriteriaMet", "Complete"]);
    for condition in conditions(&done) {
        says(
            condition,
            json!({"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"}),
        );
    }
    says(
        &done.status,
        json!({"active": null, "ready": 0, "succeeded": 1, "failed": null, "uncountedTerminatedPods": {}}),
    );
    let status = done.status.as_ref().unwrap();
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    // The pod stays, for its logs, and is held no longer.
    let pods = world.pods("work").await;
    assert_eq!(pods[0].metadata.finalizers, None);
    world.told("work", "Normal Completed", "Job completed").await;
    let events = world.events("work").await;
    assert!(events["Normal SuccessfulCreate"].starts_with("Created pod: work-"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn eight_completions_two_at_a_time() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"completions": 8, "parallelism": 2})))
        .await;
    let mut ended = 0;
    while ended < 8 {
        let active = world.active("work").await;
        assert_eq!(active.len(), 2.min(8 - ended));
        world.end(&name(&*active[0]), 0).await;
        ended += 1;
    }
    let done = world.finished("Complete").await;
    says(&done.status, json!({"succeeded": 8}));
    assert_eq!(world.pods("work").await.len(), 8);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn for_a_work_queue_once_a_pod_has_succeeded_no_new_ones_are_created_and_all_have_to_end() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"parallelism": 3}))).await;
    let pods = world.active("work").await;
    assert_eq!(pods.len(), 3);
    world.end(&name(&*pods[0]), 0).await;
    assert_eq!(world.active("work").await.len(), 2);
    assert!(!is(&*world.get::<Job>("work").await, "Complete"));
    world.end_all(0).await;
    let done = world.finished("Complete").await;
    says(&done.status, json!({"succeeded": 3}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn parallelism_may_be_0_and_changed_while_the_job_runs() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"completions": 4, "parallelism": 0})))
        .await;
    assert!(world.pods("work").await.is_empty());
    for wanted in [3, 1, 2] {
        world
            .merge::<Job>("work", json!({"spec": {"parallelism": wanted}}))
            .await;
        assert_eq!(world.active("work").await.len(), wanted);
    }
    // Pods that were taken away are no failures.
    world.job_status(json!({"failed": null, "active": 2})).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods_and_resuming_it_resets_its_start_time() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"suspend": true, "completions": 2, "parallelism": 2})))
        .await;
    assert!(world.pods("work").await.is_empty());
    world
        .job_status(json!({"startTime": null, "conditions": [
            {"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended",
                "lastProbeTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .await;
    world.told("work", "Normal Suspended", "Job suspended").await;
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    let pods = world.active("work").await;
    assert_eq!(pods.len(), 2);
    let started = world.get::<Job>("work").await.status.clone().unwrap().start_time;
    world.told("work", "Normal Resumed", "Job resumed").await;
    world.end(&name(&*pods[0]), 0).await;
    world.pass(Duration::from_secs(30)).await;
    world.merge::<Job>("work", json!({"spec": {"suspend": true}})).await;
    assert!(world.active("work").await.is_empty());
    world
        .job_status(json!({"succeeded": 1, "failed": null, "active": null, "startTime": null}))
        .await;
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    world.settle().await;
    let found = world.get::<Job>("work").await;
    let resumed = found.status.as_ref().unwrap();
    assert!(resumed.start_time.as_ref().unwrap().0 > started.unwrap().0);
    let condition = &resumed.conditions.as_ref().unwrap()[0];
    says(
        condition,
        json!({"type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed"}),
    );
    world.end_all(0).await;
    says(&world.finished("Complete").await.status, json!({"succeeded": 2}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_template_of_a_suspended_job_may_say_anew_where_its_pods_run() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"suspend": true}))).await;
    world.settle().await;
    let place = json!({"spec": {"template": {"spec": {"nodeSelector": {"zone": "a"}}}}});
    world.merge::<Job>("work", place).await;
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    let pod = world.pods("work").await.remove(0);
    says(&pod.spec, json!({"nodeSelector": {"zone": "a"}}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_managed_by_another_controller_is_left_alone() {
    let world = World::new().await;
    let made = world.make::<Job>(job(json!({"managedBy": "example.com/queue"}))).await;
    assert!(world.pods("work").await.is_empty());
    // Nor is a pod taken that it would have.
    let template = serde_json::to_value(&made.spec.as_ref().unwrap().template).unwrap();
    let stray = with(template, json!({"metadata": {"name": "stray"}}));
    world.make::<Pod>(stray).await;
    world.settle().await;
    let stray = world.get::<Pod>("stray").await;
    assert!(stray.metadata.owner_references.is_none() && stray.metadata.finalizers.is_none());
    world.delete::<Pod>("stray").await;
    world.settle().await;
    assert!(
        world
            .get::<Job>("work")
            .await
            .status
            .as_ref()
            .is_none_or(|s| s.start_time.is_none())
    );
    let own = with(
        job(json!({"managedBy": "kubernetes.io/job-controller"})),
        json!({"metadata": {"name": "own"}}),
    );
    world.make::<Job>(own).await;
    assert_eq!(world.pods("work").await.len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_is_cleaned_up_with_its_pods_after_its_time_to_live() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"ttlSecondsAfterFinished": 100}))).await;
    world.end_all(0).await;
    let done = world.finished("Complete").await;
    let ended = done.status.as_ref().unwrap().completion_time.as_ref().unwrap().0;
    world.until_gone::<Job>("work").await;
    let lived = world.cluster.clock.now().duration_since(ended).as_secs();
    assert!((100..=101).contains(&lived), "{lived}");
    assert!(world.pods("work").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_live_may_be_set_or_changed_when_the_job_has_finished_and_counts_from_its_end() {
    for (before, after, lives) in [
        (Value::Null, json!(100), Some(100)),
        (json!(100), json!(400), Some(400)),
        (json!(400), json!(100), Some(100)),
        (json!(100), Value::Null, None),
        // What has expired goes at once.
        (Value::Null, json!(0), Some(20)),
    ] {
        let world = World::new().await;
        world
            .make::<Job>(job(json!({"backoffLimit": 0, "ttlSecondsAfterFinished": before})))
            .await;
        world.end_all(1).await;
        let spec = json!({"spec": {"ttlSecondsAfterFinished": after}});
        let done = world.finished("Failed").await;
        let ended = conditions(&done)[1].last_transition_time.as_ref().unwrap().0;
        let now = world.cluster.clock.now().duration_since(ended).as_secs();
        world
            .pass(Duration::from_secs(20_u64.saturating_sub(now.unsigned_abs())))
            .await;
        world.merge::<Job>("work", spec).await;
        match lives {
            Some(seconds) => {
                world.until_gone::<Job>("work").await;
                let lived = world.cluster.clock.now().duration_since(ended).as_secs();
                assert!((seconds..=seconds + 1).contains(&lived), "{before} {after}: {lived}");
            }
            None => {
                world.pass(Duration::from_secs(1000)).await;
                assert!(world.find::<Job>("work").await.is_some());
            }
        }
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_time_to_live_is_over_the_jobs_finalizers_are_honored() {
    let world = World::new().await;
    let held = json!({"metadata": {"finalizers": ["example.org/hold"]}, "spec": {"ttlSecondsAfterFinished": 10}});
    world.make::<Job>(with(job(json!({})), held)).await;
    world.end_all(0).await;
    world.pass(Duration::from_secs(15)).await;
    let going = world.get::<Job>("work").await;
    assert!(going.metadata.deletion_timestamp.is_some());
    let free = json!({"metadata": {"finalizers": null}});
    world.merge::<Job>("work", free).await;
    world.until_gone::<Job>("work").await;
    assert!(world.pods("work").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_finalizer_was_not_removed_in_time_is_still_counted_once() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"completions": 2}))).await;
    // It ends and is deleted at once: the finalizer holds it until it is counted.
    let pod = name(&*world.active("work").await[0]);
    world.end(&pod, 0).await;
    world.kill(&pod).await;
    world.settle().await;
    world.job_status(json!({"succeeded": 1, "active": 1})).await;
    world.until_gone::<Pod>(&pod).await;
    world.end_all(0).await;
    says(&world.finished("Complete").await.status, json!({"succeeded": 2}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn steps_in_sequence_are_init_containers_of_one_job() {
    let world = World::with_nodes(1, "rules:\n- init: 10s\n  run: 5s\n").await;
    let step = |name: &str| json!({"name": name, "image": "v1"});
    let spec = json!({"template": {"spec": {"initContainers": [step("fetch"), step("transform")]}}});
    world.make::<Job>(job(spec)).await;
    let done = world.finished("Complete").await;
    let status = done.status.as_ref().unwrap();
    let took = status
        .completion_time
        .as_ref()
        .unwrap()
        .0
        .duration_since(status.start_time.as_ref().unwrap().0);
    assert!(took.as_secs() >= 25, "{took}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn higher_values_of_parallelism_than_there_are_remaining_completions_are_ignored() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"completions": 2, "parallelism": 5})))
        .await;
    let pods = world.active("work").await;
    assert_eq!(pods.len(), 2);
    world.end(&name(&*pods[0]), 0).await;
    assert_eq!(world.active("work").await.len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_active_deadline_timer_is_stopped_and_reset_when_a_job_is_suspended_and_resumed() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"activeDeadlineSeconds": 100}))).await;
    world.pass(Duration::from_secs(80)).await;
    world.merge::<Job>("work", json!({"spec": {"suspend": true}})).await;
    world.pass(Duration::from_secs(600)).await;
    assert!(!is(&*world.get::<Job>("work").await, "Failed"));
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    world.pass(Duration::from_secs(80)).await;
    assert_eq!(world.active("work").await.len(), 1);
    let failed = world.finished("Failed").await;
    says(conditions(&failed)[0], json!({"reason": "DeadlineExceeded"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_you_delete_a_job_all_the_pods_it_created_are_deleted_and_orphaned_ones_are_let_go() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"completions": 2, "parallelism": 2})))
        .await;
    assert_eq!(world.pods("work").await.len(), 2);
    // As kubectl asks for it: a Job's pods are left behind for those who say nothing.
    let background = coracle_client::DeleteOptions {
        propagation: Some(coracle_client::Propagation::Background),
        ..Default::default()
    };
    world.api::<Job>().delete("work", &background).await.unwrap();
    world.until_gone::<Job>("work").await;
    assert!(world.pods("work").await.is_empty());
    world.make::<Job>(job(json!({}))).await;
    let pod = name(&*world.active("work").await[0]);
    let orphan = coracle_client::DeleteOptions {
        propagation: Some(coracle_client::Propagation::Orphan),
        ..Default::default()
    };
    world.api::<Job>().delete("work", &orphan).await.unwrap();
    world.until_gone::<Job>("work").await;
    world.settle().await;
    let left = world.get::<Pod>(&pod).await;
    assert_eq!(left.metadata.owner_references, None);
    assert_eq!(left.metadata.finalizers, None);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_job_with_the_selector_of_an_old_one_controls_the_pods_that_were_left_running() {
    let world = World::new().await;
    let old = world
        .make::<Job>(job(json!({"completions": 3, "parallelism": 2})))
        .await;
    let before = names(&world.active("work").await);
    let orphan = coracle_client::DeleteOptions {
        propagation: Some(coracle_client::Propagation::Orphan),
        ..Default::default()
    };
    world.api::<Job>().delete("work", &orphan).await.unwrap();
    world.until_gone::<Job>("work").await;
    let uid = old.metadata.uid.clone().unwrap();
    let label = json!({"batch.kubernetes.io/controller-uid": uid});
    let mut new = job(
        json!({"completions": 3, "parallelism": 2, "manualSelector": true, "selector": {"matchLabels": label},
        "template": {"metadata": {"labels": label}}}),
    );
    new["metadata"]["name"] = "new".into();
    world.make::<Job>(new).await;
    let pods = world.active("work").await;
    assert_eq!(names(&pods), before);
    for pod in &pods {
        assert_eq!(pod.metadata.owner_references.as_ref().unwrap()[0].name, "new");
        assert_eq!(
            pod.metadata.finalizers.as_deref(),
            Some([FINALIZER.to_owned()].as_slice())
        );
    }
    world.end_all(0).await;
    world.end_all(0).await;
    let done = world.until::<Job>("new", |j| is(j, "Complete")).await;
    says(&done.status, json!({"succeeded": 3}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lacks_quota_has_fewer_pods_and_tries_again() {
    use k8s_openapi::api::core::v1::ResourceQuota;
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    world.make::<ResourceQuota>(quota).await;
    world.settle().await;
    world
        .make::<Job>(job(json!({"completions": 3, "parallelism": 3})))
        .await;
    assert_eq!(world.active("work").await.len(), 1);
    let events = world.events("work").await;
    assert!(events["Warning FailedCreate"].contains("exceeded quota: few"));
    world.delete::<ResourceQuota>("few").await;
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(world.active("work").await.len(), 3);
    world.stop().await;
}
