//! The mutations of a policy: what is applied to an object, or patches it.

use crate::cel::Type;
use crate::field::{Cursor, ErrorList};
use crate::kinds::check::one_of;
use crate::kinds::policy_expression::{APPLIED, PATCH, Scope};

/// What their expressions make is typed; whether it fits the object is known when there is one.
pub(super) fn validate(spec: &Cursor<'_>, scope: &Scope, errors: &mut ErrorList) {
    let all = spec.at("mutations");
    if all.is_empty() {
        errors.required(&all, "mutations must contain at least one item");
    }
    for mutation in all.items() {
        let kind = mutation.at("patchType");
        let (wanted, other) = match kind.str() {
            "" => {
                errors.required(&kind, "");
                continue;
            }
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            _ => {
                errors.not_supported(&kind, &["ApplyConfiguration", "JSONPatch"]);
                continue;
            }
        };
        let (patch, unwanted) = (mutation.at(wanted), mutation.at(other));
        let expression = patch.at("expression");
        if !patch.is_set() {
            errors.required(&patch, format!("must be specified when patchType is {}", kind.str()));
        } else if expression.str().trim().is_empty() {
            errors.required(&expression, "expression is not specified");
        } else {
            let makes: &Type = if kind.str() == "JSONPatch" { &PATCH } else { &APPLIED };
            scope.check(&expression, expression.str(), std::slice::from_ref(makes), true, errors);
        }
        if unwanted.is_set() {
            let detail = format!("must not be specified when patchType is {}", kind.str());
            errors.invalid_value(&unwanted, &format!("{{{other}}}").into(), detail);
        }
    }
    let again = spec.at("reinvocationPolicy");
    if again.is_empty() {
        errors.required(&again, "");
    } else {
        one_of(&again, &["IfNeeded", "Never"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutating_row;
    use super::super::tests::matched;
    use crate::kinds::check::tests::{created, refuses, with};
    use serde_json::{Value, json};

    fn mutating() -> Value {
        json!({"metadata": {"name": "sidecar"}, "spec": {"matchConstraints": matched(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}})
    }

    #[test]
    fn mutations_are_made_of_what_they_are_applied_as() {
        for mutation in [
            json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{\
                    containers: [Object.spec.template.spec.containers{name: 'sidecar', ?image: optional.none()}]}}}}"}}),
            json!({"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}, \
                  JSONPatch{op: 'replace', path: '/spec', value: Object.spec{replicas: object.spec.replicas + 1}}]"}}),
        ] {
            let policy = with(&mutating(), "/spec/mutations/0", mutation);
            assert_eq!(created(&mutating_row(), policy), [""; 0]);
        }
    }

    #[test]
    fn a_mutating_policy_is_checked() {
        refuses(
            &mutating_row(),
            &mutating(),
            &[
                (
                    "/spec/mutations",
                    json!([]),
                    "spec.mutations: Required value: mutations must contain at least one item",
                ),
                (
                    "/spec/mutations/0/patchType",
                    json!("X"),
                    "spec.mutations[0].patchType: Unsupported value: \"X\": supported values: \"ApplyConfiguration\", \
                     \"JSONPatch\"",
                ),
                (
                    "/spec/mutations/0/applyConfiguration/expression",
                    json!(" "),
                    "spec.mutations[0].applyConfiguration.expression: Required value: expression is not specified",
                ),
                (
                    "/spec/mutations/0/applyConfiguration/expression",
                    json!("object"),
                    "spec.mutations[0].applyConfiguration.expression: Invalid value: \"object\": must evaluate to Object but \
                     got dyn",
                ),
                (
                    "/spec/mutations/0",
                    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}}),
                    "spec.mutations[0].jsonPatch.expression: Invalid value: \"[1]\": must evaluate to list(JSONPatch) but got \
                     list(int)",
                ),
                (
                    "/spec/mutations/0",
                    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 1}]"}}),
                    "spec.mutations[0].jsonPatch.expression: Invalid value: \"[JSONPatch{op: 1}]\": compilation failed: \
                     ERROR: <input>:1:16: expected type of field 'op' is 'string' but provided type is 'int'\n | \
                     [JSONPatch{op: 1}]\n | ...............^",
                ),
                (
                    "/spec/mutations/0/jsonPatch",
                    json!({"expression": "[]"}),
                    "spec.mutations[0].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is \
                     ApplyConfiguration",
                ),
                (
                    "/spec/mutations/0/applyConfiguration",
                    json!(null),
                    "spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is \
                     ApplyConfiguration",
                ),
                (
                    "/spec/reinvocationPolicy",
                    json!(null),
                    "spec.reinvocationPolicy: Required value",
                ),
                (
                    "/spec/matchConstraints/resourceRules/0/operations",
                    json!(["DELETE"]),
                    "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \
                     \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
                ),
            ],
        );
    }
}
