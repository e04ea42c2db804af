//! What the documentation says of jobs, sentence by sentence, in a model of the world: plans are carried out as the
//! controller does, and pods do as they are told.

use std::sync::Arc;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::plan::{Plan, plan};
use super::pod::{FINALIZER, failures, index, is_held, make};
use crate::pods::{is_active, phase};

struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    made: usize,
    /// Pods end at once when they are deleted; else they go on terminating.
    ends_at_once: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut all = json!({
            "metadata": {"name": "j", "namespace": "default", "uid": "u"},
            "spec": {
                "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
            },
        });
        json_patch::merge(&mut all["spec"], &spec);
        Self {
            job: serde_json::from_value(all).unwrap(),
            pods: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            made: 0,
            ends_at_once: true,
        }
    }

    fn spec(&mut self, spec: Value) {
        let mut all = serde_json::to_value(&self.job).unwrap();
        json_patch::merge(&mut all["spec"], &spec);
        self.job = serde_json::from_value(all).unwrap();
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn step(&mut self) -> Plan {
        let plan = plan(&self.job, &self.pods, true, self.now);
        for new in &plan.create {
            let mut pod = make(&self.job, new);
            self.made += 1;
            let name = format!("{}{}", pod.metadata.generate_name.as_deref().unwrap(), self.made);
            pod.metadata.uid = Some(format!("uid-{name}"));
            pod.metadata.name = Some(name);
            pod.metadata.creation_timestamp = Some(Time(self.now));
            pod.status = Some(serde_json::from_value(json!({"phase": "Running"})).unwrap());
            self.pods.push(Arc::new(pod));
        }
        if let Some(status) = plan.status.clone() {
            let mut status = status;
            let active = plan.active + plan.create.len() - plan.delete.len();
            status.active = (active > 0).then(|| i32::try_from(active).unwrap());
            self.job.status = Some(status);
        }
        let doomed = |p: &Pod, all: &[Arc<Pod>]| all.iter().any(|d| d.metadata.uid == p.metadata.uid);
        let now = self.now;
        for pod in &mut self.pods {
            let deleted = doomed(pod, &plan.delete);
            if doomed(pod, &plan.let_go) || deleted && plan.forget_deleted {
                let pod = Arc::make_mut(pod);
                pod.metadata.finalizers.as_mut().unwrap().retain(|f| f != FINALIZER);
            }
            if deleted {
                Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(now));
            }
        }
        if self.ends_at_once {
            self.pods
                .retain(|p| p.metadata.deletion_timestamp.is_none() || is_held(p));
        }
        plan
    }

    /// Until nothing changes at this time.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.job.clone(), self.pods.clone());
            self.step();
            if before == (self.job.clone(), self.pods.clone()) {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.job.status);
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|p| is_active(p)).cloned().collect()
    }

    fn indexes(&self) -> Vec<i32> {
        self.active().iter().filter_map(|p| index(p)).collect()
    }

    /// The first active pod (of the index, if one is given) ends.
    fn end(&mut self, of: Option<i32>, code: i32) {
        let now = self.now;
        let mut pods = self.pods.iter_mut();
        let pod = pods.find(|p| is_active(p) && (of.is_none() || index(p) == of)).unwrap();
        Arc::make_mut(pod).status = Some(
            serde_json::from_value(json!({
                "phase": if code == 0 { "Succeeded" } else { "Failed" },
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "finishedAt": now.to_string()}},
                }],
            }))
            .unwrap(),
        );
    }

    fn status(&self) -> &JobStatus {
        self.job.status.as_ref().unwrap()
    }

    fn is(&self, kind: &str) -> Option<&str> {
        let all = self.status().conditions.as_deref().unwrap_or_default();
        all.iter()
            .find(|c| c.type_ == kind && c.status == "True")
            .and_then(|c| c.reason.as_deref())
    }

    fn counts(&self) -> (i32, i32, i32) {
        let s = self.status();
        (s.active.unwrap_or(0), s.succeeded.unwrap_or(0), s.failed.unwrap_or(0))
    }
}

