//! Lets go of pods whose job is gone: nobody else would, and they could never be deleted.

use std::sync::Arc;

use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::pod::{is_held, let_go};
use crate::Context;
use crate::owner::controller_of;

struct Orphans {
    client: Client,
    jobs: Lister<Job>,
    pods: Lister<Pod>,
}

pub(super) async fn run(cx: &Context) {
    let jobs = cx.informers.informer::<Job>();
    let pods = cx.informers.informer::<Pod>();
    let lister = pods.lister();
    let context = Orphans {
        client: cx.client_of(super::NAME),
        jobs: jobs.lister(),
        pods: pods.lister(),
    };
    cx.controller("job-orphan-pods", 1)
        .watches(&pods, |pod| is_held(pod).then(|| ObjectKey::of(pod)))
        .watches_changes(&jobs, move |change| {
            let uid = change.object().metadata.uid.as_deref().unwrap_or_default();
            let left = change.is_deletion().then(|| lister.controlled_by(uid));
            let held = left.into_iter().flatten().filter(|p| is_held(p));
            held.map(|p| ObjectKey::of(&*p)).collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Orphans>, key: ObjectKey<Pod>) -> Result<Action, Error> {
    let Some(pod) = cx.pods.get(&key).filter(|p| is_held(p)) else {
        return Ok(Action::Done);
    };
    if let Some(owner) = controller_of(&pod.metadata).filter(|o| o.kind == "Job") {
        let is_owner = |job: &Job| job.metadata.uid.as_deref() == Some(&owner.uid);
        if cx.jobs.find(&key.namespace, &owner.name).is_some_and(|j| is_owner(&j)) {
            return Ok(Action::Done);
        }
        // The cache of jobs may be behind that of pods.
        let job = cx.client.namespaced::<Job>(&key.namespace).find(&owner.name).await?;
        if job.is_some_and(|j| is_owner(&j)) {
            return Ok(Action::Done);
        }
    }
    let patch = Patch::Strategic(let_go(&pod));
    let pods = cx.client.namespaced::<Pod>(&key.namespace);
    gone_is_done(pods.patch(&key.name, patch).await)?;
    Ok(Action::Done)
}
