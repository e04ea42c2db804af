//! What an agent may ask certificates for: its own node, and the pods that run there.

use coracle_api::object::Object;
use coracle_api::status::{Of, Status};
use serde_json::Value;

use super::super::certificates::subject;
use super::super::{Attributes, Operation};
use super::{MIRROR, may};

const GROUP: &str = "certificates.k8s.io";
/// The signers whose certificates make a node out of who has them.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

/// A CertificateSigningRequest for a node is one for the agent's own.
pub(super) fn request(attributes: &Attributes<'_>, node: &str, object: Option<&Object>) -> Result<(), Status> {
    let Some(request) = object.filter(|_| attributes.operation == Operation::Create) else {
        return Ok(());
    };
    let text = |field| request.str(&["spec", field]).unwrap_or_default();
    if !NODE_SIGNERS.contains(&text("signerName")) {
        return Ok(());
    }
    let Some(subject) = subject(text("request")) else {
        return Err(attributes.forbidden("unable to parse csr"));
    };
    if subject.common_name != attributes.user.name {
        return Err(attributes.forbidden(format!("can only create a node CSR with CN=system:node:{node}")));
    }
    Ok(())
}

/// A PodCertificateRequest names a pod as it runs on the agent's node, and a signer that the pod wants a certificate of.
pub(super) async fn pod_request(
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Object>,
) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbidden(why));
    let Some(request) = object.filter(|_| attributes.operation == Operation::Create) else {
        return refuse("a node can only create PodCertificateRequests".to_owned());
    };
    let text = |field| request.str(&["spec", field]).unwrap_or_default();
    if text("nodeName") != node {
        return refuse(format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            text("nodeName")
        ));
    }
    let namespace = attributes.target.namespace.as_str();
    let id = format!("{namespace}/{}", text("podName"));
    let own = find(attributes, "nodes", "", node).await?;
    if own.uid() != text("nodeUID") {
        return refuse(format!(
            "PodCertificateRequest for pod {id:?} names node UID {:?}, inconsistent with the running node ({:?})",
            text("nodeUID"),
            own.uid()
        ));
    }
    let pod = find(attributes, "pods", namespace, text("podName")).await?;
    if pod.uid() != text("podUID") {
        return refuse(format!(
            "PodCertificateRequest for pod {id:?} contains pod UID ({:?}) which differs from running pod {:?}",
            text("podUID"),
            pod.uid()
        ));
    }
    if pod.str(&["spec", "nodeName"]) != Some(node) {
        return refuse(format!(
            "pod {id:?} is not running on node {node:?} named in the PodCertificateRequest"
        ));
    }
    if pod.annotation(MIRROR).is_some() {
        return refuse(format!("pod {id:?} is a mirror pod"));
    }
    let account = pod.str(&["spec", "serviceAccountName"]).unwrap_or_default();
    if account != text("serviceAccountName") {
        return refuse(format!(
            "PodCertificateRequest for pod {id:?} contains serviceAccountName ({:?}) that differs from running pod \
             ({account:?})",
            text("serviceAccountName")
        ));
    }
    let found = find(attributes, "serviceaccounts", namespace, account).await?;
    if found.uid() != text("serviceAccountUID") {
        return refuse(format!(
            "PodCertificateRequest for pod {id:?} names service account UID {:?}, which differs from the running \
             service account ({:?})",
            text("serviceAccountUID"),
            found.uid()
        ));
    }
    let signer = text("signerName");
    // A signer's name as that of a resource, which has no slash.
    let resource = signer.replace('/', ":");
    let verb = "request-serviceaccounts-podcertificate-signer";
    if wants(&pod, signer) || may(attributes, verb, GROUP, &resource, account).await? {
        return Ok(());
    }
    refuse(format!(
        "pod {id:?} has no podCertificate volume of signer {signer:?}, and {} is not allowed to {verb}",
        attributes.user.name
    ))
}

async fn find(attributes: &Attributes<'_>, plural: &str, namespace: &str, name: &str) -> Result<Object, Status> {
    let found = attributes.find("", "v1", plural, namespace, name).await?;
    found.ok_or_else(|| Status::not_found(Of { group: "", plural }, name))
}

/// Whether a volume of the pod is to hold a certificate of this signer.
fn wants(pod: &Object, signer: &str) -> bool {
    let volumes = pod.array(&["spec", "volumes"]).iter();
    let sources = volumes
        .filter_map(|v| v.pointer("/projected/sources")?.as_array())
        .flatten();
    let mut signers = sources.filter_map(|s| s.pointer("/podCertificate/signerName").and_then(Value::as_str));
    signers.any(|s| s == signer)
}
