//! `configMap`: the keys of a config map as files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath};

use super::payload::Payload;
use super::{Setup, Volume};

#[async_trait]
impl Volume for ConfigMapVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let mut payload = Payload::default();
        let items = self.items.as_deref().unwrap_or_default();
        collect(
            &mut payload,
            &self.name,
            items,
            self.default_mode,
            self.optional == Some(true),
            setup,
        )
        .await?;
        payload.publish(&setup.dir("configmap", name), false, setup)
    }
}

/// Adds the config map's files.
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
        .config_map(setup.namespace(), name)
        .await
        .map_err(|e| e.to_string())?;
    let Some(map) = found else {
        return if optional {
            Ok(())
        } else {
            Err(format!("configmap \"{name}\" not found"))
        };
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    let data: BTreeMap<_, _> = text.chain(binary).collect();
    payload.select(
        &data,
        items,
        default_mode,
        optional,
        "configmap references non-existent config key",
    )
}
