//! PVC protection: a claim that is deleted stays until no pod uses it. Watches PersistentVolumeClaims and Pods; adds and
//! takes away the finalizer `kubernetes.io/pvc-protection`.

use std::sync::Arc;

use coracle_client::{Client, ListOptions, ObjectKey, Patch, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use crate::ephemeral_volume::{BY_CLAIM, claim_keys, claim_of, is_for};
use crate::pods::node_name;
use crate::{Context, finalizer};

const NAME: &str = "persistentvolumeclaim-protection-controller";
const WORKERS: usize = 2;
pub const FINALIZER: &str = "kubernetes.io/pvc-protection";

struct Protection {
    client: Client,
    claims: Lister<PersistentVolumeClaim>,
    pods: Lister<Pod>,
}

pub async fn run(cx: Context) {
    let claims = cx.informers.informer::<PersistentVolumeClaim>();
    let pods = cx.informers.informer::<Pod>();
    pods.add_index(BY_CLAIM, claim_keys);
    let context = Protection {
        client: cx.client_of("pvc-protection"),
        claims: claims.lister(),
        pods: pods.lister(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&claims, |claim| wants(claim).then(|| ObjectKey::of(claim)))
        .watches_changes(&pods, |change| {
            // A pod lets go of its claims when it is gone, when it turns out not to be the pod it was, and for claims made
            // for it when its last container has stopped.
            let pod = change.object();
            let replaced = change.old().filter(|old| old.metadata.uid != pod.metadata.uid);
            let lets_go = change.is_deletion() || is_shut_down(pod);
            let mut keys = if lets_go { claim_keys(pod) } else { Vec::new() };
            keys.extend(replaced.into_iter().flat_map(|old| claim_keys(old)));
            keys.iter()
                .filter_map(|key| key.split_once('/'))
                .map(|(namespace, name)| ObjectKey::<PersistentVolumeClaim>::new(namespace, name))
                .collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// To be deleted but held, or alive and not yet protected.
fn wants(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some() == finalizer::has(&claim.metadata, FINALIZER)
}

/// Deleted, with no grace left: nothing of it runs any more.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// Whether the pod holds the claim. One without a node does not: no node will start it once the claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if node_name(pod).is_empty() {
        return false;
    }
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter(|v| claim_of(pod, v).as_deref() == claim.metadata.name.as_deref())
        .any(|v| v.persistent_volume_claim.is_some() || !is_shut_down(pod) && is_for(claim, pod))
}

async fn reconcile(cx: Arc<Protection>, key: ObjectKey<PersistentVolumeClaim>) -> Result<Action, Error> {
    let Some(claim) = cx.claims.get(&key).filter(|c| wants(c)) else {
        return Ok(Action::Done);
    };
    let claims = cx.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
    let patch = if claim.metadata.deletion_timestamp.is_none() {
        finalizer::adding(&claim.metadata, FINALIZER)
    } else {
        let known = cx.pods.by_index(BY_CLAIM, &key.to_string());
        if known.iter().any(|pod| uses(pod, &claim)) {
            return Ok(Action::Done);
        }
        // The cache may be behind, and what is let go is gone: the server has the last word.
        let pods = cx.client.namespaced::<Pod>(&key.namespace);
        let live = pods.list(&ListOptions::default()).await?;
        if live.items.iter().any(|pod| uses(pod, &claim)) {
            return Ok(Action::Done);
        }
        finalizer::removing(&claim.metadata, FINALIZER)
    };
    gone_is_done(claims.patch(&key.name, Patch::Merge(patch)).await)?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(owner: Option<&str>) -> PersistentVolumeClaim {
        let owners =
            owner.map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]));
        let meta = json!({"name": "p-v", "namespace": "d", "ownerReferences": owners});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn pod(node: &str, volume: Value, shut_down: bool) -> Pod {
        let ended = shut_down.then_some("2026-01-01T00:00:00Z");
        let grace = shut_down.then_some(0);
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "deletionTimestamp": ended,
                "deletionGracePeriodSeconds": grace},
            "spec": {"nodeName": node, "containers": [], "volumes": [volume]},
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_used_by_scheduled_pods_that_mount_it() {
        let named = json!({"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}});
        let other = json!({"name": "x", "persistentVolumeClaim": {"claimName": "q"}});
        let made = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        for (what, pod, claim, used) in [
            ("on a node", pod("n", named.clone(), false), claim(None), true),
            ("without a node", pod("", named.clone(), false), claim(None), false),
            ("of another claim", pod("n", other, false), claim(None), false),
            ("shut down, but still there", pod("n", named, true), claim(None), true),
            (
                "the claim made for it",
                pod("n", made.clone(), false),
                claim(Some("u")),
                true,
            ),
            (
                "made for it, shut down",
                pod("n", made.clone(), true),
                claim(Some("u")),
                false,
            ),
            (
                "made for another pod",
                pod("n", made, false),
                claim(Some("other")),
                false,
            ),
        ] {
            assert_eq!(uses(&pod, &claim), used, "{what}");
        }
    }
}
