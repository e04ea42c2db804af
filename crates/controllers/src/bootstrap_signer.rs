//! Bootstrap signer: signs the ConfigMap `cluster-info` of kube-public with every bootstrap token, so that who joins can
//! trust what it reads there before it knows the CA. Watches that ConfigMap and the Secrets of kube-system.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_client::{Client, ObjectKey};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, InformerOptions, Lister};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::hmac;
use serde_json::json;

use crate::Context;
use crate::bootstrap_token::{self, NAMESPACE, TYPE};

const NAME: &str = "bootstrap-signer-controller";
const ACCOUNT: &str = "bootstrap-signer";
const PUBLIC: &str = "kube-public";
const CONFIG_MAP: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

struct Signer {
    client: Client,
    clock: Clock,
    maps: Lister<ConfigMap>,
    tokens: Lister<Secret>,
}

/// Bootstrap tokens, and nothing else of kube-system.
pub(crate) fn tokens_only() -> InformerOptions {
    InformerOptions {
        namespace: NAMESPACE.into(),
        field_selector: format!("type={TYPE}"),
        ..InformerOptions::default()
    }
}

pub async fn run(cx: Context) {
    let maps = cx.informers.informer_of::<ConfigMap>(InformerOptions {
        namespace: PUBLIC.into(),
        field_selector: format!("metadata.name={CONFIG_MAP}"),
        ..InformerOptions::default()
    });
    let tokens = cx.informers.informer_of::<Secret>(tokens_only());
    let context = Signer {
        client: cx.client_as(ACCOUNT, NAME),
        clock: cx.clock,
        maps: maps.lister(),
        tokens: tokens.lister(),
    };
    let the_map = || [ObjectKey::<ConfigMap>::new(PUBLIC, CONFIG_MAP)];
    cx.controller(NAME, 1)
        .watches(&maps, move |_| the_map())
        .watches(&tokens, move |_| the_map())
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Signer>, key: ObjectKey<ConfigMap>) -> Result<Action, Error> {
    let Some(map) = cx.maps.get(&key) else {
        return Ok(Action::Done);
    };
    let now = cx.clock.now();
    let secrets = cx.tokens.list();
    let tokens = secrets
        .iter()
        .filter_map(|s| bootstrap_token::signing(s, now))
        .collect();
    if let Some(data) = plan(map.data.as_ref(), &tokens) {
        let mut changed = (*map).clone();
        changed.data = Some(data);
        cx.client.namespaced::<ConfigMap>(PUBLIC).update(&changed).await?;
    }
    Ok(Action::Done)
}

/// The map's data with exactly the signatures it should have, unless it has.
fn plan(data: Option<&BTreeMap<String, String>>, tokens: &BTreeMap<&str, &str>) -> Option<BTreeMap<String, String>> {
    let content = data?.get(CONTENT)?;
    let mut wanted = data?.clone();
    wanted.retain(|key, _| !key.starts_with(SIGNATURE));
    wanted.extend(
        tokens
            .iter()
            .map(|(id, key)| (format!("{SIGNATURE}{id}"), detached_signature(content, id, key))),
    );
    (Some(&wanted) != data).then_some(wanted)
}

/// A JSON web signature whose payload is left out, for the reader has it.
fn detached_signature(content: &str, id: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_clock::Timestamp;
    use serde_json::Value;

    #[test]
    fn a_signature_is_what_kubeadm_verifies() {
        // Upstream's own example.
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            detached_signature(content, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn the_map_has_a_signature_for_each_token_and_no_others() {
        let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let tokens = BTreeMap::from([("abcdef", "0123456789abcdef")]);
        let signed = plan(
            Some(&data(&[("kubeconfig", "x"), ("jws-kubeconfig-gone00", "s")])),
            &tokens,
        )
        .unwrap();
        assert_eq!(
            signed.keys().collect::<Vec<_>>(),
            ["jws-kubeconfig-abcdef", "kubeconfig"]
        );
        assert_eq!(plan(Some(&signed), &tokens), None);
        assert_eq!(plan(Some(&data(&[("other", "x")])), &tokens), None);
        assert_eq!(plan(None, &tokens), None);
    }

    #[test]
    fn only_well_formed_living_tokens_meant_for_it_sign() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let base = json!({
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"},
        });
        for (path, value, usable) in [
            ("/type", json!("bootstrap.kubernetes.io/token"), true),
            ("/type", json!("Opaque"), false),
            ("/metadata/name", json!("bootstrap-token-other0"), false),
            ("/metadata/namespace", json!("default"), false),
            ("/stringData/token-id", json!("ABCDEF"), false),
            ("/stringData/token-secret", json!("short"), false),
            ("/stringData/usage-bootstrap-signing", json!("yes"), false),
            ("/stringData/expiration", json!("2025-12-31T23:59:59Z"), false),
            ("/stringData/expiration", json!("2026-01-01T00:00:01Z"), true),
            ("/stringData/expiration", json!("soon"), false),
        ] {
            let mut secret = base.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            secret.pointer_mut(parent).unwrap()[key] = value.clone();
            let texts = secret["stringData"].as_object().unwrap().clone();
            let coded = texts.into_iter().map(|(k, v)| {
                let text = base64::engine::general_purpose::STANDARD.encode(v.as_str().unwrap());
                (k, Value::from(text))
            });
            secret["data"] = Value::Object(coded.collect());
            let secret: Secret = serde_json::from_value(secret).unwrap();
            assert_eq!(
                bootstrap_token::signing(&secret, now).is_some(),
                usable,
                "{path} {value}"
            );
        }
    }
}
