//! A Job never has two pods at work on one index, nor one on an index that is done, nor more at work than its parallelism; and
//! every pod that ends is noted once, and let go only when it is. It ends once, when nothing of it is at work.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Rule;
use super::replicas::Sayings;
use crate::json;
use crate::model::{Commit, Model};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

#[derive(Default)]
pub struct Jobs {
    parallelism: Sayings,
    /// By the Job's uid: pods that were noted, and of those the ones whose note has become a count.
    noted: BTreeMap<String, Noted>,
    /// Pods that succeeded and that failed, ever, by their Job's uid.
    ended: BTreeMap<String, [BTreeSet<String>; 2]>,
}

#[derive(Default)]
struct Noted {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    counted: BTreeSet<String>,
}

/// `3` is in `1,3-5`.
fn holds(indexes: &str, index: i64) -> bool {
    indexes.split(',').filter(|p| !p.is_empty()).any(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let bound = |t: &str| t.parse::<i64>().unwrap_or(-1);
        (bound(from)..=bound(to)).contains(&index)
    })
}

fn index(pod: &Value) -> Option<i64> {
    json::annotation(pod, "batch.kubernetes.io/job-completion-index")
        .parse()
        .ok()
}

fn is_held(pod: &Value) -> bool {
    json::list(pod, "metadata.finalizers").iter().any(|f| f == FINALIZER)
}

fn uncounted<'v>(job: &'v Value, which: &str) -> impl Iterator<Item = &'v str> {
    let all = json::list(json::at(job, "status.uncountedTerminatedPods"), which);
    all.iter().filter_map(Value::as_str)
}

impl Rule for Jobs {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("jobs")
            && let Some(job) = commit.after.as_deref()
        {
            let suspended = *json::at(job, "spec.suspend") == true;
            let most = if suspended {
                0
            } else {
                json::int(job, "spec.parallelism")
            };
            // A Job tells no observedGeneration: whatever it has said counts.
            self.parallelism.note(job, most);
            self.judge_notes(job, commit.before.as_deref(), faults);
            judge_end(model, commit, job, faults);
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some(pod) = commit.after.as_deref().or(commit.before.as_deref()) else {
            return;
        };
        if json::controller(pod).is_none_or(|o| o["kind"] != "Job") {
            return;
        }
        let owner = json::controller_uid(pod);
        let ended = self.ended.entry(owner.to_owned()).or_default();
        match json::text(pod, "status.phase") {
            "Succeeded" => drop(ended[0].insert(json::uid(pod).to_owned())),
            "Failed" => drop(ended[1].insert(json::uid(pod).to_owned())),
            _ => {}
        }
        if let Some(created) = commit.created() {
            self.judge_new(model, created, faults);
        }
        let let_go = commit.before.as_deref().is_some_and(is_held) && !commit.after.as_deref().is_some_and(is_held);
        if let_go && commit.actor == "job-controller" {
            self.judge_let_go(model, pod, faults);
        }
    }

    fn judge_rest(&self, model: &Model, faults: &mut Vec<String>) {
        for job in model.all("jobs").filter(|j| json::job_finished(j)) {
            let noted = self.noted.get(json::uid(job));
            let indexed = json::text(job, "spec.completionMode") == "Indexed";
            let sums = noted.map_or((0, 0), |n| (n.succeeded.len() as i64, n.failed.len() as i64));
            let told = (json::int(job, "status.succeeded"), json::int(job, "status.failed"));
            if (!indexed && told.0 != sums.0) || told.1 != sums.1 {
                let name = json::name(job);
                faults.push(format!(
                    "{name} counts {told:?} succeeded and failed pods, and noted {sums:?}"
                ));
            }
            for pod in model.controlled("pods", json::uid(job)).filter(|p| is_held(p)) {
                faults.push(format!("{} still holds {}", json::name(job), json::name(pod)));
            }
        }
    }
}

/// A Job ends as Complete or as Failed, for good, for a reason that was told before, and when all its pods have ended.
fn judge_end(model: &Model, commit: &Commit, job: &Value, faults: &mut Vec<String>) {
    let name = json::name(job);
    let before = commit.before.as_deref();
    for (end, target) in [("Complete", "SuccessCriteriaMet"), ("Failed", "FailureTarget")] {
        let (was, is) = (before.is_some_and(|b| json::is_true(b, end)), json::is_true(job, end));
        if was && !is {
            faults.push(format!("{name} is {end} no longer"));
        }
        if was || !is {
            continue;
        }
        if !json::is_true(job, target) {
            faults.push(format!("{name} is {end} without {target}"));
        }
        let at_work = model.controlled("pods", json::uid(job)).find(|p| !json::finished(p));
        if let Some(pod) = at_work {
            faults.push(format!("{name} is {end}, and {} has not ended", json::name(pod)));
        }
    }
    if json::is_true(job, "Complete") && json::is_true(job, "Failed") {
        faults.push(format!("{name} is both Complete and Failed"));
    }
    let reached = json::condition(job, "Complete")["reason"] == "CompletionsReached";
    let completions = json::at(job, "spec.completions");
    if reached
        && completions
            .as_i64()
            .is_some_and(|n| json::int(job, "status.succeeded") < n)
    {
        faults.push(format!(
            "{name} is Complete, and {} have succeeded",
            json::at(job, "status.succeeded")
        ));
    }
}

