//! Job: runs pods until so many have succeeded. Watches Jobs, and Pods by owner. Writes Pods and the job's status.
//!
//! What to do is [`plan`]'s to say; this file carries it out, in an order in which any step may be the last: pods are made
//! and deleted, the status notes which pods have finished, and only then are those let go.

pub mod backoff;
mod claim;
pub mod indexes;
mod orphan;
pub mod plan;
pub mod pod;
pub mod policy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Controller, Error, Lister};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::Context;
use crate::expectations::{Expectations, is_uncertain};
use crate::owner::controller_of;
use plan::{Plan, plan};
use pod::NewPod;

const NAME: &str = "job-controller";
const WORKERS: usize = 5;

struct Jobs {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    jobs: Lister<Job>,
    pods: Lister<Pod>,
    expectations: Arc<Expectations>,
    /// Jobs as last written, until the cache has them: a plan made of an older status would count anew.
    written: Arc<Mutex<HashMap<ObjectKey<Job>, Arc<Job>>>>,
}

pub async fn run(cx: Context) {
    let jobs = cx.informers.informer::<Job>();
    let pods = cx.informers.informer::<Pod>();
    crate::claim::index(&pods);
    let expectations = Arc::new(Expectations::new(cx.clock));
    let written = Arc::new(Mutex::default());
    let controllers = Jobs {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        clock: cx.clock,
        jobs: jobs.lister(),
        pods: pods.lister(),
        expectations: expectations.clone(),
        written: written.clone(),
    };
    let (forget, lister) = (expectations.clone(), jobs.lister());
    let main = Controller::new(NAME, WORKERS, cx.clock)
        .watches_changes(&jobs, move |change| {
            let key = ObjectKey::of(&**change.object());
            if change.is_deletion() {
                forget.forget(&key.to_string());
                written.lock().remove(&key);
            }
            [key]
        })
        .watches_owned(&pods)
        .watches_changes(&pods, move |change| observe(change, &expectations, &lister))
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        );
    tokio::join!(main, orphan::run(&cx));
}

/// Counts what the informer saw against what was asked for. An orphan wakes every job that might adopt it.
fn observe(change: &Change<Pod>, expectations: &Expectations, jobs: &Lister<Job>) -> Vec<ObjectKey<Job>> {
    let pod = change.object();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(owner) = controller_of(&pod.metadata) else {
        if change.is_deletion() {
            return Vec::new();
        }
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let may_adopt = |j: &Job| selector(j).is_some_and(|s| s.matches_labels(&labels));
        let adopters = jobs.select(namespace, may_adopt);
        return adopters.iter().map(|j| ObjectKey::of(&**j)).collect();
    };
    if owner.kind == "Job" {
        let key = format!("{namespace}/{}", owner.name);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if change.is_deletion() || pod.metadata.deletion_timestamp.is_some() {
            expectations.deletion_observed(&key, uid);
        }
        if change.old().is_none() && !change.is_deletion() {
            expectations.creation_observed(&key);
        }
    }
    Vec::new()
}

fn selector(job: &Job) -> Option<LabelSelector> {
    let selector = job.spec.as_ref()?.selector.as_ref()?;
    let usable = LabelSelector::from_typed(Some(selector)).ok();
    usable.filter(|s| !s.is_everything())
}

fn revision(job: &Job) -> Option<u64> {
    job.metadata.resource_version.as_ref()?.parse().ok()
}

impl Jobs {
    async fn reconcile(&self, key: ObjectKey<Job>) -> Result<Action, Error> {
        let Some(cached) = self.jobs.get(&key) else {
            return Ok(Action::Done);
        };
        let job = self.newest(&key, cached);
        let Some(selector) = selector(&job) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        let name = key.to_string();
        let cached = || self.pods.controlled_by(job.metadata.uid.as_deref().unwrap_or_default());
        let may_act = self.expectations.settle(&self.client, &*job, &name, cached).await?;
        let owned = self.claim(&job, &selector).await?;
        let plan = plan(&job, &owned, may_act, self.clock.now());
        self.execute(&job, &key, plan).await
    }

    /// The job as the cache has it, or as it was written since.
    fn newest(&self, key: &ObjectKey<Job>, cached: Arc<Job>) -> Arc<Job> {
        let mut written = self.written.lock();
        match written.get(key) {
            Some(own) if own.metadata.uid == cached.metadata.uid && revision(own) > revision(&cached) => own.clone(),
            Some(_) => {
                written.remove(key);
                cached
            }
            None => cached,
        }
    }

