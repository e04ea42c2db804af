//! LimitRange: the least, the most and the defaults of what pods in a namespace may ask for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::created_at_cells;
use super::check::{container_resource_name, may_overcommit, resource_name};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::quantity::{Quantity, QuantityFormat};
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "LimitRange", "limitranges")
        .short(&["limits"])
        .create_on_update()
        .strategy(LimitRange)
        .build()
}

struct LimitRange;

impl Strategy for LimitRange {
    /// For containers, what is at most allowed is the default limit, and the limit (else the least) the default request.
    fn set_defaults(&self, object: &mut Object) {
        let limits = object.get_mut(&["spec", "limits"]).and_then(Value::as_array_mut);
        for limit in limits.into_iter().flatten().filter_map(Value::as_object_mut) {
            if limit.get("type").and_then(Value::as_str) != Some("Container") {
                continue;
            }
            for (field, from) in [("default", &["max"][..]), ("defaultRequest", &["default", "min"][..])] {
                let mut filled = limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
                for source in from {
                    for (name, amount) in limit.get(*source).and_then(Value::as_object).into_iter().flatten() {
                        filled.entry(name.clone()).or_insert_with(|| amount.clone());
                    }
                }
                if !filled.is_empty() {
                    limit.insert(field.to_owned(), Value::Object(filled));
                }
            }
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let mut types = BTreeSet::new();
        for limit in spec.at("limits").items() {
            let kind = limit.at("type");
            limit_type(&kind, errors);
            if !types.insert(kind.str().to_owned()) {
                errors.duplicate(&kind);
            }
            one_limit(&limit, kind.str(), errors);
        }
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        created_at_cells(object)
    }
}

fn limit_type(kind: &Cursor<'_>, errors: &mut ErrorList) {
    let faults = names::qualified_name(kind.str());
    let standard = matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim");
    if faults.is_empty() && !kind.str().contains('/') && !standard {
        errors.invalid(kind, "must be a standard limit type or fully qualified");
    }
    for fault in faults {
        errors.invalid_value(kind, &kind.str().into(), fault);
    }
}

fn one_limit(limit: &Cursor<'_>, kind: &str, errors: &mut ErrorList) {
    let fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut names_there = BTreeSet::new();
    for field in fields {
        let list = limit.at(field);
        if kind == "Pod" && matches!(field, "default" | "defaultRequest") {
            if !list.is_empty() {
                errors.forbidden(&list, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in list.entries() {
            if matches!(kind, "Pod" | "Container") {
                container_resource_name(&amount, name, errors);
            } else {
                resource_name(&amount, name, errors);
            }
            names_there.insert(name.to_owned());
        }
    }
    let (max, min) = (limit.at("max"), limit.at("min"));
    if kind == "PersistentVolumeClaim" && !min.key("storage").is_set() && !max.key("storage").is_set() {
        errors.required(
            &limit.said("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    let (default, request, ratio) = (
        limit.at("default"),
        limit.at("defaultRequest"),
        limit.at("maxLimitRequestRatio"),
    );
    for name in &names_there {
        let at = |list: &Cursor<'_>| list.key(name).quantity();
        let (most, least, given, asked, factor) = (at(&max), at(&min), at(&default), at(&request), at(&ratio));
        let mut ordered =
            |list: &Cursor<'_>, low: Option<Quantity>, high: Option<Quantity>, low_is: &str, high_is: &str| {
                if let (Some(low), Some(high)) = (low, high)
                    && low > high
                {
                    // Of a default upstream shows the bound that it breaks.
                    let shown = match (low_is, high_is) {
                        ("min", "default") => low.to_string().into(),
                        ("default", "max") => high.to_string().into(),
                        _ => list.key(name).value().cloned().unwrap_or_default(),
                    };
                    errors.invalid_value(
                        &list.key(name),
                        &shown,
                        format!("{low_is} value {low} is greater than {high_is} value {high}"),
                    );
                }
            };
        ordered(&min, least, most, "min", "max");
        ordered(&request, least, asked, "min", "default request");
        ordered(&request, asked, most, "default request", "max");
        ordered(&request, asked, given, "default request", "default limit");
        ordered(&default, least, given, "min", "default");
        ordered(&default, given, most, "default", "max");
        if let Some(factor) = factor {
            ratio_holds(&ratio.key(name), factor, least, most, errors);
        }
        if let (Some(given), Some(asked)) = (given, asked)
            && !may_overcommit(name)
            && given != asked
        {
            errors.invalid(
                &request.key(name),
                format!("default value {given} must equal to defaultRequest value {asked} in {name}"),
            );
        }
    }
}

fn ratio_holds(
    at: &Cursor<'_>,
    ratio: Quantity,
    least: Option<Quantity>,
    most: Option<Quantity>,
    errors: &mut ErrorList,
) {
    if ratio < Quantity::new(1, QuantityFormat::DecimalSi) {
        errors.invalid(at, format!("ratio {ratio} is less than 1"));
    }
    if let (Some(least), Some(most)) = (least, most)
        && !least.is_zero()
    {
        let bound = most.as_f64() / least.as_f64();
        if ratio.as_f64() > bound {
            errors.invalid(at, format!("ratio {ratio} is greater than max/min = {bound:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_get_what_is_allowed_as_default() {
        let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        assert_eq!(
            defaulted(&row(), range)["spec"]["limits"][0],
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}})
        );
    }

    #[test]
    fn bounds_are_in_order() {
        let valid = json!({"metadata": {"name": "l"}, "spec": {"limits": [
            {"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}}]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/limits/0/min/cpu",
                    json!("3"),
                    "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                ),
                (
                    "/spec/limits/0/default",
                    json!({"cpu": "1"}),
                    "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                ),
                (
                    "/spec/limits/0/maxLimitRequestRatio",
                    json!({"cpu": "3"}),
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = \
                     2.000000",
                ),
                (
                    "/spec/limits/1",
                    json!({"type": "PersistentVolumeClaim"}),
                    "spec.limits[1].limits: Required value: either minimum or maximum storage value is required, but neither was \
                     provided",
                ),
                (
                    "/spec/limits/1",
                    json!({"type": "Pod"}),
                    "spec.limits[1].type: Duplicate value: \"Pod\"",
                ),
            ],
        );
    }
}
