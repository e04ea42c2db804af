//! There are never two Jobs for one tick of a CronJob (but where the first had gone before anything told of it), none before it
//! and none while it is suspended; under Forbid there are never two at a time. In the end no more finished ones are left than
//! are to be kept.

use std::collections::{BTreeMap, BTreeSet};

use coracle_clock::Timestamp;
use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub struct CronJobs {
    staleness: f64,
    /// The CronJob's uid and the time.
    ticks: BTreeSet<(String, String)>,
    /// By the CronJob's uid: since when it has been suspended.
    suspended: BTreeMap<String, f64>,
    /// By the CronJob's uid: since when it has let no Job run beside another.
    forbids: BTreeMap<String, f64>,
}

impl CronJobs {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            ticks: BTreeSet::new(),
            suspended: BTreeMap::new(),
            forbids: BTreeMap::new(),
        }
    }
}

fn is_suspended(cron_job: &Value) -> bool {
    *json::at(cron_job, "spec.suspend") == true
}

fn forbids(cron_job: &Value) -> bool {
    json::text(cron_job, "spec.concurrencyPolicy") == "Forbid"
}

impl Rule for CronJobs {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("cronjobs")
            && let Some(after) = commit.after.as_deref()
        {
            let from = match commit.before {
                None => f64::MIN,
                Some(_) => commit.seconds,
            };
            for (holds, since) in [
                (is_suspended(after), &mut self.suspended),
                (forbids(after), &mut self.forbids),
            ] {
                let uid = json::uid(after).to_owned();
                match holds {
                    true => drop(since.entry(uid).or_insert(from)),
                    false => drop(since.remove(&uid)),
                }
            }
        }
        let Some(job) = commit.created().filter(|_| commit.is_of("jobs")) else {
            return;
        };
        let owner = json::controller_uid(job);
        if json::controller(job).is_none_or(|o| o["kind"] != "CronJob") {
            return;
        }
        let tick = json::annotation(job, SCHEDULED);
        if tick.is_empty() {
            faults.push(format!("{} does not say for which time it is", json::name(job)));
        }
        let at = tick.parse::<Timestamp>().ok();
        if at.is_some_and(|at| at > commit.now) {
            faults.push(format!("{} is started before {tick}", json::name(job)));
        }
        let late = |since: &f64| commit.seconds - since > self.staleness + 30.0;
        if self.suspended.get(owner).is_some_and(late) {
            faults.push(format!("{} is started while its CronJob is suspended", json::name(job)));
        }
        let is_first = self.ticks.insert((owner.to_owned(), tick.to_owned()));
        // The first came and went, and nothing told of it: nobody can know.
        let told = |c: &Value| json::text(c, "status.lastScheduleTime").parse::<Timestamp>();
        let told = model.by_uid(owner).and_then(|c| told(c).ok());
        let is_known = told.is_some_and(|told| at.is_some_and(|at| told >= at));
        let namesake = |j: &&Value| json::annotation(j, SCHEDULED) == tick && json::uid(j) != json::uid(job);
        let is_there = model.controlled("jobs", owner).any(|j| namesake(&j));
        if !is_first && (is_known || is_there) {
            faults.push(format!("{} is the second Job for {tick}", json::name(job)));
        }
        if self.forbids.get(owner).is_some_and(late) {
            let running = model
                .controlled("jobs", owner)
                .filter(|j| !json::job_finished(j))
                .count();
            if running > 1 {
                faults.push(format!("{} runs beside another, which is forbidden", json::name(job)));
            }
        }
    }
    fn judge_rest(&self, model: &Model, faults: &mut Vec<String>) {
        for cron_job in model.all("cronjobs") {
            for (end, field) in [
                ("Complete", "spec.successfulJobsHistoryLimit"),
                ("Failed", "spec.failedJobsHistoryLimit"),
            ] {
                let jobs = model.controlled("jobs", json::uid(cron_job));
                let (kept, most) = (
                    jobs.filter(|j| json::is_true(j, end)).count(),
                    json::int(cron_job, field),
                );
                if kept as i64 > most {
                    faults.push(format!("{} keeps {kept} {end} Jobs of {most}", json::name(cron_job)));
                }
            }
        }
    }
}
