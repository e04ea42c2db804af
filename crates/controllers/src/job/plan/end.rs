//! How a job starts, pauses and ends, and what its status says of it. Pure.

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Look, condition, count, nonzero};
use crate::job::policy::{self, Verdict};
use crate::pods::{is_ready, is_terminating};

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub success: bool,
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

/// Sets a condition in its place; one that is not there yet is the last.
fn set_condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let condition = JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

impl Look<'_> {
    /// Whether and how the job has to end, apart from having done its work.
    pub(super) fn decide(&mut self) -> Option<End> {
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

    pub(super) fn start_and_suspend(&mut self) {
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

    /// The status, and the end if everything has come to rest, as far as all of it is seen.
    pub(super) fn finish(&mut self, all_seen: bool) {
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
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
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
            if all_seen && idle && terminating == 0 && counted && self.plan.let_go.is_empty() {
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