#[test]
fn a_job_is_complete_when_so_many_pods_have_succeeded_and_never_runs_more_than_parallelism() {
    let mut w = World::new(json!({"completions": 8, "parallelism": 2}));
    for done in 0..8 {
        w.settle();
        assert_eq!(w.counts(), (2.min(8 - done), done, 0));
        w.end(None, 0);
    }
    w.settle();
    assert_eq!(w.counts(), (0, 8, 0));
    assert_eq!(
        (w.is("SuccessCriteriaMet"), w.is("Complete")),
        (Some("CompletionsReached"), Some("CompletionsReached"))
    );
    assert!(w.status().completion_time.is_some());
    assert!(w.pods.iter().all(|p| !is_held(p)));
}

#[test]
fn a_work_queue_is_complete_when_one_pod_has_succeeded_and_all_have_ended() {
    let mut w = World::new(json!({"parallelism": 3}));
    w.settle();
    assert_eq!(w.active().len(), 3);
    w.end(None, 0);
    w.settle();
    assert_eq!((w.active().len(), w.is("Complete")), (2, None));
    w.end(None, 0);
    w.end(None, 1);
    w.settle();
    assert_eq!((w.counts(), w.is("Complete").is_some()), ((0, 2, 1), true));
}

#[test]
fn a_finished_pod_is_noted_before_it_is_let_go_and_counted_after() {
    let mut w = World::new(json!({"completions": 1}));
    w.settle();
    w.end(None, 0);
    let first = w.step();
    let noted = first.status.unwrap();
    assert_eq!(noted.uncounted_terminated_pods.unwrap().succeeded.unwrap(), ["uid-j-1"]);
    assert_eq!((noted.succeeded, first.let_go.len()), (None, 1));
    assert_eq!(w.is("Complete"), None);
    let second = w.step().status.unwrap();
    assert_eq!(
        (second.succeeded, second.uncounted_terminated_pods),
        (Some(1), Some(Default::default()))
    );
    assert_eq!(w.is("Complete"), Some("CompletionsReached"));
}

#[test]
fn a_status_notes_500_pods_at_most_and_still_counts_every_one() {
    let mut w = World::new(json!({"completions": 700, "parallelism": 700}));
    w.settle();
    for _ in 0..700 {
        w.end(None, 0);
    }
    let noted = w.step().status.unwrap().uncounted_terminated_pods.unwrap();
    assert_eq!(noted.succeeded.map(|s| s.len()), Some(500));
    w.settle();
    assert_eq!((w.counts(), w.made), ((0, 700, 0), 700));
    assert!(w.is("Complete").is_some());
}

#[test]
fn failed_pods_are_recreated_with_an_exponential_back_off_delay() {
    let mut w = World::new(json!({"completions": 1}));
    w.settle();
    for wait in [10, 20, 40] {
        w.end(None, 1);
        w.settle();
        assert_eq!(w.step().check_again.map(|d| d.as_secs()), Some(wait));
        w.pass(wait.cast_signed() - 1);
        w.settle();
        assert!(w.active().is_empty());
        w.pass(1);
        w.settle();
        assert_eq!(w.active().len(), 1);
    }
    assert_eq!(w.counts(), (1, 0, 3));
}

#[test]
fn a_job_fails_once_the_back_off_limit_has_been_reached_and_its_running_pods_are_terminated() {
    let mut w = World::new(json!({"completions": 3, "parallelism": 2, "backoffLimit": 0}));
    w.settle();
    w.end(None, 1);
    w.settle();
    assert_eq!(
        (w.is("FailureTarget"), w.is("Failed")),
        (Some("BackoffLimitExceeded"), Some("BackoffLimitExceeded"))
    );
    assert_eq!((w.active().len(), w.counts()), (0, (0, 0, 2)));
    assert_eq!(w.status().completion_time, None);
}

#[test]
fn the_terminal_condition_waits_until_all_pods_are_terminated() {
    let mut w = World::new(json!({"completions": 3, "parallelism": 2, "backoffLimit": 0}));
    w.ends_at_once = false;
    w.settle();
    w.end(None, 1);
    w.settle();
    assert_eq!((w.is("FailureTarget").is_some(), w.is("Failed")), (true, None));
    assert_eq!(w.status().terminating, Some(1));
    w.pods.retain(|p| p.metadata.deletion_timestamp.is_none());
    w.settle();
    assert!(w.is("Failed").is_some());
}

