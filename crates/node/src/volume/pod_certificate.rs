//! `podCertificate`: a key that is made here and never leaves the node, and a certificate for it by the signer that the
//! volume names. The node asks by a PodCertificateRequest, and again with a new key when the signer says that it is time.

use std::sync::Arc;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use k8s_openapi::api::core::v1::PodCertificateProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::payload::Payload;
use super::projected::insert_secret;
use super::{Setup, pem};
use crate::objects::ApiError;

/// Between two requests for one certificate, whatever the signer says.
const LEAST_LIFE: SignedDuration = SignedDuration::from_mins(1);
/// Until the next, where the signer says nothing.
const USUAL_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Seconds, where the pod says nothing.
const LONGEST_LIFE: i32 = 86_400;

/// How far one certificate is.
#[derive(Clone)]
pub(super) enum Certificate {
    Asked {
        key: String,
        request: Arc<PodCertificateRequest>,
    },
    Issued {
        key: String,
        chain: String,
        renew_at: Timestamp,
    },
}

impl Certificate {
    pub(super) fn renew_at(&self) -> Option<Timestamp> {
        match self {
            Self::Asked { .. } => None,
            Self::Issued { renew_at, .. } => Some(*renew_at),
        }
    }
}

/// Adds the files.
pub(super) async fn collect(
    payload: &mut Payload,
    wanted: &PodCertificateProjection,
    mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    let (key, chain) = credential(wanted, setup).await?;
    for (path, text) in [
        (&wanted.credential_bundle_path, format!("{key}{chain}")),
        (&wanted.key_path, key),
        (&wanted.certificate_chain_path, chain),
    ] {
        if let Some(path) = path.as_deref().filter(|path| !path.is_empty()) {
            insert_secret(payload, path, text.into_bytes(), mode, setup)?;
        }
    }
    Ok(())
}

/// The key and the certificate's chain, both PEM.
async fn credential(wanted: &PodCertificateProjection, setup: &Setup<'_>) -> Result<(String, String), String> {
    // One of its own for each source.
    let id = serde_json::to_string(wanted).map_err(|e| e.to_string())?;
    let held = setup.tokens.certificates.lock().get(&id).cloned();
    let (key, request) = match held {
        Some(Certificate::Issued { key, chain, renew_at }) if setup.now < renew_at => return Ok((key, chain)),
        Some(Certificate::Asked { key, request }) => (key, request),
        _ => {
            let (key, request) = ask(wanted, setup).await?;
            let asked = Certificate::Asked {
                key: key.clone(),
                request: request.clone(),
            };
            setup.tokens.certificates.lock().insert(id.clone(), asked);
            (key, request)
        }
    };
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let said = |why: String| {
        format!(
            "PodCertificateRequest {name:?} of signer {:?} {why}",
            wanted.signer_name
        )
    };
    let answer = setup.objects.answer(&request).await;
    let issued = match &answer {
        Ok(Some(status)) => issued(status, setup.now),
        Ok(None) => return Err(said("is not answered yet".into())),
        Err(ApiError::Gone(_)) => Err("is gone".into()),
        Err(ApiError::Failed(why)) => return Err(said(format!("is not known: {why}"))),
    };
    let mut certificates = setup.tokens.certificates.lock();
    match issued {
        Ok((chain, renew_at)) => {
            let (kept, shown) = (key.clone(), chain.clone());
            let issued = Certificate::Issued { key, chain, renew_at };
            certificates.insert(id, issued);
            Ok((kept, shown))
        }
        Err(why) => {
            // The next one is another.
            certificates.remove(&id);
            Err(said(why))
        }
    }
}

