//! A schema's rules, when it is stored: they compile, cost no more than they may, and say something sensible when they
//! fail.

use serde_json::Value;

use super::Faults;
use super::budget::Budget;
use crate::schema::custom::MOST_DEPTH;
use crate::schema::custom::bounds::Bounds;
use crate::schema::custom::expression::{Source, field_path, type_of};

const MOST_MESSAGE: usize = 2048;
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

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
            let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
            let preserves = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&true.into());
            let detail = format!(
                "rule declared on schema that does not support validation rules type: '{kind}' \
                 x-kubernetes-preserve-unknown-fields: '{preserves}'"
            );
            faults.invalid(&at("x-kubernetes-validations"), &Value::from(rules.clone()), detail);
        }
        let bounds = Bounds::new(schema, place.is_resource);
        let times = place.most.or_else(|| Some(bounds.as_ref()?.most_in_a_request()));
        let stored = old.and_then(|o| o.get("x-kubernetes-validations")?.as_array());
        for (i, rule) in rules.iter().enumerate() {
            // What is stored stays, whatever it costs.
            let is_new = !stored.is_some_and(|stored| stored.contains(rule));
            let at = format!("{path}.x-kubernetes-validations[{i}]");
            form(rule, schema, &at, faults);
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

/// What surrounds the expression.
fn form(rule: &Value, schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    let text = |field: &str| rule.get(field).and_then(Value::as_str).unwrap_or_default();
    let (expression, message, made) = (text("rule").trim(), text("message"), text("messageExpression"));
    if expression.is_empty() {
        faults.required(&at("rule"), "rule is not specified");
    }
    let shown = || Value::from(message);
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(&at("message"), &shown(), "message must be non-empty if specified");
    } else if message.trim().contains('\n') {
        faults.invalid(&at("message"), &shown(), "message must not contain line breaks");
    } else if expression.contains('\n') && message.trim().is_empty() && made.is_empty() {
        faults.required(&at("message"), "message must be specified if rule contains line breaks");
    }
    if message.len() > MOST_MESSAGE {
        let start: String = message.chars().take(32).collect();
        let detail = format!("must have a maximum length of {MOST_MESSAGE} characters");
        faults.invalid(&at("message"), &format!("{start}...").into(), detail);
    }
    if !made.is_empty() && made.trim().is_empty() {
        faults.required(&at("messageExpression"), "must be non-empty if specified");
    }
    if let Some(Value::String(reason)) = rule.get("reason")
        && !REASONS.contains(&reason.as_str())
    {
        faults.not_supported(&at("reason"), &reason.as_str().into(), &REASONS);
    }
    match rule.get("fieldPath").and_then(Value::as_str) {
        None | Some("") => {}
        Some(path) if path.trim().is_empty() => {
            faults.invalid(&at("fieldPath"), &path.into(), "must be non-empty if specified");
        }
        Some(path) if path.contains('\n') => {
            faults.invalid(&at("fieldPath"), &path.into(), "must not contain line breaks");
        }
        Some(path) => {
            if let Err(error) = field_path(path.trim(), schema) {
                let detail = format!("must be a valid path: {error}");
                faults.invalid(&at("fieldPath"), &path.into(), detail);
            }
        }
    }
}
