//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules on requests, written in CEL.

mod mutation;

use jiff::Timestamp;
use serde_json::Value;

use super::admission_rule;
use super::cells::{age, age_of, integer, name, text};
use super::check::one_of;
use super::conditions;
use super::fill::{at, fill, map_at};
use super::policy_expression::Scope;
use super::row::cluster;
use crate::cel::Type;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::{Column, Resource};
use crate::strategy::Strategy;

const GROUP: &str = "admissionregistration.k8s.io";
const MOST_ANNOTATIONS: usize = 20;
/// Bytes of the expression of an audit annotation.
const LONGEST_ANNOTATION: usize = 5 * 1024;

pub(super) fn validating_row() -> Resource {
    cluster(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .category("api-extensions")
        .status()
        .generation()
        .conditional_update()
        .columns(columns(integer(
            "Validations",
            "Validations indicates the number of validation rules defined in this configuration",
        )))
        .strategy(AdmissionPolicy { rules: "validations" })
        .build()
}

pub(super) fn mutating_row() -> Resource {
    cluster(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns(columns(integer(
            "Mutations",
            "Mutation indicates the number of mutations rules defined in this configuration",
        )))
        .strategy(AdmissionPolicy { rules: "mutations" })
        .build()
}

fn columns(rules: Column) -> [Column; 4] {
    [
        name(),
        rules,
        text(
            "ParamKind",
            "ParamKind specifies the kind of resources used to parameterize this policy",
        ),
        age(),
    ]
}

struct AdmissionPolicy {
    /// The field of the spec that holds the rules.
    rules: &'static str,
}

impl AdmissionPolicy {
    fn mutates(&self) -> bool {
        self.rules == "mutations"
    }
}

impl Strategy for AdmissionPolicy {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = map_at(&mut object.0, &["spec"]) else {
            return;
        };
        fill(spec, "failurePolicy", "Fail");
        if let Some(matched) = at(spec, "matchConstraints") {
            admission_rule::default_match(matched);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let policy = spec.at("failurePolicy");
        if policy.is_set() {
            one_of(&policy, &["Fail", "Ignore"], errors);
        } else {
            errors.required(&policy, "");
        }
        let kind = spec.at("paramKind");
        if kind.is_set() {
            admission_rule::param_kind(&kind, errors);
        }
        let matched = spec.at("matchConstraints");
        if matched.is_set() {
            admission_rule::match_resources(&matched, errors);
            // The resources tell of what types the objects are.
            let rules = matched.at("resourceRules");
            if rules.is_empty() {
                errors.required(&rules, "");
            }
            if self.mutates() {
                admission_rule::no_deletion(&matched, errors);
            }
        } else {
            errors.required(&matched, "");
        }
        admission_rule::match_conditions(&spec.at("matchConditions"), kind.is_set(), errors);
        let mut scope = Scope::with_params(kind.is_set());
        for variable in spec.at("variables").items() {
            one_variable(&variable, &mut scope, errors);
        }
        if self.mutates() {
            scope.patches = true;
            mutation::validate(&spec, &scope, errors);
        } else {
            let metadata = object.at("metadata");
            validations(&spec, metadata.at("name").str(), &scope, errors);
        }
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        if self.mutates() {
            return;
        }
        let status = new.at("status");
        for warning in status.at("typeChecking").at("expressionWarnings").items() {
            for field in ["warning", "fieldRef"] {
                let text = warning.at(field);
                if text.str().trim().is_empty() {
                    errors.required(&text, "");
                }
            }
        }
        conditions::validate(&status.at("conditions"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let parameter = |field| object.str(&["spec", "paramKind", field]);
        let kind = match parameter("kind") {
            None => "<unset>".to_owned(),
            Some(kind) => format!("{}/{kind}", parameter("apiVersion").unwrap_or_default()),
        };
        vec![
            object.name().into(),
            object.array(&["spec", self.rules]).len().into(),
            kind.into(),
            age_of(object, now),
        ]
    }
}

/// One of the policy's own variables: those after it may use it.
fn one_variable(variable: &Cursor<'_>, scope: &mut Scope, errors: &mut ErrorList) {
    let (name, expression) = (variable.at("name"), variable.at("expression"));
    if name.str().trim().is_empty() {
        errors.required(&name, "name is not specified");
    } else if !crate::cel::is_identifier(name.str()) {
        errors.invalid(&name, "must be a valid CEL identifier");
    }
    if expression.str().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        let found = scope.check(&expression, expression.str(), &[], true, errors);
        scope.declare(name.str(), found);
    }
}

fn validations(spec: &Cursor<'_>, policy: &str, scope: &Scope, errors: &mut ErrorList) {
    let (all, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if all.is_empty() && annotations.is_empty() {
        for list in [&all, &annotations] {
            errors.required(list, "validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    for validation in all.items() {
        one_validation(&validation, scope, errors);
    }
    if annotations.len() > MOST_ANNOTATIONS {
        errors.invalid(
            &annotations,
            format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations"),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    for annotation in annotations.items() {
        let key = annotation.at("key");
        if policy.is_empty() {
            errors.invalid(&key, "requires metadata.name be non-empty");
        } else {
            let qualified = format!("{policy}/{}", key.str());
            for fault in names::qualified_name(&qualified) {
                errors.invalid_value(&key, &qualified.as_str().into(), fault);
            }
        }
        let value = annotation.at("valueExpression");
        match value.str().trim() {
            "" => errors.required(&value, "valueExpression is not specified"),
            text if text.len() > LONGEST_ANNOTATION => {
                errors.required(&value, format!("must not exceed {LONGEST_ANNOTATION} bytes in length"));
            }
            text => {
                scope.check(&value, text, &[Type::String, Type::Null], true, errors);
            }
        }
        if !seen.insert(key.str().to_owned()) {
            errors.duplicate(&key);
        }
    }
}

fn one_validation(validation: &Cursor<'_>, scope: &Scope, errors: &mut ErrorList) {
    let expression = validation.at("expression");
    if expression.str().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        scope.check(&expression, expression.str(), &[Type::Bool], true, errors);
    }
    let made = validation.at("messageExpression");
    if made.str().is_empty() {
        // There is none.
    } else if made.str().trim().is_empty() {
        errors.invalid(&made, "must be non-empty if specified");
    } else {
        scope.check(&made, made.str(), &[Type::String], false, errors);
    }
    let message = validation.at("message");
    let trimmed = message.str().trim();
    if !message.str().is_empty() && trimmed.is_empty() {
        errors.invalid(&message, "must be non-empty if specified");
    } else if trimmed.contains(['\n', '\r']) {
        errors.invalid(&message, "must not contain line breaks");
    }
    let reason = validation.at("reason");
    if reason.is_set() {
        one_of(&reason, &["Forbidden", "Invalid", "RequestEntityTooLarge"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses, with};
    use super::*;
    use serde_json::json;

    pub(super) fn matched() -> Value {
        json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["deployments"], "resourceNames": ["web"]}]})
    }

    fn validating() -> Value {
        json!({"metadata": {"name": "replicas"}, "spec": {
            "paramKind": {"apiVersion": "rules.example.com/v1", "kind": "ReplicaLimit"},
            "matchConstraints": matched(),
            "matchConditions": [{"name": "not-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"}],
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "limit", "expression": "int(params.limit)"},
                {"name": "trusted", "expression": "authorizer.group('apps').resource('deployments').check('*').allowed()"},
            ],
            "validations": [{
                "expression": "variables.trusted || variables.replicas <= variables.limit",
                "messageExpression": "'at most ' + string(variables.limit)",
                "reason": "Forbidden",
            }],
            "auditAnnotations": [{"key": "big", "valueExpression": "namespaceObject.metadata.name"}],
        }})
    }

    #[test]
    fn a_policy_gets_its_defaults() {
        let spec = &defaulted(&validating_row(), validating())["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        let matched = &spec["matchConstraints"];
        assert_eq!(matched["matchPolicy"], "Equivalent");
        assert_eq!(matched["objectSelector"], json!({}));
        assert_eq!(matched["resourceRules"][0]["scope"], "*");
    }

    #[test]
    fn a_validating_policy_is_checked_with_its_expressions() {
        let undeclared = "spec.validations[0].expression: Invalid value: \"variables.none\": compilation failed: ERROR: \
                          <input>:1:10: undefined field 'none'\n | variables.none\n | .........^";
        refuses(
            &validating_row(),
            &validating(),
            &[
                (
                    "/spec/failurePolicy",
                    json!("X"),
                    "spec.failurePolicy: Unsupported value: \"X\": supported values: \"Fail\", \"Ignore\"",
                ),
                (
                    "/spec/paramKind/apiVersion",
                    json!("a/b/c"),
                    "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                ),
                (
                    "/spec/matchConstraints",
                    json!(null),
                    "spec.matchConstraints: Required value",
                ),
                (
                    "/spec/matchConstraints",
                    json!({}),
                    "spec.matchConstraints.resourceRules: Required value",
                ),
                (
                    "/spec/matchConstraints/resourceRules/0/resourceNames/1",
                    json!("web"),
                    "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"web\"",
                ),
                (
                    "/spec/matchConditions/0/expression",
                    json!("request.dryRun ? 1 : 2"),
                    "spec.matchConditions[0].expression: Invalid value: \"request.dryRun ? 1 : 2\": must evaluate to bool \
                     but got int",
                ),
                (
                    "/spec/variables/3",
                    json!({"name": "in", "expression": "1"}),
                    "spec.variables[3].name: Invalid value: \"in\": must be a valid CEL identifier",
                ),
                ("/spec/validations/0/expression", json!("variables.none"), undeclared),
                (
                    "/spec/validations/0/expression",
                    json!("object.spec.paused"),
                    "spec.validations[0].expression: Invalid value: \"object.spec.paused\": must evaluate to bool but got \
                     dyn",
                ),
                (
                    "/spec/validations/0/messageExpression",
                    json!(" "),
                    "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                ),
                (
                    "/spec/validations/0/message",
                    json!("a\nb"),
                    "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                ),
                (
                    "/spec/validations/0/reason",
                    json!("X"),
                    "spec.validations[0].reason: Unsupported value: \"X\": supported values: \"Forbidden\", \"Invalid\", \
                     \"RequestEntityTooLarge\"",
                ),
                (
                    "/spec/auditAnnotations/0/valueExpression",
                    json!("1"),
                    "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string \
                     null_type]",
                ),
            ],
        );
        let mut empty = validating();
        for field in ["validations", "auditAnnotations"] {
            empty = with(&empty, &format!("/spec/{field}"), json!(null));
        }
        let text = "Required value: validations or auditAnnotations must contain at least one item";
        assert_eq!(
            created(&validating_row(), empty),
            [
                format!("spec.validations: {text}"),
                format!("spec.auditAnnotations: {text}")
            ]
        );
    }

    #[test]
    fn a_message_may_not_ask_the_authorizer() {
        let message = "authorizer.requestResource.check('get').reason()";
        let errors = created(
            &validating_row(),
            with(&validating(), "/spec/validations/0/messageExpression", json!(message)),
        );
        assert!(
            errors
                .iter()
                .any(|e| e.contains("undeclared reference to 'authorizer'")),
            "{errors:?}"
        );
        let asks = "authorizer.requestResource.check('get').allowed()";
        assert_eq!(
            created(
                &validating_row(),
                with(&validating(), "/spec/validations/0/expression", json!(asks))
            ),
            [""; 0]
        );
    }
}
