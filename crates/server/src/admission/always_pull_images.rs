//! AlwaysPullImages: every container's image is pulled anew, so that a private image on the node is no way around its
//! credentials. Off by default.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) struct AlwaysPullImages;

#[async_trait]
impl Admission for AlwaysPullImages {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && (attributes.is("pods") || attributes.is_of("", "pods", "ephemeralcontainers"))
    }

    async fn mutate(&self, _attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        let mut changed = false;
        for list in LISTS {
            let containers = pod.get_mut(&["spec", list]).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                let always = Value::from("Always");
                changed |= container.insert("imagePullPolicy".into(), always.clone()) != Some(always);
            }
        }
        // Image volumes are pulled by the same rule.
        let volumes = pod.get_mut(&["spec", "volumes"]).and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
                let always = Value::from("Always");
                changed |= image.insert("pullPolicy".into(), always.clone()) != Some(always);
            }
        }
        Ok(changed)
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = pod else { return Ok(()) };
        for list in LISTS {
            for container in pod.array(&["spec", list]) {
                let policy = container
                    .get("imagePullPolicy")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if policy != "Always" {
                    return Err(attributes.forbidden(format!(
                        "spec.{list}.imagePullPolicy: Unsupported value: {policy:?}: supported values: \"Always\""
                    )));
                }
            }
        }
        Ok(())
    }
}
