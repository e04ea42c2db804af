//! The directories of node-local volumes (provisioner `coracle.dev/local`): of a volume of this node that is being deleted
//! and that no claim holds, removes the directory if the reclaim policy says so, and then its hold on the object. The
//! directory itself is made when a pod first mounts it.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, CancellationToken, Controller, Error, InformerFactory, InformerOptions, Lister};
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::json;

use crate::volume::mounts;

/// On the node: where its volumes are.
pub(crate) const DIRECTORY: &str = "coracle.dev/local-volumes";
/// On a volume: the host name of its node.
const HOSTNAME: &str = "coracle.dev/local-volume";
const FINALIZER: &str = "coracle.dev/local-volume";

/// Where the node keeps its volumes.
pub(crate) fn directory(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("volumes")
}

pub(crate) struct LocalVolumes {
    client: Client,
    events: EventRecorder,
    volumes: Lister<PersistentVolume>,
    root: PathBuf,
}

/// Works until `shutdown`.
pub(crate) async fn run(
    client: Client,
    events: EventRecorder,
    informers: InformerFactory,
    hostname: String,
    root: PathBuf,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let volumes = informers.informer_of::<PersistentVolume>(InformerOptions {
        label_selector: format!("{HOSTNAME}={hostname}"),
        ..InformerOptions::default()
    });
    let context = LocalVolumes {
        client,
        events,
        volumes: volumes.lister(),
        root,
    };
    Controller::new("local-volumes", 1, clock)
        .watches(&volumes, |volume| {
            (plan(volume) != Plan::Wait).then(|| ObjectKey::of(volume))
        })
        .run(context, reconcile, shutdown)
        .await;
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Wait,
    /// The directory stays.
    LetGo,
    Remove,
}

fn plan(volume: &PersistentVolume) -> Plan {
    let meta = &volume.metadata;
    let held = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    if meta.deletion_timestamp.is_none() || !held || phase == Some("Bound") {
        return Plan::Wait;
    }
    let spec = volume.spec.as_ref();
    match spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) {
        Some("Delete") => Plan::Remove,
        _ => Plan::LetGo,
    }
}

async fn reconcile(cx: Arc<LocalVolumes>, key: ObjectKey<PersistentVolume>) -> Result<Action, Error> {
    let Some(volume) = cx.volumes.get(&key) else {
        return Ok(Action::Done);
    };
    let plan = plan(&volume);
    if plan == Plan::Wait {
        return Ok(Action::Done);
    }
    // Only what this node would have made: the object alone must not be able to name another directory.
    let own = cx.root.join(&*key.name);
    let local = volume.spec.as_ref().and_then(|s| s.local.as_ref());
    let is_own = local.is_some_and(|l| own.as_os_str() == l.path.as_str());
    if plan == Plan::Remove && is_own {
        let removed = tokio::task::spawn_blocking(move || mounts::remove_tree(&own)).await?;
        if let Err(error) = removed {
            let message = format!("cannot remove the directory: {error}");
            cx.events
                .event(&*volume, EventType::Warning, "VolumeFailedDelete", message);
            return Err(error.into());
        }
        tracing::info!(volume = &*key.name, "removed a local volume's directory");
    }
    let left: Vec<&String> = volume
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|f| *f != FINALIZER)
        .collect();
    let patch = json!({"metadata": {
        "uid": volume.metadata.uid,
        "resourceVersion": volume.metadata.resource_version,
        "finalizers": left,
    }});
    let volumes = cx.client.all::<PersistentVolume>();
    gone_is_done(volumes.patch(&key.name, Patch::Merge(patch)).await)?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_only_when_nobody_claims_it_and_the_policy_says_so() {
        for (deleted, finalizer, phase, policy, wanted) in [
            (true, FINALIZER, "Released", "Delete", Plan::Remove),
            (true, FINALIZER, "Released", "Retain", Plan::LetGo),
            (true, FINALIZER, "Bound", "Delete", Plan::Wait),
            (true, "other", "Released", "Delete", Plan::Wait),
            (false, FINALIZER, "Released", "Delete", Plan::Wait),
        ] {
            let volume: PersistentVolume = serde_json::from_value(json!({
                "metadata": {"name": "v", "finalizers": [finalizer],
                    "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {"persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase},
            }))
            .unwrap();
            assert_eq!(plan(&volume), wanted, "{deleted} {finalizer} {phase} {policy}");
        }
    }
}
