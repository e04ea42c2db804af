//! Certificate approval: approves a node's request for its own client certificate when the requester is allowed to ask for
//! one, by a SubjectAccessReview. Watches CertificateSigningRequests.

use std::sync::Arc;

use coracle_client::{Client, ObjectKey, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::Context;
use crate::certificate_request::{KUBELET_CLIENT, Requested, condition, is_issued, kubelet_client};

const NAME: &str = "certificatesigningrequest-approving-controller";
const WORKERS: usize = 5;

struct Approving {
    client: Client,
    clock: Clock,
    requests: Lister<CertificateSigningRequest>,
}

pub async fn run(cx: Context) {
    let requests = cx.informers.informer::<CertificateSigningRequest>();
    let context = Approving {
        client: cx.client_as("certificate-controller", NAME),
        clock: cx.clock,
        requests: requests.lister(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&requests, |csr| is_open(csr).then(|| ObjectKey::of(csr)))
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

fn is_open(csr: &CertificateSigningRequest) -> bool {
    !is_issued(csr) && condition(csr, "Approved").is_none() && condition(csr, "Denied").is_none()
}

/// What a requester must be allowed to create, and what an approval then says; in order of preference.
fn permissions(csr: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    if csr.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(requested) = Requested::parse(&csr.spec.request.0) else {
        return Vec::new();
    };
    if kubelet_client(&requested, csr.spec.usages.as_deref().unwrap_or_default()).is_err() {
        return Vec::new();
    }
    let own = csr.spec.username.as_deref() == Some(requested.common_name.as_str());
    let renewed = (
        "selfnodeclient",
        "Auto approving self kubelet client certificate after SubjectAccessReview.",
    );
    let first = (
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    );
    if own { vec![renewed, first] } else { vec![first] }
}

async fn reconcile(cx: Arc<Approving>, key: ObjectKey<CertificateSigningRequest>) -> Result<Action, Error> {
    let Some(csr) = cx.requests.get(&key).filter(|c| is_open(c)) else {
        return Ok(Action::Done);
    };
    let permissions = permissions(&csr);
    for (subresource, message) in &permissions {
        let review = cx.client.all().create(&question(&csr, subresource)).await?;
        if !review.status.as_ref().is_some_and(|s| s.allowed) {
            continue;
        }
        let now = Time(cx.clock.now());
        let mut approved = (*csr).clone();
        let conditions = &mut approved.status.get_or_insert_default().conditions;
        conditions
            .get_or_insert_default()
            .push(CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("AutoApproved".into()),
                message: Some((*message).to_owned()),
                last_update_time: Some(now.clone()),
                last_transition_time: Some(now),
            });
        let requests = cx.client.all::<CertificateSigningRequest>();
        let written = requests
            .subresource::<CertificateSigningRequest>("approval")
            .update(&approved)
            .await;
        gone_is_done(written)?;
        return Ok(Action::Done);
    }
    if permissions.is_empty() {
        return Ok(Action::Done);
    }
    // Somebody may still give the right.
    let tried: Vec<&str> = permissions.iter().map(|(subresource, _)| *subresource).collect();
    Err(Error::message(format!(
        "recognized csr {:?} as {tried:?} but subject access review was not approved",
        &*key.name
    )))
}

fn question(csr: &CertificateSigningRequest, subresource: &str) -> SubjectAccessReview {
    SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate_request::CLIENT;
    use crate::certificate_request::tests::request;
    use k8s_openapi::ByteString;
    use serde_json::json;

    #[test]
    fn only_a_nodes_client_certificate_is_approved_and_its_own_by_a_right_of_its_own() {
        let pem = request("system:node:n", "system:nodes", vec![]);
        for (signer, user, wanted) in [
            (KUBELET_CLIENT, "system:node:n", vec!["selfnodeclient", "nodeclient"]),
            (KUBELET_CLIENT, "system:bootstrap:abcdef", vec!["nodeclient"]),
            (CLIENT, "system:node:n", vec![]),
        ] {
            let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "c"},
                "spec": {"signerName": signer, "username": user, "request": "",
                    "usages": ["digital signature", "client auth"]},
            }))
            .unwrap();
            csr.spec.request = ByteString(pem.clone().into_bytes());
            let found: Vec<&str> = permissions(&csr).iter().map(|(s, _)| *s).collect();
            assert_eq!(found, wanted, "{signer} {user}");
        }
    }
}
