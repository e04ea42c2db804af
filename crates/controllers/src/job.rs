//! Job: runs pods until so many have succeeded. Watches Jobs, and Pods by owner. Writes Pods and the job's status.
//!
//! What to do is [`plan`]'s to say; this file carries it out, in an order in which any step may be the last: pods are made
//! and deleted, the status notes which pods have finished, and only then are those let go.

pub mod backoff;
pub mod indexes;
mod orphan;
pub mod plan;
pub mod pod;
pub mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Error, Lister};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::claim::{Claimable, Claiming};
use crate::metrics::batch::JobMetrics;
use crate::pod_control::PodControl;
use crate::status;
use crate::written::Written;
use plan::{Plan, plan};

const NAME: &str = "job-controller";
const WORKERS: usize = 5;

struct Jobs {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    jobs: Lister<Job>,
    claimable: Claimable<Job, Pod>,
    control: PodControl<Job>,
    written: Written<Job>,
    metrics: JobMetrics,
}

pub async fn run(cx: Context) {
    let jobs = cx.informers.informer::<Job>();
    let pods = cx.informers.informer::<Pod>();
    let claimable = Claimable::new(&pods);
    let (client, events) = (cx.client_of(NAME), cx.recorder(NAME));
    let (control, controller) = PodControl::of(cx.controller(NAME, WORKERS), &client, &events, cx.clock, &pods);
    let written = Written::default();
    let controllers = Jobs {
        client,
        events,
        clock: cx.clock,
        jobs: jobs.lister(),
        claimable: claimable.clone(),
        control: control.clone(),
        written: written.clone(),
        metrics: cx.metrics.jobs.clone(),
    };
    let (of_jobs, of_pods) = (cx.metrics.jobs.clone(), cx.metrics.jobs.clone());
    let main = controller
        .watches_changes(&jobs, move |change| {
            let key = ObjectKey::of(&**change.object());
            if let Change::Added(job) = change
                && let Some(by) = plan::managed_elsewhere(job)
            {
                of_jobs.external(by);
            }
            control.observe_owner(change);
            if change.is_deletion() {
                written.forget(&key);
            }
            [key]
        })
        .watches_changes(&pods, move |change| {
            let now: &Pod = change.object();
            match (change.is_deletion(), change.old()) {
                (true, _) => of_pods.seen(Some(now), None),
                (false, old) => of_pods.seen(old.map(|o| &**o), Some(now)),
            }
            claimable.adopters(change)
        })
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        );
    tokio::join!(main, orphan::run(&cx));
}

fn selector(job: &Job) -> Option<LabelSelector> {
    let selector = job.spec.as_ref()?.selector.as_ref()?;
    let usable = LabelSelector::from_typed(Some(selector)).ok();
    usable.filter(|s| !s.is_everything())
}

impl Jobs {
    async fn reconcile(&self, key: ObjectKey<Job>) -> Result<Action, Error> {
        let Some(cached) = self.jobs.get(&key) else {
            self.claimable.forget(&key);
            return Ok(Action::Done);
        };
        let job = self.written.newest(&key, cached);
        if plan::managed_elsewhere(&job).is_some() {
            return Ok(Action::Done);
        }
        let Some(selector) = selector(&job) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        let may_act = self.control.is_settled(&job, &key).await?;
        let claiming = Claiming {
            client: &self.client,
            owner: &*job,
        };
        let owned = claiming
            .claim_holding(&self.claimable, &selector, |_| true, pod::finalizers)
            .await?;
        let started = self.clock.instant();
        let plan = plan(&job, &owned, may_act, self.clock.now());
        let counts = plan.status.is_some();
        let action = match &plan {
            _ if !may_act => "reconciling",
            plan if !plan.delete.is_empty() => "pods_deleted",
            plan if !plan.create.is_empty() => "pods_created",
            _ => "tracking",
        };
        let done = self.execute(&job, &key, plan).await;
        if counts {
            let took = self.clock.instant().saturating_duration_since(started);
            self.metrics.synced(&job, action, done.is_ok(), took);
        }
        done
    }

    async fn execute(&self, job: &Job, key: &ObjectKey<Job>, plan: Plan) -> Result<Action, Error> {
        let (mut created, mut deleted, mut failure) = (0, 0, None);
        if !plan.delete.is_empty() {
            // Pods that are let go first are no failures.
            let forget =
                |pod: &Pod| (plan.forget_deleted && pod::is_held(pod)).then(|| Patch::Strategic(pod::give_up(pod)));
            let done = self.control.delete(job, key, &plan.delete, forget).await;
            (deleted, failure) = (done.count, done.failure);
        } else if !plan.create.is_empty() {
            let new: Vec<Pod> = plan.create.iter().map(|new| pod::make(job, new)).collect();
            let new: Vec<&Pod> = new.iter().collect();
            let done = self.control.create(job, key, &new).await;
            let failed = usize::from(done.failure.is_some());
            self.metrics.created(job, plan.status.as_ref(), done.count, failed);
            (created, failure) = (done.count, done.failure);
        }
        let mut told = plan.status.is_none();
        if let Some(mut status) = plan.status {
            let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
            let active = count((plan.active + created).saturating_sub(deleted));
            status.active = (active != 0).then_some(active);
            status.ready = status.ready.map(|ready| ready.min(active));
            status.terminating = status.terminating.map(|t| t.saturating_add(count(deleted)));
            told = self.write_status(job, status.clone()).await?;
            if told {
                self.metrics.told(job, &status);
            }
        }
        for note in plan.events.into_iter().filter(|_| told) {
            let kind = match note.warning {
                true => EventType::Warning,
                false => EventType::Normal,
            };
            self.events.event(job, kind, &note.reason, note.message);
        }
        self.let_go(job, &plan.let_go).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(plan.check_again.map_or(Action::Done, Action::After)),
        }
    }

    /// Takes the finalizer from pods that are counted, or that need not be.
    async fn let_go(&self, job: &Job, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let api = self
            .client
            .namespaced::<Pod>(job.metadata.namespace.as_deref().unwrap_or_default());
        let patches = pods.iter().filter(|p| pod::is_held(p)).map(|held| {
            let name = held.metadata.name.as_deref().unwrap_or_default();
            let patch = api.patch(name, Patch::Strategic(pod::let_go(held)));
            async move { (held, patch.await) }
        });
        for (held, result) in join_all(patches).await {
            if gone_is_done(result)?.is_some() {
                let decided = job.spec.as_ref().and_then(|s| policy::action(s, held));
                decided.into_iter().for_each(|action| self.metrics.handled(action));
            }
        }
        Ok(())
    }

    /// Whether there was anything to write and it was written.
    async fn write_status(&self, job: &Job, status: JobStatus) -> Result<bool, Error> {
        let changed = Job {
            status: Some(status),
            ..job.clone()
        };
        let written = status::write(&self.client, job, &changed).await?;
        let news = written.is_some();
        if let Some(written) = written {
            self.written.note(written);
        }
        Ok(news)
    }
}
