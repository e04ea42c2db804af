//! PV protection: a volume that is deleted stays while it is bound to a claim. Watches PersistentVolumes; adds and takes
//! away the finalizer `kubernetes.io/pv-protection`.

use std::sync::Arc;

use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::Value;

use crate::{Context, finalizer};

const NAME: &str = "persistentvolume-protection-controller";
pub const FINALIZER: &str = "kubernetes.io/pv-protection";

struct Protection {
    client: Client,
    volumes: Lister<PersistentVolume>,
}

pub async fn run(cx: Context) {
    let volumes = cx.informers.informer::<PersistentVolume>();
    let context = Protection {
        client: cx.client_of("pv-protection"),
        volumes: volumes.lister(),
    };
    cx.controller(NAME, 1)
        .watches(&volumes, |volume| plan(volume).map(|_| ObjectKey::of(volume)))
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// The patch that the volume needs.
fn plan(volume: &PersistentVolume) -> Option<Value> {
    let meta = &volume.metadata;
    let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    match (meta.deletion_timestamp.is_some(), finalizer::has(meta, FINALIZER)) {
        (true, true) if !bound => Some(finalizer::removing(meta, FINALIZER)),
        (false, false) => Some(finalizer::adding(meta, FINALIZER)),
        _ => None,
    }
}

async fn reconcile(cx: Arc<Protection>, key: ObjectKey<PersistentVolume>) -> Result<Action, Error> {
    let Some(patch) = cx.volumes.get(&key).and_then(|v| plan(&v)) else {
        return Ok(Action::Done);
    };
    let volumes = cx.client.all::<PersistentVolume>();
    gone_is_done(volumes.patch(&key.name, Patch::Merge(patch)).await)?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_in_active_use_is_held_until_its_claim_lets_go() {
        let mine = json!(["other", FINALIZER]);
        for (deleted, finalizers, phase, wanted) in [
            (false, json!([]), "Available", Some(json!([FINALIZER]))),
            (false, mine.clone(), "Bound", None),
            (true, mine.clone(), "Bound", None),
            (true, mine.clone(), "Released", Some(json!(["other"]))),
            (true, mine, "Available", Some(json!(["other"]))),
            (true, json!(["other"]), "Released", None),
        ] {
            let volume: PersistentVolume = serde_json::from_value(json!({
                "metadata": {"name": "v", "uid": "u", "resourceVersion": "1", "finalizers": finalizers,
                    "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "status": {"phase": phase},
            }))
            .unwrap();
            let finalizers = plan(&volume).map(|p| p["metadata"]["finalizers"].clone());
            assert_eq!(finalizers, wanted, "{deleted} {phase}");
        }
    }
}
