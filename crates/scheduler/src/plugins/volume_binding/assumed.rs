//! Volumes and claims as they will be once what was promised is written: other pods must not take the same volume.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

use super::decision::Decision;
use crate::shape::key;

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// An object with a change that is on its way, and the state of it that was changed.
struct Promise<K> {
    object: Arc<K>,
    of_version: Option<String>,
}

/// See the [module](self).
#[derive(Default)]
pub struct Assumed {
    /// By name.
    volumes: HashMap<String, Promise<PersistentVolume>>,
    /// By `namespace/name`.
    claims: HashMap<String, Promise<PersistentVolumeClaim>>,
}

pub fn claim_reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

impl Assumed {
    pub fn promise(&mut self, decision: &Decision, node: &str) {
        for (claim, volume) in &decision.take {
            let mut promised = (**volume).clone();
            promised.spec.get_or_insert_default().claim_ref = Some(claim_reference(claim));
            self.volumes.insert(
                volume.metadata.name.clone().unwrap_or_default(),
                Promise {
                    of_version: promised.metadata.resource_version.clone(),
                    object: Arc::new(promised),
                },
            );
        }
        for claim in &decision.make {
            let mut promised = (**claim).clone();
            let annotations = promised.metadata.annotations.get_or_insert_default();
            annotations.insert(SELECTED_NODE.into(), node.into());
            self.claims.insert(
                key(&claim.metadata),
                Promise {
                    of_version: promised.metadata.resource_version.clone(),
                    object: Arc::new(promised),
                },
            );
        }
    }

    pub fn take_back(&mut self, decision: &Decision) {
        for (_, volume) in &decision.take {
            self.volumes.remove(volume.metadata.name.as_deref().unwrap_or_default());
        }
        for claim in &decision.make {
            self.claims.remove(&key(&claim.metadata));
        }
    }

    /// The volume as promised, unless the API has had news of it since.
    pub fn volume(&mut self, known: Arc<PersistentVolume>) -> Arc<PersistentVolume> {
        let name = known.metadata.name.as_deref().unwrap_or_default();
        match self.volumes.get(name) {
            Some(promise) if promise.of_version == known.metadata.resource_version => promise.object.clone(),
            Some(_) => {
                self.volumes.remove(name);
                known
            }
            None => known,
        }
    }

    /// The claim as promised, unless the API has had news of it since.
    pub fn claim(&mut self, known: Arc<PersistentVolumeClaim>) -> Arc<PersistentVolumeClaim> {
        if self.claims.is_empty() {
            return known;
        }
        let name = key(&known.metadata);
        match self.claims.get(&name) {
            Some(promise) if promise.of_version == known.metadata.resource_version => promise.object.clone(),
            Some(_) => {
                self.claims.remove(&name);
                known
            }
            None => known,
        }
    }
}
