//! ExtendedResourceToleration: a pod that asks for an extended resource tolerates the taint of that name, by which nodes
//! with the resource are kept for those who need it. Off by default.

use std::collections::BTreeSet;

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::{Value, json};

use super::{Admission, Attributes, Operation};

pub(super) struct ExtendedResourceToleration;

#[async_trait]
impl Admission for ExtendedResourceToleration {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("pods") && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        let wanted = extended(pod);
        let mut tolerations = pod.array(&["spec", "tolerations"]).to_vec();
        let before = tolerations.len();
        for resource in wanted {
            let added = json!({"key": resource, "operator": "Exists"});
            let known = tolerations.iter().any(|t| {
                t.get("key").and_then(Value::as_str) == Some(resource.as_str())
                    && t.get("operator").and_then(Value::as_str) == Some("Exists")
                    && t.get("effect").and_then(Value::as_str).unwrap_or_default().is_empty()
            });
            if !known {
                tolerations.push(added);
            }
        }
        let changed = tolerations.len() > before;
        if changed {
            pod.set(&["spec", "tolerations"], tolerations);
        }
        Ok(changed)
    }
}

/// The extended resources that containers request.
fn extended(pod: &Object) -> BTreeSet<String> {
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().flat_map(|list| pod.array(&["spec", list]));
    containers
        .filter_map(|c| c.pointer("/resources/requests")?.as_object())
        .flat_map(|requests| requests.keys())
        .filter(|name| is_extended(name))
        .cloned()
        .collect()
}

fn is_extended(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else {
        return false;
    };
    !(domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || name.starts_with("requests."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_with_a_foreign_domain_is_extended() {
        for (name, expected) in [
            ("cpu", false),
            ("hugepages-2Mi", false),
            ("kubernetes.io/x", false),
            ("example.com/gpu", true),
        ] {
            assert_eq!(is_extended(name), expected, "{name}");
        }
    }
}
