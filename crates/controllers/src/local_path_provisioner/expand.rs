//! Expansion: a bound claim that asks for more than it has gets it, first on the volume, then in its own status.

use coracle_client::event::EventType;
use coracle_client::{ObjectKey, Patch, gone_is_done};
use coracle_informer::Error;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::{Provisioner, plan};
use crate::persistent_volume::fit;

impl Provisioner {
    pub(super) async fn expand(&self, key: &ObjectKey<PersistentVolumeClaim>) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key).filter(|c| fit::wants_more(c)) else {
            return Ok(());
        };
        let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let volume = self.volumes.find("", name.unwrap_or_default());
        let Some(volume) = volume.filter(|v| plan::made_here(v) && fit::is_bound_to(v, &claim)) else {
            return Ok(());
        };
        let requests = claim
            .spec
            .as_ref()
            .and_then(|s| s.resources.as_ref()?.requests.as_ref());
        let Some(size) = requests.and_then(|r| r.get("storage")) else {
            return Ok(());
        };
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let tell = |reason: &str, message: String| self.events.event(&*claim, EventType::Normal, reason, message);
        if fit::capacity(&volume) < fit::request(&claim) {
            tell("Resizing", format!("External resizer is resizing volume {name}"));
            let patch = json!({"metadata": {"uid": volume.metadata.uid}, "spec": {"capacity": {"storage": size}}});
            let volumes = self.client.all::<PersistentVolume>();
            volumes.patch(name, Patch::Merge(patch)).await?;
        }
        let patch = json!({"metadata": {"uid": claim.metadata.uid}, "status": {"capacity": {"storage": size}}});
        let claims = self.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
        let patched = claims.status().patch(&key.name, Patch::Merge(patch)).await;
        if gone_is_done(patched)?.is_some() {
            tell("VolumeResizeSuccessful", "Resize volume succeeded".to_owned());
        }
        Ok(())
    }
}
