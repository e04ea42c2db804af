//! ReplicationController: what ReplicaSet replaced; its selector is a plain map.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, format_labels, images, int_of, integer, name, names_and_images, selector};
use super::check::not_negative;
use super::fill::{at, fill};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use super::workload::{counts, lasting_template, selects_template};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::LabelSelector;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .in_all()
        .prefix("controllers")
        .scale(".spec.selector")
        .status()
        .generation()
        .fields(&["status.replicas"])
        .columns([
            name(),
            integer("Desired", "How many replicas are wanted."),
            integer("Current", "How many replicas there are."),
            integer("Ready", "How many replicas are ready."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(ReplicationController)
        .build()
}

struct ReplicationController;

impl Strategy for ReplicationController {
    /// Selector and labels are the template's labels unless they are told.
    fn set_defaults(&self, object: &mut Object) {
        let labels = object.get(&["spec", "template", "metadata", "labels"]).cloned();
        if let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) {
            for path in [&["spec", "selector"][..], &["metadata", "labels"]] {
                let there = object.get(path).and_then(Value::as_object);
                if there.is_none_or(serde_json::Map::is_empty) {
                    object.set(path, labels.clone());
                }
            }
        }
        if let Some(spec) = at(&mut object.0, "spec") {
            fill(spec, "replicas", 1);
            if let Some(template) = at(spec, "template") {
                set_template_defaults(template);
            }
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        not_negative(&spec.at("minReadySeconds"), errors);
        let selector = spec.at("selector");
        if selector.is_empty() {
            errors.required(&selector, "");
        }
        not_negative(&spec.at("replicas"), errors);
        let template = spec.at("template");
        let labels: Vec<(&str, &str)> = selector
            .value()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
            .collect();
        if template.is_set()
            && let Ok(selector) = LabelSelector::from_labels(labels)
        {
            selects_template(&selector, &template, errors);
        }
        lasting_template(&template, "ReplicationController", &[], errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        counts(
            &new.at("status"),
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
            ],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
            errors,
        );
    }

    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "status.replicas" => int_of(object, &["status", "replicas"]).to_string(),
            _ => String::new(),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            int_of(object, &["spec", "replicas"]).into(),
            int_of(object, &["status", "replicas"]).into(),
            int_of(object, &["status", "readyReplicas"]).into(),
            age_of(object, now),
            names,
            images,
            format_labels(object.get(&["spec", "selector"])).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": "x:1"}]}}},
        })
    }

    #[test]
    fn the_selector_is_the_templates_labels() {
        let object = defaulted(&row(), valid());
        assert_eq!(object["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(object["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(object["spec"]["replicas"], 1);
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/selector",
                    json!({"app": "other"}),
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match \
                     template `labels`",
                ),
                (
                    "/spec/template/spec/restartPolicy",
                    json!("Never"),
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ),
                (
                    "/spec/minReadySeconds",
                    json!(-1),
                    "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
                ),
            ],
        );
    }
}
