//! RuntimeClass: which container runtime runs a pod.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::immutable;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .conditional_update()
        .columns([name(), text("Handler", "The runtime's name on the node."), age()])
        .strategy(RuntimeClass)
        .build()
}

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let handler = object.at("handler");
        if handler.is_empty() {
            errors.required(&handler, "");
        } else {
            errors.faults(&handler, names::dns1123_label(handler.str()));
        }
        let overhead = object.at("overhead");
        super::pod_spec::overhead(&overhead, &overhead.at("podFixed"), errors);
        let scheduling = object.at("scheduling");
        names::labels(&scheduling.at("nodeSelector"), errors);
        let tolerations = scheduling.at("tolerations");
        super::pod_spec::tolerations(&tolerations, errors);
        let mut seen = std::collections::BTreeSet::new();
        for toleration in tolerations.items() {
            let key = ["key", "operator", "value", "effect"].map(|field| toleration.at(field).str().to_owned());
            if !seen.insert(key) {
                errors.duplicate(&toleration);
            }
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        immutable(&new.at("handler"), &old.at("handler"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), str_of(object, &["handler"]), age_of(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_handler_is_a_label_and_stays() {
        let valid = json!({"metadata": {"name": "r"}, "handler": "runc"});
        refuses(
            &row(),
            &valid,
            &[
                ("/handler", json!(""), "handler: Required value"),
                (
                    "/handler",
                    json!("a.b"),
                    "handler: Invalid value: \"a.b\": must not contain dots",
                ),
            ],
        );
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/overhead",
                    json!({"podFixed": {"pods": "1"}}),
                    "overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
                ),
                (
                    "/scheduling",
                    json!({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]}),
                    "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/handler",
                json!("crun"),
                "handler: Invalid value: \"crun\": field is immutable",
            )],
        );
    }
}
