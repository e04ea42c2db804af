//! Which requests a webhook or a policy is about: rules on resources and operations, selectors, conditions, and where a
//! policy's parameters are.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::one_of;
use super::fill::{each, fill, fill_empty};
use super::policy_expression::Scope;
use crate::cel::Type;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::selector::validate_label_selector;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MOST_CONDITIONS: usize = 64;

/// The defaults of `matchConstraints` and `matchResources`.
pub(super) fn default_match(matched: &mut Map<String, Value>) {
    fill(matched, "matchPolicy", "Equivalent");
    fill(matched, "namespaceSelector", Map::new());
    fill(matched, "objectSelector", Map::new());
    for rules in ["resourceRules", "excludeResourceRules"] {
        default_rules(matched, rules);
    }
}

/// The default of each rule in a list.
pub(super) fn default_rules(map: &mut Map<String, Value>, rules: &str) {
    each(map, rules, |rule| fill_empty(rule, "scope", "*"));
}

/// The rules for `matchConstraints` and `matchResources`.
pub(super) fn match_resources(at: &Cursor<'_>, errors: &mut ErrorList) {
    let policy = at.at("matchPolicy");
    if policy.is_set() {
        one_of(&policy, &["Equivalent", "Exact"], errors);
    } else {
        errors.required(&policy, "");
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        let selector = at.at(selector);
        if selector.is_set() {
            validate_label_selector(&selector, errors);
        } else {
            errors.required(&selector, "");
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for entry in at.at(rules).items() {
            let mut seen = BTreeSet::new();
            for name in entry.at("resourceNames").items() {
                errors.faults(&name, names::path_segment(name.str()));
                if !seen.insert(name.str().to_owned()) {
                    errors.duplicate(&name);
                }
            }
            rule(&entry, errors);
        }
    }
}

/// Mutation has nothing to do with what goes away.
pub(super) fn no_deletion(matched: &Cursor<'_>, errors: &mut ErrorList) {
    let rules = matched.at("resourceRules");
    let place = rules.said("operations");
    for entry in rules.items() {
        for operation in entry.at("operations").strs() {
            if !OPERATIONS.contains(&operation) || operation == "DELETE" {
                errors.not_supported_value(&place, &operation.into(), &["*", "CONNECT", "CREATE", "UPDATE"]);
            }
        }
    }
}

/// The rules for one rule with its operations.
pub(super) fn rule(rule: &Cursor<'_>, errors: &mut ErrorList) {
    let operations = rule.at("operations");
    needed_and_all_alone(&operations, "operations", errors);
    for operation in operations.items() {
        if !OPERATIONS.contains(&operation.str()) {
            errors.not_supported_value(&operation, &operation.str().into(), &OPERATIONS);
        }
    }
    needed_and_all_alone(&rule.at("apiGroups"), "API groups", errors);
    let versions = rule.at("apiVersions");
    needed_and_all_alone(&versions, "API versions", errors);
    for version in versions.items() {
        if version.is_empty() {
            errors.required(&version, "");
        }
    }
    resources(&rule.at("resources"), errors);
    let scope = rule.at("scope");
    if scope.is_set() {
        one_of(&scope, &["*", "Cluster", "Namespaced"], errors);
    }
}

fn needed_and_all_alone(list: &Cursor<'_>, others: &str, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.required(list, "");
    }
    if list.len() > 1 && list.strs().any(|v| v == "*") {
        errors.invalid(list, format!("if '*' is present, must not specify other {others}"));
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/log`, `*`, `*/*`: none that another names already.
fn resources(list: &Cursor<'_>, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.required(list, "");
    }
    let (mut all_of, mut all_with) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut all, mut plain) = (false, false, false);
    for entry in list.items() {
        let text = entry.str();
        if text.is_empty() {
            errors.required(&entry, "");
            continue;
        }
        everything |= text == "*/*";
        all |= text == "*";
        let Some((resource, subresource)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_of.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&entry, detail);
        }
        if all_with.contains(subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.invalid(&entry, detail);
        }
        if subresource == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            all_with.insert(subresource);
        }
    }
    if everything && list.len() > 1 {
        errors.invalid(list, "if '*/*' is present, must not specify other resources");
    }
    if all && plain {
        errors.invalid(
            list,
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

/// The rules for match conditions, which see no variables of a policy.
pub(super) fn match_conditions(list: &Cursor<'_>, has_params: bool, errors: &mut ErrorList) {
    if list.len() > MOST_CONDITIONS {
        errors.too_many(list, list.len(), MOST_CONDITIONS);
    }
    let scope = Scope::with_params(has_params);
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let (name, expression) = (condition.at("name"), condition.at("expression"));
        match expression.str().trim() {
            "" => errors.required(&expression, ""),
            text => {
                scope.check(&expression, text, &[Type::Bool], true, errors);
            }
        }
        if name.is_empty() {
            errors.required(&name, "");
            continue;
        }
        errors.faults(&name, names::qualified_name(name.str()));
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
    }
}

/// The rules for `paramKind`.
pub(super) fn param_kind(at: &Cursor<'_>, errors: &mut ErrorList) {
    let (version, kind) = (at.at("apiVersion"), at.at("kind"));
    match version.str().split('/').collect::<Vec<_>>()[..] {
        [""] => errors.required(&version, ""),
        [plain] => group_version(&version, "", plain, errors),
        [group, plain] => group_version(&version, group, plain, errors),
        _ => errors.invalid(&version, format!("unexpected GroupVersion string: {}", version.str())),
    }
    if kind.is_empty() {
        errors.required(&kind, "");
        return;
    }
    let faults = names::dns1035_label(&kind.str().to_lowercase());
    if !faults.is_empty() {
        errors.invalid(
            &kind,
            format!("may have mixed case, but should otherwise match: {}", faults.join(",")),
        );
    }
}

fn group_version(at: &Cursor<'_>, group: &str, version: &str, errors: &mut ErrorList) {
    let faults = names::dns1123_subdomain(group);
    if !group.is_empty() && !faults.is_empty() {
        errors.invalid_value(at, &group.into(), faults.join(","));
    }
    let faults = names::dns1035_label(version);
    if version.is_empty() {
        errors.invalid(at, "version must be specified");
    } else if !faults.is_empty() {
        errors.invalid_value(at, &version.into(), faults.join(","));
    }
}

/// The rules for a binding's `paramRef`.
pub(super) fn param_ref(at: &Cursor<'_>, errors: &mut ErrorList) {
    let (name, selector) = (at.at("name"), at.at("selector"));
    let both = !name.is_empty() && selector.is_set();
    errors.faults(&name, names::path_segment(name.str()));
    if both {
        errors.forbidden(&name, "name and selector are mutually exclusive");
    }
    if selector.is_set() {
        validate_label_selector(&selector, errors);
    }
    if both {
        errors.forbidden(&selector, "name and selector are mutually exclusive");
    }
    if name.is_empty() && !selector.is_set() {
        errors.required(at, "one of name or selector must be specified");
    }
    let action = at.at("parameterNotFoundAction");
    if action.is_empty() {
        errors.required(&action, "");
    } else {
        one_of(&action, &["Deny", "Allow"], errors);
    }
}
