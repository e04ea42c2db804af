//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who approves or signs a certificate request
//! must be allowed to for its signer, and nobody asks to become a superuser. [`PodCertificates`] is the same for what nodes
//! request for pods; upstream has it in the kind's own rules.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::field::{FieldError, FieldErrorKind, show};
use coracle_api::object::Object;
use coracle_api::status::Status;
use coracle_clock::Timestamp;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::{Admission, Attributes, Operation};
use crate::authz::{Attributes as Question, Decision, ResourceAttributes, SUPERUSERS};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

const POD_REQUESTS: &str = "podcertificaterequests";
/// Seconds that a signer's clock may be ahead or behind.
const SKEW: i64 = 300;

pub(super) struct CertificateApproval;
pub(super) struct CertificateSigning;
pub(super) struct CertificateSubjectRestriction;
pub(super) struct PodCertificates;

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
        let Some(subject) = subject(request.str(&["spec", "request"]).unwrap_or_default()) else {
            return Err(attributes.forbidden("unable to parse CSR"));
        };
        if subject.groups.iter().any(|g| g == SUPERUSERS) {
            return Err(attributes.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with {SUPERUSERS} group is not allowed"
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for PodCertificates {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_of(GROUP, POD_REQUESTS, "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let (Some(old), Some(new)) = (attributes.old, object) else {
            return Ok(());
        };
        let status = |o: &Object| o.get(&["status"]).cloned();
        if status(old) == status(new) {
            return Ok(());
        }
        let refuse = |fault| Err(Status::invalid(GROUP, &attributes.row.kind, &attributes.name, &[fault]));
        if let Some(fault) = not_now(new, attributes.core.clock.now()) {
            return refuse(fault);
        }
        let signer = old.str(&["spec", "signerName"]).unwrap_or_default();
        if may(attributes, "sign", signer).await? {
            return Ok(());
        }
        let user = &attributes.user.name;
        refuse(FieldError {
            kind: FieldErrorKind::Forbidden,
            path: "spec.signerName".to_owned(),
            value: String::new(),
            detail: format!("User {user:?} is not permitted to \"sign\" for signer {signer:?}"),
        })
    }
}

/// What is issued goes from now on.
fn not_now(request: &Object, now: Timestamp) -> Option<FieldError> {
    let from = request.get(&["status", "notBefore"]).and_then(Value::as_str)?;
    let time: Timestamp = from.parse().ok()?;
    let is_near = (time.as_second() - now.as_second()).abs() < SKEW;
    (!is_near).then(|| FieldError {
        kind: FieldErrorKind::Invalid,
        path: "status.notBefore".to_owned(),
        value: show(&from.into()),
        detail: "must be set to within 5 minutes of kube-apiserver's current time".to_owned(),
    })
}

/// Whom a certificate is asked for.
pub(super) struct Subject {
    pub common_name: String,
    pub groups: Vec<String>,
}

/// The subject of a request (base64 of PEM, as it is in the object), if it can be read.
pub(super) fn subject(request: &str) -> Option<Subject> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    let texts = |names: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>| -> Vec<String> {
        names.filter_map(|n| n.as_str().ok()).map(str::to_owned).collect()
    };
    Some(Subject {
        // Where there are several, the last one is it.
        common_name: texts(&mut subject.iter_common_name()).pop().unwrap_or_default(),
        groups: texts(&mut subject.iter_organization()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_certificate_goes_from_now_on() {
        let issued = |from: &str| Object::from_value(serde_json::json!({"status": {"notBefore": from}})).unwrap();
        let now = "2024-01-01T00:00:00Z".parse().unwrap();
        for fine in ["2024-01-01T00:00:00Z", "2024-01-01T00:04:59Z", "2023-12-31T23:55:01Z"] {
            assert_eq!(not_now(&issued(fine), now), None, "{fine}");
        }
        assert_eq!(not_now(&Object::default(), now), None);
        assert_eq!(
            not_now(&issued("2024-01-01T00:05:00Z"), now).unwrap().to_string(),
            "status.notBefore: Invalid value: \"2024-01-01T00:05:00Z\": must be set to within 5 minutes of \
             kube-apiserver's current time"
        );
    }

    #[test]
    fn a_request_tells_whom_it_is_for() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "bob");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, SUPERUSERS);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let found = subject(&STANDARD.encode(pem)).unwrap();
        assert_eq!(
            (found.common_name.as_str(), found.groups),
            ("bob", vec![SUPERUSERS.to_owned()])
        );
        assert!(subject("nonsense").is_none());
    }
}
