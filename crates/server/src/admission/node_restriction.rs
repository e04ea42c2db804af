//! NodeRestriction: a node's agent changes its own node, its own lease and the pods that run on it, and nothing else of
//! these kinds; and it does not choose the labels and taints that keep workloads away from it.

mod certificates;
mod pods;

use std::collections::BTreeSet;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::{Map, Value};

use super::{Admission, Attributes, Operation};
use crate::authz::node::identity;
use crate::authz::{Attributes as Question, Decision, ResourceAttributes};

/// Marks what an agent shows of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// The labels below upstream's domains that an agent reports.
const OWN_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";

pub(super) struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        identity(attributes.user).is_some()
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(node) = identity(attributes.user) else {
            return Ok(());
        };
        if node.is_empty() {
            return Err(attributes.forbidden(format!("could not determine node from user {:?}", attributes.user.name)));
        }
        let subresource = attributes.target.subresource.as_str();
        match (
            attributes.row.group.as_ref(),
            attributes.row.plural.as_ref(),
            subresource,
        ) {
            ("", "pods", "") => pods::pod(attributes, node, object).await,
            ("", "pods", "status") => pods::status(attributes, node, object),
            ("", "pods", "eviction") => pods::eviction(attributes, node),
            ("", "pods", other) => Err(attributes.forbidden(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
            ("", "nodes", _) => own_node(attributes, node, object),
            ("", "persistentvolumeclaims", "status") => claim_status(attributes, node, object),
            ("", "persistentvolumeclaims", other) => {
                Err(attributes.forbidden(format!("may only update PVC status, not {other:?}")))
            }
            ("", "serviceaccounts", "token") => pods::token(attributes, node, object).await,
            ("coordination.k8s.io", "leases", _) => own_lease(attributes, node),
            ("storage.k8s.io", "csinodes", _) if attributes.name != node => {
                Err(attributes.forbidden("can only access CSINode with the same name as the requesting node"))
            }
            ("resource.k8s.io", "resourceslices", _) => own_slice(attributes, node, object),
            ("certificates.k8s.io", "certificatesigningrequests", "") => {
                certificates::request(attributes, node, object)
            }
            ("certificates.k8s.io", "podcertificaterequests", "") => {
                certificates::pod_request(attributes, node, object).await
            }
            ("certificates.k8s.io", "podcertificaterequests", other) => {
                Err(attributes.forbidden(format!("unexpected subresource {other}")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the agent was granted, by a role, what pods alone give it no right to.
async fn may(attributes: &Attributes<'_>, verb: &str, group: &str, resource: &str, name: &str) -> Result<bool, Status> {
    let question = Question {
        user: attributes.user.clone(),
        verb: verb.to_owned(),
        resource: Some(ResourceAttributes {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: attributes.target.namespace.clone(),
            name: name.to_owned(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    };
    let decision = attributes.core.authorizer.authorize(&question).await?;
    Ok(matches!(decision, Decision::Allow(_)))
}

fn own_lease(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    if attributes.target.namespace != LEASES {
        return Err(attributes.forbidden(format!("can only access leases in the {LEASES:?} system namespace")));
    }
    if attributes.name != node {
        return Err(attributes.forbidden("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn own_slice(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    let is_own = |slice: &Object| slice.str(&["spec", "nodeName"]) == Some(node);
    match (attributes.operation, object, attributes.old) {
        (Operation::Create, Some(slice), _) if !is_own(slice) => {
            Err(attributes.forbidden("can only create ResourceSlice with the same NodeName as the requesting node"))
        }
        (Operation::Update, _, Some(old)) if !is_own(old) => {
            Err(attributes.forbidden("can only update ResourceSlice with the same NodeName as the requesting node"))
        }
        (Operation::Delete, _, Some(old)) if !is_own(old) => {
            Err(attributes.forbidden("can only delete ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

/// An agent tells how far a volume has grown, and nothing else of a claim.
fn claim_status(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    let (Some(old), Some(new)) = (attributes.old, object) else {
        return Ok(());
    };
    let rest = |claim: &Object| {
        let mut rest = claim.clone();
        for field in [
            "capacity",
            "conditions",
            "allocatedResources",
            "allocatedResourceStatuses",
        ] {
            rest.remove(&["status", field]);
        }
        for field in ["resourceVersion", "managedFields"] {
            rest.remove(&["metadata", field]);
        }
        rest
    };
    if rest(old) == rest(new) {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
    )))
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    if attributes.name != node {
        return Err(attributes.forbidden(format!(
            "node {node:?} is not allowed to modify node {:?}",
            attributes.name
        )));
    }
    let Some(new) = object else { return Ok(()) };
    let empty = Object::default();
    let old = attributes.old.unwrap_or(&empty);
    let creating = attributes.operation == Operation::Create;
    let source = |o: &Object| o.get(&["spec", "configSource"]).cloned();
    if source(new).is_some() && source(new) != source(old) {
        return Err(attributes.forbidden(if creating {
            format!("node {node:?} is not allowed to create pods with a non-nil configSource")
        } else {
            format!("node {node:?} is not allowed to update configSource to a new non-nil configSource")
        }));
    }
    if !creating {
        if new.array(&["spec", "taints"]) != old.array(&["spec", "taints"]) {
            return Err(attributes.forbidden(format!("node {node:?} is not allowed to modify taints")));
        }
        let owners = ["metadata", "ownerReferences"];
        if new.array(&owners) != old.array(&owners) {
            return Err(attributes.forbidden(format!("node {node:?} is not allowed to modify ownerReferences")));
        }
    }
    let none = Map::new();
    let labels = |o: &'_ Object| {
        o.get(&["metadata", "labels"])
            .and_then(Value::as_object)
            .unwrap_or(&none)
            .clone()
    };
    let wrong: Vec<String> = changed(&labels(old), &labels(new))
        .into_iter()
        .filter(|label| !may_set(label))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join(", ");
    Err(attributes.forbidden(if creating {
        format!("node {node:?} is not allowed to set the following labels: {wrong}")
    } else {
        format!("is not allowed to modify labels: {wrong}")
    }))
}

/// The keys whose values differ.
fn changed(old: &Map<String, Value>, new: &Map<String, Value>) -> BTreeSet<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|k| old.get(*k) != new.get(*k))
        .cloned()
        .collect()
}

fn may_set(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if below(RESTRICTED) {
        return false;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| below(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sets_the_labels_that_describe_it_and_those_of_others_domains() {
        for (label, expected) in [
            ("example.com/x", true),
            ("x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/x", true),
            ("x.kubelet.kubernetes.io/y", true),
            ("kubernetes.io/x", false),
            ("x.k8s.io/y", false),
            ("node-restriction.kubernetes.io/x", false),
            ("x.node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
        ] {
            assert_eq!(may_set(label), expected, "{label}");
        }
    }
}
