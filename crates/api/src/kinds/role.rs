//! Role and ClusterRole: what one may do, in a namespace or everywhere.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::created_at_cells;
use super::row::{Row, cluster, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
use crate::strategy::{NameRule, Strategy};

pub(super) fn role_row() -> Resource {
    shared(
        namespaced("rbac.authorization.k8s.io", "v1", "Role", "roles"),
        Role { namespaced: true },
    )
}

pub(super) fn cluster_role_row() -> Resource {
    shared(
        cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
        Role { namespaced: false },
    )
}

fn shared(row: Row, role: Role) -> Resource {
    row.create_on_update().strategy(role).build()
}

struct Role {
    namespaced: bool,
}

impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        created_at_cells(object)
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        for rule in object.at("rules").items() {
            policy_rule(&rule, self.namespaced, errors);
        }
        if self.namespaced {
            return;
        }
        let aggregation = object.at("aggregationRule");
        let selectors = aggregation.at("clusterRoleSelectors");
        if aggregation.is_set() && selectors.is_empty() {
            errors.required(
                &selectors,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for selector in selectors.items() {
            validate_label_selector(&selector, errors);
        }
    }
}

/// A rule names verbs, and either resources or URLs.
fn policy_rule(rule: &Cursor<'_>, namespaced: bool, errors: &mut ErrorList) {
    let verbs = rule.at("verbs");
    if verbs.is_empty() {
        errors.required(&verbs, "");
    }
    let urls = rule.at("nonResourceURLs");
    let (groups, resources) = (rule.at("apiGroups"), rule.at("resources"));
    if !urls.is_empty() {
        if namespaced {
            errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !resources.is_empty() || !rule.at("resourceNames").is_empty() {
            errors.invalid(
                &urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if groups.is_empty() {
        errors.required(&groups, "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        errors.required(&resources, "resource rules must supply at least one resource");
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_complete() {
        let valid = json!({"metadata": {"name": "r"}, "rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        refuses(
            &role_row(),
            &valid,
            &[
                ("/rules/0/verbs", json!([]), "rules[0].verbs: Required value"),
                (
                    "/rules/0/apiGroups",
                    json!([]),
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                ),
                (
                    "/rules/0/resources",
                    json!([]),
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ),
                (
                    "/rules/0",
                    json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}),
                    "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to \
                     non-resource URLs",
                ),
            ],
        );
        refuses(
            &cluster_role_row(),
            &valid,
            &[(
                "/rules/0/nonResourceURLs",
                json!(["/healthz"]),
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: rules cannot apply to both regular resources \
                 and non-resource URLs",
            )],
        );
        assert_eq!(
            created(
                &cluster_role_row(),
                json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": []}})
            ),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
                 aggregationRule is non-nil"
            ]
        );
    }
}
