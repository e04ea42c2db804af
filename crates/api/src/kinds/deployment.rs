//! Deployment: replicas of one template, replaced step by step when the template changes.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, images, int_of, name, names_and_images, selector, selector_text, text};
use super::check::{IMMUTABLE, not_negative, same};
use super::fill::{at, fill, fill_empty, map_made};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use super::workload::{
    at_most_all, counts, int_or_percent, is_none, lasting_template, not_decremented, selector as valid_selector,
    selects_template,
};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .scale(".spec.selector")
        .status()
        .generation()
        .columns([
            name(),
            text("Ready", "Number of the pod with ready state"),
            text("Up-to-date", "How many replicas have the newest template."),
            text("Available", "How many replicas have been ready for long enough."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(Deployment)
        .build()
}

struct Deployment;

impl Strategy for Deployment {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = map_made(spec, "strategy") {
            fill_empty(strategy, "type", "RollingUpdate");
            if strategy.get("type") == Some(&Value::from("RollingUpdate"))
                && let Some(rolling) = map_made(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", "25%");
                fill(rolling, "maxSurge", "25%");
            }
        }
        if let Some(template) = at(spec, "template") {
            set_template_defaults(template);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        not_negative(&spec.at("replicas"), errors);
        let template = spec.at("template");
        if let Some(selector) = valid_selector(&spec.at("selector"), "empty selector is invalid for deployment", errors)
        {
            selects_template(&selector, &template, errors);
            lasting_template(&template, "ReplicaSet", &[], errors);
        }
        rollout(&spec.at("strategy"), errors);
        let ready = spec.at("minReadySeconds");
        not_negative(&ready, errors);
        not_negative(&spec.at("revisionHistoryLimit"), errors);
        let deadline = spec.at("progressDeadlineSeconds");
        if deadline.is_set() {
            not_negative(&deadline, errors);
            if deadline.int() <= ready.int() {
                errors.invalid(&deadline, "must be greater than minReadySeconds");
            }
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

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        counts(
            &status,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
            errors,
        );
        let old_status = old.at("status");
        not_decremented(&status.at("collisionCount"), &old_status.at("collisionCount"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let status = |field| int_of(object, &["status", field]);
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            format!("{}/{}", status("readyReplicas"), int_of(object, &["spec", "replicas"])).into(),
            status("updatedReplicas").into(),
            status("availableReplicas").into(),
            age_of(object, now),
            names,
            images,
            selector_text(object.get(&["spec", "selector"])).into(),
        ]
    }
}

/// How pods of an old template are replaced.
fn rollout(strategy: &Cursor<'_>, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").str() {
        "Recreate" if rolling.is_set() => {
            errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            int_or_percent(&unavailable, errors);
            int_or_percent(&surge, errors);
            if is_none(&unavailable) && is_none(&surge) {
                errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(&unavailable, errors);
        }
        _ => errors.not_supported(strategy, &["Recreate", "RollingUpdate"]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update};
    use super::*;

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
    fn a_deployment_gets_its_defaults() {
        let mut spec = defaulted(&row(), valid())["spec"].clone();
        spec.as_object_mut().unwrap().remove("template");
        assert_eq!(
            spec,
            json!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            })
        );
        let mut recreate = valid();
        recreate["spec"]["strategy"] = json!({"type": "Recreate"});
        assert_eq!(
            defaulted(&row(), recreate)["spec"]["strategy"],
            json!({"type": "Recreate"})
        );
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/strategy",
                    json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ),
                (
                    "/spec/strategy",
                    json!({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "101%"}}),
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than \
                     100%",
                ),
                (
                    "/spec/strategy",
                    json!({"rollingUpdate": {"maxSurge": "x"}}),
                    "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a \
                     numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is \
                     '[0-9]+%')",
                ),
                (
                    "/spec/strategy",
                    json!({"type": "Recreate", "rollingUpdate": {}}),
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ),
                (
                    "/spec/progressDeadlineSeconds",
                    json!(0),
                    "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
                ),
                (
                    "/spec/selector/matchLabels/app",
                    json!("other"),
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match \
                     template `labels`",
                ),
                (
                    "/spec/template/spec/containers/0/image",
                    json!(""),
                    "spec.template.spec.containers[0].image: Required value",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid(),
            &[(
                "/spec/selector",
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: \
                 field is immutable",
            )],
        );
    }

    use serde_json::json;

    #[test]
    fn the_table_tells_how_far_a_rollout_is() {
        let deployment = Object::from_value(json!({
            "metadata": {"name": "web", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}},
            },
            "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
        }))
        .unwrap();
        assert_eq!(
            Value::from(Deployment.cells(&deployment, "2024-01-01T00:05:00Z".parse().unwrap())),
            json!(["web", "1/3", 2, 1, "5m", "a,b", "x:1,y", "app=web"])
        );
    }
}
