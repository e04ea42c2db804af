//! CronJob, as <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/> and the fields' descriptions say:
//! days in milliseconds.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::Patch;
use coracle_informer::{CancellationToken, Change, InformerFactory};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{BEGINNING, cluster_at};
use crate::world::{World, name, template, with};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

fn cron(spec: Value) -> Value {
    let pod = with(template("work"), json!({"spec": {"restartPolicy": "Never"}}));
    let base = json!({"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": pod}}});
    json!({"metadata": {"name": "tick"}, "spec": with(base, spec)})
}

/// Pods end by themselves after so many minutes (0: never), with this code.
async fn ending(minutes: u64, code: i32) -> World {
    ending_from(BEGINNING, minutes, code).await
}

/// The same, in a cluster that begins then: what happens once a month or a year need not be waited for, minute by minute.
async fn ending_from(beginning: &str, minutes: u64, code: i32) -> World {
    let world = World::of(cluster_at(beginning).await).await;
    if minutes > 0 {
        world.end_after(Duration::from_secs(minutes * 60), code);
    }
    world
}

/// When the job was scheduled.
fn time(job: &Arc<Job>) -> String {
    let annotations = job.metadata.annotations.as_ref().unwrap();
    annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"].clone()
}

/// The scheduled times of the jobs there are, in order.
async fn times(world: &World) -> Vec<String> {
    let mut jobs = world.list::<Job>().await;
    jobs.sort_by_key(|j| name(&**j));
    jobs.iter().map(time).collect()
}

fn kinds(job: &Job) -> Vec<String> {
    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.map(|c| c.type_.clone()).collect()
}

