//! What the documentation says of CronJobs, sentence by sentence.

use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::{Value, json};

use super::plan::plan;

fn cron(spec: Value, status: Value) -> CronJob {
    let mut all = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {
            "schedule": "*/5 * * * *", "concurrencyPolicy": "Allow",
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}},
        },
        "status": status,
    });
    json_patch::merge(&mut all["spec"], &spec);
    serde_json::from_value(all).unwrap()
}

fn job(name: &str, state: Option<&str>, start: &str) -> Arc<Job> {
    let conditions = state.map(|s| json!([{"type": s, "status": "True"}]));
    let done = (state == Some("Complete")).then_some(start);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"template": {}},
            "status": {"startTime": start, "completionTime": done, "conditions": conditions},
        }))
        .unwrap(),
    )
}

fn running(name: &str) -> Value {
    json!({"active": [{"name": name, "uid": name}], "lastScheduleTime": "2026-01-01T00:05:00Z"})
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const SOON: &str = "2026-01-01T00:05:02Z";
const LATER: &str = "2026-01-01T00:10:00Z";

#[test]
fn a_job_is_made_at_its_time_with_a_name_that_follows_from_it() {
    let cron = cron(json!({}), json!({}));
    let early = plan(&cron, &[], at("2026-01-01T00:04:00Z"));
    assert!(early.start.is_none());
    assert_eq!(early.check_again.map(|d| d.as_secs()), Some(60));
    let job = *plan(&cron, &[], at(SOON)).start.unwrap().job;
    assert_eq!(job.metadata.name.as_deref(), Some("c-29453765"));
    assert_eq!(job.metadata.labels.as_ref().unwrap()["a"], "b");
    let annotations = job.metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-01-01T00:05:00Z"
    );
    assert_eq!(job.metadata.owner_references.as_ref().unwrap()[0].kind, "CronJob");
}

#[test]
fn a_time_is_not_started_twice() {
    let cron = cron(json!({}), running("x"));
    assert!(
        plan(&cron, &[job("x", None, SOON)], at("2026-01-01T00:09:59Z"))
            .start
            .is_none()
    );
}

#[test]
fn forbid_skips_the_run_while_the_previous_one_has_not_finished() {
    let cron = cron(json!({"concurrencyPolicy": "Forbid"}), running("x"));
    let plan = plan(&cron, &[job("x", None, SOON)], at(LATER));
    assert!(plan.start.is_none());
    assert!(plan.events.iter().any(|e| e.1 == "JobAlreadyActive"));
}

#[test]
fn replace_cancels_the_running_job_and_allow_does_not() {
    for (policy, deleted) in [("Replace", 1), ("Allow", 0)] {
        let cron = cron(json!({"concurrencyPolicy": policy}), running("x"));
        let plan = plan(&cron, &[job("x", None, SOON)], at(LATER));
        assert_eq!((plan.start.is_some(), plan.delete.len()), (true, deleted), "{policy}");
    }
}

#[test]
fn a_suspended_cron_job_starts_nothing() {
    let cron = cron(json!({"suspend": true}), json!({}));
    assert!(plan(&cron, &[], at(LATER)).start.is_none());
}

#[test]
fn a_time_past_the_starting_deadline_is_missed() {
    let cron = cron(json!({"startingDeadlineSeconds": 10}), json!({}));
    assert!(plan(&cron, &[], at("2026-01-01T00:05:09Z")).start.is_some());
    assert!(plan(&cron, &[], at("2026-01-01T00:05:11Z")).start.is_none());
}

#[test]
fn more_than_100_missed_times_are_a_warning_and_the_last_is_started() {
    let cron = cron(json!({}), json!({}));
    let plan = plan(&cron, &[], at("2026-01-02T00:00:01Z"));
    assert_eq!(plan.events[0].1, "TooManyMissedTimes");
    assert_eq!(plan.start.unwrap().scheduled, at("2026-01-02T00:00:00Z"));
}

#[test]
fn an_unknown_time_zone_stops_the_schedule_with_an_event() {
    let cron = cron(json!({"timeZone": "Mars/Olympus"}), json!({}));
    let plan = plan(&cron, &[], at(LATER));
    assert!(plan.start.is_none());
    let told = "invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus";
    assert_eq!(plan.events, [(true, "UnknownTimeZone", told.to_owned())]);
}

#[test]
fn finished_jobs_leave_the_active_list_and_the_last_success_is_remembered() {
    let cron = cron(json!({"suspend": true}), running("x"));
    let plan = plan(&cron, &[job("x", Some("Complete"), SOON)], at(LATER));
    assert_eq!(plan.status.active, None);
    assert_eq!(plan.status.last_successful_time.map(|t| t.0), Some(at(SOON)));
    assert_eq!(plan.events[0].1, "SawCompletedJob");
}

#[test]
fn the_oldest_finished_jobs_beyond_the_history_limits_are_deleted() {
    let limits = json!({"suspend": true, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("new", Some("Complete"), "2026-01-01T00:03:00Z"),
        job("old", Some("Complete"), "2026-01-01T00:01:00Z"),
        job("bad", Some("Failed"), "2026-01-01T00:02:00Z"),
        job("run", None, "2026-01-01T00:00:00Z"),
    ];
    let plan = plan(&cron(limits, json!({})), &jobs, at(LATER));
    let names: Vec<_> = plan.delete.iter().filter_map(|j| j.metadata.name.as_deref()).collect();
    assert_eq!(names, ["old", "bad"]);
}
