//! `projected`: config maps, secrets, pod fields, service account tokens, trust bundles and certificates in one
//! directory.

use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection};

use super::payload::Payload;
use super::{Setup, Token, Volume, cluster_trust_bundle, config_map, downward_api, pod_certificate, secret};

#[async_trait]
impl Volume for ProjectedVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let mut payload = Payload::default();
        for source in self.sources.iter().flatten() {
            collect(&mut payload, source, self.default_mode, setup).await?;
        }
        payload.publish(&setup.dir("projected", name), true, setup)
    }
}

async fn collect(
    payload: &mut Payload,
    source: &VolumeProjection,
    mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    if let Some(map) = &source.config_map {
        let items = map.items.as_deref().unwrap_or_default();
        return config_map::collect(payload, &map.name, items, mode, map.optional == Some(true), setup).await;
    }
    if let Some(projection) = &source.secret {
        let items = projection.items.as_deref().unwrap_or_default();
        return secret::collect(
            payload,
            &projection.name,
            items,
            mode,
            projection.optional == Some(true),
            setup,
        )
        .await;
    }
    if let Some(fields) = &source.downward_api {
        return downward_api::collect(payload, fields.items.as_deref().unwrap_or_default(), mode, setup);
    }
    if let Some(token) = &source.service_account_token {
        return service_account_token(payload, token, mode, setup).await;
    }
    if let Some(bundles) = &source.cluster_trust_bundle {
        return cluster_trust_bundle::collect(payload, bundles, mode, setup).await;
    }
    if let Some(certificate) = &source.pod_certificate {
        return pod_certificate::collect(payload, certificate, mode, setup).await;
    }
    Err("a projected source names nothing to project".into())
}

async fn service_account_token(
    payload: &mut Payload,
    wanted: &ServiceAccountTokenProjection,
    mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    let audience = wanted.audience.clone().unwrap_or_default();
    let seconds = wanted.expiration_seconds.unwrap_or(3600);
    let key = format!("{audience}/{seconds}");
    let held = setup
        .tokens
        .held
        .lock()
        .get(&key)
        .filter(|t| setup.now < t.renew_at)
        .cloned();
    let token = match held {
        Some(token) => token,
        None => {
            let (text, expires) = setup
                .objects
                .token(setup.pod, &audience, seconds)
                .await
                .map_err(|e| format!("failed to fetch token: {e}"))?;
            // Renewed when four fifths of its life are over, at the latest after a day.
            let life = expires.duration_since(setup.now).as_secs().clamp(1, 24 * 3600 * 5 / 4);
            let renew_at = setup.now + jiff::SignedDuration::from_secs(life * 4 / 5);
            let token = Token { text, renew_at };
            setup.tokens.held.lock().insert(key, token.clone());
            token
        }
    };
    insert_secret(payload, &wanted.path, token.text.into_bytes(), mode, setup)
}

/// Adds a file that only the one user of the pod may read, where there is one user.
pub(super) fn insert_secret(
    payload: &mut Payload,
    path: &str,
    bytes: Vec<u8>,
    mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    let owner = setup.fs_user();
    let mode = if owner.is_some() || setup.fs_group().is_some() {
        Some(0o600)
    } else {
        mode
    };
    payload.insert(path, bytes, mode, None)?;
    if let Some(file) = payload.files.get_mut(path) {
        file.owner = owner;
    }
    Ok(())
}
