//! NodeRestriction: a node's agent changes its own node, its own lease and the pods that run on it, and nothing else of
//! these kinds.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) struct NodeRestriction;

/// The node that a user is the agent of; empty for an agent that does not say.
fn node<'a>(attributes: &Attributes<'a>) -> Option<&'a str> {
    let user = attributes.user;
    let is_agent = user.groups.iter().any(|g| g == GROUP);
    is_agent.then(|| user.name.strip_prefix(PREFIX).unwrap_or_default())
}

#[async_trait]
impl Admission for NodeRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        node(attributes).is_some()
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(node) = node(attributes) else { return Ok(()) };
        if node.is_empty() {
            return Err(attributes.forbidden(format!("could not determine node from user {:?}", attributes.user.name)));
        }
        match (attributes.row.group.as_ref(), attributes.row.plural.as_ref()) {
            ("", "nodes") if attributes.name != node => Err(attributes.forbidden(format!(
                "node {node:?} is not allowed to modify node {:?}",
                attributes.name
            ))),
            ("", "pods") => own_pod(attributes, node, object),
            ("coordination.k8s.io", "leases") => {
                let own = attributes.target.namespace == "kube-node-lease" && attributes.name == node;
                if own {
                    Ok(())
                } else {
                    Err(attributes.forbidden("can only access node lease with the same name as the requesting node"))
                }
            }
            ("storage.k8s.io", "csinodes") if attributes.name != node => {
                Err(attributes.forbidden("can only access CSINode with the same name as the requesting node"))
            }
            _ => Ok(()),
        }
    }
}

fn own_pod(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    let is_here = |pod: &Object| pod.str(&["spec", "nodeName"]) == Some(node);
    match (attributes.operation, attributes.old, object) {
        (Operation::Create, _, Some(pod)) => {
            if pod.annotation(MIRROR).is_none() {
                return Err(attributes.forbidden(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                )));
            }
            if !is_here(pod) {
                return Err(attributes.forbidden(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                )));
            }
            Ok(())
        }
        (Operation::Update | Operation::Delete, Some(old), _) if !is_here(old) => Err(attributes.forbidden(format!(
            "node {node:?} can only change pods with spec.nodeName set to itself"
        ))),
        _ => Ok(()),
    }
}
