//! What a Job makes of pods that fail or go: back-off, limits, podFailurePolicy, podReplacementPolicy, deadlines.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::world::{World, name, names, says, with};

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
async fn the_active_deadline_takes_precedence_over_the_back_off_limit() {
    let world = World::new().await;
    world
        .make::<Job>(job(json!({"activeDeadlineSeconds": 25, "backoffLimit": 5})))
        .await;
    let pod = name(&*world.active("work").await[0]);
    world.end(&pod, 1).await;
    world.pass(Duration::from_secs(12)).await;
    let pod = name(&*world.active("work").await[0]);
    world.end(&pod, 1).await;
    let failed = world.finished("Failed").await;
    says(conditions(&failed)[0], json!({"reason": "DeadlineExceeded"}));
    says(&failed.status, json!({"failed": 2}));
    world.pass(Duration::from_secs(60)).await;
    assert!(world.active("work").await.is_empty());
    world.stop().await;
}

/// What became of a job of two pods of which one ends with this code under these rules.
async fn ruled(code: i32, rules: Value) -> Option<String> {
    let world = World::new().await;
    let spec = with(
        with_rules(rules),
        json!({"backoffLimit": 0, "completions": 2, "parallelism": 2}),
    );
    world.make::<Job>(job(spec)).await;
    let pods = world.active("work").await;
    world.end(&name(&*pods[0]), code).await;
    world.pass(Duration::from_secs(30)).await;
    let found = world.get::<Job>("work").await;
    let reason = conditions(&found).first().and_then(|c| c.reason.clone());
    world.stop().await;
    reason
}

#[tokio::test(start_paused = true)]
async fn rules_are_evaluated_in_order_and_once_one_matches_the_remaining_ones_are_ignored() {
    let codes = |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
    let ignored = None;
    let (counted, failed) = (
        Some("BackoffLimitExceeded".to_owned()),
        Some("PodFailurePolicy".to_owned()),
    );
    for (code, rules, wanted) in [
        (
            3,
            json!([codes("Ignore", "In", &[3]), codes("FailJob", "In", &[3])]),
            &ignored,
        ),
        (
            3,
            json!([codes("FailJob", "In", &[3]), codes("Ignore", "In", &[3])]),
            &failed,
        ),
        (
            3,
            json!([codes("Count", "In", &[3]), codes("FailJob", "In", &[3])]),
            &counted,
        ),
        // None matches: the default handling applies.
        (3, json!([codes("FailJob", "In", &[4])]), &counted),
        (3, json!([codes("FailJob", "NotIn", &[4, 5])]), &failed),
        (4, json!([codes("FailJob", "NotIn", &[4, 5])]), &counted),
    ] {
        assert_eq!(&ruled(code, rules.clone()).await, wanted, "{code} under {rules}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_be_restricted_to_a_container_by_its_name() {
    let world = World::new().await;
    let refused =
        json!([{"action": "FailJob", "onExitCodes": {"containerName": "none", "operator": "In", "values": [3]}}]);
    let refused = crate::harness::from(job(with_rules(refused)));
    let refused = world.api::<Job>().create(&refused).await.unwrap_err().to_string();
    assert!(
        refused.contains("must be one of the container or initContainer names in the pod template"),
        "{refused}"
    );
    let rules =
        json!([{"action": "FailJob", "onExitCodes": {"containerName": "side", "operator": "In", "values": [3]}}]);
    let containers = json!([{"name": "c", "image": "v1"}, {"name": "side", "image": "v1"}]);
    let spec = with(
        with_rules(rules),
        json!({"template": {"spec": {"containers": containers}}}),
    );
    world.make::<Job>(job(spec)).await;
    let pod = name(&*world.active("work").await[0]);
    let now = world.cluster.clock.now();
    let ended = |container: &str, code: i32| {
        json!({"name": container, "image": "v1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "finishedAt": now}}})
    };
    let first = json!({"phase": "Failed", "containerStatuses": [ended("c", 3), ended("side", 0)]});
    world.status::<Pod>(&pod, first).await;
    world.pass(Duration::from_secs(12)).await;
    let pod = name(&*world.active("work").await[0]);
    let second = json!({"phase": "Failed", "containerStatuses": [ended("c", 0), ended("side", 3)]});
    world.status::<Pod>(&pod, second).await;
    let failed = world.finished("Failed").await;
    says(conditions(&failed)[0], json!({"reason": "PodFailurePolicy"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_failure_policy_a_pod_is_judged_only_when_it_has_ended() {
    let world = World::new().await;
    let rules = json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]);
    let spec = with(
        with_rules(rules),
        json!({"backoffLimit": 0, "template": {"spec": {"nodeName": "n1"}}}),
    );
    world.make::<Job>(job(spec)).await;
    let pod = name(&*world.active("work").await[0]);
    world.run(&pod, true).await;
    world.delete::<Pod>(&pod).await;
    world.pass(Duration::from_secs(15)).await;
    // Neither counted nor replaced while it terminates.
    assert!(world.active("work").await.is_empty());
    world.job_status(json!({"failed": null, "terminating": 1})).await;
    world.end(&pod, 137).await;
    let failed = world.finished("Failed").await;
    says(conditions(&failed)[0], json!({"reason": "BackoffLimitExceeded"}));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_a_rule_has_a_status_which_is_true_unless_it_says_otherwise() {
    for (pattern, told, wanted) in [
        (json!({"type": "Own"}), "True", Some("PodFailurePolicy")),
        (json!({"type": "Own"}), "False", Some("BackoffLimitExceeded")),
        (
            json!({"type": "Own", "status": "False"}),
            "False",
            Some("PodFailurePolicy"),
        ),
    ] {
        let world = World::new().await;
        let rules = json!([{"action": "FailJob", "onPodConditions": [pattern]}]);
        world
            .make::<Job>(job(with(with_rules(rules), json!({"backoffLimit": 0}))))
            .await;
        let pod = name(&*world.active("work").await[0]);
        let failed = json!({"phase": "Failed", "conditions": [{"type": "Own", "status": told}]});
        world.status::<Pod>(&pod, failed).await;
        let failed = world.finished("Failed").await;
        assert_eq!(conditions(&failed)[0].reason.as_deref(), wanted, "{told}");
        world.stop().await;
    }
}
