//! Certificate cleaner: deletes CertificateSigningRequests that nobody needs any more: decided or failed ones after an hour,
//! undecided ones after a day, and those whose certificate has expired. Watches CertificateSigningRequests.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ObjectKey, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Error, Lister};
use jiff::SignedDuration;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Context;
use crate::certificate_request::{condition, is_issued};

const NAME: &str = "certificatesigningrequest-cleaner-controller";
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const UNDECIDED: SignedDuration = SignedDuration::from_hours(24);

struct Cleaner {
    client: Client,
    clock: Clock,
    requests: Lister<CertificateSigningRequest>,
}

pub async fn run(cx: Context) {
    let requests = cx.informers.informer::<CertificateSigningRequest>();
    let context = Cleaner {
        client: cx.client_as("certificate-controller", NAME),
        clock: cx.clock,
        requests: requests.lister(),
    };
    cx.controller(NAME, 1)
        .watches(&requests, |csr| [ObjectKey::of(csr)])
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// When the request may go.
fn ends(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |at: Option<Timestamp>, wait| at.and_then(|at| at.checked_add(wait).ok());
    let since = |kind| {
        let condition = condition(csr, kind)?;
        let at = condition
            .last_update_time
            .as_ref()
            .or(condition.last_transition_time.as_ref());
        at.map(|t| t.0)
    };
    let issued = is_issued(csr);
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_deref());
    let pending = conditions.unwrap_or_default().is_empty();
    let created = csr.metadata.creation_timestamp.as_ref().map(|t| t.0);
    [
        after(since("Approved").filter(|_| issued), DECIDED),
        after(since("Denied"), DECIDED),
        after(since("Failed"), DECIDED),
        after(created.filter(|_| pending), UNDECIDED),
        expiry(csr).filter(|_| condition(csr, "Approved").is_some()),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// When the certificate ends; one that cannot be read has no end.
fn expiry(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let pem = csr.status.as_ref()?.certificate.as_ref()?;
    let (_, block) = parse_x509_pem(&pem.0).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

async fn reconcile(cx: Arc<Cleaner>, key: ObjectKey<CertificateSigningRequest>) -> Result<Action, Error> {
    let Some(csr) = cx.requests.get(&key) else {
        return Ok(Action::Done);
    };
    let Some(end) = ends(&csr) else {
        return Ok(Action::Done);
    };
    let now = cx.clock.now();
    if end > now {
        return Ok(Action::After(
            Duration::try_from(end.duration_since(now)).unwrap_or_default(),
        ));
    }
    let options = DeleteOptions {
        uid: csr.metadata.uid.clone(),
        resource_version: csr.metadata.resource_version.clone(),
        ..DeleteOptions::default()
    };
    let requests = cx.client.all::<CertificateSigningRequest>();
    gone_is_done(requests.delete(&key.name, &options).await)?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_go_an_hour_after_their_decision_and_a_day_after_none() {
        let made = "2026-01-01T00:00:00Z";
        let later = "2026-01-01T05:00:00Z";
        for (kinds, certificate, wanted) in [
            (vec![], None, Some("2026-01-02T00:00:00Z")),
            (vec!["Approved"], Some("eA=="), Some("2026-01-01T06:00:00Z")),
            (vec!["Denied"], None, Some("2026-01-01T06:00:00Z")),
            (vec!["Approved", "Failed"], None, Some("2026-01-01T06:00:00Z")),
            // Approved, but its signer has not signed yet.
            (vec!["Approved"], None, None),
        ] {
            let conditions: Vec<_> = kinds
                .iter()
                .map(|k| json!({"type": k, "status": "True", "lastUpdateTime": later}))
                .collect();
            let csr: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "c", "creationTimestamp": made},
                "spec": {"signerName": "s/s", "request": "", "usages": []},
                "status": {"conditions": conditions, "certificate": certificate},
            }))
            .unwrap();
            assert_eq!(ends(&csr), wanted.map(|t| t.parse().unwrap()), "{kinds:?}");
        }
    }
}
