//! PodTopologyLabels: a pod that is bound to a node learns the node's zone and region by its own labels.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels;

#[async_trait]
impl Admission for PodTopologyLabels {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is_of("", "pods", "binding")
    }

    async fn mutate(&self, attributes: &Attributes<'_>, binding: &mut Object) -> Result<bool, Status> {
        let node = binding.str(&["target", "name"]).unwrap_or_default().to_owned();
        let Some(node) = attributes.find("", "v1", "nodes", "", &node).await? else {
            return Ok(false);
        };
        let mut changed = false;
        for label in LABELS {
            if let Some(value) = node.label(label) {
                binding.set(&["metadata", "labels", label], value);
                changed = true;
            }
        }
        Ok(changed)
    }
}
