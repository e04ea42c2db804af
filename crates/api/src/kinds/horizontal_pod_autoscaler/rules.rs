//! What an autoscaler means when it does not say, and its rules, in the form of `autoscaling/v2`.

use serde_json::{Value, json};

use super::super::check::{container_resource_name, not_negative, one_of_if_set};
use super::super::fill::{at, fill, map_made};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::quantity::Quantity;

/// Each metric's type and the field that holds it.
/// In the order in which the first that is there is looked for.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
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
    match most.int() {
        0 => errors.required(&most, ""),
        n if n < 0 => errors.invalid(&most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_set() && least.int() > most.int() {
        errors.invalid_value(
            &most,
            &most.int().into(),
            "must be greater than or equal to `minReplicas`",
        );
    }
    reference(&spec.at("scaleTargetRef"), errors);
    let metrics = spec.at("metrics");
    for metric in metrics.items() {
        one_metric(&metric, errors);
    }
    let to_zero = least.i64() == Some(0);
    if to_zero
        && !metrics
            .items()
            .any(|m| matches!(m.at("type").str(), "Object" | "External"))
    {
        errors.forbidden(
            &metrics,
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    let behavior = spec.at("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.at(direction);
        if rules.is_set() {
            scaling_rules(&rules, errors);
        }
    }
}

/// The rules for an update of `status`.
pub(super) fn validate_status(object: &Cursor<'_>, errors: &mut ErrorList) {
    let status = object.at("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        not_negative(&status.at(field), errors);
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

/// Of several sources, the first is checked; the one that the type names is what there should be.
fn one_metric(metric: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = metric.at("type");
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.str());
    if kind.is_empty() {
        errors.required(&kind, "must specify a metric source type");
    }
    if expected.is_none() {
        not_a_source(&kind, errors);
    }
    let present: Vec<&str> = SOURCES
        .iter()
        .map(|(_, field)| *field)
        .filter(|field| metric.at(field).is_set())
        .collect();
    if let Some(first) = present.first() {
        source(&metric.at(first), first, errors);
    }
    match expected {
        Some((_, field)) if !metric.at(field).is_set() => {
            errors.required(
                &metric.at(field),
                "must populate information for the given metric source",
            );
        }
        Some(_) => {}
        None => not_a_source(&kind, errors),
    }
    if present.len() == 1 {
        return;
    }
    for other in present {
        if expected.is_none_or(|(_, field)| *field != other) {
            errors.forbidden(&metric.at(other), "must populate the given metric source only");
        }
    }
}

fn not_a_source(kind: &Cursor<'_>, errors: &mut ErrorList) {
    let mut kinds = SOURCES.map(|(name, _)| name);
    kinds.sort_unstable();
    errors.not_supported_value(kind, &kind.str().into(), &kinds);
}

fn source(source: &Cursor<'_>, field: &str, errors: &mut ErrorList) {
    let target = source.at("target");
    let (value, average, utilization) = (
        target.at("value"),
        target.at("averageValue"),
        target.at("averageUtilization"),
    );
    match field {
        "resource" | "containerResource" => {
            let name = source.at("name");
            if name.is_empty() {
                errors.required(&name, "must specify a resource name");
            } else if field == "containerResource" {
                container_resource_name(&name, name.str(), errors);
            }
            if field == "containerResource" {
                let container = source.at("container");
                if container.is_empty() {
                    errors.required(&container, "must specify a container");
                } else {
                    errors.faults(&container, names::dns1123_label(container.str()));
                }
            }
            metric_target(&target, errors);
            match (utilization.is_set(), average.is_set()) {
                (false, false) => errors.required(
                    &utilization,
                    "must set either a target raw value or a target utilization",
                ),
                (true, true) => {
                    errors.forbidden(&average, "may not set both a target raw value and a target utilization");
                }
                _ => {}
            }
        }
        "pods" => {
            identifier(&source.at("metric"), errors);
            metric_target(&target, errors);
            if !average.is_set() {
                errors.required(&average, "must specify a positive target averageValue");
            }
        }
        "object" => {
            reference(&source.at("describedObject"), errors);
            identifier(&source.at("metric"), errors);
            metric_target(&target, errors);
            if !value.is_set() && !average.is_set() {
                errors.required(&average, "must set either a target value or averageValue");
            }
        }
        _ => {
            identifier(&source.at("metric"), errors);
            metric_target(&target, errors);
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
}

fn metric_target(target: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = target.at("type");
    match kind.str() {
        "Utilization" | "Value" | "AverageValue" => {}
        given => {
            if given.is_empty() {
                errors.required(&kind, "must specify a metric target type");
            }
            errors.invalid_value(
                &kind,
                &given.into(),
                "must be either Utilization, Value, or AverageValue",
            );
        }
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
