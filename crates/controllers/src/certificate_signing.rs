//! Certificate signing: signs approved CertificateSigningRequests of Kubernetes' own signers with the cluster's CA. Watches
//! CertificateSigningRequests.

pub(crate) mod issue;

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, ObjectKey, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Context;
use crate::certificate_request::{
    CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, Requested, condition, is_issued, permitted,
};
use crate::keys::SigningPair;

const NAME: &str = "certificatesigningrequest-signing-controller";
const WORKERS: usize = 5;
/// The shortest life that is given.
const SHORTEST: Duration = Duration::from_secs(600);

struct Signing {
    client: Client,
    clock: Clock,
    requests: Lister<CertificateSigningRequest>,
    authority: Arc<SigningPair>,
}

pub async fn run(cx: Context) {
    let Some(authority) = cx.keys.cluster_signing.clone() else {
        tracing::info!(
            controller = NAME,
            "there is no CA key here; certificates are not signed"
        );
        return;
    };
    let requests = cx.informers.informer::<CertificateSigningRequest>();
    let context = Signing {
        client: cx.client_as("certificate-controller", NAME),
        clock: cx.clock,
        requests: requests.lister(),
        authority,
    };
    cx.controller(NAME, WORKERS)
        .watches(&requests, |csr| wants(csr).then(|| ObjectKey::of(csr)))
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// Approved, not signed, and for one of these signers.
fn wants(csr: &CertificateSigningRequest) -> bool {
    let own = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN];
    own.contains(&csr.spec.signer_name.as_str())
        && !is_issued(csr)
        && condition(csr, "Approved").is_some()
        && condition(csr, "Denied").is_none()
        && condition(csr, "Failed").is_none_or(|c| c.status != "True")
}

/// How long the certificate is to be valid.
fn life(asked: Option<i32>, longest: Duration) -> Duration {
    match asked.and_then(|s| u64::try_from(s).ok()) {
        None => longest,
        Some(seconds) => Duration::from_secs(seconds).max(SHORTEST).min(longest),
    }
}

async fn reconcile(cx: Arc<Signing>, key: ObjectKey<CertificateSigningRequest>) -> Result<Action, Error> {
    let Some(csr) = cx.requests.get(&key).filter(|c| wants(c)) else {
        return Ok(Action::Done);
    };
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    let checked = Requested::parse(&csr.spec.request.0)
        .and_then(|requested| permitted(&csr.spec.signer_name, &requested, usages).map(|()| requested));
    let mut changed = (*csr).clone();
    let status = changed.status.get_or_insert_default();
    match checked {
        Err(message) => {
            let now = Time(cx.clock.now());
            let failed = CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(message),
                last_update_time: Some(now.clone()),
                last_transition_time: Some(now),
            };
            status.conditions.get_or_insert_default().push(failed);
        }
        Ok(requested) => {
            let life = life(csr.spec.expiration_seconds, cx.authority.longest);
            let certificate = issue::certificate(&cx.authority, &requested, usages, life, cx.clock.now())
                .map_err(|e| Error::message(format!("cannot sign the request: {e}")))?;
            status.certificate = Some(ByteString(certificate.into_bytes()));
        }
    }
    let requests = cx.client.all::<CertificateSigningRequest>();
    gone_is_done(requests.update_status(&changed).await)?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_requested_duration_is_honoured_between_ten_minutes_and_the_signers_longest() {
        let day = Duration::from_secs(86_400);
        for (asked, seconds) in [
            (None, 86_400),
            (Some(3600), 3600),
            (Some(60), 600),
            (Some(1_000_000), 86_400),
        ] {
            assert_eq!(life(asked, day).as_secs(), seconds, "{asked:?}");
        }
    }

    #[test]
    fn only_approved_requests_of_known_signers_are_signed_once() {
        for (signer, kinds, certificate, wanted) in [
            (CLIENT, vec!["Approved"], None, true),
            (CLIENT, vec![], None, false),
            (CLIENT, vec!["Approved", "Denied"], None, false),
            (CLIENT, vec!["Approved", "Failed"], None, false),
            (CLIENT, vec!["Approved"], Some("eA=="), false),
            ("example.com/own", vec!["Approved"], None, false),
        ] {
            let conditions: Vec<_> = kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect();
            let csr: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "c"},
                "spec": {"signerName": signer, "request": "", "usages": []},
                "status": {"conditions": conditions, "certificate": certificate},
            }))
            .unwrap();
            assert_eq!(wants(&csr), wanted, "{signer} {kinds:?} {certificate:?}");
        }
    }
}
