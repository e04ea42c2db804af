//! ClusterRole aggregation: a role with an aggregation rule has the rules of all roles that the rule's selectors select.
//! Watches ClusterRoles.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, ObjectKey, Patch};
use coracle_informer::{Action, Controller, Error, Lister};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::Context;

const NAME: &str = "clusterrole-aggregation-controller";

struct Aggregation {
    client: Client,
    roles: Lister<ClusterRole>,
}

pub async fn run(cx: Context) {
    let roles = cx.informers.informer::<ClusterRole>();
    let context = Aggregation {
        client: cx.client_of("clusterrole-aggregation"),
        roles: roles.lister(),
    };
    let lister = roles.lister();
    Controller::new(NAME, 1, cx.clock)
        // Any role may be a part of any sum.
        .watches(&roles, move |_: &ClusterRole| {
            let sums = lister.list().into_iter().filter(|role| role.aggregation_rule.is_some());
            sums.map(|role| ObjectKey::of(&*role)).collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Aggregation>, key: ObjectKey<ClusterRole>) -> Result<Action, Error> {
    let Some(role) = cx.roles.get(&key) else {
        return Ok(Action::Done);
    };
    // Selectors that cannot be read stay so until somebody changes the role.
    let Some(rules) = sum(&role, &cx.roles.list()).map_err(Error::terminal)? else {
        return Ok(Action::Done);
    };
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(Action::Done);
    }
    let patch = json!({"rules": rules});
    cx.client
        .all::<ClusterRole>()
        .patch(&key.name, Patch::Merge(patch))
        .await?;
    Ok(Action::Done)
}

/// The rules that a role sums up, in the order of the roles' names; `None` if it sums up nothing.
fn sum(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Option<Vec<PolicyRule>>, String> {
    let Some(aggregation) = &role.aggregation_rule else {
        return Ok(None);
    };
    let mut sorted: Vec<&Arc<ClusterRole>> = all
        .iter()
        .filter(|part| part.metadata.name != role.metadata.name)
        .collect();
    sorted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = LabelSelector::from_typed(Some(selector)).map_err(|e| e.to_string())?;
        for part in &sorted {
            let none = std::collections::BTreeMap::new();
            if !selector.matches_labels(part.metadata.labels.as_ref().unwrap_or(&none)) {
                continue;
            }
            for rule in part.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Ok(Some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn role(value: Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_sum_has_the_rules_of_what_its_selectors_select_once_each_by_name() {
        let rule = |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let total = role(json!({
            "metadata": {"name": "total", "labels": {"to": "x"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]},
            "rules": [rule("stale")],
        }));
        let all = [
            total.clone(),
            role(json!({"metadata": {"name": "b", "labels": {"to": "x"}}, "rules": [rule("two"), rule("one")]})),
            role(json!({"metadata": {"name": "a", "labels": {"to": "x"}}, "rules": [rule("one")]})),
            role(json!({"metadata": {"name": "c"}, "rules": [rule("three")]})),
        ];
        let rules = sum(&total, &all).unwrap().unwrap();
        let names: Vec<&str> = rules
            .iter()
            .flat_map(|r| r.resources.iter().flatten())
            .map(String::as_str)
            .collect();
        assert_eq!(names, ["one", "two"]);
        assert!(sum(&all[1], &all).unwrap().is_none());
    }
}