#[test]
fn once_a_job_reaches_active_deadline_seconds_all_of_its_running_pods_are_terminated() {
    let mut w = World::new(json!({"completions": 1, "activeDeadlineSeconds": 100}));
    w.settle();
    assert_eq!(w.step().check_again.map(|d| d.as_secs()), Some(100));
    w.pass(100);
    w.settle();
    assert_eq!((w.is("Failed"), w.active().len()), (Some("DeadlineExceeded"), 0));
}

#[test]
fn suspending_a_job_deletes_its_active_pods_without_failures_and_resuming_resets_the_start_time() {
    let mut w = World::new(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}));
    w.settle();
    w.spec(json!({"suspend": true}));
    w.settle();
    assert_eq!(
        (w.active().len(), w.is("Suspended"), w.counts()),
        (0, Some("JobSuspended"), (0, 0, 0))
    );
    assert_eq!(w.status().start_time, None);
    w.pass(60);
    w.spec(json!({"suspend": false}));
    w.settle();
    assert_eq!((w.active().len(), w.is("Suspended")), (2, None));
    assert_eq!(w.status().start_time, Some(Time(w.now)));
}

#[test]
fn the_pods_of_an_indexed_job_get_an_index_a_host_name_and_a_variable() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3}));
    w.settle();
    assert_eq!(w.indexes(), [0, 1, 2]);
    let pod = w.pods[1].clone();
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-1"));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-1-"));
    assert_eq!(
        pod.metadata.labels.as_ref().unwrap()["batch.kubernetes.io/job-completion-index"],
        "1"
    );
    let variable = &spec.containers[0].env.as_ref().unwrap()[0];
    assert_eq!(variable.name, "JOB_COMPLETION_INDEX");
    w.end(Some(1), 0);
    w.settle();
    assert_eq!(
        (w.indexes(), w.status().completed_indexes.as_deref()),
        (vec![0, 2, 3], Some("1"))
    );
    for index in [0, 2, 3] {
        w.end(Some(index), 0);
    }
    w.settle();
    assert_eq!(
        (w.status().completed_indexes.as_deref(), w.counts()),
        (Some("0-3"), (0, 4, 0))
    );
    assert!(w.is("Complete").is_some());
}

#[test]
fn an_elastic_indexed_job_drops_the_indexes_that_it_no_longer_has() {
    let mut w = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    w.settle();
    w.end(Some(2), 0);
    w.settle();
    w.spec(json!({"completions": 2, "parallelism": 2}));
    w.settle();
    assert_eq!((w.indexes(), w.counts()), (vec![0, 1], (2, 0, 0)));
}

#[test]
fn with_back_off_limit_per_index_an_index_fails_alone_and_the_job_fails_when_all_are_done() {
    let mut w = World::new(json!({
        "completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1,
    }));
    w.settle();
    w.end(Some(0), 1);
    w.end(Some(1), 0);
    w.settle();
    assert_eq!((w.indexes(), w.status().failed_indexes.as_deref()), (vec![], Some("")));
    w.pass(10);
    w.settle();
    assert_eq!((w.indexes(), failures(&w.active()[0]).counted), (vec![0], 1));
    w.end(Some(0), 1);
    w.settle();
    assert_eq!(
        (w.status().failed_indexes.as_deref(), w.counts()),
        (Some("0"), (0, 1, 2))
    );
    assert_eq!(w.is("Failed"), Some("FailedIndexes"));
}

#[test]
fn the_job_fails_when_more_than_max_failed_indexes_have() {
    let mut w = World::new(json!({
        "completionMode": "Indexed", "completions": 5, "parallelism": 5,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1,
    }));
    w.settle();
    w.end(Some(0), 1);
    w.settle();
    assert_eq!(w.is("FailureTarget"), None);
    w.end(Some(3), 1);
    w.settle();
    assert_eq!(
        (w.is("Failed"), w.status().failed_indexes.as_deref()),
        (Some("MaxFailedIndexesExceeded"), Some("0,3"))
    );
}

fn with_policy(rules: Value) -> World {
    World::new(json!({"completions": 1, "backoffLimit": 1, "podFailurePolicy": {"rules": rules}}))
}

#[test]
fn fail_job_fails_the_whole_job_and_says_which_rule_matched() {
    let mut w = with_policy(json!([
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
    ]));
    w.settle();
    w.end(None, 42);
    w.settle();
    assert_eq!(w.is("Failed"), Some("PodFailurePolicy"));
    let message = w.status().conditions.as_ref().unwrap()[0].message.clone().unwrap();
    assert_eq!(
        message,
        "Container c for pod default/j-1 failed with exit code 42 matching FailJob rule at index 0"
    );
}

