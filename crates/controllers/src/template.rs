//! Pods from templates, and the hash that names a template's version.

use coracle_api::schema::decode::{Mode, decode};
use coracle_api::schema::{built_in, type_node};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

/// Letters and digits that form no words, as upstream's name generator uses.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new pod from a template, named after its owner.
pub fn pod_from_template(template: &PodTemplateSpec, namespace: &str, prefix: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{prefix}-")),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The hash of a template (and of the count of collisions so far): the same template gives the same text.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // serde_json's maps are sorted, so the text is canonical.
    let text = serde_json::to_value(template)
        .map(|v| v.to_string())
        .unwrap_or_default();
    let mut hash = fnv32(0x811c_9dc5, text.as_bytes());
    if let Some(collisions) = collisions {
        hash = fnv32(hash, &collisions.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|b| SAFE[usize::from(b) % SAFE.len()] as char)
        .collect()
}

fn fnv32(seed: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(seed, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

/// Equal but for the label that carries the hash.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let without_hash = |t: &PodTemplateSpec| {
        let mut t = t.clone();
        if let Some(labels) = t.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove("pod-template-hash");
        }
        t
    };
    let (a, b) = (without_hash(a), without_hash(b));
    a == b || settled(json!(a)) == settled(json!(b))
}

/// A template in the form in which a server prints it: what one server leaves out and another prints as empty is the
/// same, or pods would be replaced when the servers are.
pub fn settled(mut template: Value) -> Value {
    let schema = type_node("io.k8s.api.core.v1.PodTemplateSpec").map(|node| built_in().at(node));
    // What does not fit the schema stays as it is.
    if let Some(schema) = schema {
        let _ = decode(&mut template, schema, Mode::Whole);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn templates_that_differ_in_what_is_printed_of_nothing_are_the_same() {
        let short = template(json!({"spec": {"containers": [{"name": "a", "image": "b"}]}}));
        let long = template(json!({"metadata": {"labels": {"pod-template-hash": "x"}},
            "spec": {"containers": [{"name": "a", "image": "b", "resources": {}}], "hostNetwork": false}}));
        assert!(same_template(&short, &long));
        let other = template(json!({"spec": {"containers": [{"name": "a", "image": "c", "resources": {}}]}}));
        assert!(!same_template(&short, &other));
        // Where empty and absent differ in meaning, they are not the same.
        let spread = |selector: Value| {
            let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
            if !selector.is_null() {
                one["labelSelector"] = selector;
            }
            template(json!({"spec": {"containers": [], "topologySpreadConstraints": [one]}}))
        };
        assert!(!same_template(&spread(json!({})), &spread(Value::Null)));
    }
}
