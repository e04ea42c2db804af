//! ReplicaSet: so many pods of one template.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, containers, format_selector, images, int_of, integer, name, names_and_images, selector,
};
use super::check::{IMMUTABLE, not_negative, same};
use super::fill::{at, fill};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use super::workload::{counts, lasting_template, selector as valid_selector, selects_template};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "ReplicaSet", "replicasets")
        .short(&["rs"])
        .in_all()
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
        .strategy(ReplicaSet)
        .build()
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(spec) = at(&mut object.0, "spec") {
            fill(spec, "replicas", 1);
            if let Some(template) = at(spec, "template") {
                set_template_defaults(template);
            }
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        not_negative(&spec.at("replicas"), errors);
        not_negative(&spec.at("minReadySeconds"), errors);
        let template = spec.at("template");
        if let Some(selector) = valid_selector(&spec.at("selector"), "empty selector is invalid for deployment", errors)
        {
            selects_template(&selector, &template, errors);
            lasting_template(&template, "ReplicaSet", &[], errors);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let selector = spec.at("selector");
        if !same(selector.value(), old_spec.at("selector").value()) {
            errors.invalid(&selector, IMMUTABLE);
        }
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
            format_selector(object.get(&["spec", "selector"])).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update, texts};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "a", "image": "x:1"}]}},
            },
        })
    }

    #[test]
    fn there_is_one_replica_unless_said_otherwise() {
        let object = defaulted(&row(), valid());
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(object["spec"]["template"]["spec"].get("enableServiceLinks"), None);
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/replicas",
                    json!(-1),
                    "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                ),
                ("/spec/selector", json!(null), "spec.selector: Required value"),
                (
                    "/spec/selector",
                    json!({}),
                    "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
                ),
                (
                    "/spec/selector/matchLabels/app",
                    json!("other"),
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match \
                     template `labels`",
                ),
                (
                    "/spec/template/spec/containers",
                    json!([]),
                    "spec.template.spec.containers: Required value",
                ),
                (
                    "/spec/template/spec/restartPolicy",
                    json!("Never"),
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ),
                (
                    "/spec/template/spec/activeDeadlineSeconds",
                    json!(5),
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not \
                     Supported",
                ),
            ],
        );
    }

    #[test]
    fn the_selector_stays() {
        let two =
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]});
        refuses_update(
            &row(),
            &valid(),
            &[(
                "/spec/selector",
                two,
                "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"x\",\"operator\":\
                 \"DoesNotExist\"}],\"matchLabels\":{\"app\":\"web\"}}: field is immutable",
            )],
        );
    }

    #[test]
    fn status_counts_agree() {
        let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 2}});
        let mut errors = ErrorList::new();
        let row = row();
        row.strategy.validate_status_update(
            &Cursor::root(&status, Some(row.schema())),
            &Cursor::root(&status, None),
            &mut errors,
        );
        assert_eq!(
            texts(&errors),
            [
                "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas"
            ]
        );
    }
}