#[test]
fn ignored_failures_do_not_count_towards_the_back_off_limit_and_are_replaced() {
    let mut w = with_policy(json!([
        {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1]}},
    ]));
    for _ in 0..4 {
        w.settle();
        w.end(None, 9);
        w.settle();
        w.pass(360);
    }
    w.settle();
    assert_eq!((w.counts(), w.is("Failed")), ((1, 0, 0), None));
}

#[test]
fn a_job_with_a_success_policy_succeeds_early_and_its_lingering_pods_are_terminated() {
    let mut w = World::new(json!({
        "completionMode": "Indexed", "completions": 5, "parallelism": 5,
        "successPolicy": {"rules": [{"succeededIndexes": "1-3", "succeededCount": 2}]},
    }));
    w.settle();
    w.end(Some(0), 0);
    w.end(Some(1), 0);
    w.settle();
    assert_eq!(w.is("SuccessCriteriaMet"), None);
    w.end(Some(3), 0);
    w.settle();
    assert_eq!(
        (w.is("SuccessCriteriaMet"), w.is("Complete")),
        (Some("SuccessPolicy"), Some("SuccessPolicy"))
    );
    assert_eq!(
        (w.active().len(), w.status().completed_indexes.as_deref()),
        (0, Some("0,1,3"))
    );
}

fn delete_first(w: &mut World) {
    let now = w.now;
    Arc::make_mut(&mut w.pods[0]).metadata.deletion_timestamp = Some(Time(now));
}

#[test]
fn terminating_pods_are_replaced_at_once_unless_the_replacement_policy_is_failed() {
    for (policy, active) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let mut w = World::new(json!({"completions": 1, "podReplacementPolicy": policy}));
        w.ends_at_once = false;
        w.settle();
        delete_first(&mut w);
        w.pass(10);
        w.settle();
        assert_eq!(w.active().len(), active, "{policy}");
        assert_eq!(w.status().terminating, Some(1));
    }
}

#[test]
fn a_job_with_another_manager_is_left_alone() {
    let mut w = World::new(json!({"completions": 1, "managedBy": "example.org/other"}));
    let plan = w.step();
    assert!(plan.create.is_empty() && plan.status.is_none());
}

#[test]
fn a_job_of_an_unknown_completion_mode_is_skipped_with_a_warning() {
    let mut w = World::new(json!({"completions": 1, "completionMode": "Sorted"}));
    let plan = w.step();
    assert!(plan.create.is_empty() && plan.status.is_none());
    let told = &plan.events[0];
    assert_eq!((told.warning, told.reason.as_str()), (true, "UnknownCompletionMode"));
    assert_eq!(told.message, "Skipped Job sync because completion mode is unknown");
}

#[test]
fn nothing_is_created_while_the_cache_is_behind() {
    let w = World::new(json!({"completions": 1}));
    let plan = plan(&w.job, &w.pods, false, w.now);
    assert!(plan.create.is_empty() && plan.status.is_some());
}

#[test]
fn pods_of_a_finished_job_are_let_go() {
    let mut w = World::new(json!({"completions": 1}));
    w.settle();
    w.end(None, 0);
    w.settle();
    let pod = Arc::make_mut(&mut w.pods[0]);
    pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
    let plan = w.step();
    assert_eq!((plan.let_go.len(), plan.status.is_none()), (1, true));
    assert_eq!(phase(&w.pods[0]), "Succeeded");
}

#[test]
fn a_job_does_not_end_before_all_its_pods_are_seen_to_have_ended() {
    let mut w = World::new(json!({"activeDeadlineSeconds": 10}));
    w.step();
    w.pass(11);
    // Its pod was made a moment ago, and the cache does not have it yet.
    let kinds = |plan: Plan| -> Vec<String> {
        let all = plan.status.and_then(|s| s.conditions).unwrap_or_default();
        all.into_iter().map(|c| c.type_).collect()
    };
    assert_eq!(kinds(plan(&w.job, &[], false, w.now)), ["FailureTarget"]);
    assert_eq!(kinds(plan(&w.job, &[], true, w.now)), ["FailureTarget", "Failed"]);
}
