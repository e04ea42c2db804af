//! ResourceQuota: the most that a namespace may use.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, plain, text};
use super::check::{quantity_of, resource_name};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ResourceQuota", "resourcequotas")
        .short(&["quota"])
        .status()
        .columns([
            name(),
            text(
                "Request",
                "Request represents a minimum amount of cpu/memory that a container may consume.",
            ),
            text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention \
                 on the node.",
            ),
            age(),
        ])
        .strategy(ResourceQuota)
        .build()
}

struct ResourceQuota;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

const CONFLICTS: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

impl Strategy for ResourceQuota {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        amounts(&spec.at("hard"), errors);
        scopes(&spec, errors);
        scope_selector(&spec, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let (scopes, old_scopes) = (spec.at("scopes"), old_spec.at("scopes"));
        let mut now: Vec<&str> = scopes.strs().collect();
        let mut before: Vec<&str> = old_scopes.strs().collect();
        now.sort_unstable();
        before.sort_unstable();
        if now != before {
            errors.invalid(&scopes, "field is immutable");
        }
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        amounts(&status.at("hard"), errors);
        amounts(&status.at("used"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let hard = object.get(&["status", "hard"]).and_then(Value::as_object);
        let mut entries: Vec<(&String, &Value)> = hard.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| *name);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, most) in entries {
            let used = object
                .get(&["status", "used", resource])
                .map_or_else(|| "0".to_owned(), plain);
            let text = format!("{resource}: {used}/{}", plain(most));
            if resource.starts_with("limits.") {
                limits.push(text);
            } else {
                requests.push(text);
            }
        }
        vec![
            object.name().into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            age_of(object, now),
        ]
    }
}

fn amounts(list: &Cursor<'_>, errors: &mut ErrorList) {
    for (name, amount) in list.entries() {
        resource_name(&amount, name, errors);
        if !name.contains('/') && !is_quota_resource(name) {
            errors.invalid_value(&amount, &name.into(), "must be a standard resource for quota");
        }
        quantity_of(name, &amount, errors);
    }
}

fn is_quota_resource(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.storage"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "persistentvolumeclaims"
            | "configmaps"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// Whether a scope can narrow what counts towards a resource.
fn applies(scope: &str, resource: &str) -> bool {
    let of_pods = matches!(
        resource,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
    );
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => of_pods,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn conflicting(scopes: &[&str]) -> usize {
    CONFLICTS
        .iter()
        .filter(|(a, b)| scopes.contains(a) && scopes.contains(b))
        .count()
}

fn scopes(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let scopes = spec.at("scopes");
    let hard = spec.at("hard");
    let list: Vec<&str> = scopes.strs().collect();
    for scope in &list {
        if !SCOPES.contains(scope) {
            errors.invalid(&scopes, "unsupported scope");
        }
        for (name, _) in hard.entries() {
            if is_quota_resource(name) && !applies(scope, name) {
                errors.invalid(&scopes, "unsupported scope applied to resource");
            }
        }
    }
    for _ in 0..conflicting(&list) {
        errors.invalid(&scopes, "conflicting scopes");
    }
}

fn scope_selector(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let selector = spec.at("scopeSelector");
    let hard = spec.at("hard");
    let expressions = selector.at("matchExpressions");
    for expression in expressions.items() {
        let (scope, operator, values) = (
            expression.at("scopeName"),
            expression.at("operator"),
            expression.at("values"),
        );
        if !SCOPES.contains(&scope.str()) {
            errors.invalid(&scope, "unsupported scope");
        }
        for (name, _) in hard.entries() {
            if is_quota_resource(name) && !applies(scope.str(), name) {
                errors.invalid(&selector, "unsupported scope applied to resource");
            }
        }
        let only_exists = !matches!(scope.str(), "PriorityClass" | "VolumeAttributesClass");
        if only_exists && SCOPES.contains(&scope.str()) && operator.str() != "Exists" {
            errors.invalid(
                &operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                 ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &values,
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;

    #[test]
    fn resources_and_scopes_are_checked() {
        let valid = json!({"metadata": {"name": "q"},
            "spec": {"hard": {"pods": "10", "example.com/gpu": "2"}, "scopes": ["NotTerminating"]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/hard/pods",
                    json!("1500m"),
                    "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                ),
                (
                    "/spec/hard/storage",
                    json!("1"),
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                ),
                (
                    "/spec/scopes/0",
                    json!("X"),
                    "spec.scopes: Invalid value: [\"X\"]: unsupported scope",
                ),
                (
                    "/spec/scopes/1",
                    json!("Terminating"),
                    "spec.scopes: Invalid value: [\"NotTerminating\",\"Terminating\"]: conflicting scopes",
                ),
                (
                    "/spec/hard/services",
                    json!("1"),
                    "spec.scopes: Invalid value: [\"NotTerminating\"]: unsupported scope applied to resource",
                ),
                (
                    "/spec/scopeSelector",
                    json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                    "spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when \
                     `operator` is 'In' or 'NotIn' for scope selector",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/scopes",
                json!([]),
                "spec.scopes: Invalid value: []: field is immutable",
            )],
        );
    }
    use serde_json::json;

    #[test]
    fn the_table_tells_used_of_hard_with_limits_apart() {
        let quota = Object::from_value(json!({
            "metadata": {"name": "q"},
            "status": {"hard": {"pods": "10", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "3", "limits.cpu": "500m"}},
        }))
        .unwrap();
        let cells = ResourceQuota.cells(&quota, "2024-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(
            Value::from(cells),
            json!(["q", "cpu: 0/1, pods: 3/10", "limits.cpu: 500m/2", "<unknown>"])
        );
    }
}
