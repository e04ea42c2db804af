//! `downwardAPI`: fields of the pod as files.

use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource};

use super::payload::Payload;
use super::{Setup, Volume};
use crate::pod::downward;

#[async_trait]
impl Volume for DownwardAPIVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let mut payload = Payload::default();
        collect(
            &mut payload,
            self.items.as_deref().unwrap_or_default(),
            self.default_mode,
            setup,
        )?;
        payload.publish(&setup.dir("downward-api", name), true, setup)
    }
}

/// Adds the fields' files. Addresses are not among the fields that volumes may show.
pub(super) fn collect(
    payload: &mut Payload,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    setup: &Setup<'_>,
) -> Result<(), String> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(setup.pod, &field.field_path, &[], setup.node)?
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(setup.pod, resource, &Container::default(), setup.node)?
        } else {
            return Err(format!("downward API file {:?} names no field", item.path));
        };
        payload.insert(&item.path, text.into_bytes(), item.mode, default_mode)?;
    }
    Ok(())
}