/// What a Job's controller says of one that has ended.
fn finished(well: bool, now: Timestamp) -> Patch {
    let kinds = if well {
        ["SuccessCriteriaMet", "Complete"]
    } else {
        ["FailureTarget", "Failed"]
    };
    let condition = |kind| json!({"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now});
    let completed = well.then_some(now);
    Patch::Merge(
        json!({"status": {"startTime": now, "completionTime": completed, "succeeded": u8::from(well),
        "conditions": kinds.map(condition), "uncountedTerminatedPods": {}}}),
    )
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_starts_one_job_at_each_time_of_its_schedule_all_day() {
    let world = ending(1, 0).await;
    world
        .make::<CronJob>(cron(json!({"successfulJobsHistoryLimit": 100})))
        .await;
    // The last one has its minute too.
    world.pass(DAY + Duration::from_secs(90)).await;
    let times = times(&world).await;
    assert_eq!(times.len(), 24);
    let all: std::collections::BTreeSet<_> = times.iter().collect();
    assert_eq!(all.len(), 24, "never two for one tick");
    assert_eq!(times[0], "2026-01-01T01:00:00Z");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn macros_and_lists_are_schedules_too() {
    for (schedule, within, expected) in [
        ("@hourly", 3, 3),
        ("@daily", 49, 2),
        ("@weekly", 24 * 14, 2),
        ("0,30 8-9 * * MON-FRI", 48, 8),
        ("*/15 * * * *", 2, 8),
        // Every other hour, in two ways.
        ("0 0-23/2 * * *", 24, 12),
        ("0 */2 * * *", 24, 12),
        // A question mark is an asterisk.
        ("0 3 ? * 1", 24 * 5, 1),
        ("@every 40m", 2, 3),
    ] {
        let world = ending(1, 0).await;
        let spec = json!({"schedule": schedule, "successfulJobsHistoryLimit": 100});
        world.make::<CronJob>(cron(spec)).await;
        world.pass(HOUR * within).await;
        world.settle().await;
        assert_eq!(times(&world).await.len(), expected, "{schedule}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn once_a_month_is_on_its_first_day_and_once_a_year_on_the_first_of_january() {
    for (schedule, expected) in [
        ("@monthly", "2026-01-01T00:00:00Z"),
        ("0 0 1 * *", "2026-01-01T00:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z"),
        ("@annually", "2026-01-01T00:00:00Z"),
    ] {
        let world = ending_from("2025-12-31T20:00:00Z", 1, 0).await;
        world.make::<CronJob>(cron(json!({"schedule": schedule}))).await;
        world.pass(HOUR * 8).await;
        assert_eq!(times(&world).await, [expected], "{schedule}");
        world.stop().await;
    }
    // Not in another month.
    for (schedule, expected) in [("@monthly", vec!["2026-02-01T00:00:00Z"]), ("@yearly", vec![])] {
        let world = ending_from("2026-01-31T20:00:00Z", 1, 0).await;
        world.make::<CronJob>(cron(json!({"schedule": schedule}))).await;
        world.pass(HOUR * 8).await;
        assert_eq!(times(&world).await, expected, "{schedule}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_zone_moves_the_schedule_and_its_summer_time_counts() {
    let world = ending_from("2026-03-27T00:00:00Z", 1, 0).await;
    let spec = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "successfulJobsHistoryLimit": 400});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(DAY * 5).await;
    // In the night of 29 March the clocks go from 2 to 3: there is no half past two.
    let expected = [
        "2026-03-27T02:30:00+01:00",
        "2026-03-28T02:30:00+01:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ];
    assert_eq!(times(&world).await, expected);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_policy_allow_runs_jobs_beside_each_other_and_lists_them_as_active() {
    let world = ending(150, 0).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR * 3 + HOUR / 4).await;
    let found = world.get::<CronJob>("tick").await;
    assert_eq!(found.status.as_ref().unwrap().active.as_ref().unwrap().len(), 3);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_policy_forbid_skips_the_run_while_the_last_one_has_not_finished() {
    let world = ending(90, 0).await;
    let spec = json!({"concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 100});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(HOUR * 2 + HOUR / 4).await;
    assert_eq!(times(&world).await, ["2026-01-01T01:00:00Z"]);
    let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
    world.told("tick", "Normal JobAlreadyActive", message).await;
    // When it has finished, the time that was missed is made up for.
    world.pass(HOUR / 2).await;
    assert_eq!(times(&world).await, ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_policy_replace_puts_a_new_job_in_the_place_of_the_running_one() {
    let world = ending(0, 0).await;
    world
        .make::<CronJob>(cron(json!({"concurrencyPolicy": "Replace"})))
        .await;
    world.pass(HOUR * 3 + HOUR / 4).await;
    assert_eq!(times(&world).await, ["2026-01-01T03:00:00Z"]);
    assert_eq!(world.active("work").await.len(), 1);
    let events = world.events("tick").await;
    assert!(events["Normal SuccessfulDelete"].starts_with("Deleted job tick-"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_cron_job_starts_nothing_and_starts_the_last_missed_time_when_it_is_resumed() {
    let world = ending(1, 0).await;
    world.make::<CronJob>(cron(json!({"suspend": true}))).await;
    world.pass(HOUR * 5 + HOUR / 4).await;
    assert!(times(&world).await.is_empty());
    world
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    world.settle().await;
    assert_eq!(times(&world).await, ["2026-01-01T05:00:00Z"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn suspension_does_not_affect_jobs_that_have_started() {
    let world = ending(90, 0).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR + HOUR / 4).await;
    world.merge::<CronJob>("tick", json!({"spec": {"suspend": true}})).await;
    world.pass(HOUR * 2).await;
    let jobs = world.list::<Job>().await;
    assert_eq!(jobs.len(), 1);
    assert!(kinds(&jobs[0]).contains(&"Complete".to_owned()));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_forbid_has_skipped_is_made_up_for_within_the_starting_deadline_only() {
    for (deadline, expected) in [(600, 1), (3000, 2)] {
        let world = ending(90, 0).await;
        let spec = json!({"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": deadline,
            "successfulJobsHistoryLimit": 100});
        world.make::<CronJob>(cron(spec)).await;
        // The first one ends at half past two.
        world.pass(HOUR * 2 + HOUR / 4 * 3).await;
        assert_eq!(times(&world).await.len(), expected, "{deadline}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_several_cron_jobs_run_beside_each_other_whatever_their_policies() {
    let world = ending(0, 0).await;
    for name in ["one", "two"] {
        let forbid = with(
            cron(json!({"concurrencyPolicy": "Forbid"})),
            json!({"metadata": {"name": name}}),
        );
        world.make::<CronJob>(forbid).await;
    }
    world.pass(HOUR * 2 + HOUR / 4).await;
    assert_eq!(world.list::<Job>().await.len(), 2);
    assert_eq!(world.active("work").await.len(), 2);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_was_down_counts_what_it_missed_within_the_starting_deadline() {
    for (deadline, warned) in [(Value::Null, true), (json!(200), false)] {
        let world = ending(0, 0).await;
        let spec = json!({"schedule": "* * * * *", "startingDeadlineSeconds": deadline, "suspend": true});
        world.make::<CronJob>(cron(spec)).await;
        // Down from 00:00 to 01:52:10, as it were.
        world.pass(Duration::from_secs(112 * 60 + 10)).await;
        world
            .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
            .await;
        assert_eq!(
            world.events("tick").await.contains_key("Warning TooManyMissedTimes"),
            warned
        );
        assert_eq!(times(&world).await, ["2026-01-01T01:52:00Z"]);
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_start_within_its_starting_deadline_is_skipped() {
    let world = ending(1, 0).await;
    let spec = json!({"suspend": true, "startingDeadlineSeconds": 600});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(HOUR * 5 + HOUR / 4).await;
    world
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    world.settle().await;
    assert!(times(&world).await.is_empty());
    world.pass(HOUR).await;
    assert_eq!(times(&world).await, ["2026-01-01T06:00:00Z"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_than_100_missed_schedules_are_told_of() {
    let world = ending(1, 0).await;
    world
        .make::<CronJob>(cron(json!({"schedule": "* * * * *", "suspend": true})))
        .await;
    world.pass(HOUR * 2 + Duration::from_secs(30)).await;
    world
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    world.settle().await;
    let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    world.told("tick", "Warning TooManyMissedTimes", message).await;
    assert_eq!(times(&world).await.len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn history_limits_say_how_many_finished_jobs_are_kept() {
    let world = ending(1, 0).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR * 6 + HOUR / 4).await;
    assert_eq!(
        times(&world).await,
        ["2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z"],
        "three by default"
    );
    world
        .merge::<CronJob>("tick", json!({"spec": {"successfulJobsHistoryLimit": 0}}))
        .await;
    world.settle().await;
    assert!(times(&world).await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_failed_jobs_one_is_kept_by_default() {
    let world = ending(1, 3).await;
    let spec = json!({"jobTemplate": {"spec": {"backoffLimit": 0}}});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(HOUR * 4 + HOUR / 4).await;
    assert_eq!(times(&world).await, ["2026-01-01T04:00:00Z"]);
    let found = world.get::<CronJob>("tick").await;
    assert_eq!(found.status.as_ref().unwrap().last_successful_time, None);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_0_keeps_no_failed_job() {
    let world = ending(1, 3).await;
    let spec = json!({"failedJobsHistoryLimit": 0, "jobTemplate": {"spec": {"backoffLimit": 0}}});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(HOUR + HOUR / 4).await;
    assert!(times(&world).await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_schedule_or_template_counts_for_later_jobs_only() {
    let world = ending(0, 0).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR + HOUR / 4).await;
    let changed = json!({"spec": {"schedule": "30 * * * *", "jobTemplate": {"metadata": {"labels": {"new": "yes"}}}}});
    world.merge::<CronJob>("tick", changed).await;
    world.pass(HOUR / 2).await;
    assert_eq!(times(&world).await, ["2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z"]);
    let labelled = world.list::<Job>().await;
    let labelled = labelled
        .iter()
        .filter(|j| j.metadata.labels.as_ref().is_some_and(|l| l.contains_key("new")));
    assert_eq!(labelled.count(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_a_cron_job_deletes_its_jobs_and_their_pods() {
    let world = ending(0, 0).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR + HOUR / 4).await;
    assert_eq!(world.active("work").await.len(), 1);
    world.delete::<CronJob>("tick").await;
    world.pass(Duration::from_secs(30)).await;
    assert!(world.list::<Job>().await.is_empty());
    assert!(world.list::<Pod>().await.is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_day_of_a_job_each_minute_has_1440_of_them_none_twice_and_keeps_no_more_than_the_limits_say() {
    let world = ending(0, 0).await;
    // Every fourth one fails.
    let made = Arc::new(Mutex::new(Vec::new()));
    let most = Arc::new(Mutex::new((0, 0)));
    let informers = InformerFactory::new(
        world.cluster.client.clone(),
        world.cluster.clock,
        CancellationToken::new(),
    );
    let jobs = informers.informer::<Job>();
    let (all, statuses, lister) = (made.clone(), world.api::<Job>(), jobs.lister());
    let (clock, kept) = (world.cluster.clock, most.clone());
    jobs.add_handler(move |change| {
        let count = |kind: &str| {
            lister
                .select("default", |job| kinds(job).contains(&kind.to_owned()))
                .len()
        };
        let mut kept = kept.lock();
        *kept = (kept.0.max(count("Complete")), kept.1.max(count("Failed")));
        let Change::Added(job) = change else { return };
        let number = {
            let mut all = all.lock();
            all.push(time(job));
            all.len()
        };
        let (statuses, name) = (statuses.clone(), name(&**job));
        tokio::spawn(async move {
            clock.sleep(Duration::from_secs(20)).await;
            statuses
                .status()
                .patch(&name, finished(number % 4 != 0, clock.now()))
                .await
                .unwrap();
        });
    });
    // The test is the Jobs' controller.
    let elsewhere = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"managedBy": "example.org/test"}}});
    world.make::<CronJob>(cron(elsewhere)).await;
    world.pass(DAY + Duration::from_secs(45)).await;

    let first: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
    let minutes = (0..1440).map(|n| (first + SignedDuration::from_mins(n)).to_string());
    assert_eq!(*made.lock(), minutes.collect::<Vec<_>>());
    // One more may be there for a moment: it is the newest that makes the oldest go.
    assert_eq!(*most.lock(), (4, 2));
    let left = world.list::<Job>().await;
    let ended = |kind: &str| left.iter().filter(|j| kinds(j).contains(&kind.to_owned())).count();
    assert_eq!((left.len(), ended("Complete"), ended("Failed")), (4, 3, 1));
    let found = world.get::<CronJob>("tick").await;
    let status = found.status.as_ref().unwrap();
    assert_eq!(status.active, None);
    let last = status.last_schedule_time.as_ref().unwrap().0;
    assert_eq!(last.to_string(), "2026-01-02T00:00:00Z");
    // The last one of all, the 1440th, has failed.
    let successful = status.last_successful_time.as_ref().unwrap().0;
    assert_eq!(successful.to_string(), "2026-01-01T23:59:20Z");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_named_after_its_cron_job_and_scheduled_minute_and_is_owned_by_it() {
    let world = ending(1, 0).await;
    let made = world
        .make::<CronJob>(cron(
            json!({"jobTemplate": {"metadata": {"annotations": {"team": "a"}}}}),
        ))
        .await;
    world.pass(HOUR + HOUR / 4).await;
    let jobs = world.list::<Job>().await;
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    let at: jiff::Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    assert_eq!(name(&**job), format!("tick-{}", at.as_second() / 60));
    crate::world::says(
        &job.metadata,
        json!({"annotations": {"team": "a"}, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob",
            "name": "tick", "uid": made.metadata.uid, "controller": true, "blockOwnerDeletion": true}]}),
    );
    let events = world.events("tick").await;
    assert_eq!(
        events["Normal SuccessfulCreate"],
        format!("Created job {}", name(&**job))
    );
    assert_eq!(
        events["Normal SawCompletedJob"],
        format!("Saw completed job: {}, condition: Complete", name(&**job))
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_was_away_makes_up_for_the_last_time_only() {
    let world = ending(1, 0).await;
    let spec = json!({"schedule": "*/10 * * * *", "suspend": true, "successfulJobsHistoryLimit": 100});
    world.make::<CronJob>(cron(spec)).await;
    world.pass(HOUR).await;
    world.pass(Duration::from_secs(65)).await;
    world
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(times(&world).await, ["2026-01-01T01:00:00Z"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_zone_in_the_schedule_or_one_that_does_not_exist_is_refused() {
    let world = ending(0, 0).await;
    for (spec, why) in [
        (json!({"schedule": "TZ=UTC 0 0 * * *"}), "spec.schedule"),
        (json!({"timeZone": "Europe/Nowhere"}), "spec.timeZone"),
        (json!({"schedule": "61 * * * *"}), "spec.schedule"),
    ] {
        let refused = world
            .api::<CronJob>()
            .create(&crate::harness::from(cron(spec.clone())))
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{spec}: {refused}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_whose_name_a_strangers_job_has_passes_and_the_next_one_starts() {
    let world = ending(1, 0).await;
    let pod = with(template("other"), json!({"spec": {"restartPolicy": "Never"}}));
    // Of the minute 01:00.
    let stranger = json!({"metadata": {"name": "tick-29453820"}, "spec": {"suspend": true, "template": pod}});
    world.make::<Job>(stranger).await;
    world.make::<CronJob>(cron(json!({}))).await;
    world.pass(HOUR * 2 + Duration::from_secs(60)).await;
    let jobs: Vec<String> = world.list::<Job>().await.iter().map(|j| name(&**j)).collect();
    assert_eq!(jobs, ["tick-29453820", "tick-29453880"]);
    assert!(
        world
            .get::<Job>("tick-29453820")
            .await
            .metadata
            .owner_references
            .is_none()
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_whose_job_has_come_and_gone_is_not_started_again_even_if_the_status_does_not_tell_of_it() {
    let world = ending(0, 0).await;
    let cron = world.make::<CronJob>(cron(json!({"suspend": true}))).await;
    world.pass(HOUR + Duration::from_secs(60)).await;
    // As if the answer to its creation had been lost, and somebody had deleted it since.
    let at: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let job = format!("tick-{}", at.as_second() / 60);
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": cron.metadata.uid, "controller": true});
    let annotations = json!({"batch.kubernetes.io/cronjob-scheduled-timestamp": at.to_string()});
    let spec = serde_json::to_value(&cron.spec.job_template.spec).unwrap();
    world
        .make::<Job>(json!({
            "metadata": {"name": job, "annotations": annotations, "ownerReferences": [owner]},
            "spec": spec,
        }))
        .await;
    world.delete::<Job>(&job).await;
    world.settle().await;
    world
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    world.pass(HOUR / 2).await;
    assert!(times(&world).await.is_empty());
    world.pass(HOUR / 2).await;
    assert_eq!(times(&world).await, ["2026-01-01T02:00:00Z"]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_start_the_status_never_told_of_is_active_all_the_same() {
    let world = World::new().await;
    world
        .make::<CronJob>(cron(json!({"concurrencyPolicy": "Forbid"})))
        .await;
    world.pass(HOUR + Duration::from_secs(1)).await;
    assert_eq!(times(&world).await, ["2026-01-01T01:00:00Z"]);
    // As if it had not been written.
    let nothing = json!({"active": null, "lastScheduleTime": null});
    world.status::<CronJob>("tick", nothing).await;
    world.settle().await;
    let status = world.get::<CronJob>("tick").await.status.clone().unwrap();
    assert_eq!(status.active.unwrap_or_default().len(), 1);
    assert_eq!(status.last_schedule_time.unwrap().0.to_string(), "2026-01-01T01:00:00Z");
    world.pass(HOUR).await;
    assert_eq!(times(&world).await.len(), 1, "it runs, and none may run beside it");
    world.stop().await;
}
