//! `secret`: the keys of a secret as files in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource};

use super::payload::Payload;
use super::{Setup, Volume};

#[async_trait]
impl Volume for SecretVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let mut payload = Payload::default();
        let items = self.items.as_deref().unwrap_or_default();
        let secret = self.secret_name.as_deref().unwrap_or_default();
        collect(
            &mut payload,
            secret,
            items,
            self.default_mode,
            self.optional == Some(true),
            setup,
        )
        .await?;
        payload.publish(&setup.dir("secret", name), true, setup)
    }
}

/// Adds the secret's files.
pub(super) async fn collect(
    payload: &mut Payload,
    name: &str,
    items: &[KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
    setup: &Setup<'_>,
) -> Result<(), String> {
    let found = setup
        .objects
        .secret(setup.namespace(), name)
        .await
        .map_err(|e| e.to_string())?;
    let Some(secret) = found else {
        return if optional {
            Ok(())
        } else {
            Err(format!("secret \"{name}\" not found"))
        };
    };
    let data: BTreeMap<_, _> = secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect();
    payload.select(
        &data,
        items,
        default_mode,
        optional,
        "references non-existent secret key",
    )
}
