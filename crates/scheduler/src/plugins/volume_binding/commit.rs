//! Writes what was decided about a pod's volumes, and waits until the volume controller and the drivers have done it.

use std::time::Duration;

use coracle_client::{Error, Patch};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::assumed::{SELECTED_NODE, claim_reference};
use super::claims::is_bound;
use super::decision::Decision;
use crate::framework::{Binding, Rejection};
use crate::listers::Listers;

pub async fn commit(
    decision: &Decision,
    binding: &Binding<'_>,
    listers: &Listers,
    timeout: Duration,
) -> Result<(), Rejection> {
    // Listening before anything is written, so that no change is missed.
    let mut changes = listers.storage_changes();
    let written = write(decision, binding)
        .await
        .map_err(|error| Rejection::error(format!("binding volumes: {error}")))?;
    let wait = async {
        loop {
            if all_bound(decision, &written, binding.node, listers)? {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err(Rejection::error("binding volumes: shutting down"));
            }
        }
    };
    match binding.clock.timeout(timeout, wait).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Rejection::error("binding volumes: context deadline exceeded")),
    }
}

/// A resource version as a number, to tell whether the cache is behind.
fn version(claim: &PersistentVolumeClaim) -> u64 {
    let version = claim.metadata.resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The versions at which the claims in `decision.make` had the annotation.
async fn write(decision: &Decision, binding: &Binding<'_>) -> Result<Vec<u64>, Error> {
    let mut versions = Vec::new();
    for (claim, volume) in &decision.take {
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.metadata.resource_version,
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
            },
            "spec": {"claimRef": claim_reference(claim)},
        });
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let volumes = binding.client.all::<PersistentVolume>();
        volumes.patch(name, Patch::Merge(patch)).await?;
    }
    for claim in &decision.make {
        let patch = json!({"metadata": {
            "uid": claim.metadata.uid,
            "annotations": {SELECTED_NODE: binding.node},
        }});
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let claims = binding
            .client
            .namespaced::<PersistentVolumeClaim>(binding.pod.namespace());
        let patched = claims.patch(name, Patch::Merge(patch)).await?;
        versions.push(version(&patched));
    }
    Ok(versions)
}

fn all_bound(decision: &Decision, written: &[u64], node: &str, listers: &Listers) -> Result<bool, Rejection> {
    let taken = decision.take.iter().map(|(claim, _)| (claim, None));
    let made = decision
        .make
        .iter()
        .zip(written)
        .map(|(claim, version)| (claim, Some(*version)));
    let mut all = true;
    for (claim, written) in taken.chain(made) {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let Some(now) = listers.claims.find(namespace, name) else {
            return Err(Rejection::error(format!(
                "binding volumes: persistentvolumeclaim {name:?} not found"
            )));
        };
        if now.metadata.uid != claim.metadata.uid {
            return Err(Rejection::error(format!(
                "binding volumes: persistentvolumeclaim {name:?} was replaced"
            )));
        }
        if is_bound(&now) {
            continue;
        }
        all = false;
        // The driver takes the annotation away when it cannot make the volume there.
        let annotations = now.metadata.annotations.as_ref();
        let selected = annotations.and_then(|a| a.get(SELECTED_NODE));
        if written.is_some_and(|written| version(&now) >= written) && selected.is_none_or(|n| n != node) {
            return Err(Rejection::error(format!(
                "binding volumes: provisioning failed for PVC {name:?}"
            )));
        }
    }
    Ok(all)
}
