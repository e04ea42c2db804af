//! PersistentVolumeClaimResize: a claim grows only if its class says that its volumes can.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::quantity::Quantity;
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};

const CLAIM_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize;

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("persistentvolumeclaims") && attributes.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, claim: Option<&Object>) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (claim, attributes.old) else {
            return Ok(());
        };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old.str(&["status", "phase"]) != Some("Bound") {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = claim
            .annotation(CLAIM_CLASS)
            .or_else(|| claim.str(&["spec", "storageClassName"]))
            .unwrap_or_default();
        let expands = match class {
            "" => false,
            name => attributes
                .find("storage.k8s.io", "v1", "storageclasses", "", name)
                .await?
                .is_some_and(|c| c.bool(&["allowVolumeExpansion"]) == Some(true)),
        };
        if expands {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}

fn size(claim: &Object) -> Quantity {
    let asked = claim.get(&["spec", "resources", "requests", "storage"]);
    asked
        .and_then(|v| Quantity::from_json(v).ok())
        .unwrap_or(Quantity::ZERO)
}