/// Makes a key and asks for a certificate.
async fn ask(
    wanted: &PodCertificateProjection,
    setup: &Setup<'_>,
) -> Result<(String, Arc<PodCertificateRequest>), String> {
    let key = generate(&wanted.key_type)?;
    let mut params = CertificateParams::default();
    // Who the pod is stands in the request itself.
    params.distinguished_name = DistinguishedName::new();
    let stub = params.serialize_request(&key).map_err(|e| e.to_string())?;
    let meta = &setup.pod.metadata;
    let account = setup.pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    let account = account.unwrap_or_default();
    let found = setup.objects.service_account(setup.namespace(), &account).await;
    let found = found.map_err(|e| e.to_string())?;
    let node = setup.objects.node(&setup.node.name).await.map_err(|e| e.to_string())?;
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".into()),
            namespace: meta.namespace.clone(),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            max_expiration_seconds: wanted.max_expiration_seconds.or(Some(LONGEST_LIFE)),
            node_name: setup.node.name.clone(),
            node_uid: node.and_then(|n| n.metadata.uid.clone()).unwrap_or_default(),
            pod_name: meta.name.clone().unwrap_or_default(),
            pod_uid: meta.uid.clone().unwrap_or_default(),
            service_account_name: account,
            service_account_uid: found.and_then(|a| a.metadata.uid.clone()).unwrap_or_default(),
            signer_name: wanted.signer_name.clone(),
            stub_pkc_s10_request: ByteString(stub.der().to_vec()),
            unverified_user_annotations: wanted.user_annotations.clone(),
        },
        status: None,
    };
    let asked = setup.objects.request_certificate(&request).await;
    let asked = asked.map_err(|e| format!("ask signer {:?} for a certificate: {e}", wanted.signer_name))?;
    Ok((key.serialize_pem(), asked))
}

fn generate(kind: &str) -> Result<KeyPair, String> {
    let algorithm = match kind {
        "ED25519" => &rcgen::PKCS_ED25519,
        "ECDSAP256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ECDSAP384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        other => {
            return Err(format!(
                "this node makes no keys of the type {other}; choose ED25519, ECDSAP256 or ECDSAP384"
            ));
        }
    };
    KeyPair::generate_for(algorithm).map_err(|e| format!("make a key: {e}"))
}

