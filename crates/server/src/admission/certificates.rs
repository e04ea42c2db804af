//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who approves or signs a certificate request
//! must be allowed to for its signer, and nobody asks to become a superuser.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::object::Object;
use coracle_api::status::Status;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Admission, Attributes, Operation};
use crate::authz::{Attributes as Question, Decision, ResourceAttributes, SUPERUSERS};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateApproval;
pub(super) struct CertificateSigning;
pub(super) struct CertificateSubjectRestriction;

/// Whether the user may `verb` for a signer: by its name, or for all signers of its domain.
async fn may(attributes: &Attributes<'_>, verb: &str, signer: &str) -> Result<bool, Status> {
    let domain = signer.split_once('/').map_or("", |(domain, _)| domain);
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let question = Question {
            user: attributes.user.clone(),
            verb: verb.into(),
            resource: Some(ResourceAttributes {
                group: GROUP.into(),
                resource: "signers".into(),
                name,
                ..ResourceAttributes::default()
            }),
            path: String::new(),
        };
        if let Decision::Allow(_) = attributes.core.authorizer.authorize(&question).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn check(attributes: &Attributes<'_>, verb: &str, old: &Object) -> Result<(), Status> {
    let signer = old.str(&["spec", "signerName"]).unwrap_or_default();
    if may(attributes, verb, signer).await? {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}

#[async_trait]
impl Admission for CertificateApproval {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_of(GROUP, REQUESTS, "approval")
    }

    async fn validate(&self, attributes: &Attributes<'_>, _object: Option<&Object>) -> Result<(), Status> {
        match attributes.old {
            Some(old) => check(attributes, "approve", old).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Admission for CertificateSigning {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_of(GROUP, REQUESTS, "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let (Some(old), Some(new)) = (attributes.old, object) else {
            return Ok(());
        };
        let certificate = |o: &Object| o.str(&["status", "certificate"]).unwrap_or_default().to_owned();
        let conditions = |o: &Object| o.array(&["status", "conditions"]).to_vec();
        // Only setting the certificate, or reporting failure, is signing.
        if certificate(old) == certificate(new) && conditions(old) == conditions(new) {
            return Ok(());
        }
        check(attributes, "sign", old).await
    }
}

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is_of(GROUP, REQUESTS, "")
    }

    async fn validate(&self, attributes: &Attributes<'_>, request: Option<&Object>) -> Result<(), Status> {
        let Some(request) = request.filter(|r| r.str(&["spec", "signerName"]) == Some(CLIENT_SIGNER)) else {
            return Ok(());
        };
        let Some(groups) = groups(request.str(&["spec", "request"]).unwrap_or_default()) else {
            return Err(attributes.forbidden("unable to parse CSR"));
        };
        if groups.iter().any(|g| g == SUPERUSERS) {
            return Err(attributes.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with {SUPERUSERS} group is not allowed"
            )));
        }
        Ok(())
    }
}

/// The organisations that a request (base64 of PEM, as it is in the object) asks for.
fn groups(request: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(
        subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok())
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_request_are_read_from_its_subject() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, SUPERUSERS);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        assert_eq!(groups(&STANDARD.encode(pem)), Some(vec![SUPERUSERS.to_owned()]));
        assert_eq!(groups("nonsense"), None);
    }
}
