//! What an agent may do to pods: mirror the static ones of its node, report, evict and delete those that run there, and
//! ask for their tokens.

use coracle_api::object::Object;
use coracle_api::status::{Of, Status};
use serde_json::Value;

use super::super::{Attributes, Operation};
use super::{MIRROR, may};
use crate::authz::node::references;

const PODS: Of<'static> = Of {
    group: "",
    plural: "pods",
};

fn is_on(pod: &Object, node: &str) -> bool {
    pod.str(&["spec", "nodeName"]) == Some(node)
}

/// Create and delete of a pod.
pub(super) async fn pod(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    match (attributes.operation, object, attributes.old) {
        (Operation::Create, Some(pod), _) => mirror(attributes, node, pod).await,
        (Operation::Delete, _, Some(old)) if !is_on(old, node) => Err(attributes.forbidden(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        ))),
        (Operation::Update, _, _) => Err(attributes.forbidden("unexpected operation \"UPDATE\"")),
        _ => Ok(()),
    }
}

async fn mirror(attributes: &Attributes<'_>, node: &str, pod: &Object) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbidden(why));
    if pod.annotation(MIRROR).is_none() {
        return refuse(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if !is_on(pod, node) {
        return refuse(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    match pod.array(&["metadata", "ownerReferences"]) {
        [owner] => owned(attributes, node, owner).await?,
        [] => {
            return refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return refuse(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    }
    if pod.str(&["spec", "serviceAccountName"]).is_some_and(|s| !s.is_empty()) {
        return refuse(format!(
            "node {node:?} can not create pods that reference a service account"
        ));
    }
    let needs = references(pod);
    for (what, some) in [
        ("secrets", !needs.secrets.is_empty()),
        ("configmaps", !needs.config_maps.is_empty()),
        ("clustertrustbundles", needs.trust_bundles),
        ("resourceclaims", !pod.array(&["spec", "resourceClaims"]).is_empty()),
        ("persistentvolumeclaims", !needs.claims.is_empty()),
    ] {
        if some {
            return refuse(format!("node {node:?} can not create pods that reference {what}"));
        }
    }
    Ok(())
}

async fn owned(attributes: &Attributes<'_>, node: &str, owner: &Value) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbidden(why));
    let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default();
    let flag = |field: &str| owner.get(field).and_then(Value::as_bool) == Some(true);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return refuse(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if !flag("controller") {
        return refuse(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag("blockOwnerDeletion") {
        return refuse(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let nodes = Of {
        group: "",
        plural: "nodes",
    };
    let found = attributes.find("", "v1", "nodes", "", node).await?;
    let found = found.ok_or_else(|| Status::not_found(nodes, node))?;
    if found.uid() != text("uid") {
        return refuse(format!(
            "node {node} UID mismatch: expected {} got {}",
            text("uid"),
            found.uid()
        ));
    }
    Ok(())
}

pub(super) fn status(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    let (Some(old), Some(new)) = (attributes.old, object) else {
        return Ok(());
    };
    if !is_on(old, node) {
        return Err(attributes.forbidden(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )));
    }
    let labels = ["metadata", "labels"];
    if old.get(&labels) != new.get(&labels) {
        return Err(attributes.forbidden(format!("node {node:?} cannot update labels through pod status")));
    }
    let claims = ["status", "resourceClaimStatuses"];
    if old.array(&claims) != new.array(&claims) {
        return Err(attributes.forbidden(format!("node {node:?} cannot update resource claim statues")));
    }
    Ok(())
}

/// `old` is the pod to evict.
pub(super) fn eviction(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    match attributes.old {
        Some(pod) if !is_on(pod, node) => Err(attributes.forbidden(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        ))),
        _ => Ok(()),
    }
}

/// A token for an agent is bound to a pod of its node.
pub(super) async fn token(attributes: &Attributes<'_>, node: &str, request: Option<&Object>) -> Result<(), Status> {
    let Some(request) = request else { return Ok(()) };
    let text = |field: &str| request.str(&["spec", "boundObjectRef", field]).unwrap_or_default();
    if (text("apiVersion"), text("kind")) != ("v1", "Pod") || text("name").is_empty() {
        return Err(attributes.forbidden("node requested token not bound to a pod"));
    }
    if text("uid").is_empty() {
        return Err(attributes.forbidden("node requested token with a pod binding without a uid"));
    }
    let found = attributes
        .find("", "v1", "pods", &attributes.target.namespace, text("name"))
        .await?;
    let pod = found.ok_or_else(|| Status::not_found(PODS, text("name")))?;
    if pod.uid() != text("uid") {
        return Err(attributes.forbidden(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been \
             deleted and then recreated",
            text("uid")
        )));
    }
    if !is_on(&pod, node) {
        return Err(attributes.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    audience(attributes, &pod, request.array(&["spec", "audiences"])).await
}

/// Tokens are for whom the pod's volumes present them to; none is for the API server.
async fn audience(attributes: &Attributes<'_>, pod: &Object, asked: &[Value]) -> Result<(), Status> {
    let audience = match asked {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(attributes.forbidden("node may only request 0 or 1 audiences")),
    };
    for volume in pod.array(&["spec", "volumes"]) {
        if projects(volume, audience) || drives(attributes, pod, volume, audience).await? {
            return Ok(());
        }
    }
    let verb = "request-serviceaccounts-token-audience";
    if may(attributes, verb, "", audience, &attributes.name).await? {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        attributes.user.name
    )))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty())
}

/// Whether the volume holds a token for the audience.
fn projects(volume: &Value, audience: &str) -> bool {
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
    let mut tokens = sources
        .into_iter()
        .flatten()
        .filter_map(|s| s.get("serviceAccountToken"));
    tokens.any(|t| !t.is_null() && text(t, "/audience").unwrap_or_default() == audience)
}

/// Whether the driver of the volume is given tokens for the audience.
async fn drives(attributes: &Attributes<'_>, pod: &Object, volume: &Value, audience: &str) -> Result<bool, Status> {
    let claim = match text(volume, "/persistentVolumeClaim/claimName") {
        Some(claim) => Some(claim.to_owned()),
        None if volume.get("ephemeral").is_some_and(|e| !e.is_null()) => {
            let name = text(volume, "/name").unwrap_or_default();
            Some(format!("{}-{name}", pod.name()))
        }
        None => None,
    };
    let driver = match claim {
        Some(claim) => claimed_driver(attributes, pod.namespace(), &claim).await?,
        None => text(volume, "/csi/driver").map(str::to_owned),
    };
    let Some(driver) = driver else { return Ok(false) };
    let driver = attributes
        .find("storage.k8s.io", "v1", "csidrivers", "", &driver)
        .await?;
    let is_asked = |request: &Value| text(request, "/audience").unwrap_or_default() == audience;
    Ok(driver.is_some_and(|d| d.array(&["spec", "tokenRequests"]).iter().any(is_asked)))
}

/// The driver of the volume that a claim has.
async fn claimed_driver(attributes: &Attributes<'_>, namespace: &str, claim: &str) -> Result<Option<String>, Status> {
    let claim = attributes
        .find("", "v1", "persistentvolumeclaims", namespace, claim)
        .await?;
    let Some(volume) = claim.as_ref().and_then(|c| c.str(&["spec", "volumeName"])) else {
        return Ok(None);
    };
    let volume = attributes.find("", "v1", "persistentvolumes", "", volume).await?;
    Ok(volume.and_then(|v| Some(v.str(&["spec", "csi", "driver"])?.to_owned())))
}
