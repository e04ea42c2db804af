//! CronJob: makes a Job at each time of a schedule. Watches CronJobs, and Jobs by owner. Writes Jobs and the status.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType, reference};
use coracle_client::{Client, DeleteOptions, ObjectKey, Propagation, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Change, Error, Lister};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::Context;
use crate::metrics::batch::CronJobMetrics;
use crate::owner::controller_of;
use crate::status;
use plan::{Start, add_active, plan, scheduled};

const NAME: &str = "cronjob-controller";
const WORKERS: usize = 5;

struct CronJobs {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    crons: Lister<CronJob>,
    jobs: Lister<Job>,
    metrics: CronJobMetrics,
    started: Started,
}

/// The last time that was started for each CronJob, by its uid: the status may not be written yet, or never be. Cheap to
/// clone.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<HashMap<ObjectKey<CronJob>, ByUid>>>);

/// Of CronJobs that have had one name.
type ByUid = HashMap<String, Last>;

#[derive(Clone)]
struct Last {
    at: Timestamp,
    /// What was started then, unless it has gone.
    job: Option<ObjectReference>,
}

impl Started {
    fn note(&self, key: ObjectKey<CronJob>, uid: &str, last: Last) {
        let mut all = self.0.lock();
        let of_cron = all.entry(key).or_default();
        if of_cron.get(uid).is_none_or(|earlier| earlier.at <= last.at) {
            of_cron.insert(uid.to_owned(), last);
        }
    }

    /// A Job that has come and gone was started for its time, even if the answer to its creation was lost.
    fn observe(&self, change: &Change<Job>) {
        let job = change.object();
        if let Some(owner) = controller_of(&job.metadata).filter(|o| change.is_deletion() && o.kind == "CronJob")
            && let Some(at) = scheduled(&owner.name, job)
        {
            let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
            self.note(
                ObjectKey::of_owner(namespace, owner),
                &owner.uid,
                Last { at, job: None },
            );
        }
    }

    /// The last time of this CronJob.
    fn last(&self, key: &ObjectKey<CronJob>, cron: &CronJob) -> Option<Last> {
        let all = self.0.lock();
        all.get(key)?.get(cron.metadata.uid.as_deref()?).cloned()
    }

    fn forget(&self, key: &ObjectKey<CronJob>) {
        self.0.lock().remove(key);
    }
}

