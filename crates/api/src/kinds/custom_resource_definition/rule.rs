//! What surrounds a rule's expression: its messages, its reason, the field that it is about.

use serde_json::Value;

use super::Faults;
use super::schema::{list, text};
use crate::schema::custom::expression::field_path;

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// The rules of one schema.
pub(super) fn validate(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        one(rule, schema, &format!("{path}.x-kubernetes-validations[{i}]"), faults);
    }
}

fn breaks_lines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn one(rule: &Value, schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
    let shown = Value::from(message);
    if expression.is_empty() {
        faults.required(&at("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(&at("message"), &shown, "message must be non-empty if specified");
    } else if breaks_lines(message.trim()) {
        faults.invalid(&at("message"), &shown, "message must not contain line breaks");
    } else if breaks_lines(expression) && message.is_empty() {
        faults.required(&at("message"), "message must be specified if rule contains line breaks");
    }
    let made = text(rule, "messageExpression");
    if !made.is_empty() && made.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        faults.required(&at("messageExpression"), detail);
    }
    if let Some(Value::String(reason)) = rule.get("reason")
        && !REASONS.contains(&reason.as_str())
    {
        faults.not_supported(&at("reason"), &reason.as_str().into(), &REASONS);
    }
    let about = text(rule, "fieldPath");
    if about.is_empty() {
        return;
    }
    for (is_wrong, detail) in [
        (about.trim().is_empty(), "fieldPath must be non-empty if specified"),
        (breaks_lines(about), "fieldPath must not contain line breaks"),
        (field_path(about, schema).is_err(), "fieldPath must be a valid path"),
    ] {
        if is_wrong {
            faults.invalid(&at("fieldPath"), &about.into(), detail);
        }
    }
}
