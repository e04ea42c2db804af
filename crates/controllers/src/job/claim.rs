//! Which pods are a job's: adopts matching orphans (which it then has to count) and releases those that match no longer
//! (which it then must not hold).

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::Patch;
use coracle_informer::Error;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::Jobs;
use super::pod::{FINALIZER, is_held};
use crate::claim::{candidates, selected};
use crate::owner;

impl Jobs {
    /// The job's pods.
    pub(super) async fn claim(&self, job: &Job, selector: &LabelSelector) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let claim = owner::claim(&job.metadata, candidates(&self.pods, &job.metadata), |meta| {
            selected(selector, meta)
        });
        let mut owned = claim.owned;
        let pods = self.client.namespaced::<Pod>(namespace);
        if !claim.adopt.is_empty() && self.is_living(job).await? {
            let reference = owner::controller_reference(job);
            for pod in claim.adopt {
                let mut patch = owner::adopt_patch(&reference, &pod.metadata);
                if !is_held(&pod) {
                    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
                    finalizers.push(FINALIZER.to_owned());
                    patch["metadata"]["finalizers"] = json!(finalizers);
                }
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                match pods.patch(name, Patch::Merge(patch)).await {
                    Ok(adopted) => owned.push(adopted),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for pod in claim.release {
            let uid = job.metadata.uid.as_deref().unwrap_or_default();
            let mut patch = owner::release_patch(uid, &pod.metadata);
            let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
            finalizers.retain(|f| f != FINALIZER);
            patch["metadata"]["finalizers"] = json!(finalizers);
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match pods.patch(name, Patch::Merge(patch)).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(owned)
    }

    /// The cache may be behind: a job that is being deleted adopts nothing.
    async fn is_living(&self, job: &Job) -> Result<bool, Error> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let fresh = self.client.namespaced::<Job>(namespace).find(name).await?;
        Ok(fresh.is_some_and(|f| f.metadata.uid == job.metadata.uid && f.metadata.deletion_timestamp.is_none()))
    }
}
