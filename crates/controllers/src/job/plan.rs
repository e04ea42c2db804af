//! What one look at a Job and its pods leads to: which pods to make, delete and let go, and what the status says. Pure.
//!
//! Counting takes two looks, so that no pod is counted twice or lost, whatever happens between two writes: the first
//! notes a finished pod's uid in `uncountedTerminatedPods` (its finalizer goes only after that is written); the second
//! finds it without finalizer, or gone, and turns the note into a count.

mod act;
mod count;
mod end;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::pod::{Failures, NewPod, index, is_held};
use super::policy::Verdict;
use crate::pods::{is_active, phase};
use end::End;

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
    /// `None`: the job is finished, or nothing is done for it.
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

fn condition<'s>(status: &'s JobStatus, kind: &str) -> Option<&'s JobCondition> {
    let all = status.conditions.as_deref().unwrap_or_default();
    all.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// The condition that says how the job ended, once it has.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    end_of(job.status.as_ref()?)
}

/// The same of a status alone.
pub fn end_of(status: &JobStatus) -> Option<&JobCondition> {
    condition(status, "Complete").or_else(|| condition(status, "Failed"))
}

/// The controller that the job is left to, if not to this one.
pub fn managed_elsewhere(job: &Job) -> Option<&str> {
    let by = job.spec.as_ref()?.managed_by.as_deref()?;
    (!by.is_empty() && by != "kubernetes.io/job-controller").then_some(by)
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn nonzero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// `pods` are those that the job controls. With `may_act` false (the cache is behind) none is created or deleted,
/// and the job does not end: there may be one that is not seen yet.
pub fn plan(job: &Job, pods: &[Arc<Pod>], may_act: bool, now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else {
        return Plan::default();
    };
    if managed_elsewhere(job).is_some() {
        return Plan::default();
    }
    if finished(job).is_some() {
        return Plan {
            let_go: pods.iter().filter(|p| is_held(p)).cloned().collect(),
            ..Plan::default()
        };
    }
    let unknown = |mode: &String| !matches!(mode.as_str(), "" | "NonIndexed" | "Indexed");
    if spec.completion_mode.as_ref().is_some_and(unknown) {
        // Of a newer version of the API: whatever it means, it cannot be done here.
        return Plan {
            events: vec![Note {
                warning: true,
                reason: "UnknownCompletionMode".into(),
                message: "Skipped Job sync because completion mode is unknown".into(),
            }],
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
    look.finish(may_act);
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

    fn check_at(&mut self, at: Option<Timestamp>) {
        let left = at.and_then(|at| Duration::try_from(at.duration_since(self.now)).ok());
        if let Some(left) = left.filter(|l| !l.is_zero()) {
            self.plan.check_again = Some(self.plan.check_again.map_or(left, |c| c.min(left)));
        }
    }

    fn note(&mut self, warning: bool, reason: &str, message: &str) {
        self.plan.events.push(Note {
            warning,
            reason: reason.into(),
            message: message.into(),
        });
    }
}
