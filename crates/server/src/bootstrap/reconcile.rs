//! A system role or binding as it is, completed by what it should have.

use coracle_api::object::Object;
use serde_json::Value;

use crate::authz::Rule;
use crate::authz::escalation::is_covered;
use crate::authz::rbac;

/// `found` with the labels, annotations, rules, selectors and subjects of `wanted` that it lacks.
pub(super) fn completed(found: &Object, wanted: &Object) -> Object {
    let mut all = found.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted
            .get(&["metadata", map])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if all.get(&["metadata", map, key]).is_none() {
                all.set(&["metadata", map, key], value.clone());
            }
        }
    }
    if wanted.get(&["aggregationRule"]).is_some() {
        // The rules of a sum are its controller's.
        add(&mut all, wanted, &["aggregationRule", "clusterRoleSelectors"]);
        return all;
    }
    let held: Vec<Rule> = found.array(&["rules"]).iter().map(rbac::rule).collect();
    let missing: Vec<Value> = wanted
        .array(&["rules"])
        .iter()
        .filter(|rule| !is_covered(&held, &rbac::rule(rule)))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let mut rules = found.array(&["rules"]).to_vec();
        rules.extend(missing);
        all.set(&["rules"], rules);
    }
    add(&mut all, wanted, &["subjects"]);
    all
}

fn add(all: &mut Object, wanted: &Object, path: &[&str]) {
    let mut items = all.array(path).to_vec();
    let before = items.len();
    for item in wanted.array(path) {
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
    if items.len() > before {
        all.set(path, items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    #[test]
    fn what_is_lacking_is_added_and_what_is_more_is_kept() {
        let found = object(json!({
            "metadata": {"name": "r", "labels": {"mine": "1"}},
            "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}],
        }));
        let wanted = object(json!({
            "metadata": {"name": "r", "labels": {"system": "1"}},
            "rules": [
                {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]},
            ],
        }));
        let made = completed(&found, &wanted);
        assert_eq!((made.label("mine"), made.label("system")), (Some("1"), Some("1")));
        assert_eq!(made.array(&["rules"]).len(), 2);
        assert_eq!(completed(&made, &wanted), made);
    }

    #[test]
    fn a_binding_gets_its_subjects_and_a_sum_keeps_its_rules() {
        let found = object(json!({"metadata": {}, "subjects": [{"name": "a"}]}));
        let wanted = object(json!({"metadata": {}, "subjects": [{"name": "b"}]}));
        assert_eq!(completed(&found, &wanted).array(&["subjects"]).len(), 2);
        let found = object(json!({"metadata": {}, "rules": []}));
        let wanted = object(json!({
            "metadata": {},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
        }));
        let made = completed(&found, &wanted);
        assert!(made.array(&["rules"]).is_empty());
        assert_eq!(made.array(&["aggregationRule", "clusterRoleSelectors"]).len(), 1);
    }
}
