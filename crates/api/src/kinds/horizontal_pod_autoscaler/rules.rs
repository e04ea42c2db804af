//! What an autoscaler means when it does not say, and its rules, in the form of `autoscaling/v2`.

use serde_json::{Value, json};

use super::super::check::one_of_if_set;
use super::super::fill::{at, fill, map_made};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::quantity::Quantity;
use crate::selector::validate_label_selector;

/// Each metric's type and the field that holds it.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("External", "external"),
    ("ContainerResource", "containerResource"),
];

pub(super) fn set_defaults(object: &mut Object) {
    let v1 = object.api_version() == "autoscaling/v1";
    let Some(spec) = at(&mut object.0, "spec") else {
        return;
    };
    fill(spec, "minReplicas", 1);
    if v1 {
        return;
    }
    let metrics = spec.get("metrics").and_then(Value::as_array);
    if metrics.is_none_or(Vec::is_empty) {
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]),
        );
    }
    let Some(behavior) = at(spec, "behavior") else {
        return;
    };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = map_made(behavior, "scaleUp") {
        fill(up, "stabilizationWindowSeconds", 0);
        fill(up, "selectPolicy", "Max");
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        fill(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = map_made(behavior, "scaleDown") {
        fill(down, "selectPolicy", "Max");
        fill(down, "policies", json!([percent]));
    }
}

pub(super) fn validate(object: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if least.i64().is_some_and(|n| n < 1) {
        errors.invalid(&least, "must be greater than or equal to 1");
    }
    if most.int() < 1 {
        errors.invalid_value(&most, &most.int().into(), "must be greater than 0");
    } else if least.int() > most.int() {
        errors.invalid(&most, "must be greater than or equal to `minReplicas`");
    }
    reference(&spec.at("scaleTargetRef"), errors);
    for metric in spec.at("metrics").items() {
        one_metric(&metric, errors);
    }
    let behavior = spec.at("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.at(direction);
        if rules.is_set() {
            scaling_rules(&rules, errors);
        }
    }
}

fn reference(target: &Cursor<'_>, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        let part = target.at(field);
        if part.is_empty() {
            errors.required(&part, "");
        } else {
            errors.faults(&part, names::path_segment(part.str()));
        }
    }
}

fn one_metric(metric: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = metric.at("type");
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind.str()) else {
        if kind.is_empty() {
            errors.required(&kind, "must specify a metric source type");
        } else {
            let kinds: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
            errors.not_supported(&kind, &kinds);
        }
        return;
    };
    for (_, other) in SOURCES {
        let source = metric.at(other);
        if other != *field && source.is_set() {
            errors.forbidden(&source, "must populate the given metric source only");
        }
    }
    let source = metric.at(field);
    if !source.is_set() {
        errors.required(&source, "must populate information for the given metric source");
        return;
    }
    let target = source.at("target");
    metric_target(&target, errors);
    let (value, average, utilization) = (
        target.at("value"),
        target.at("averageValue"),
        target.at("averageUtilization"),
    );
    match *field {
        "resource" | "containerResource" => {
            let name = source.at("name");
            if name.is_empty() {
                errors.required(&name, "must specify a resource name");
            }
            if *field == "containerResource" && source.at("container").is_empty() {
                errors.required(&source.at("container"), "must specify a container");
            }
            match (utilization.is_set(), average.is_set()) {
                (false, false) => errors.required(
                    &utilization,
                    "must set either a target raw value or a target utilization",
                ),
                (true, true) => {
                    errors.forbidden(&average, "may not set both a target raw value and a target utilization")
                }
                _ => {}
            }
        }
        "pods" => {
            identifier(&source.at("metric"), errors);
            if average.quantity().is_none_or(|q| q <= Quantity::ZERO) {
                errors.required(&average, "must specify a positive target averageValue");
            }
        }
        "object" => {
            reference(&source.at("describedObject"), errors);
            identifier(&source.at("metric"), errors);
            if !value.is_set() && !average.is_set() {
                errors.required(&average, "must set either a target value or averageValue");
            }
        }
        _ => {
            identifier(&source.at("metric"), errors);
            match (value.is_set(), average.is_set()) {
                (false, false) => errors.required(
                    &average,
                    "must set either a target value for metric or a per-pod target",
                ),
                (true, true) => errors.forbidden(
                    &value,
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
    }
}

fn identifier(metric: &Cursor<'_>, errors: &mut ErrorList) {
    let name = metric.at("name");
    if name.is_empty() {
        errors.required(&name, "must specify a metric name");
    } else {
        errors.faults(&name, names::path_segment(name.str()));
    }
    validate_label_selector(&metric.at("selector"), errors);
}

fn metric_target(target: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = target.at("type");
    match kind.str() {
        "" => errors.required(&kind, "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        _ => errors.invalid(&kind, "must be either Utilization, Value, or AverageValue"),
    }
    for field in ["value", "averageValue"] {
        let amount = target.at(field);
        if amount.quantity().is_some_and(|q| q <= Quantity::ZERO) {
            errors.invalid(&amount, "must be positive");
        }
    }
    let utilization = target.at("averageUtilization");
    if utilization.i64().is_some_and(|n| n < 1) {
        errors.invalid(&utilization, "must be greater than 0");
    }
}

fn scaling_rules(rules: &Cursor<'_>, errors: &mut ErrorList) {
    let window = rules.at("stabilizationWindowSeconds");
    if window.int() < 0 {
        errors.invalid(&window, "must be greater than or equal to zero");
    }
    if window.int() > 3600 {
        errors.invalid(&window, "must be less than or equal to 3600");
    }
    one_of_if_set(&rules.at("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    let tolerance = rules.at("tolerance");
    if tolerance.quantity().is_some_and(|q| q.is_negative()) {
        errors.invalid(&tolerance, "must be greater than or equal to 0");
    }
    let policies = rules.at("policies");
    if policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        let kind = policy.at("type");
        if !matches!(kind.str(), "Pods" | "Percent") {
            errors.not_supported_value(&kind, &kind.str().into(), &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.at(field);
            if number.int() <= 0 {
                errors.invalid_value(&number, &number.int().into(), "must be greater than zero");
            }
        }
        let period = policy.at("periodSeconds");
        if period.int() > 1800 {
            errors.invalid(&period, "must be less than or equal to 1800");
        }
    }
}