    async fn execute(&self, job: &Job, key: &ObjectKey<Job>, plan: Plan) -> Result<Action, Error> {
        let name = key.to_string();
        let (mut created, mut deleted, mut failure) = (0, 0, None);
        if !plan.delete.is_empty() {
            let done = self.delete_pods(job, &name, &plan.delete, plan.forget_deleted).await;
            (deleted, failure) = done;
        } else if !plan.create.is_empty() {
            (created, failure) = self.create_pods(job, &name, &plan.create).await;
        }
        if let Some(mut status) = plan.status {
            let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
            let active = count((plan.active + created).saturating_sub(deleted));
            status.active = (active != 0).then_some(active);
            status.ready = status.ready.map(|ready| ready.min(active));
            status.terminating = status.terminating.map(|t| t.saturating_add(count(deleted)));
            if self.write_status(job, key, status).await? {
                for note in plan.events {
                    let kind = match note.warning {
                        true => EventType::Warning,
                        false => EventType::Normal,
                    };
                    self.events.event(job, kind, &note.reason, note.message);
                }
            }
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
            api.patch(name, Patch::Strategic(pod::let_go(held)))
        });
        for result in join_all(patches).await {
            match result {
                // Gone, or another pod of this name by now.
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Creates pods in batches that double while all goes well. How many were made, and what stopped it.
    async fn create_pods(&self, job: &Job, key: &str, new: &[NewPod]) -> (usize, Option<Error>) {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        self.expectations.expect(key, new.len(), []);
        let (mut created, mut done, mut batch) = (0, 0, 1);
        while let Some(now) = new.get(done..(done + batch).min(new.len())).filter(|n| !n.is_empty()) {
            let made: Vec<Pod> = now.iter().map(|n| pod::make(job, n)).collect();
            let results = join_all(made.iter().map(|p| pods.create(p))).await;
            done += now.len();
            let mut failure = None;
            for result in results {
                match result {
                    Ok(pod) => {
                        created += 1;
                        let message = format!("Created pod: {}", pod.metadata.name.as_deref().unwrap_or_default());
                        self.events.event(job, EventType::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        if is_uncertain(&error) {
                            self.expectations.doubt(key);
                        }
                        self.expectations.creation_observed(key);
                        failure = Some(error);
                    }
                }
            }
            if let Some(error) = failure {
                for _ in done..new.len() {
                    self.expectations.creation_observed(key);
                }
                if error.is_namespace_terminating() {
                    return (created, None);
                }
                let message = format!("Error creating: {error}");
                self.events.event(job, EventType::Warning, "FailedCreate", message);
                return (created, Some(error.into()));
            }
            batch *= 2;
        }
        (created, None)
    }

    /// Deletes pods; with `forget`, so that they do not count as failed. How many, and what went wrong.
    async fn delete_pods(&self, job: &Job, key: &str, doomed: &[Arc<Pod>], forget: bool) -> (usize, Option<Error>) {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        let uid_of = |p: &Pod| p.metadata.uid.clone().unwrap_or_default();
        self.expectations.expect(key, 0, doomed.iter().map(|p| uid_of(p)));
        let deletions = doomed.iter().map(|doomed| {
            let pods = &pods;
            async move {
                let name = doomed.metadata.name.as_deref().unwrap_or_default();
                let options = DeleteOptions {
                    uid: doomed.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                if forget && pod::is_held(doomed) {
                    pods.patch(name, Patch::Strategic(pod::give_up(doomed))).await?;
                }
                pods.delete(name, &options).await.map(drop)
            }
        });
        let (mut deleted, mut failure) = (0, None);
        for (pod, result) in doomed.iter().zip(join_all(deletions).await) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match result {
                Ok(()) => {
                    deleted += 1;
                    let message = format!("Deleted pod: {name}");
                    self.events.event(job, EventType::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    if is_uncertain(&error) {
                        self.expectations.doubt(key);
                    }
                    self.expectations.deletion_observed(key, &uid_of(pod));
                    if !error.is_not_found() && !error.is_conflict() {
                        let message = format!("Error deleting: {error}");
                        self.events.event(job, EventType::Warning, "FailedDelete", message);
                        failure = Some(error.into());
                    }
                }
            }
        }
        (deleted, failure)
    }

    /// Whether there was anything to write and it was written.
    async fn write_status(&self, job: &Job, key: &ObjectKey<Job>, status: JobStatus) -> Result<bool, Error> {
        if job.status.as_ref() == Some(&status) {
            return Ok(false);
        }
        let mut changed = job.clone();
        changed.status = Some(status);
        let jobs = self.client.namespaced::<Job>(&key.namespace);
        match jobs.update_status(&changed).await {
            Ok(job) => {
                self.written.lock().insert(key.clone(), job);
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
