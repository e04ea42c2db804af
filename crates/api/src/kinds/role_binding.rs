//! RoleBinding and ClusterRoleBinding: who may do what a role says.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::{Row, cluster, namespaced};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

pub(super) fn role_binding_row() -> Resource {
    shared(namespaced(
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
    ))
}

pub(super) fn cluster_role_binding_row() -> Resource {
    shared(cluster(
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
    ))
}

fn shared(row: Row) -> Resource {
    row.create_on_update()
        .columns([
            name(),
            text("Role", "The role that is granted."),
            age(),
            text("Users", "Users in the binding").wide(),
            text("Groups", "Groups in the binding").wide(),
            text("ServiceAccounts", "ServiceAccounts in the binding").wide(),
        ])
        .strategy(RoleBinding)
        .build()
}

struct RoleBinding;

impl Strategy for RoleBinding {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let role = |field| object.str(&["roleRef", field]).unwrap_or_default();
        vec![
            object.name().into(),
            format!("{}/{}", role("kind"), role("name")).into(),
            age_of(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    }
}

/// The names of the subjects of one kind; service accounts with their namespace.
fn subjects(object: &Object, kind: &str) -> String {
    let names: Vec<String> = object
        .array(&["subjects"])
        .iter()
        .filter(|s| s.get("kind").and_then(Value::as_str) == Some(kind))
        .map(|s| {
            let field = |name| s.get(name).and_then(Value::as_str).unwrap_or_default();
            if kind == "ServiceAccount" && !field("namespace").is_empty() {
                format!("{}/{}", field("namespace"), field("name"))
            } else {
                field("name").to_owned()
            }
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wide_table_sorts_subjects_by_kind() {
        let binding = Object::from_value(json!({
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [
                {"kind": "User", "name": "ada"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "ops"},
                {"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"},
            ],
        }))
        .unwrap();
        assert_eq!(
            Value::from(RoleBinding.cells(&binding, Timestamp::UNIX_EPOCH)),
            json!([
                "b",
                "ClusterRole/view",
                "<unknown>",
                "ada, bob",
                "ops",
                "kube-system/default"
            ])
        );
    }
}
