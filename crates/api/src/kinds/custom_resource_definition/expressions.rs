//! A schema's rules, when it is stored: they compile, cost no more than they may, and say something sensible when they
//! fail.

use serde_json::Value;

use super::Faults;
use super::budget::Budget;
use crate::field::FieldErrorKind;
use crate::schema::custom::MOST_DEPTH;
use crate::schema::custom::bounds::Bounds;
use crate::schema::custom::expression::{Source, type_of};

/// All rules of a schema; those that `old` has in the same place have been checked.
pub(super) fn validate(schema: &Value, old: Option<&Value>, path: &str, faults: &mut Faults<'_>) {
    let place = Place {
        is_resource: true,
        uncorrelatable: None,
        depth: 0,
        most: Some(1),
    };
    let mut budget = Budget::default();
    node(schema, old, path, &place, &mut budget, faults);
    budget.report(path, faults);
}

struct Place {
    is_resource: bool,
    /// The schema above whose values have no predecessors.
    uncorrelatable: Option<String>,
    depth: usize,
    /// How many values of the schema one object can have, if the lists and maps above are bounded.
    most: Option<u64>,
}

/// By how much a schema multiplies the values of those below it; nothing if it does not say.
fn factor(schema: &Value) -> Option<u64> {
    let number = |key: &str| Some(u64::try_from(schema.get(key)?.as_i64()?).unwrap_or(0));
    match schema.get("type").and_then(Value::as_str) {
        Some("object") if schema.get("additionalProperties").is_some_and(|v| !v.is_null()) => number("maxProperties"),
        Some("array") => number("maxItems"),
        _ => Some(1),
    }
}

fn node(schema: &Value, old: Option<&Value>, path: &str, place: &Place, budget: &mut Budget, faults: &mut Faults<'_>) {
    if place.depth > MOST_DEPTH {
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    if let Some(rules) = rules.filter(|r| !r.is_empty()) {
        let of = type_of(schema, place.is_resource);
        if of.is_none() {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable \
                          to convert structural schema to CEL declarations";
            let at = at("x-kubernetes-validations");
            faults.push(FieldErrorKind::Internal, &at, String::new(), detail);
        }
        let bounds = Bounds::new(schema, place.is_resource);
        let times = place.most.or_else(|| Some(bounds.as_ref()?.most_in_a_request()));
        let stored = old.and_then(|o| o.get("x-kubernetes-validations")?.as_array());
        for (i, rule) in rules.iter().enumerate() {
            // What is stored stays, whatever it costs.
            let is_new = !stored.is_some_and(|stored| stored.contains(rule));
            let at = format!("{path}.x-kubernetes-validations[{i}]");
            let source = Source::new(rule);
            let (Some(of), false) = (&of, source.rule.trim().is_empty()) else {
                continue;
            };
            let compiled = source.compile(of);
            match compiled.rule {
                Err(error) => faults.invalid(&format!("{at}.rule"), rule, error),
                Ok(program) => {
                    if let (Some(bounds), Some(times)) = (&bounds, times) {
                        let cost = program.most_cost(&bounds.bound).saturating_mul(times);
                        budget.rule(&format!("{at}.rule"), cost, is_new, faults);
                    }
                    let uses_old = program.uses("oldSelf");
                    if let (true, Some(above)) = (uses_old, &place.uncorrelatable) {
                        let detail = format!(
                            "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
                        );
                        faults.invalid(&format!("{at}.rule"), &source.rule.as_str().into(), detail);
                    }
                    if let (false, Some(said)) = (uses_old, source.optional_old_self) {
                        let detail = "may not be set if oldSelf is not used in rule";
                        faults.invalid(&format!("{at}.optionalOldSelf"), &said.into(), detail);
                    }
                }
            }
            match (compiled.message, &bounds) {
                (Some(Err(error)), _) => faults.invalid(&format!("{at}.messageExpression"), rule, error),
                (Some(Ok(program)), Some(bounds)) => {
                    let cost = program.most_cost(&bounds.bound);
                    budget.message(&format!("{at}.messageExpression"), cost, is_new, faults);
                }
                _ => {}
            }
        }
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let above = schema;
    let below = |schema: &Value, cut: bool| Place {
        is_resource: schema.get("x-kubernetes-embedded-resource") == Some(&true.into()),
        uncorrelatable: place.uncorrelatable.clone().or_else(|| cut.then(|| path.to_owned())),
        depth: place.depth + 1,
        most: place.most.and_then(|most| Some(most.saturating_mul(factor(above)?))),
    };
    let atomic = text("x-kubernetes-map-type") == "atomic";
    let old_at = |key: &str| old.and_then(|o| o.get(key));
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let before = old_at("properties").and_then(|p| p.get(name));
        if before == Some(property) {
            continue;
        }
        let at = at(&format!("properties[{name}]"));
        node(property, before, &at, &below(property, atomic), budget, faults);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        let at = at("additionalProperties");
        node(
            values,
            old_at("additionalProperties"),
            &at,
            &below(values, atomic),
            budget,
            faults,
        );
    }
    if let Some(items) = schema.get("items").filter(|v| v.is_object()) {
        let keyed = text("x-kubernetes-list-type") == "map";
        node(
            items,
            old_at("items"),
            &at("items"),
            &below(items, !keyed),
            budget,
            faults,
        );
    }
}
