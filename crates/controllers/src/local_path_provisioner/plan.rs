//! What a claim gets, and what becomes of a volume. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{DIRECTORY, FINALIZER, HOSTNAME, NODE, PROVISIONER};
use crate::finalizer;
use crate::persistent_volume::annotation::{
    self, BETA_STORAGE_PROVISIONER, PROVISIONED_BY, SELECTED_NODE, STORAGE_PROVISIONER,
};
use crate::persistent_volume::{fit, volume};

const NODE_LABEL: &str = "kubernetes.io/hostname";
/// What the annotation of a node's directory must not contain: it becomes part of a path.
const UNSAFE: &str = "..";

/// Whether the claim waits for a volume from this provisioner.
pub fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let asked = annotation::get(&claim.metadata, STORAGE_PROVISIONER)
        .or_else(|| annotation::get(&claim.metadata, BETA_STORAGE_PROVISIONER));
    let bound = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    asked == Some(PROVISIONER) && bound.unwrap_or_default().is_empty() && claim.metadata.deletion_timestamp.is_none()
}

pub fn made_here(volume: &PersistentVolume) -> bool {
    annotation::get(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

/// What a claim gets.
#[derive(Debug)]
pub enum Claimed {
    /// Nothing before something changes.
    Wait,
    /// Nothing, and why.
    Refuse(String),
    /// Nothing on that node; the scheduler is to choose another.
    Reschedule(String),
    Create(Box<PersistentVolume>),
}

pub fn claim(claim: &PersistentVolumeClaim, class: Option<&StorageClass>, node: Option<&Node>) -> Claimed {
    let Some(class) = class.filter(|c| c.provisioner == PROVISIONER) else {
        return Claimed::Wait;
    };
    if let Some(why) = unsuitable(claim, class) {
        return Claimed::Refuse(why);
    }
    let Some(selected) = annotation::get(&claim.metadata, SELECTED_NODE) else {
        return if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
            Claimed::Wait
        } else {
            let why = "local volumes need a node: set volumeBindingMode to WaitForFirstConsumer";
            Claimed::Refuse(why.into())
        };
    };
    let Some(node) = node else {
        return Claimed::Reschedule(format!("node {selected:?} not found; another one has to be selected"));
    };
    let directory = annotation::get(&node.metadata, DIRECTORY);
    let Some(directory) = directory.filter(|d| d.starts_with('/') && !d.contains(UNSAFE)) else {
        return Claimed::Reschedule(format!(
            "node {selected:?} provides no local volumes, for it has no directory in its annotation {DIRECTORY}; another \
             one has to be selected"
        ));
    };
    let labels = node.metadata.labels.as_ref();
    let Some(hostname) = labels.and_then(|l| l.get(NODE_LABEL)) else {
        return Claimed::Reschedule(format!(
            "node {selected:?} has no label {NODE_LABEL}; another one has to be selected"
        ));
    };
    Claimed::Create(Box::new(made(claim, class, selected, hostname, directory)))
}

/// What a directory cannot do.
fn unsuitable(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if let Some(mode) = modes
        .iter()
        .find(|m| !matches!(m.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
    {
        return Some(format!(
            "a local volume has access modes ReadWriteOnce and ReadWriteOncePod only, not {mode}"
        ));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("a local volume is a directory, not a block device".into());
    }
    if spec.selector.is_some() {
        return Some("claim Selector is not supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("a local volume cannot be filled from a data source".into());
    }
    if spec
        .volume_attributes_class_name
        .as_deref()
        .is_some_and(|n| !n.is_empty())
    {
        return Some("a local volume has no attributes to choose by a VolumeAttributesClass".into());
    }
    if let Some(key) = class.parameters.iter().flatten().map(|(key, _)| key).next() {
        return Some(format!("the class has parameter {key:?}; {PROVISIONER} takes none"));
    }
    if class.mount_options.as_ref().is_some_and(|o| !o.is_empty()) {
        return Some("the class has mountOptions; a directory is not mounted with options".into());
    }
    None
}

fn made(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &str,
    hostname: &str,
    directory: &str,
) -> PersistentVolume {
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let spec = claim.spec.as_ref();
    let request = spec
        .and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"))
        .cloned()
        .unwrap_or_default();
    let here = NodeSelectorRequirement {
        key: NODE_LABEL.into(),
        operator: "In".into(),
        values: Some(vec![hostname.to_owned()]),
    };
    let path = format!("{}/{name}", directory.trim_end_matches('/'));
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(BTreeMap::from([(HOSTNAME.into(), hostname.to_owned())])),
            annotations: Some(BTreeMap::from([
                (PROVISIONED_BY.into(), PROVISIONER.into()),
                (NODE.into(), node.to_owned()),
            ])),
            finalizers: Some(vec![FINALIZER.into()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.and_then(|s| s.access_modes.clone()),
            capacity: Some(BTreeMap::from([("storage".into(), request)])),
            claim_ref: Some(volume::reference(claim)),
            local: Some(LocalVolumeSource { path, fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector {
                    node_selector_terms: vec![NodeSelectorTerm {
                        match_expressions: Some(vec![here]),
                        match_fields: None,
                    }],
                }),
            }),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".into())),
            storage_class_name: Some(fit::class_of_claim(claim).to_owned()),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// What becomes of a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Released {
    Wait,
    Delete,
    /// Its node cannot see to it any more.
    LetGo,
}

pub fn volume(volume: &PersistentVolume, node_exists: bool) -> Released {
    if !made_here(volume) {
        return Released::Wait;
    }
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    let unclaimed = matches!(phase, Some("Released" | "Failed"));
    let spec = volume.spec.as_ref();
    let deletes = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    if volume.metadata.deletion_timestamp.is_none() {
        return if unclaimed && deletes {
            Released::Delete
        } else {
            Released::Wait
        };
    }
    if phase != Some("Bound") && !node_exists && finalizer::has(&volume.metadata, FINALIZER) {
        Released::LetGo
    } else {
        Released::Wait
    }
}
