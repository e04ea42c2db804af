//! The node-local provisioner `coracle.dev/local`: gives a claim of its class a directory of the node that its first pod
//! goes to. Watches PersistentVolumeClaims, PersistentVolumes, StorageClasses and Nodes; writes PersistentVolumes.
//!
//! It touches no files. What it and the node's agent owe each other:
//!
//! * A node that can hold such volumes says where, by its annotation [`DIRECTORY`].
//! * The volume is of type `local`, at `<that directory>/<the volume's name>`; its label [`HOSTNAME`] and its annotation
//!   [`NODE`] say whose it is, and the finalizer [`FINALIZER`] holds it until the node has seen to the directory.
//! * The node makes the directory when a pod first mounts it. Of a volume that is being deleted and whose claim is gone it
//!   removes the directory if the reclaim policy says Delete, and then the finalizer.
//! * A node that was selected and cannot hold such a volume is taken off the claim, so that the scheduler chooses again.
//! * A volume of a node that no longer exists is let go here: its directory went with the node.
//! * A directory has whatever room its disk has: a claim that asks for more gets a larger number and nothing else.

mod expand;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use crate::persistent_volume::annotation::{self, SELECTED_NODE};
use crate::persistent_volume::fit;
use crate::{Context, finalizer};
use plan::{Claimed, Released};

const NAME: &str = "local-path-provisioner-controller";
pub const PROVISIONER: &str = "coracle.dev/local";
/// On a node: where it keeps such volumes.
pub const DIRECTORY: &str = "coracle.dev/local-volumes";
/// On a volume: the value of its node's label `kubernetes.io/hostname`.
pub const HOSTNAME: &str = "coracle.dev/local-volume";
/// On a volume: its node's name.
pub const NODE: &str = "coracle.dev/node";
pub const FINALIZER: &str = "coracle.dev/local-volume";
/// Volumes by their node.
const BY_NODE: &str = "local node";
/// Claims that wait for a volume from here, by class.
const BY_CLASS: &str = "local class";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey<PersistentVolumeClaim>),
    Volume(ObjectKey<PersistentVolume>),
}

struct Provisioner {
    client: Client,
    events: EventRecorder,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    classes: Lister<StorageClass>,
    nodes: Lister<Node>,
}

pub async fn run(cx: Context) {
    let claims = cx.informers.informer::<PersistentVolumeClaim>();
    let volumes = cx.informers.informer::<PersistentVolume>();
    let classes = cx.informers.informer::<StorageClass>();
    let nodes = cx.informers.informer::<Node>();
    claims.add_index(BY_CLASS, |claim: &PersistentVolumeClaim| {
        plan::is_ours(claim).then(|| fit::class_of_claim(claim).to_owned())
    });
    volumes.add_index(BY_NODE, |volume: &PersistentVolume| {
        annotation::get(&volume.metadata, NODE).map(str::to_owned)
    });
    let context = Provisioner {
        client: cx.client_of("local-path-provisioner"),
        events: cx.recorder_as("local-path-provisioner-controller", PROVISIONER),
        claims: claims.lister(),
        volumes: volumes.lister(),
        classes: classes.lister(),
        nodes: nodes.lister(),
    };
    let (of_class, kept) = (claims.lister(), volumes.lister());
    cx.controller(NAME, 4)
        .watches(&claims, |claim| {
            (plan::is_ours(claim) || fit::wants_more(claim)).then(|| Key::Claim(ObjectKey::of(claim)))
        })
        .watches(&volumes, |volume| {
            plan::made_here(volume).then(|| Key::Volume(ObjectKey::of(volume)))
        })
        .watches_changes(&classes, move |change| {
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            let waiting = of_class.by_index(BY_CLASS, name);
            waiting
                .iter()
                .map(|c| Key::Claim(ObjectKey::of(&**c)))
                .collect::<Vec<_>>()
        })
        .watches_changes(&nodes, move |change| {
            if !change.is_deletion() {
                return Vec::new();
            }
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            let volumes = kept.by_index(BY_NODE, name);
            volumes
                .iter()
                .map(|v| Key::Volume(ObjectKey::of(&**v)))
                .collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Provisioner>, key: Key) -> Result<Action, Error> {
    match key {
        Key::Claim(key) => {
            cx.expand(&key).await?;
            cx.provision(&key).await
        }
        Key::Volume(key) => cx.reclaim(&key).await,
    }
}

impl Provisioner {
    async fn provision(&self, key: &ObjectKey<PersistentVolumeClaim>) -> Result<Action, Error> {
        let Some(claim) = self.claims.get(key).filter(|c| plan::is_ours(c)) else {
            return Ok(Action::Done);
        };
        let class = self.classes.find("", fit::class_of_claim(&claim));
        let selected = annotation::get(&claim.metadata, SELECTED_NODE);
        let known = selected.and_then(|name| self.nodes.find("", name));
        let warn = |message: String| {
            self.events
                .event(&*claim, EventType::Warning, "ProvisioningFailed", message);
        };
        let mut claimed = plan::claim(&claim, class.as_deref(), known.as_deref());
        if let (Claimed::Reschedule(_), Some(name)) = (&claimed, selected) {
            // The cache may be behind the scheduler's.
            let node = self.client.all::<Node>().find(name).await?;
            claimed = plan::claim(&claim, class.as_deref(), node.as_deref());
        }
        match claimed {
            Claimed::Wait => {}
            Claimed::Refuse(why) => warn(format!(
                "failed to provision volume with StorageClass {:?}: {why}",
                fit::class_of_claim(&claim)
            )),
            Claimed::Reschedule(why) => {
                warn(format!(
                    "failed to provision volume with StorageClass {:?}: {why}",
                    fit::class_of_claim(&claim)
                ));
                let patch = json!({"metadata": {
                    "uid": claim.metadata.uid,
                    "resourceVersion": claim.metadata.resource_version,
                    "annotations": {SELECTED_NODE: null},
                }});
                let claims = self.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
                claims.patch(&key.name, Patch::Merge(patch)).await?;
            }
            Claimed::Create(volume) => {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                match self.client.all::<PersistentVolume>().create(&volume).await {
                    Ok(_) => {
                        let message = format!("Successfully provisioned volume {name}");
                        self.events
                            .event(&*claim, EventType::Normal, "ProvisioningSucceeded", message);
                    }
                    // Made before; the binder joins them.
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => {
                        warn(format!("cannot create volume {name}: {error}"));
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(Action::Done)
    }

    async fn reclaim(&self, key: &ObjectKey<PersistentVolume>) -> Result<Action, Error> {
        let Some(volume) = self.volumes.get(key) else {
            return Ok(Action::Done);
        };
        let node = annotation::get(&volume.metadata, NODE).unwrap_or_default();
        let known = self.nodes.find("", node).is_some();
        let volumes = self.client.all::<PersistentVolume>();
        let done = match plan::volume(&volume, known) {
            Released::Wait => return Ok(Action::Done),
            Released::Delete => {
                let options = DeleteOptions {
                    uid: volume.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                volumes.delete(&key.name, &options).await.map(drop)
            }
            Released::LetGo => {
                // The cache may not have it yet.
                if self.client.all::<Node>().find(node).await?.is_some() {
                    return Ok(Action::Done);
                }
                let patch = finalizer::removing(&volume.metadata, FINALIZER);
                volumes.patch(&key.name, Patch::Merge(patch)).await.map(drop)
            }
        };
        gone_is_done(done)?;
        Ok(Action::Done)
    }
}
