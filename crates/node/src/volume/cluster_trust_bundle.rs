//! `clusterTrustBundle`: certificates that the pod may trust, of one bundle or of all of a signer's, as one file.

use std::collections::BTreeSet;

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;

use super::payload::Payload;
use super::{Setup, pem};

/// Adds the file.
pub(super) async fn collect(
    payload: &mut Payload,
    wanted: &ClusterTrustBundleProjection,
    mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    let all = setup.objects.trust_bundles().await.map_err(|e| e.to_string())?;
    let mut chosen = Vec::new();
    for bundle in &all {
        if selects(wanted, bundle)? {
            chosen.push(bundle.spec.trust_bundle.as_str());
        }
    }
    if chosen.is_empty() && wanted.optional != Some(true) {
        return Err(match (&wanted.name, &wanted.signer_name) {
            (Some(name), _) => format!("clustertrustbundle {name:?} not found"),
            (None, signer) => format!(
                "no clustertrustbundle of the signer {:?} has the labels that are asked for",
                signer.as_deref().unwrap_or_default()
            ),
        });
    }
    payload.insert(&wanted.path, united(&chosen)?.into_bytes(), None, mode)
}

/// One is meant by its name, others by their signer and labels. Without a selector those are none, as for every selector.
fn selects(wanted: &ClusterTrustBundleProjection, bundle: &ClusterTrustBundle) -> Result<bool, String> {
    if let Some(name) = &wanted.name {
        return Ok(bundle.metadata.name.as_ref() == Some(name));
    }
    let selector = LabelSelector::from_typed(wanted.label_selector.as_ref()).map_err(|e| e.to_string())?;
    let of_signer = wanted.signer_name.is_some() && bundle.spec.signer_name == wanted.signer_name;
    let labels = bundle.metadata.labels.clone().unwrap_or_default();
    Ok(of_signer && selector.matches_labels(&labels))
}

/// Each certificate once and alone, whatever is around it in the bundles, in an order that does not follow theirs.
fn united(bundles: &[&str]) -> Result<String, String> {
    let mut all = BTreeSet::new();
    for text in bundles {
        all.extend(pem::certificates(text).map_err(|e| format!("a clustertrustbundle is {e}"))?);
    }
    Ok(pem::encode(&all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::downward::NodeFacts;
    use crate::pod::scripted::Written;
    use crate::volume::Tokens;
    use serde_json::{Value, json};
    use std::path::Path;

    fn authority(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn bundle(name: &str, signer: Option<&str>, labels: Value, text: &str) -> std::sync::Arc<ClusterTrustBundle> {
        let bundle = json!({"metadata": {"name": name, "labels": labels},
            "spec": {"signerName": signer, "trustBundle": text}});
        serde_json::from_value::<ClusterTrustBundle>(bundle).unwrap().into()
    }

    async fn shown(api: &Written, source: Value) -> Result<String, String> {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": []}}))
        .unwrap();
        let setup = Setup {
            pod: &pod,
            pod_dir: Path::new("/nowhere"),
            volumes_dir: Path::new("/nowhere"),
            objects: api,
            node: &NodeFacts::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            tokens: &Tokens::default(),
        };
        let mut source = source;
        source["path"] = json!("ca.pem");
        let mut payload = Payload::default();
        collect(&mut payload, &serde_json::from_value(source).unwrap(), None, &setup).await?;
        Ok(String::from_utf8(payload.files["ca.pem"].bytes.clone()).unwrap())
    }

    /// concepts/storage/projected-volumes: clusterTrustBundle.
    #[tokio::test]
    async fn trust_bundles_are_selected_by_name_or_by_signer_and_labels() {
        let (a, b, c) = (authority("a"), authority("b"), authority("c"));
        let api = Written::default();
        *api.trust_bundles.lock() = vec![
            bundle("own", None, json!({}), &a),
            bundle("x:y:1", Some("x/y"), json!({"live": "yes"}), &b),
            bundle("x:y:2", Some("x/y"), json!({"live": "no"}), &c),
        ];
        assert_eq!(shown(&api, json!({"name": "own"})).await, Ok(a));
        let live = json!({"signerName": "x/y", "labelSelector": {"matchLabels": {"live": "yes"}}});
        assert_eq!(shown(&api, live).await, Ok(b.clone()));
        let both = shown(&api, json!({"signerName": "x/y", "labelSelector": {}}))
            .await
            .unwrap();
        assert!(both.len() == b.len() + c.len() && both.contains(&b) && both.contains(&c));
    }

    #[tokio::test]
    async fn certificates_are_deduplicated_and_comments_are_discarded() {
        let (a, b) = (authority("a"), authority("b"));
        let api = Written::default();
        *api.trust_bundles.lock() = vec![
            bundle("x:y:1", Some("x/y"), json!({}), &format!("# old\n{a}\nin between\n{b}")),
            bundle("x:y:2", Some("x/y"), json!({}), &b),
        ];
        let all = shown(&api, json!({"signerName": "x/y", "labelSelector": {}}))
            .await
            .unwrap();
        assert!(all == format!("{a}{b}") || all == format!("{b}{a}"), "{all}");
    }

    #[tokio::test]
    async fn what_selects_no_trust_bundle_keeps_the_pod_from_starting_unless_it_is_optional() {
        let api = Written::default();
        let missing = shown(&api, json!({"name": "own"})).await;
        assert_eq!(missing, Err("clustertrustbundle \"own\" not found".into()));
        assert!(
            shown(&api, json!({"signerName": "x/y", "labelSelector": {}}))
                .await
                .is_err()
        );
        let optional = json!({"name": "own", "optional": true});
        assert_eq!(shown(&api, optional).await, Ok(String::new()), "an empty file");
    }
}
