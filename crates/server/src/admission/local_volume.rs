//! What a node's agent may do with volumes: take its own hold (a finalizer) off a node-local volume of its own, and nothing
//! else.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const NODE: &str = "coracle.dev/node";
const FINALIZER: &str = "coracle.dev/local-volume";

pub(super) struct LocalVolume;

#[async_trait]
impl Admission for LocalVolume {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let is_agent = attributes.user.groups.iter().any(|g| g == GROUP);
        is_agent && attributes.row.group.is_empty() && attributes.row.plural == "persistentvolumes"
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let node = attributes.user.name.strip_prefix(PREFIX).unwrap_or_default();
        let allowed = match (attributes.operation, attributes.old, object) {
            (Operation::Update, Some(old), Some(new)) => {
                !node.is_empty() && old.annotation(NODE) == Some(node) && only_lets_go(old, new)
            }
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        Err(attributes.forbidden(format!(
            "node {node:?} can only remove the finalizer {FINALIZER:?} of its own node-local volumes"
        )))
    }
}

/// Whether nothing but the finalizer differs.
fn only_lets_go(old: &Object, new: &Object) -> bool {
    let left: Vec<_> = old
        .array(&["metadata", "finalizers"])
        .iter()
        .filter(|f| *f != FINALIZER)
        .collect();
    let kept: Vec<_> = new.array(&["metadata", "finalizers"]).iter().collect();
    let rest = |object: &Object| {
        let mut object = object.clone();
        for field in ["finalizers", "managedFields", "resourceVersion"] {
            object.remove(&["metadata", field]);
        }
        object
    };
    kept == left && rest(old) == rest(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_node_takes_its_own_hold_away_and_changes_nothing_else() {
        let volume = |finalizers: Value, policy: &str| {
            Object::from_value(json!({
                "metadata": {"name": "v", "finalizers": finalizers, "resourceVersion": "1"},
                "spec": {"persistentVolumeReclaimPolicy": policy},
            }))
            .unwrap()
        };
        let old = volume(json!(["kubernetes.io/pv-protection", FINALIZER]), "Delete");
        for (finalizers, policy, allowed) in [
            (json!(["kubernetes.io/pv-protection"]), "Delete", true),
            (json!(["kubernetes.io/pv-protection"]), "Retain", false),
            (json!([]), "Delete", false),
            (json!(["kubernetes.io/pv-protection", FINALIZER, "x"]), "Delete", false),
        ] {
            assert_eq!(
                only_lets_go(&old, &volume(finalizers.clone(), policy)),
                allowed,
                "{finalizers} {policy}"
            );
        }
    }
}
