//! Ephemeral volumes: makes the claim of each generic ephemeral volume of a pod, owned by the pod. Watches Pods and
//! PersistentVolumeClaims. It also tells others which claims a pod uses.

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Context;
use crate::metrics::EphemeralMetrics;
use crate::owner::{controller_of, controller_reference};

const NAME: &str = "ephemeral-volume-controller";
const WORKERS: usize = 1;
/// Pods by the claims that their volumes name, `namespace/name`.
pub const BY_CLAIM: &str = "claim";

/// The claim behind a volume.
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!("{pod}-{}", volume.name))
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

/// The index [`BY_CLAIM`].
pub fn claim_keys(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    volumes(pod)
        .filter_map(|v| claim_of(pod, v))
        .map(|name| format!("{namespace}/{name}"))
        .collect()
}

/// Whether the claim was made for the pod.
pub fn is_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    controller_of(&claim.metadata).is_some_and(|o| Some(&o.uid) == pod.metadata.uid.as_ref())
}

struct Ephemeral {
    client: Client,
    events: EventRecorder,
    pods: Lister<Pod>,
    claims: Lister<PersistentVolumeClaim>,
    metrics: EphemeralMetrics,
}

pub async fn run(cx: Context) {
    let pods = cx.informers.informer::<Pod>();
    let claims = cx.informers.informer::<PersistentVolumeClaim>();
    let context = Ephemeral {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        pods: pods.lister(),
        claims: claims.lister(),
        metrics: cx.metrics.ephemeral_volumes.clone(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&pods, |pod| wants(pod).then(|| ObjectKey::of(pod)))
        .watches_changes(&claims, |change| {
            // One that is gone is made again.
            let claim = change.object();
            let owner = controller_of(&claim.metadata).filter(|o| o.kind == "Pod" && change.is_deletion());
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            owner.map(|o| ObjectKey::<Pod>::of_owner(namespace, o))
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

fn wants(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && volumes(pod).any(|v| v.ephemeral.is_some())
}

async fn reconcile(cx: Arc<Ephemeral>, key: ObjectKey<Pod>) -> Result<Action, Error> {
    let Some(pod) = cx.pods.get(&key).filter(|p| wants(p)) else {
        return Ok(Action::Done);
    };
    for volume in volumes(&pod) {
        let existing = claim_of(&pod, volume).and_then(|name| cx.claims.find(&key.namespace, &name));
        let Some(made) = plan(&pod, volume, existing.as_deref()) else {
            continue;
        };
        cx.metrics.tried.inc_by(u64::from(made.is_ok()));
        let failure = match made {
            Ok(claim) => match cx.client.namespaced(&key.namespace).create(&claim).await {
                Ok(_) => continue,
                Err(error) if error.is_namespace_terminating() => continue,
                Err(error) => {
                    cx.metrics.failed.inc();
                    Error::from(error)
                }
            },
            Err(why) => Error::from(std::io::Error::other(why)),
        };
        let message = format!("ephemeral volume {}: {failure}", volume.name);
        cx.events.event(&*pod, EventType::Warning, "FailedBinding", message);
        return Err(failure);
    }
    Ok(Action::Done)
}

/// The claim to make for a volume, if any; or why the one that is there cannot be it.
fn plan(
    pod: &Pod,
    volume: &Volume,
    existing: Option<&PersistentVolumeClaim>,
) -> Option<Result<PersistentVolumeClaim, String>> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    if let Some(claim) = existing {
        if is_for(claim, pod) {
            return None;
        }
        let key = |meta: &ObjectMeta| {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default())
        };
        return Some(Err(format!(
            "PVC {} was not created for pod {} (pod is not owner)",
            key(&claim.metadata),
            key(&pod.metadata)
        )));
    }
    let meta = template.metadata.clone().unwrap_or_default();
    Some(Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: claim_of(pod, volume),
            namespace: pod.metadata.namespace.clone(),
            annotations: meta.annotations,
            labels: meta.labels,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "tmp", "emptyDir": {}},
            ]},
        }))
        .unwrap()
    }

    fn volume(pod: &Pod, index: usize) -> &Volume {
        volumes(pod).nth(index).unwrap()
    }

    #[test]
    fn the_claim_is_named_by_pod_and_volume_and_owned_by_the_pod() {
        let pod = pod();
        let claim = plan(&pod, volume(&pod, 0), None).unwrap().unwrap();
        assert_eq!(claim.metadata.name.as_deref(), Some("p-scratch"));
        assert_eq!(claim.metadata.labels.as_ref().unwrap()["a"], "b");
        let owner = controller_of(&claim.metadata).unwrap();
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Pod", "u"));
        assert_eq!(owner.block_owner_deletion, Some(true));
        assert!(plan(&pod, volume(&pod, 0), Some(&claim)).is_none());
        assert!(plan(&pod, volume(&pod, 1), None).is_none());
    }

    #[test]
    fn a_claim_of_somebody_else_is_not_taken() {
        let pod = pod();
        let mut claim = plan(&pod, volume(&pod, 0), None).unwrap().unwrap();
        claim.metadata.owner_references = None;
        let refused = plan(&pod, volume(&pod, 0), Some(&claim)).unwrap().unwrap_err();
        assert_eq!(
            refused,
            "PVC d/p-scratch was not created for pod d/p (pod is not owner)"
        );
    }

    #[test]
    fn a_pod_uses_the_claims_it_names_and_those_made_for_it() {
        assert_eq!(claim_keys(&pod()), ["d/p-scratch", "d/c"]);
    }
}
