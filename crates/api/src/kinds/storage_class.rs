//! StorageClass: how volumes of one sort are made.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::{immutable, not_empty, one_of, one_of_if_set, same};
use super::fill::fill;
use super::pod_spec::topology_selector_term;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .short(&["sc"])
        .columns([
            name(),
            text("Provisioner", "Who makes the volumes."),
            text("ReclaimPolicy", "What happens to a volume when its claim is gone."),
            text("VolumeBindingMode", "When a claim is bound to a volume."),
            text("AllowVolumeExpansion", "Whether volumes may grow."),
            age(),
        ])
        .strategy(StorageClass)
        .build()
}

const MOST_PARAMETERS: usize = 512;
/// Bytes of all keys and values.
const LONGEST_PARAMETERS: usize = 256 * 1024;

struct StorageClass;

impl Strategy for StorageClass {
    fn set_defaults(&self, object: &mut Object) {
        fill(&mut object.0, "reclaimPolicy", "Delete");
        fill(&mut object.0, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        provisioner(&object.at("provisioner"), errors);
        parameters(&object.at("parameters"), errors);
        one_of_if_set(&object.at("reclaimPolicy"), &["Delete", "Retain"], errors);
        one_of(
            &object.at("volumeBindingMode"),
            &["Immediate", "WaitForFirstConsumer"],
            errors,
        );
        let mut seen = Vec::new();
        for term in object.at("allowedTopologies").items() {
            topology_selector_term(&term, errors);
            let expressions = term.at("matchLabelExpressions");
            let shown = expressions.value().cloned();
            if seen
                .iter()
                .any(|other: &Option<Value>| same(other.as_ref(), shown.as_ref()))
            {
                errors.duplicate_value(&expressions, &"".into(), "");
            }
            seen.push(shown);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        not_empty(&new.at("provisioner"), errors);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(&new.at(field), &old.at(field), errors);
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut name = object.name().to_owned();
        if is_default(object) {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            str_of(object, &["provisioner"]),
            object.str(&["reclaimPolicy"]).unwrap_or("Delete").into(),
            object.str(&["volumeBindingMode"]).unwrap_or("Immediate").into(),
            object.bool(&["allowVolumeExpansion"]).unwrap_or_default().into(),
            age_of(object, now),
        ]
    }
}

/// Who makes volumes: a qualified name, in whatever case.
pub(super) fn provisioner(at: &Cursor<'_>, errors: &mut ErrorList) {
    let name = at.str().to_lowercase();
    if name.is_empty() {
        return errors.required(at, "");
    }
    for fault in names::qualified_name(&name) {
        errors.invalid_value(at, &name.as_str().into(), fault);
    }
}

/// What the provisioner is told: few keys, and all of it small.
pub(super) fn parameters(at: &Cursor<'_>, errors: &mut ErrorList) {
    if at.len() > MOST_PARAMETERS {
        return errors.too_long(at, MOST_PARAMETERS);
    }
    let mut bytes = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.invalid_value(at, &key.into(), "field can not be empty.");
        }
        bytes += key.len() + value.str().len();
    }
    if bytes > LONGEST_PARAMETERS {
        errors.too_long(at, LONGEST_PARAMETERS);
    }
}

fn is_default(class: &Object) -> bool {
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .into_iter()
    .any(|key| class.annotation(key) == Some("true"))
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_is_checked_and_stays() {
        let valid = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "parameters": {"a": "b"}});
        refuses(
            &row(),
            &valid,
            &[
                ("/provisioner", json!(""), "provisioner: Required value"),
                (
                    "/reclaimPolicy",
                    json!("Recycle"),
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                ),
                (
                    "/volumeBindingMode",
                    json!("X"),
                    "volumeBindingMode: Unsupported value: \"X\": supported values: \"Immediate\", \
                     \"WaitForFirstConsumer\"",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[
                (
                    "/provisioner",
                    json!("x/y"),
                    "provisioner: Invalid value: \"x/y\": field is immutable",
                ),
                (
                    "/parameters/a",
                    json!("c"),
                    "parameters: Invalid value: {\"a\":\"c\"}: field is immutable",
                ),
                (
                    "/volumeBindingMode",
                    json!("WaitForFirstConsumer"),
                    "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
                ),
                (
                    "/reclaimPolicy",
                    json!("Retain"),
                    "reclaimPolicy: Invalid value: \"Retain\": field is immutable",
                ),
            ],
        );
    }
}
