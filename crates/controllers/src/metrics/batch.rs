//! What is counted of Jobs, CronJobs and Jobs whose time is over.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Histograms, Labels};
use crate::job::indexes::Indexes;
use crate::job::plan::end_of;
use crate::job::pod::is_held;
use crate::pods::is_finished;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    completion_mode: &'static str,
    result: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct External {
    controller_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    action: String,
}

#[derive(Clone, Debug)]
pub struct JobMetrics {
    syncs: Family<Labels<3>, Counter>,
    durations: Histograms<Labels<3>>,
    ended: Family<End, Counter>,
    external: Family<External, Counter>,
    pods: Family<Labels<2>, Counter>,
    handled: Family<Handled, Counter>,
    held: Family<Labels<1>, Counter>,
    indexes: Family<Labels<2>, Counter>,
    created: Family<Labels<2>, Counter>,
}

impl Default for JobMetrics {
    fn default() -> Self {
        Self {
            syncs: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.004, 2.0, 15))),
            ended: Family::default(),
            external: Family::default(),
            pods: Family::default(),
            handled: Family::default(),
            held: Family::default(),
            indexes: Family::default(),
            created: Family::default(),
        }
    }
}

fn is_indexed(job: &Job) -> bool {
    let mode = job.spec.as_ref().and_then(|s| s.completion_mode.as_deref());
    mode == Some("Indexed")
}

fn mode(job: &Job) -> &'static str {
    if is_indexed(job) { "Indexed" } else { "NonIndexed" }
}

fn more(new: i32, old: i32) -> u64 {
    u64::try_from(new.saturating_sub(old)).unwrap_or(0)
}

