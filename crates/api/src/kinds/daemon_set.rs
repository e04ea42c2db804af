//! DaemonSet: one pod on every node that fits.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, containers, format_labels, format_selector, images, int_of, integer, name, names_and_images, selector,
    text,
};
use super::check::{immutable, not_negative};
use super::fill::{at, fill, fill_empty, map_made};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use super::workload::{
    at_most_all, int_or_percent, is_none, lasting_template, not_decremented, selector as valid_selector,
    selects_template,
};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .status()
        .generation()
        .columns([
            name(),
            integer("Desired", "How many nodes should run the pod."),
            integer("Current", "How many nodes that should run the pod do."),
            integer("Ready", "How many nodes have a ready pod."),
            integer("Up-to-date", "How many nodes run the newest template."),
            integer("Available", "How many nodes have an available pod."),
            text("Node Selector", "The labels of the nodes that run the pod."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(DaemonSet)
        .build()
}

struct DaemonSet;

/// Counts the templates that a set has had. Pods carry it in a label.
const TEMPLATE_GENERATION: [&str; 3] = ["metadata", "annotations", "deprecated.daemonset.template.generation"];

impl Strategy for DaemonSet {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(update) = map_made(spec, "updateStrategy") {
            fill_empty(update, "type", "RollingUpdate");
            if update.get("type") == Some(&Value::from("RollingUpdate"))
                && let Some(rolling) = map_made(update, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", 1);
                fill(rolling, "maxSurge", 0);
            }
        }
        if let Some(template) = at(spec, "template") {
            set_template_defaults(template);
        }
    }

    fn prepare_for_create(&self, object: &mut Object) {
        object.set(&TEMPLATE_GENERATION, "1");
    }

    fn prepare_for_update(&self, new: &mut Object, old: &Object) {
        let before: i64 = old.str(&TEMPLATE_GENERATION).and_then(|g| g.parse().ok()).unwrap_or(1);
        let template = |o: &Object| o.get(&["spec", "template"]).cloned();
        let changed = template(new) != template(old);
        new.set(&TEMPLATE_GENERATION, (before + i64::from(changed)).to_string());
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let template = spec.at("template");
        let selector = valid_selector(&spec.at("selector"), "empty selector is invalid for daemonset", errors);
        if let Some(selector) = selector {
            selects_template(&selector, &template, errors);
        }
        lasting_template(&template, "DaemonSet", &[], errors);
        not_negative(&spec.at("minReadySeconds"), errors);
        not_negative(&spec.at("revisionHistoryLimit"), errors);
        rollout(&spec.at("updateStrategy"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        immutable(&spec.at("selector"), &old_spec.at("selector"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (status, old_status) = (new.at("status"), old.at("status"));
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            not_negative(&status.at(field), errors);
        }
        not_decremented(&status.at("collisionCount"), &old_status.at("collisionCount"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |field| Value::from(int_of(object, &["status", field]));
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            format_labels(object.get(&["spec", "template", "spec", "nodeSelector"])).into(),
            age_of(object, now),
            names,
            images,
            format_selector(object.get(&["spec", "selector"])).into(),
        ]
    }
}

/// How pods of an old template are replaced.
fn rollout(update: &Cursor<'_>, errors: &mut ErrorList) {
    let rolling = update.at("rollingUpdate");
    match update.at("type").str() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            int_or_percent(&unavailable, errors);
            at_most_all(&unavailable, errors);
            int_or_percent(&surge, errors);
            at_most_all(&surge, errors);
            match (is_none(&unavailable), is_none(&surge)) {
                (true, true) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (false, false) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        _ => errors.not_supported(update, &["RollingUpdate", "OnDelete"]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update};
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
    fn one_pod_at_a_time_is_replaced() {
        let spec = &defaulted(&row(), valid())["spec"];
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
    }

    #[test]
    fn the_templates_generation_is_counted_and_cannot_be_chosen() {
        let of = |o: &Object| o.str(&TEMPLATE_GENERATION).map(str::to_owned);
        let mut first = Object::from_value(valid()).unwrap();
        first.set(&TEMPLATE_GENERATION, "7");
        DaemonSet.prepare_for_create(&mut first);
        assert_eq!(of(&first).as_deref(), Some("1"));
        let mut same = first.clone();
        same.set(&["spec", "minReadySeconds"], 3);
        same.set(&TEMPLATE_GENERATION, "7");
        DaemonSet.prepare_for_update(&mut same, &first);
        assert_eq!(of(&same).as_deref(), Some("1"));
        let mut changed = first.clone();
        changed.set(&["spec", "template", "metadata", "labels", "more"], "x");
        DaemonSet.prepare_for_update(&mut changed, &first);
        assert_eq!(of(&changed).as_deref(), Some("2"));
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/updateStrategy",
                    json!({"rollingUpdate": {"maxUnavailable": 0}}),
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ),
                (
                    "/spec/updateStrategy",
                    json!({"rollingUpdate": {"maxSurge": 1}}),
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is \
                     non-zero",
                ),
                (
                    "/spec/updateStrategy",
                    json!({"type": "X"}),
                    "spec.updateStrategy: Unsupported value: {\"type\":\"X\"}: supported values: \"RollingUpdate\", \
                     \"OnDelete\"",
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
}
