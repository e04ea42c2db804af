//! ClusterRole aggregation: a role with an `aggregationRule` has the rules of all roles that it selects. Watches ClusterRoles.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::Context;

const NAME: &str = "clusterrole-aggregation-controller";
const WORKERS: usize = 5;
/// Roles with an aggregation rule.
const SUMS: &str = "aggregated";

struct Aggregation {
    client: Client,
    roles: Lister<ClusterRole>,
}

pub async fn run(cx: Context) {
    let roles = cx.informers.informer::<ClusterRole>();
    roles.add_index(SUMS, |role: &ClusterRole| {
        role.aggregation_rule.is_some().then(String::new)
    });
    let context = Aggregation {
        client: cx.client_of(NAME),
        roles: roles.lister(),
    };
    let all = roles.lister();
    cx.controller(NAME, WORKERS)
        .watches_changes(&roles, move |change| {
            // Any role may have become part of any sum, or have left it.
            let _ = change;
            let sums = all.by_index(SUMS, "");
            sums.iter().map(|r| ObjectKey::of(&**r)).collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Aggregation>, key: ObjectKey<ClusterRole>) -> Result<Action, Error> {
    let Some(role) = cx.roles.get(&key) else {
        return Ok(Action::Done);
    };
    let Some(rules) = plan(&role, cx.roles.list()) else {
        return Ok(Action::Done);
    };
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": &*key.name},
        "rules": rules,
    });
    let roles = cx.client.all::<ClusterRole>();
    gone_is_done(roles.patch(&key.name, Patch::Apply { object, force: true }).await)?;
    Ok(Action::Done)
}

/// The rules that the role should have, unless it has: those of each role it selects, in order of their names, each once.
fn plan(role: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref();
    let selectors: Vec<LabelSelector> = selectors
        .unwrap_or_default()
        .iter()
        .filter_map(|s| LabelSelector::from_typed(Some(s)).ok())
        .collect();
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    // By selector first, as upstream.
    for selector in &selectors {
        for part in &all {
            let labels = part.metadata.labels.as_ref();
            let selected = selector.matches(|key| labels?.get(key).map(String::as_str));
            if !selected || part.metadata.name == role.metadata.name {
                continue;
            }
            for rule in part.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, label: &str, resources: &[&str], selects: &[&str]) -> ClusterRole {
        let rules: Vec<_> = resources
            .iter()
            .map(|r| json!({"apiGroups": [""], "resources": [r], "verbs": ["get"]}))
            .collect();
        let selectors: Vec<_> = selects.iter().map(|s| json!({"matchLabels": {*s: "true"}})).collect();
        let aggregation = (!selects.is_empty()).then(|| json!({"clusterRoleSelectors": selectors}));
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {label: "true"}}, "rules": rules, "aggregationRule": aggregation,
        }))
        .unwrap()
    }

    #[test]
    fn a_sum_has_the_rules_of_what_it_selects_each_once_in_order() {
        let sum = role("sum", "x", &["stale"], &["x", "y"]);
        let parts = [
            role("b", "x", &["pods", "nodes"], &[]),
            role("a", "x", &["pods"], &[]),
            role("c", "y", &["secrets"], &[]),
            role("d", "z", &["events"], &[]),
            sum.clone(),
        ]
        .map(Arc::new)
        .to_vec();
        let rules = plan(&sum, parts.clone()).unwrap();
        let resources: Vec<_> = rules
            .iter()
            .map(|r| r.resources.as_ref().unwrap()[0].as_str())
            .collect();
        assert_eq!(resources, ["pods", "nodes", "secrets"]);
        let right = ClusterRole {
            rules: Some(rules),
            ..sum
        };
        assert_eq!(plan(&right, parts.clone()), None);
        assert_eq!(plan(&role("own", "x", &["pods"], &[]), parts), None);
    }
}
