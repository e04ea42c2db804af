//! What one look at a CronJob and its jobs leads to. Pure.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::reference;
use coracle_clock::Timestamp;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::job::plan::finished;
use crate::owner;
use coracle_api::kinds::cron_job::schedule::Schedule;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// So many missed times are worth a warning.
const MISSED: usize = 100;

#[derive(Debug, Default)]
pub struct Plan {
    /// Finished jobs beyond the history limits, and those that a new one replaces.
    pub delete: Vec<Arc<Job>>,
    pub start: Option<Start>,
    /// Without what `start` adds.
    pub status: CronJobStatus,
    /// Warnings first: whether it is one, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    pub check_again: Option<Duration>,
}

#[derive(Debug)]
pub struct Start {
    pub job: Box<Job>,
    pub scheduled: Timestamp,
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// `jobs` are those that the CronJob controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    follow(&mut plan, jobs);
    let spec = &cron.spec;
    trim(&mut plan, jobs, true, spec.successful_jobs_history_limit);
    trim(&mut plan, jobs, false, spec.failed_jobs_history_limit);
    if cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        schedule(&mut plan, cron, jobs, now);
    }
    if plan.status.active.as_ref().is_some_and(Vec::is_empty) {
        plan.status.active = None;
    }
    plan
}

/// Brings the list of active jobs in line with the jobs there are.
fn follow(plan: &mut Plan, jobs: &[Arc<Job>]) {
    let active = plan.status.active.get_or_insert_default();
    let is = |reference: &ObjectReference, job: &Job| reference.uid == job.metadata.uid;
    active.retain(|r| {
        let there = jobs.iter().find(|j| is(r, j));
        match there.map(|j| (j, finished(j))) {
            None => {
                let message = format!("Active job went missing: {}", r.name.as_deref().unwrap_or_default());
                plan.events.push((false, "MissingJob", message));
                false
            }
            Some((job, Some(end))) => {
                let message = format!("Saw completed job: {}, condition: {}", name(&job.metadata), end.type_);
                plan.events.push((false, "SawCompletedJob", message));
                false
            }
            Some((_, None)) => true,
        }
    });
    for job in jobs {
        match finished(job) {
            None if !active.iter().any(|r| is(r, job)) => {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    name(&job.metadata)
                );
                plan.events.push((true, "UnexpectedJob", message));
            }
            Some(end) if end.type_ == "Complete" => {
                let at = job.status.as_ref().and_then(|s| s.completion_time.as_ref());
                let last = plan.status.last_successful_time.as_ref();
                if at.map(|t| t.0) > last.map(|t| t.0) {
                    plan.status.last_successful_time = at.cloned();
                }
            }
            _ => {}
        }
    }
}

/// Dooms the oldest finished jobs beyond a history limit.
fn trim(plan: &mut Plan, jobs: &[Arc<Job>], success: bool, limit: Option<i32>) {
    let Some(limit) = limit else { return };
    let wanted = if success { "Complete" } else { "Failed" };
    let mut ended: Vec<&Arc<Job>> = jobs
        .iter()
        .filter(|j| j.metadata.deletion_timestamp.is_none())
        .filter(|j| finished(j).is_some_and(|end| end.type_ == wanted))
        .collect();
    // Jobs that never started are the oldest.
    ended.sort_by_key(|j| {
        let started = j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        (started, j.metadata.name.clone())
    });
    let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    plan.delete.extend(ended.into_iter().take(surplus).cloned());
}

fn schedule(plan: &mut Plan, cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) {
    let spec = &cron.spec;
    let zone = match spec.time_zone.as_deref().filter(|z| !z.is_empty()) {
        None => TimeZone::UTC,
        Some(named) => match TimeZone::get(named) {
            Ok(zone) => zone,
            Err(_) => {
                let message = format!("invalid timeZone: {named:?}: unknown time zone {named}");
                plan.events.push((true, "UnknownTimeZone", message));
                return;
            }
        },
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.events.push((true, "UnparseableSchedule", message));
            return;
        }
    };
    let last = plan.status.last_schedule_time.as_ref();
    let since = last.or(cron.metadata.creation_timestamp.as_ref()).map_or(now, |t| t.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    // Times that are too old to be started are not even counted.
    let earliest = deadline
        .and_then(|d| now.checked_sub(d).ok())
        .map_or(since, |t| t.max(since));
    let due = schedule.last(earliest, now, &zone, MISSED);
    let next = match (&schedule, due) {
        (Schedule::Every(_), None) => schedule.next(since, &zone),
        (_, Some((at, _))) if matches!(schedule, Schedule::Every(_)) => schedule.next(at, &zone),
        _ => schedule.next(now, &zone),
    };
    plan.check_again = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    let Some((scheduled, missed)) = due else { return };
    if missed > MISSED {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((true, "TooManyMissedTimes", message.into()));
    }
    if deadline
        .and_then(|d| scheduled.checked_add(d).ok())
        .is_some_and(|end| end < now)
    {
        let at = scheduled.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {at}");
        plan.events.push((true, "MissSchedule", message));
        return;
    }
    let job = job(cron, scheduled, &zone);
    if let Some(there) = jobs.iter().find(|j| j.metadata.name == job.metadata.name) {
        // It was created, but the status does not say so yet.
        if finished(there).is_none() {
            add_active(&mut plan.status, reference(&**there));
        }
        plan.status.last_schedule_time = Some(Time(scheduled));
        return;
    }
    let running = plan.status.active.as_ref().is_some_and(|a| !a.is_empty());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if running => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((false, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            let active = plan.status.active.take().unwrap_or_default();
            let replaced = jobs.iter().filter(|j| active.iter().any(|r| r.uid == j.metadata.uid));
            plan.delete.extend(replaced.cloned());
        }
        _ => {}
    }
    plan.start = Some(Start {
        job: Box::new(job),
        scheduled,
    });
}

/// Adds a job to the list of those that run.
pub fn add_active(status: &mut CronJobStatus, job: ObjectReference) {
    let active = status.active.get_or_insert_default();
    if !active.iter().any(|r| r.uid == job.uid) {
        active.push(job);
    }
}

fn job_name(cron: &str, scheduled: Timestamp) -> String {
    format!("{cron}-{}", scheduled.as_second().div_euclid(60))
}

/// The time that a job of this CronJob was made for; `None` if somebody else made it.
pub fn scheduled(cron: &str, job: &Job) -> Option<Timestamp> {
    let annotations = job.metadata.annotations.as_ref()?;
    let at: Timestamp = annotations.get(SCHEDULED)?.parse().ok()?;
    (name(&job.metadata) == job_name(cron, at)).then_some(at)
}

/// The job of a scheduled time. Its name follows from the time, so that it is never made twice.
fn job(cron: &CronJob, scheduled: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let written = jiff::fmt::temporal::DateTimePrinter::new();
    let offset = zone.to_offset(scheduled);
    let written = match zone.iana_name() {
        Some(named) if named != "UTC" => written.timestamp_with_offset_to_string(&scheduled, offset),
        _ => scheduled.to_string(),
    };
    annotations.insert(SCHEDULED.to_owned(), written);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(name(&cron.metadata), scheduled)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::controller_reference(cron)]),
            creation_timestamp: None,
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