impl JobMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("job_syncs", "The number of job syncs", self.syncs.clone());
        registry.register(
            "job_sync_duration_seconds",
            "The time it took to sync a job",
            self.durations.clone(),
        );
        registry.register("jobs_finished", "The number of finished jobs", self.ended.clone());
        registry.register(
            "jobs_by_external_controller",
            "The number of Jobs managed by an external controller",
            self.external.clone(),
        );
        let help = "The number of finished Pods that are fully tracked";
        registry.register("job_pods_finished", help, self.pods.clone());
        let help = "The number of failed Pods handled by failure policy, by the action of the matched rule";
        registry.register("pod_failures_handled_by_failure_policy", help, self.handled.clone());
        let help = "The number of terminated pods (phase=Failed|Succeeded) that have the finalizer \
                    batch.kubernetes.io/job-tracking; the event label can be \"add\" or \"delete\"";
        registry.register("terminated_pods_tracking_finalizer", help, self.held.clone());
        registry.register(
            "job_finished_indexes",
            "The number of finished indexes",
            self.indexes.clone(),
        );
        let help = "The number of Pods created by the Job controller, by the reason of their creation and its status";
        registry.register("job_pods_creation", help, self.created.clone());
    }

    /// `action`: `reconciling`, `tracking`, `pods_created` or `pods_deleted`.
    pub(crate) fn synced(&self, job: &Job, action: &'static str, succeeded: bool, took: Duration) {
        let labels = [
            ("completion_mode", mode(job)),
            ("result", if succeeded { "success" } else { "error" }),
            ("action", action),
        ];
        self.syncs.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A status was written.
    pub(crate) fn told(&self, job: &Job, status: &JobStatus) {
        let old = job.status.clone().unwrap_or_default();
        for (result, new, old) in [
            ("succeeded", status.succeeded, old.succeeded),
            ("failed", status.failed, old.failed),
        ] {
            let labels = [("completion_mode", mode(job)), ("result", result)];
            let count = more(new.unwrap_or(0), old.unwrap_or(0));
            if count > 0 {
                self.pods.get_or_create(&labels).inc_by(count);
            }
        }
        if is_indexed(job) {
            self.told_indexes(job, &old, status);
        }
        if let Some(end) = end_of(status).filter(|_| end_of(&old).is_none()) {
            let label = End {
                completion_mode: mode(job),
                result: if end.type_ == "Complete" { "succeeded" } else { "failed" },
                reason: end.reason.clone().unwrap_or_default(),
            };
            self.ended.get_or_create(&label).inc();
        }
    }

    fn told_indexes(&self, job: &Job, old: &JobStatus, new: &JobStatus) {
        let spec = job.spec.as_ref();
        let completions = spec.and_then(|s| s.completions).unwrap_or(0);
        let limit = match spec.and_then(|s| s.backoff_limit_per_index) {
            Some(_) => "perIndex",
            None => "global",
        };
        let len = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions).len();
        for (status, new, old) in [
            ("succeeded", &new.completed_indexes, &old.completed_indexes),
            ("failed", &new.failed_indexes, &old.failed_indexes),
        ] {
            let count = more(len(new), len(old));
            if count > 0 {
                let labels = [("status", status), ("backoffLimit", limit)];
                self.indexes.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// `status` as it is known when they are made.
    pub(crate) fn created(&self, job: &Job, status: Option<&JobStatus>, succeeded: usize, failed: usize) {
        let noted = status.and_then(|s| s.uncounted_terminated_pods.as_ref());
        let noted = noted.and_then(|n| n.failed.as_ref()).map_or(0, Vec::len);
        let any_failed = noted > 0 || status.and_then(|s| s.failed).unwrap_or(0) > 0;
        let terminating = status.and_then(|s| s.terminating).unwrap_or(0) > 0;
        let policy = job.spec.as_ref().and_then(|s| s.pod_replacement_policy.as_deref());
        let reason = match policy {
            Some("Failed") if any_failed => "recreate_failed",
            _ if any_failed || terminating => "recreate_terminating_or_failed",
            _ => "new",
        };
        for (status, count) in [("succeeded", succeeded), ("failed", failed)] {
            if count > 0 {
                let labels = [("reason", reason), ("status", status)];
                self.created.get_or_create(&labels).inc_by(count as u64);
            }
        }
    }

    /// A rule of a podFailurePolicy, with this action, has decided about a pod.
    pub(crate) fn handled(&self, action: &str) {
        let action = action.to_owned();
        self.handled.get_or_create(&Handled { action }).inc();
    }

    /// A job was seen for the first time that another controller manages.
    pub(crate) fn external(&self, controller: &str) {
        let controller_name = controller.to_owned();
        self.external.get_or_create(&External { controller_name }).inc();
    }

    /// What was known of a pod before, if anything was, and what is known now, unless it is gone.
    pub(crate) fn seen(&self, old: Option<&Pod>, new: Option<&Pod>) {
        let held = |pod: Option<&Pod>| pod.is_some_and(|p| is_finished(p) && is_held(p));
        let event = match (held(old), held(new)) {
            (false, true) => "add",
            (true, false) => "delete",
            _ => return,
        };
        self.held.get_or_create(&[("event", event)]).inc();
    }
}

#[derive(Clone, Debug)]
pub struct CronJobMetrics {
    skew: Histogram,
}

impl Default for CronJobMetrics {
    fn default() -> Self {
        Self {
            skew: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
        }
    }
}

impl CronJobMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Time between when a cronjob is scheduled to be run, and when the corresponding job is created";
        registry.register("cronjob_job_creation_skew_duration_seconds", help, self.skew.clone());
    }

    pub(crate) fn started(&self, late_by: f64) {
        self.skew.observe(late_by);
    }
}

#[derive(Clone, Debug)]
pub struct TtlMetrics {
    durations: Histogram,
}

impl Default for TtlMetrics {
    fn default() -> Self {
        Self {
            durations: Histogram::new(exponential_buckets(0.1, 2.0, 14)),
        }
    }
}

impl TtlMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "The time it took to delete the job since it became eligible for deletion";
        registry.register("job_deletion_duration_seconds", help, self.durations.clone());
    }

    pub(crate) fn deleted(&self, late_by: f64) {
        self.durations.observe(late_by);
    }
}
