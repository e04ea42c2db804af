//! What one look at a Job and its pods leads to: which pods to make, delete and let go, and what the status says. Pure.
//!
//! Counting takes two looks, so that no pod is counted twice or lost, whatever happens between two writes: the first
//! notes a finished pod's uid in `uncountedTerminatedPods` (its finalizer goes only after that is written); the second
//! finds it without finalizer, or gone, and turns the note into a count.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff;
use super::indexes::Indexes;
use super::pod::{Failures, NewPod, failures, index, is_held};
use super::policy::{self, Verdict};
use crate::pods::{is_active, is_finished, is_ready, is_terminating, phase, rank_for_deletion};

/// How many pods one reconcile creates or deletes at most.
const BURST: usize = 500;
/// How many uids a status holds at most; further finished pods are noted when these have been counted.
const MOST_NOTED: usize = 500;

#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<NewPod>,
    pub delete: Vec<Arc<Pod>>,
    /// The deleted pods are let go first: they are not failures.
    pub forget_deleted: bool,
    /// To be let go once the status is written.
    pub let_go: Vec<Arc<Pod>>,
    /// Active pods before anything is created or deleted.
    pub active: usize,
    /// `None`: the job is finished, or not ours.
    pub status: Option<JobStatus>,
    pub events: Vec<Note>,
    pub check_again: Option<Duration>,
}

/// An event to record.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    success: bool,
    reason: String,
    message: String,
}

impl End {
    fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            success,
            reason: reason.into(),
            message: message.into(),
        }
    }

    fn failure(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self::new(false, reason, message))
    }
}

fn condition<'s>(status: &'s JobStatus, kind: &str) -> Option<&'s JobCondition> {
    let all = status.conditions.as_deref().unwrap_or_default();
    all.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// The condition that says how the job ended, once it has.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    condition(status, "Complete").or_else(|| condition(status, "Failed"))
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn nonzero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

fn set_condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

/// `pods` are those that the job controls. With `may_act` false (the cache is behind) none is created or deleted.
pub fn plan(job: &Job, pods: &[Arc<Pod>], may_act: bool, now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else {
        return Plan::default();
    };
    let foreign = |by: &String| !by.is_empty() && by != "kubernetes.io/job-controller";
    let unknown_mode = |mode: &String| !matches!(mode.as_str(), "" | "NonIndexed" | "Indexed");
    if spec.managed_by.as_ref().is_some_and(foreign) || spec.completion_mode.as_ref().is_some_and(unknown_mode) {
        return Plan::default();
    }
    if finished(job).is_some() {
        return Plan {
            let_go: pods.iter().filter(|p| is_held(p)).cloned().collect(),
            ..Plan::default()
        };
    }
    let mut look = Look::new(job, spec, pods, now);
    look.end = look.decide();
    look.count_finished();
    look.start_and_suspend();
    if job.metadata.deletion_timestamp.is_some() {
        look.plan.let_go = pods.iter().filter(|p| is_held(p)).cloned().collect();
    } else if may_act {
        look.act();
    }
    look.finish();
    look.plan
}

struct Look<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    now: Timestamp,
    indexed: bool,
    suspended: bool,
    /// Replacements wait until the pod that they replace is really gone.
    only_failed: bool,
    completions: i32,
    active: Vec<Arc<Pod>>,
    status: JobStatus,
    noted_succeeded: Vec<String>,
    noted_failed: Vec<String>,
    /// Finished pods that are not noted yet.
    new_succeeded: Vec<Arc<Pod>>,
    new_failed: Vec<(Arc<Pod>, Verdict)>,
    completed: Indexes,
    failed_indexes: Indexes,
    /// With backoffLimitPerIndex: the last failure of an index that will be tried again. It is held until the next
    /// pod carries its count.
    last_failure: HashMap<i32, (Arc<Pod>, Failures)>,
    end: Option<End>,
    plan: Plan,
}