/// The chain, and when the next one is to be asked for; or what became of the request.
fn issued(status: &PodCertificateRequestStatus, now: Timestamp) -> Result<(String, Timestamp), String> {
    let decided = |kind: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|c| c.type_ == kind && c.status == "True")
    };
    for (kind, what) in [("Denied", "was denied"), ("Failed", "has failed")] {
        if let Some(condition) = decided(kind) {
            return Err(format!("{what}: {}: {}", condition.reason, condition.message));
        }
    }
    let chain = status.certificate_chain.as_deref().unwrap_or_default();
    let certificates = pem::certificates(chain)?;
    if certificates.is_empty() {
        return Err("was answered without a certificate".into());
    }
    let told = status.begin_refresh_at.as_ref().map(|at| at.0);
    let renew_at = told.unwrap_or(now + USUAL_LIFE).max(now + LEAST_LIFE);
    Ok((pem::encode(&certificates), renew_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::downward::NodeFacts;
    use crate::pod::scripted::Written;
    use crate::volume::Tokens;
    use serde_json::{Value, json};
    use std::path::Path;

    fn answer(conditions: Value, chain: Option<&str>, refresh: Option<&str>) -> PodCertificateRequestStatus {
        let status = json!({"conditions": conditions, "certificateChain": chain, "beginRefreshAt": refresh});
        serde_json::from_value(status).unwrap()
    }

    fn decision(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "Because", "message": "of that",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    async fn files(api: &Written, tokens: &Tokens, now: &str, source: Value) -> Result<Payload, String> {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "sa", "securityContext": {"fsGroup": 7}}});
        let setup = Setup {
            pod: &serde_json::from_value(pod).unwrap(),
            pod_dir: Path::new("/nowhere"),
            volumes_dir: Path::new("/nowhere"),
            objects: api,
            node: &NodeFacts {
                name: "n1".into(),
                ..NodeFacts::default()
            },
            now: now.parse().unwrap(),
            tokens,
        };
        let mut payload = Payload::default();
        collect(&mut payload, &serde_json::from_value(source).unwrap(), None, &setup).await?;
        Ok(payload)
    }

    fn text(payload: &Payload, path: &str) -> String {
        String::from_utf8(payload.files[path].bytes.clone()).unwrap()
    }

    fn source(kind: &str) -> Value {
        json!({"signerName": "x/y", "keyType": kind, "maxExpirationSeconds": 3600, "userAnnotations": {"x.io/a": "b"},
            "credentialBundlePath": "all.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem"})
    }

    /// concepts/storage/projected-volumes: podCertificate.
    #[tokio::test]
    async fn the_credential_bundle_is_a_private_key_block_and_the_certificates_of_the_chain() {
        for kind in ["ED25519", "ECDSAP256", "ECDSAP384"] {
            let (api, tokens) = (Written::default(), Tokens::default());
            let chain = pem::encode(&[vec![1; 9], vec![2; 9]]);
            let issued = answer(decision("Issued"), Some(&format!("leaf\n{chain}")), None);
            api.answers.lock().push_back(Some(issued));
            let payload = files(&api, &tokens, "2026-01-01T00:00:00Z", source(kind))
                .await
                .unwrap();
            let key = text(&payload, "key.pem");
            assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}: {key}");
            assert_eq!(text(&payload, "chain.pem"), chain);
            assert_eq!(text(&payload, "all.pem"), format!("{key}{chain}"));
            assert!(payload.files.values().all(|file| file.mode == 0o600));
            let request = api.requests.lock()[0].spec.clone();
            assert_eq!((request.pod_uid.as_str(), request.node_name.as_str()), ("u", "n1"));
            assert_eq!(request.max_expiration_seconds, Some(3600));
            assert_eq!(request.unverified_user_annotations.unwrap()["x.io/a"], "b");
        }
        let (api, tokens) = (Written::default(), Tokens::default());
        let unlimited = json!({"signerName": "x/y", "keyType": "ED25519"});
        assert!(files(&api, &tokens, "2026-01-01T00:00:00Z", unlimited).await.is_err());
        assert_eq!(api.requests.lock()[0].spec.max_expiration_seconds, Some(86_400));
        let refused = files(&api, &tokens, "2026-01-01T00:00:00Z", source("RSA3072")).await;
        assert!(refused.unwrap_err().contains("no keys of the type RSA3072"));
    }

    #[tokio::test]
    async fn the_kubelet_refreshes_the_private_key_and_certificate_chain_when_they_get_close_to_expiration() {
        let (api, tokens) = (Written::default(), Tokens::default());
        let chain = pem::encode(&[vec![1; 9]]);
        for refresh in ["2026-01-01T00:40:00Z", "2026-01-01T01:20:00Z"] {
            let issued = answer(decision("Issued"), Some(&chain), Some(refresh));
            api.answers.lock().push_back(Some(issued));
        }
        let mut keys = Vec::new();
        for now in ["2026-01-01T00:00:00Z", "2026-01-01T00:39:59Z", "2026-01-01T00:40:00Z"] {
            let payload = files(&api, &tokens, now, source("ED25519")).await.unwrap();
            keys.push(text(&payload, "key.pem"));
        }
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[1], keys[2]);
        assert_eq!(tokens.renew_at(), Some("2026-01-01T01:20:00Z".parse().unwrap()));
        assert_eq!(api.requests.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_request_that_is_not_answered_is_waited_for_and_one_that_is_denied_is_made_anew() {
        let (api, tokens) = (Written::default(), Tokens::default());
        let now = "2026-01-01T00:00:00Z";
        let denied = answer(decision("Denied"), None, None);
        let issued = answer(decision("Issued"), Some(&pem::encode(&[vec![1; 9]])), None);
        api.answers.lock().extend([None, Some(denied), Some(issued)]);
        let waiting = files(&api, &tokens, now, source("ED25519")).await.unwrap_err();
        assert!(waiting.ends_with("of signer \"x/y\" is not answered yet"), "{waiting}");
        let denied = files(&api, &tokens, now, source("ED25519")).await.unwrap_err();
        assert!(denied.ends_with("was denied: Because: of that"), "{denied}");
        assert_eq!(api.requests.lock().len(), 1);
        assert!(files(&api, &tokens, now, source("ED25519")).await.is_ok());
        assert_eq!(api.requests.lock().len(), 2);
    }
}
