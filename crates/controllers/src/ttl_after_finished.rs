//! Deletes finished Jobs after `ttlSecondsAfterFinished`, with all that they own. Watches Jobs.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ObjectKey, Propagation, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Error, Lister};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;

use crate::Context;
use crate::job::plan::finished;
use crate::metrics::batch::TtlMetrics;

const NAME: &str = "ttl-after-finished-controller";
const WORKERS: usize = 5;

struct Finished {
    client: Client,
    clock: Clock,
    jobs: Lister<Job>,
    metrics: TtlMetrics,
}

pub async fn run(cx: Context) {
    let jobs = cx.informers.informer::<Job>();
    let context = Finished {
        client: cx.client_of(NAME),
        clock: cx.clock,
        jobs: jobs.lister(),
        metrics: cx.metrics.expired_jobs.clone(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&jobs, |job| expires(job).map(|_| ObjectKey::of(job)))
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// When the job is to be deleted, if it is finished and has a limit.
fn expires(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = finished(job).filter(|_| job.metadata.deletion_timestamp.is_none())?;
    let at = end.last_transition_time.as_ref()?.0;
    at.checked_add(SignedDuration::from_secs(ttl.into())).ok()
}

async fn reconcile(cx: Arc<Finished>, key: ObjectKey<Job>) -> Result<Action, Error> {
    let Some(at) = cx.jobs.get(&key).and_then(|j| expires(&j)) else {
        return Ok(Action::Done);
    };
    let now = cx.clock.now();
    if at > now {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        return Ok(Action::After(left));
    }
    // The cache may be behind: somebody may have given the job more time.
    let jobs = cx.client.namespaced::<Job>(&key.namespace);
    let Some(job) = jobs.find(&key.name).await? else {
        return Ok(Action::Done);
    };
    let Some(at) = expires(&job).filter(|at| *at <= now) else {
        return Ok(Action::Done);
    };
    let options = DeleteOptions {
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    if gone_is_done(jobs.delete(&key.name, &options).await)?.is_some() {
        let late_by = cx.clock.now().duration_since(at);
        cx.metrics.deleted(late_by.as_secs_f64());
    }
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_ttl_period_starts_when_the_status_condition_changes_to_complete_or_failed() {
        let job = |ttl: Option<i32>, kind: &str| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "j"},
                "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                ]},
            }))
            .unwrap()
        };
        let at = |text: &str| Some(text.parse().unwrap());
        assert_eq!(expires(&job(Some(100), "Complete")), at("2026-01-01T00:01:40Z"));
        assert_eq!(expires(&job(Some(0), "Failed")), at("2026-01-01T00:00:00Z"));
        assert_eq!(expires(&job(Some(0), "Suspended")), None);
        assert_eq!(expires(&job(None, "Complete")), None);
    }
}
