//! There are never two Jobs for one tick of a CronJob, and under Forbid never two at a time.

use std::collections::BTreeSet;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

#[derive(Default)]
pub struct CronJobs {
    /// The CronJob's uid and the time.
    ticks: BTreeSet<(String, String)>,
}

impl Rule for CronJobs {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        let Some(job) = commit.created().filter(|_| commit.is_of("jobs")) else {
            return;
        };
        let owner = json::controller_uid(job);
        if json::controller(job).is_none_or(|o| o["kind"] != "CronJob") {
            return;
        }
        let tick = json::annotation(job, "batch.kubernetes.io/cronjob-scheduled-timestamp");
        if tick.is_empty() {
            faults.push(format!("{} does not say for which time it is", json::name(job)));
        }
        if !self.ticks.insert((owner.to_owned(), tick.to_owned())) {
            faults.push(format!("{} is the second Job for {tick}", json::name(job)));
        }
        let forbids = |c: &serde_json::Value| json::text(c, "spec.concurrencyPolicy") == "Forbid";
        if model.by_uid(owner).is_some_and(forbids) {
            let running = model
                .controlled("jobs", owner)
                .filter(|j| !json::job_finished(j))
                .count();
            if running > 1 {
                faults.push(format!("{} runs beside another, which is forbidden", json::name(job)));
            }
        }
    }
}