impl Jobs {
    fn judge_new(&self, model: &Model, pod: &Value, faults: &mut Vec<String>) {
        let owner = json::controller_uid(pod);
        let at_work = || model.controlled("pods", owner).filter(|p| json::active(p));
        let (count, most) = (at_work().count() as i64, self.parallelism.most(owner));
        if count > most {
            faults.push(format!(
                "{} is the {count}th at work, {most} are allowed",
                json::name(pod)
            ));
        }
        let (Some(index), Some(job)) = (index(pod), model.by_uid(owner)) else {
            return;
        };
        if at_work().filter(|p| self::index(p) == Some(index)).count() > 1 {
            faults.push(format!("index {index} of {} is worked on twice", json::name(job)));
        }
        let done = json::text(job, "status.completedIndexes");
        if holds(done, index) || holds(json::text(job, "status.failedIndexes"), index) {
            faults.push(format!("index {index} of {} is done, and run again", json::name(job)));
        }
        let succeeded = |p: &&Value| self::index(p) == Some(index) && json::text(p, "status.phase") == "Succeeded";
        // One that its controller has not seen yet is none of its faults; one that is noted is.
        let noted = self.noted.get(owner);
        let known = |p: &Value| noted.is_some_and(|n| n.succeeded.contains(json::uid(p)));
        if model.controlled("pods", owner).filter(succeeded).any(known) {
            faults.push(format!(
                "index {index} of {} has succeeded, and is run again",
                json::name(job)
            ));
        }
    }

    fn judge_let_go(&self, model: &Model, pod: &Value, faults: &mut Vec<String>) {
        let owner = json::controller_uid(pod);
        let Some(job) = model.by_uid(owner).filter(|j| !json::terminating(j)) else {
            return;
        };
        // What ends with the Job, by its doing, is counted as a whole.
        if !json::finished(pod) || json::job_finished(job) {
            return;
        }
        // What a policy ignores is not counted.
        let ignores = json::list(job, "spec.podFailurePolicy.rules")
            .iter()
            .any(|r| r["action"] == "Ignore");
        if ignores && json::text(pod, "status.phase") == "Failed" {
            return;
        }
        // Of those that succeeded, an indexed Job notes the index.
        let done = json::text(job, "status.completedIndexes");
        if json::text(pod, "status.phase") == "Succeeded" && index(pod).is_some_and(|i| holds(done, i)) {
            return;
        }
        let noted = self.noted.get(owner);
        let uid = json::uid(pod);
        if !noted.is_some_and(|n| n.succeeded.contains(uid) || n.failed.contains(uid)) {
            faults.push(format!("{} is let go of before it is noted", json::name(pod)));
        }
    }

    fn judge_notes(&mut self, job: &Value, before: Option<&Value>, faults: &mut Vec<String>) {
        let name = json::name(job);
        let noted = self.noted.entry(json::uid(job).to_owned()).or_default();
        for which in ["succeeded", "failed"] {
            let now: BTreeSet<&str> = uncounted(job, which).collect();
            for uid in before
                .into_iter()
                .flat_map(|b| uncounted(b, which))
                .filter(|u| !now.contains(u))
            {
                noted.counted.insert(uid.to_owned());
            }
            for uid in now {
                if noted.counted.contains(uid) {
                    faults.push(format!("{name} notes pod {uid} again"));
                }
                let set = if which == "failed" {
                    &mut noted.failed
                } else {
                    &mut noted.succeeded
                };
                set.insert(uid.to_owned());
            }
        }
        let told =
            |v: &Value, which: &str| json::int(json::at(v, "status"), which) + uncounted(v, which).count() as i64;
        if let Some(before) = before {
            let fewer = |which: &str| told(job, which) < told(before, which);
            // Indexes are counted, not pods: one that was done twice counts once.
            let indexed = json::text(job, "spec.completionMode") == "Indexed";
            if fewer("failed") || (!indexed && fewer("succeeded")) {
                faults.push(format!("{name} has lost count of pods that ended"));
            }
        }
        let ended = self.ended.get(json::uid(job));
        if told(job, "succeeded") > ended.map_or(0, |e| e[0].len() as i64) {
            faults.push(format!("{name} counts more pods that succeeded than there were"));
        }
    }
}