pub async fn run(cx: Context) {
    let crons = cx.informers.informer::<CronJob>();
    let jobs = cx.informers.informer::<Job>();
    let started = Started::default();
    let controllers = CronJobs {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        clock: cx.clock,
        crons: crons.lister(),
        jobs: jobs.lister(),
        metrics: cx.metrics.cron_jobs.clone(),
        started: started.clone(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&crons, |cron| [ObjectKey::of(cron)])
        .watches_changes(&jobs, move |change| {
            started.observe(change);
            None
        })
        .watches_owned(&jobs)
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

impl CronJobs {
    async fn reconcile(&self, key: ObjectKey<CronJob>) -> Result<Action, Error> {
        let Some(cached) = self.crons.get(&key) else {
            self.started.forget(&key);
            return Ok(Action::Done);
        };
        let cron = self.as_started(&key, &cached);
        let mut jobs = self
            .jobs
            .controlled_by(cron.metadata.uid.as_deref().unwrap_or_default());
        self.find_missing(&cron, &mut jobs).await?;
        let plan = plan(&cron, &jobs, self.clock.now());
        for (warning, reason, message) in plan.events {
            let kind = if warning { EventType::Warning } else { EventType::Normal };
            self.events.event(&*cron, kind, reason, message);
        }
        for job in &plan.delete {
            self.delete(&cron, job).await?;
        }
        let mut status = plan.status;
        if let Some(start) = plan.start {
            // What is known so far is written first: the start may fail.
            let started = self.start(&cron, start, &mut status).await;
            self.write_status(&cached, status).await?;
            started?;
        } else {
            self.write_status(&cached, status).await?;
        }
        Ok(plan.check_again.map_or(Action::Done, Action::After))
    }

    /// The CronJob as it would be if its status had been written: no time is started twice because the cache is behind.
    fn as_started(&self, key: &ObjectKey<CronJob>, cached: &Arc<CronJob>) -> Arc<CronJob> {
        let told = cached.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
        match self.started.last(key, cached) {
            Some(Last { at, job }) if told.is_none_or(|told| told.0 < at) => {
                let mut cron = CronJob::clone(cached);
                let status = cron.status.get_or_insert_default();
                status.last_schedule_time = Some(Time(at));
                if let Some(job) = job {
                    add_active(status, job);
                }
                Arc::new(cron)
            }
            _ => cached.clone(),
        }
    }

    /// Jobs that the status calls active but the cache does not have: it may be behind.
    async fn find_missing(&self, cron: &CronJob, jobs: &mut Vec<Arc<Job>>) -> Result<(), Error> {
        let active = cron.status.as_ref().and_then(|s| s.active.as_deref());
        let api = self
            .client
            .namespaced::<Job>(cron.metadata.namespace.as_deref().unwrap_or_default());
        for reference in active.unwrap_or_default() {
            if jobs.iter().any(|j| j.metadata.uid == reference.uid) {
                continue;
            }
            let found = api.find(reference.name.as_deref().unwrap_or_default()).await?;
            jobs.extend(found.filter(|j| j.metadata.uid == reference.uid));
        }
        Ok(())
    }

    async fn start(&self, cron: &CronJob, start: Start, status: &mut CronJobStatus) -> Result<(), Error> {
        let jobs = self
            .client
            .namespaced::<Job>(cron.metadata.namespace.as_deref().unwrap_or_default());
        let name = start.job.metadata.name.as_deref().unwrap_or_default();
        let job = match jobs.create(&start.job).await {
            Ok(job) => {
                let message = format!("Created job {name}");
                self.events.event(cron, EventType::Normal, "SuccessfulCreate", message);
                if let Some(created) = &job.metadata.creation_timestamp {
                    let late_by = created.0.duration_since(start.scheduled);
                    self.metrics.started(late_by.as_secs_f64());
                }
                job
            }
            // Made by an earlier attempt whose status was not written.
            Err(error) if error.is_already_exists() => {
                let found = jobs.find(name).await?;
                let own = |j: &Job| controller_of(&j.metadata).map(|o| &o.uid) == cron.metadata.uid.as_ref();
                match found {
                    Some(job) if own(&job) => job,
                    // A stranger's: this time passes, and the next one has another name.
                    _ => {
                        tracing::warn!(
                            controller = NAME,
                            job = name,
                            "the name of a job is taken, and nothing is started"
                        );
                        return Ok(());
                    }
                }
            }
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.events.event(cron, EventType::Warning, "FailedCreate", message);
                return Err(error.into());
            }
        };
        let reference = reference(&*job);
        if crate::job::plan::finished(&job).is_none() {
            add_active(status, reference.clone());
        }
        status.last_schedule_time = Some(Time(start.scheduled));
        let uid = cron.metadata.uid.as_deref().unwrap_or_default();
        let last = Last {
            at: start.scheduled,
            job: Some(reference),
        };
        self.started.note(ObjectKey::of(cron), uid, last);
        Ok(())
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let jobs = self
            .client
            .namespaced::<Job>(job.metadata.namespace.as_deref().unwrap_or_default());
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let options = DeleteOptions {
            uid: job.metadata.uid.clone(),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let deleted = gone_is_done(jobs.delete(name, &options).await);
        match &deleted {
            Ok(Some(_)) => {
                let message = format!("Deleted job {name}");
                self.events.event(cron, EventType::Normal, "SuccessfulDelete", message);
            }
            // A conflict: perhaps it is another of this name by now.
            Err(error) if !error.is_conflict() => {
                let message = format!("Deleted job: {error}");
                self.events.event(cron, EventType::Warning, "FailedDelete", message);
            }
            _ => {}
        }
        deleted.map(drop).map_err(Error::from)
    }

    async fn write_status(&self, cron: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let changed = CronJob {
            status: Some(status),
            ..cron.clone()
        };
        status::write(&self.client, cron, &changed).await.map(drop)
    }
}
