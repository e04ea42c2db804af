//! Job, as <https://kubernetes.io/docs/concepts/workloads/controllers/job/> and the fields' descriptions say.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::Patch;
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
                "fieldPath": format!("metadata.annotations['{INDEX}']")}}}),
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

#[tokio::test(start_paused = true)]
async fn failed_pods_are_recreated_with_an_exponential_back_off_delay_of_10_20_40_seconds() {
    let world = World::new().await;
    world.make::<Job>(job(json!({}))).await;
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let failing = name(&*world.active("work").await[0]);
        world.end(&failing, 1).await;
        let since = world.cluster.clock.now();
        loop {
            let new = world.list::<Pod>().await;
            if new
                .iter()
                .any(|p| p.status.as_ref().unwrap().phase.as_deref() == Some("Pending"))
            {
                break;
            }
            world.pass(Duration::from_millis(500)).await;
        }
        gaps.push(world.cluster.clock.now().duration_since(since).as_secs());
    }
    assert!(
        gaps.iter()
            .zip([10, 20, 40])
            .all(|(gap, wanted)| (wanted..=wanted + 1).contains(gap)),
        "{gaps:?}"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn once_the_back_off_limit_has_been_reached_the_job_is_failed_and_its_running_pods_are_terminated() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"backoffLimit": 1, "parallelism": 2, "completions": 4})))
        .await;
    let pods = world.active("work").await;
    world.end(&name(&*pods[0]), 1).await;
    world.pass(Duration::from_secs(12)).await;
    let pods = world.active("work").await;
    assert_eq!(pods.len(), 2);
    world.end(&name(&*pods[0]), 1).await;
    let failed = world.finished("Failed").await;
    assert_eq!(kinds(&failed), ["FailureTarget", "Failed"]);
    for condition in conditions(&failed) {
        says(
            condition,
            json!({"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}),
        );
    }
    // The one that still ran has failed with its job.
    says(
        &failed.status,
        json!({"failed": 3, "active": null, "completionTime": null}),
    );
    assert!(world.active("work").await.is_empty());
    world
        .told(
            "work",
            "Warning BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        )
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_restart_policy_on_failure_the_restarts_of_containers_count_towards_the_limit() {
    let world = World::new().await;
    let spec = json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    world.make::<Job>(job(spec)).await;
    let pod = name(&*world.active("work").await[0]);
    let restarted = |count: i32| {
        json!({"phase": "Running", "containerStatuses": [
            {"name": "c", "image": "v1", "imageID": "", "ready": true, "restartCount": count}]})
    };
    world.status::<Pod>(&pod, restarted(1)).await;
    world.settle().await;
    assert!(kinds(&*world.get::<Job>("work").await).is_empty());
    world.status::<Pod>(&pod, restarted(2)).await;
    let failed = world.finished("Failed").await;
    says(conditions(&failed)[0], json!({"reason": "BackoffLimitExceeded"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn once_a_job_reaches_active_deadline_seconds_its_pods_are_terminated_with_reason_deadline_exceeded() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"activeDeadlineSeconds": 100}))).await;
    world.settle().await;
    world.pass(Duration::from_secs(90)).await;
    assert_eq!(world.active("work").await.len(), 1);
    let failed = world.finished("Failed").await;
    for condition in conditions(&failed) {
        says(
            condition,
            json!({"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}),
        );
    }
    let started = failed.status.as_ref().unwrap().start_time.as_ref().unwrap().0;
    let target = conditions(&failed)[0].last_transition_time.as_ref().unwrap().0;
    assert_eq!(target.duration_since(started).as_secs(), 100);
    assert!(world.active("work").await.is_empty());
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

fn with_rules(rules: Value) -> Value {
    json!({"podFailurePolicy": {"rules": rules}})
}

#[tokio::test(start_paused = true)]
async fn the_action_fail_job_ends_the_job_and_its_message_says_which_rule_matched() {
    let world = World::new().await;
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}}]);
    let spec = with(with_rules(rules), json!({"completions": 2, "parallelism": 2}));
    world.make::<Job>(job(spec)).await;
    let pods = world.active("work").await;
    let bad = name(&*pods[0]);
    world.end(&bad, 42).await;
    let failed = world.finished("Failed").await;
    for condition in conditions(&failed) {
        says(
            condition,
            json!({"reason": "PodFailurePolicy", "message": format!(
                "Container c for pod default/{bad} failed with exit code 42 matching FailJob rule at index 1")}),
        );
    }
    assert!(world.active("work").await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_action_ignore_does_not_count_a_disrupted_pod_and_replaces_it() {
    let world = World::new().await;
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    let spec = with(with_rules(rules), json!({"backoffLimit": 0}));
    world.make::<Job>(job(spec)).await;
    let pod = name(&*world.active("work").await[0]);
    let now = world.cluster.clock.now();
    let disrupted = json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        "containerStatuses": [{"name": "c", "image": "v1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "finishedAt": now}}}]});
    world.status::<Pod>(&pod, disrupted).await;
    world.pass(Duration::from_secs(15)).await;
    assert_eq!(world.active("work").await.len(), 1);
    world
        .job_status(json!({"failed": null, "active": 1, "conditions": null}))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_action_fail_index_does_not_try_an_index_again() {
    let world = World::new().await;
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}}]);
    let spec = with(with(indexed(2), json!({"backoffLimitPerIndex": 5})), with_rules(rules));
    world.make::<Job>(job(spec)).await;
    let pod = world.of_index(0).await.unwrap();
    world.end(&pod, 7).await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.indexes().await, [1]);
    world.job_status(json!({"failedIndexes": "0"})).await;
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
async fn terminal_conditions_wait_until_all_pods_are_terminated() {
    let world = World::new().await;
    let spec = json!({"backoffLimit": 0, "completions": 2, "parallelism": 2, "template": {"spec": {"nodeName": "n1"}}});
    world.make::<Job>(job(spec)).await;
    let pods = names(&world.active("work").await);
    world.run(&pods[1], true).await;
    world.end(&pods[0], 1).await;
    world.settle().await;
    let found = world.get::<Job>("work").await;
    assert_eq!(kinds(&found), ["FailureTarget"]);
    says(&found.status, json!({"terminating": 1, "active": null}));
    world.kill(&pods[1]).await;
    let failed = world.finished("Failed").await;
    says(&failed.status, json!({"terminating": 0, "failed": 2}));
    world.stop().await;
}

async fn replaced(policy: &str) -> bool {
    let world = World::new().await;
    let spec = json!({"podReplacementPolicy": policy, "template": {"spec": {"nodeName": "n1"}}});
    world.make::<Job>(job(spec)).await;
    let pod = name(&*world.active("work").await[0]);
    world.run(&pod, true).await;
    world.delete::<Pod>(&pod).await;
    world.pass(Duration::from_secs(15)).await;
    world.job_status(json!({"terminating": 1})).await;
    let early = world.active("work").await.len() == 1;
    world.end(&pod, 137).await;
    world.kill(&pod).await;
    world.pass(Duration::from_secs(15)).await;
    assert_eq!(world.active("work").await.len(), 1);
    world.job_status(json!({"terminating": 0, "failed": 1})).await;
    world.stop().await;
    early
}

#[tokio::test(start_paused = true)]
async fn with_pod_replacement_policy_terminating_or_failed_a_pod_is_replaced_while_it_terminates() {
    assert!(replaced("TerminatingOrFailed").await);
}

#[tokio::test(start_paused = true)]
async fn with_pod_replacement_policy_failed_a_pod_is_replaced_only_when_it_has_ended() {
    assert!(!replaced("Failed").await);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_managed_by_another_controller_is_left_alone() {
    let world = World::new().await;
    world.make::<Job>(job(json!({"managedBy": "example.com/queue"}))).await;
    assert!(world.pods("work").await.is_empty());
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