impl<'a> Look<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, pods: &'a [Arc<Pod>], now: Timestamp) -> Self {
        let mut status = job.status.clone().unwrap_or_default();
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let completions = spec.completions.unwrap_or(0);
        let parse = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let (completed, failed_indexes) = (parse(&status.completed_indexes), parse(&status.failed_indexes));
        let noted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let active: Vec<_> = pods.iter().filter(|p| is_active(p)).cloned().collect();
        let mut look = Self {
            job,
            spec,
            pods,
            now,
            indexed,
            suspended: spec.suspend == Some(true),
            only_failed: spec.pod_failure_policy.is_some() || spec.pod_replacement_policy.as_deref() == Some("Failed"),
            completions,
            plan: Plan {
                active: active.len(),
                ..Plan::default()
            },
            active,
            status,
            noted_succeeded: noted.succeeded.unwrap_or_default(),
            noted_failed: noted.failed.unwrap_or_default(),
            new_succeeded: Vec::new(),
            new_failed: Vec::new(),
            completed,
            failed_indexes,
            last_failure: HashMap::new(),
            end: None,
        };
        look.turn_notes_into_counts();
        look.sort_finished();
        look
    }

    fn turn_notes_into_counts(&mut self) {
        let held: HashSet<&str> = self
            .pods
            .iter()
            .filter(|p| is_held(p))
            .filter_map(|p| p.metadata.uid.as_deref())
            .collect();
        let settle = |noted: &mut Vec<String>, counted: &mut Option<i32>| {
            let before = noted.len();
            noted.retain(|uid| held.contains(uid.as_str()));
            *counted = nonzero(counted.unwrap_or(0).saturating_add(count(before - noted.len())));
        };
        settle(&mut self.noted_succeeded, &mut self.status.succeeded);
        settle(&mut self.noted_failed, &mut self.status.failed);
    }

    /// A pod that is being deleted counts as failed, unless only really failed ones are replaced.
    fn is_failed(&self, pod: &Pod) -> bool {
        match phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => !self.only_failed && pod.metadata.deletion_timestamp.is_some(),
        }
    }

    fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|i| *i < self.completions)
    }

    fn sort_finished(&mut self) {
        for pod in self.pods.iter().filter(|p| is_held(p)) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if self.noted_succeeded.contains(&uid) || self.noted_failed.contains(&uid) {
                self.plan.let_go.push(pod.clone());
            } else if phase(pod) == "Succeeded" {
                match (self.indexed, self.valid_index(pod)) {
                    // The set of indexes counts a pod once, however often it is added.
                    (true, Some(index)) => {
                        self.completed.insert(index);
                        self.plan.let_go.push(pod.clone());
                    }
                    (true, None) => self.plan.let_go.push(pod.clone()),
                    (false, _) => self.new_succeeded.push(pod.clone()),
                }
            } else if self.is_failed(pod) {
                if self.indexed && self.valid_index(pod).is_none() {
                    self.plan.let_go.push(pod.clone());
                } else {
                    self.new_failed.push((pod.clone(), policy::judge(self.spec, pod)));
                }
            }
        }
        if let Some(limit) = self.spec.backoff_limit_per_index {
            self.sort_by_index(u32::try_from(limit).unwrap_or(0));
        }
    }

    /// Which indexes have failed for good, and which failures the next pod of an index has to carry on.
    fn sort_by_index(&mut self, limit: u32) {
        for (pod, verdict) in &self.new_failed {
            let Some(index) = self.valid_index(pod) else { continue };
            let before = failures(pod);
            if *verdict == Verdict::FailIndex || *verdict != Verdict::Ignore && before.counted >= limit {
                self.failed_indexes.insert(index);
                continue;
            }
            let mut next = before;
            match verdict {
                Verdict::Ignore => next.ignored = next.ignored.saturating_add(1),
                _ => next.counted = next.counted.saturating_add(1),
            }
            let replaced = self
                .pods
                .iter()
                .any(|p| super::pod::index(p) == Some(index) && failures(p).all() > before.all());
            let known = self.last_failure.get(&index).map(|(_, f)| f.all());
            if !replaced && known.is_none_or(|k| next.all() > k) {
                self.last_failure.insert(index, (pod.clone(), next));
            }
        }
        let (completed, failed) = (&self.completed, &self.failed_indexes);
        self.last_failure
            .retain(|index, _| !completed.contains(*index) && !failed.contains(*index));
    }

    fn succeeded(&self) -> i32 {
        if self.indexed {
            return self.completed.len();
        }
        let noted = count(self.noted_succeeded.len() + self.new_succeeded.len());
        self.status.succeeded.unwrap_or(0).saturating_add(noted)
    }

    /// Failures that count towards backoffLimit.
    fn failed(&self) -> i32 {
        let new = self.new_failed.iter().filter(|(_, v)| *v != Verdict::Ignore).count();
        let noted = count(self.noted_failed.len() + new);
        self.status.failed.unwrap_or(0).saturating_add(noted)
    }

    /// Whether and how the job has to end, apart from having done its work.
    fn decide(&mut self) -> Option<End> {
        let noted = |c: &JobCondition, success| {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            End::new(success, &text(&c.reason), text(&c.message))
        };
        if let Some(met) = condition(&self.status, "SuccessCriteriaMet") {
            return Some(noted(met, true));
        }
        if let Some(target) = condition(&self.status, "FailureTarget") {
            return Some(noted(target, false));
        }
        let fail_job = self.new_failed.iter().find_map(|(_, verdict)| match verdict {
            Verdict::FailJob(message) => Some(message.clone()),
            _ => None,
        });
        if let Some(message) = fail_job {
            return End::failure("PodFailurePolicy", message);
        }
        if self.failed() > self.spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() {
            return End::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.past_deadline() {
            return End::failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        if self.spec.backoff_limit_per_index.is_some() && self.indexed {
            let failed = self.failed_indexes.len();
            if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return End::failure("MaxFailedIndexesExceeded", message);
            }
            if failed > 0 && failed.saturating_add(self.completed.len()) >= self.completions {
                return End::failure("FailedIndexes", "Job has failed indexes");
            }
        }
        if self.indexed
            && let Some(message) = policy::success(self.spec, &self.completed)
        {
            return Some(End::new(true, "SuccessPolicy", message));
        }
        None
    }

    /// With restartPolicy OnFailure the restarts of containers are the retries.
    fn restarted_too_often(&self) -> bool {
        let on_failure = |p: &Pod| p.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
        let restarts: i32 = self
            .active
            .iter()
            .filter(|p| on_failure(p))
            .flat_map(|p| p.status.as_ref())
            .flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten())
            .map(|c| c.restart_count)
            .fold(0, i32::saturating_add);
        restarts > 0 && restarts >= self.spec.backoff_limit.unwrap_or(6)
    }

    fn past_deadline(&mut self) -> bool {
        let (Some(seconds), Some(started)) = (self.spec.active_deadline_seconds, &self.status.start_time) else {
            if let Some(seconds) = self.spec.active_deadline_seconds.filter(|_| !self.suspended) {
                self.check_at(self.now.checked_add(SignedDuration::from_secs(seconds)).ok());
            }
            return false;
        };
        if self.suspended {
            return false;
        }
        let ends = started.0.checked_add(SignedDuration::from_secs(seconds)).ok();
        self.check_at(ends);
        ends.is_some_and(|at| at <= self.now)
    }

    fn check_at(&mut self, at: Option<Timestamp>) {
        let left = at.and_then(|at| Duration::try_from(at.duration_since(self.now)).ok());
        if let Some(left) = left.filter(|l| !l.is_zero()) {
            self.plan.check_again = Some(self.plan.check_again.map_or(left, |c| c.min(left)));
        }
    }

    fn is_full(&self) -> bool {
        self.noted_succeeded.len() + self.noted_failed.len() >= MOST_NOTED
    }

    /// Notes the uids of finished pods; from then on they may go.
    fn count_finished(&mut self) {
        let uid = |p: &Pod| p.metadata.uid.clone().unwrap_or_default();
        for pod in std::mem::take(&mut self.new_succeeded) {
            if self.is_full() {
                self.new_succeeded.push(pod);
                continue;
            }
            self.noted_succeeded.push(uid(&pod));
            self.plan.let_go.push(pod);
        }
        let kept: HashSet<String> = match self.end {
            None => self.last_failure.values().map(|(p, _)| uid(p)).collect(),
            Some(_) => HashSet::new(),
        };
        let failed_job = self.end.as_ref().is_some_and(|e| !e.success);
        let mut failed = std::mem::take(&mut self.new_failed);
        if failed_job {
            // Whatever still runs has failed with its job.
            let noted: HashSet<String> = failed.iter().map(|(p, _)| uid(p)).collect();
            let running = self.pods.iter().filter(|p| is_held(p) && !is_finished(p));
            failed.extend(
                running
                    .filter(|p| !noted.contains(&uid(p)) && !self.noted_failed.contains(&uid(p)))
                    .map(|p| (p.clone(), Verdict::Count)),
            );
        }
        for (pod, verdict) in failed {
            if kept.contains(&uid(&pod)) {
                continue;
            }
            if verdict != Verdict::Ignore {
                if self.is_full() {
                    self.new_failed.push((pod, verdict));
                    continue;
                }
                self.noted_failed.push(uid(&pod));
            }
            self.plan.let_go.push(pod);
        }
    }

    fn start_and_suspend(&mut self) {
        let now = self.now;
        if self.status.start_time.is_none() && !self.suspended {
            self.status.start_time = Some(Time(now));
        }
        if self.end.is_some() {
            return;
        }
        let was = condition(&self.status, "Suspended").is_some();
        if self.suspended && !was {
            set_condition(
                &mut self.status,
                "Suspended",
                "True",
                "JobSuspended",
                "Job suspended",
                now,
            );
            self.status.start_time = None;
            self.note(false, "Suspended", "Job suspended");
        } else if !self.suspended && was {
            set_condition(&mut self.status, "Suspended", "False", "JobResumed", "Job resumed", now);
            self.status.start_time = Some(Time(now));
            self.note(false, "Resumed", "Job resumed");
        }
    }

    fn note(&mut self, warning: bool, reason: &str, message: &str) {
        self.plan.events.push(Note {
            warning,
            reason: reason.into(),
            message: message.into(),
        });
    }

    /// Which pods to delete, or else to create.
    fn act(&mut self) {
        if self.end.is_some() {
            self.plan.delete = self.active.iter().take(BURST).cloned().collect();
            return;
        }
        self.plan.forget_deleted = true;
        let active = self.active.len();
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match (self.suspended, self.spec.completions) {
            (true, _) => 0,
            // A work queue: once a pod has succeeded, no new ones are made.
            (false, None) if self.succeeded() > 0 => active.min(parallelism),
            (false, None) => parallelism,
            (false, Some(all)) => parallelism.min(usize::try_from(all.saturating_sub(self.succeeded())).unwrap_or(0)),
        };
        if !self.suspended && self.spec.completions.is_some() && active > wanted && wanted == 0 && self.succeeded() > 0
        {
            self.note(
                true,
                "TooManyActivePods",
                "Too many active pods running after completion count reached",
            );
        }
        let mut doomed = if self.indexed {
            self.superfluous_of_index()
        } else {
            Vec::new()
        };
        if active > wanted + doomed.len() {
            let gone: HashSet<Option<String>> = doomed.iter().map(|p| p.metadata.uid.clone()).collect();
            let mut ranked = self.active.clone();
            rank_for_deletion(&mut ranked, &self.active, self.now);
            let more = ranked.into_iter().filter(|p| !gone.contains(&p.metadata.uid));
            doomed.extend(more.take(active - wanted - doomed.len()));
        }
        if !doomed.is_empty() {
            doomed.truncate(BURST);
            self.plan.delete = doomed;
            return;
        }
        let waiting = match self.only_failed {
            true => self.pods.iter().filter(|p| is_terminating(p)).count(),
            false => 0,
        };
        let missing = wanted.saturating_sub(active + waiting).min(BURST);
        if missing > 0 {
            self.create(missing);
        }
    }

    /// Active pods without a valid index, or of one that is done or has an active pod already.
    fn superfluous_of_index(&self) -> Vec<Arc<Pod>> {
        let mut taken = HashSet::new();
        let mut ranked = self.active.clone();
        rank_for_deletion(&mut ranked, &self.active, self.now);
        // The first in rank go first, so the last one keeps the index.
        let mut spare = |p: &Arc<Pod>| {
            self.valid_index(p)
                .is_none_or(|i| self.completed.contains(i) || self.failed_indexes.contains(i) || !taken.insert(i))
        };
        ranked.into_iter().rev().filter(|p| spare(p)).collect()
    }

    fn create(&mut self, missing: usize) {
        let per_index = self.spec.backoff_limit_per_index.is_some() && self.indexed;
        if !per_index {
            let failed = self.pods.iter().filter(|p| self.is_failed(p));
            let until = backoff::until(failed, self.pods);
            if until.is_some_and(|at| at > self.now) {
                self.check_at(until);
                return;
            }
        }
        if !self.indexed {
            self.plan.create = vec![NewPod::default(); missing];
            return;
        }
        let busy = |p: &&Arc<Pod>| is_active(p) || self.only_failed && is_terminating(p);
        let busy: HashSet<i32> = self.pods.iter().filter(busy).filter_map(|p| index(p)).collect();
        let mut later = None;
        for index in 0..self.completions {
            if self.plan.create.len() == missing {
                break;
            }
            if busy.contains(&index) || self.completed.contains(index) || self.failed_indexes.contains(index) {
                continue;
            }
            let mut failures = per_index.then(Failures::default);
            if let Some((pod, next)) = self.last_failure.get(&index) {
                let until = backoff::finished_at(pod).and_then(|at| backoff::after(next.all(), at));
                if let Some(until) = until.filter(|at| *at > self.now) {
                    later = Some(later.map_or(until, |l: Timestamp| l.min(until)));
                    continue;
                }
                failures = Some(*next);
            }
            self.plan.create.push(NewPod {
                index: Some(index),
                failures,
            });
        }
        self.check_at(later);
    }

    /// The status, and the end if everything has come to rest.
    fn finish(&mut self) {
        let (mut succeeded, now) = (self.status.succeeded.unwrap_or(0), self.now);
        if self.indexed {
            succeeded = self.completed.len();
            self.status.completed_indexes = Some(self.completed.to_string()).filter(|t| !t.is_empty());
            let per_index = self.spec.backoff_limit_per_index.is_some();
            self.status.failed_indexes = per_index.then(|| self.failed_indexes.to_string());
        }
        self.status.succeeded = nonzero(succeeded);
        let terminating = self.pods.iter().filter(|p| is_terminating(p)).count();
        self.status.terminating = Some(count(terminating));
        self.status.ready = Some(count(self.active.iter().filter(|p| is_ready(p)).count()));
        let some = |uids: &[String]| (!uids.is_empty()).then(|| uids.to_vec());
        self.status.uncounted_terminated_pods = Some(k8s_openapi::api::batch::v1::UncountedTerminatedPods {
            succeeded: some(&self.noted_succeeded),
            failed: some(&self.noted_failed),
        });

        let idle = self.active.is_empty() && self.plan.create.is_empty();
        if self.end.is_none() && idle && self.is_complete() {
            let message = "Reached expected number of succeeded pods";
            self.end = Some(End::new(true, "CompletionsReached", message));
        }
        if let Some(end) = self.end.clone() {
            let (target, last) = match end.success {
                true => ("SuccessCriteriaMet", "Complete"),
                false => ("FailureTarget", "Failed"),
            };
            if condition(&self.status, target).is_none() {
                set_condition(&mut self.status, target, "True", &end.reason, &end.message, now);
            }
            let noted = self.noted_succeeded.is_empty() && self.noted_failed.is_empty();
            let counted = noted && self.new_succeeded.is_empty() && self.new_failed.is_empty();
            if idle && terminating == 0 && counted && self.plan.let_go.is_empty() {
                set_condition(&mut self.status, last, "True", &end.reason, &end.message, now);
                if end.success {
                    self.status.completion_time = Some(Time(now));
                    if self.spec.completions.is_some_and(|all| succeeded > all) {
                        let message = "Too many succeeded pods running after completion count reached";
                        self.note(true, "TooManySucceededPods", message);
                    }
                    self.note(false, "Completed", "Job completed");
                } else {
                    self.note(true, &end.reason, &end.message);
                }
                self.plan.check_again = None;
            }
        }
        self.plan.status = Some(std::mem::take(&mut self.status));
    }

    fn is_complete(&self) -> bool {
        match self.spec.completions {
            None => self.succeeded() > 0,
            Some(all) => self.succeeded() >= all && self.job.metadata.deletion_timestamp.is_none(),
        }
    }
}
